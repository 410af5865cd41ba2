"""How far to go along a direction: a line search for the strong Wolfe conditions (Nocedal & Wright 2006, chapter 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One point of the line.

    Attributes:
        length: how far along the direction.
        value: of the function there; infinite where it is no number.
        slope: of the function along the direction.
        extra: whatever else the function gave.
    """

    length: float
    value: float
    slope: float
    extra: Any = None


def strong_wolfe(
    function: Callable[[float], tuple[float, float, Any]],
    value: float,
    slope: float,
    first: float = 1.0,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    most: int = 25,
    noise: float = 1e-15,
) -> tuple[Trial | None, int]:
    """A length a with f(a) <= f(0) + decrease a f'(0) and |f'(a)| <= curvature |f'(0)|; and the evaluations it took.

    Algorithms 3.5 and 3.6 of Nocedal & Wright 2006, with cubic interpolation (their equation 3.59). Where the function
    is not a finite number, the line was followed too far. When ``most`` evaluations do not suffice, the lowest point
    that meets the first condition is given, and None if there is none.

    Near the minimum a value is all rounding while slopes still tell: where f(a) differs from f(0) by no more than
    ``noise`` |f(0)|, the slope alone decides (the approximate Wolfe conditions of Hager & Zhang 2005, their (4.1)).

    Args:
        function: from a length to value, slope, and anything.
        value: at 0.
        slope: at 0, below zero.
        first: length that is tried first; 1 for a direction of (quasi-)Newton.
        decrease: c1, above 0.
        curvature: c2, above ``decrease`` and below 1.
        most: evaluations.
        noise: relative error of values.

    Example:
        >>> step, evaluations = strong_wolfe(lambda a: ((a - 3.0) ** 2, 2 * (a - 3.0), None), 9.0, -6.0, curvature=0.1)
        >>> step.length, evaluations
        (3.0, 2)
    """
    if not 0 < decrease < curvature < 1:
        raise ValueError(f"decrease={decrease}, curvature={curvature}: give 0 < decrease < curvature < 1")
    if not (math.isfinite(value) and math.isfinite(slope)):
        raise ValueError(f"the function is {value}, its slope {slope} where the search starts; start elsewhere")
    if slope >= 0 or first <= 0:
        raise ValueError(f"the slope is {slope}, the first length {first}; give a direction downwards")
    search = _Search(function, Trial(0.0, float(value), float(slope)), decrease, curvature, most, noise)
    return search.bracket(first), search.evaluations


class _Search:
    def __init__(
        self,
        function: Callable[[float], tuple[float, float, Any]],
        start: Trial,
        c1: float,
        c2: float,
        most: int,
        noise: float,
    ) -> None:
        self.function, self.start, self.c1, self.c2, self.most = function, start, c1, c2, most
        self.noise = noise * abs(start.value)
        self.evaluations = 0
        self.best: Trial | None = None

    def bracket(self, length: float) -> Trial | None:
        """Algorithm 3.5: longer and longer, until an interval holds a length that will do."""
        before = self.start
        while self.evaluations < self.most:
            trial = self._try(length)
            if self._will_do(trial):
                return trial
            if not self._low_enough(trial) or (before is not self.start and trial.value >= before.value):
                return self._zoom(before, trial)
            if trial.slope >= 0:
                return self._zoom(trial, before)
            # The cubic's minimum lies beyond, at most ten times as far; at least twice, so that this ends.
            length = min(max(_cubic_minimum(before, trial), 2 * length), 10 * length)
            before = trial
        return self.best

    def _zoom(self, low: Trial, high: Trial) -> Trial | None:
        """Algorithm 3.6: ``low`` is the lowest point so far that falls enough; it slopes down towards ``high``."""
        while self.evaluations < self.most:
            near, far = sorted((low.length, high.length))
            if far - near <= 1e-14 * far:
                break  # rounding has the last word
            length = _cubic_minimum(low, high)
            margin = 0.1 * (far - near)  # off the ends, so that the interval shrinks
            trial = self._try(min(max(length, near + margin), far - margin))
            if self._will_do(trial):
                return trial
            if not self._low_enough(trial) or trial.value >= low.value:
                high = trial
                continue
            if trial.slope * (high.length - low.length) >= 0:
                high = low
            low = trial
        return self.best

    def _try(self, length: float) -> Trial:
        value, slope, extra = self.function(length)
        self.evaluations += 1
        finite = math.isfinite(value) and math.isfinite(slope)
        trial = Trial(length, float(value) if finite else math.inf, float(slope) if finite else math.nan, extra)
        if self._low_enough(trial) and (self.best is None or trial.value < self.best.value):
            self.best = trial
        return trial

    def _low_enough(self, trial: Trial) -> bool:
        return trial.value <= self.start.value + self.c1 * trial.length * self.start.slope

    def _will_do(self, trial: Trial) -> bool:
        if self._low_enough(trial):
            return abs(trial.slope) <= -self.c2 * self.start.slope
        slope = self.start.slope
        alike = abs(trial.value - self.start.value) <= self.noise
        return alike and self.c2 * slope <= trial.slope <= (2 * self.c1 - 1) * slope


def _cubic_minimum(one: Trial, other: Trial) -> float:
    """Where the cubic through two points with their slopes is lowest; their middle if that is nowhere."""
    middle = (one.length + other.length) / 2
    if not (math.isfinite(one.value) and math.isfinite(other.value)):
        return middle
    apart = other.length - one.length
    d1 = one.slope + other.slope - 3 * (other.value - one.value) / apart
    square = d1 * d1 - one.slope * other.slope
    if square < 0:
        return middle
    d2 = math.copysign(math.sqrt(square), apart)
    below = other.slope - one.slope + 2 * d2
    return other.length - apart * (other.slope + d2 - d1) / below if below else middle
