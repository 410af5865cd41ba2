"""Limited-memory BFGS: what Sandblaster's coordinator computes, or has computed (Dean 2012, Algorithm 2).

Nothing here knows of models or of workers: the function to minimise may be computed anywhere. Vectors are NumPy's
arrays, or others with the same operators that lie elsewhere, such as `zoo.distribute.server_vectors.ServerVector`:
sums, products with numbers, dot products, ``abs`` and ``max``. None is changed in place once anybody else has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.distribute.line_search import strong_wolfe

if TYPE_CHECKING:
    from zoo.distribute.server_vectors import ServerVector

    Vector = np.ndarray | ServerVector
    Pair = tuple[Vector, Vector]
    Function = Callable[[Vector], "Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The function at one point.

    Attributes:
        value: a number.
        gradient: ``(n,)`` float64.
        extra: whatever else came of it.
    """

    value: float
    gradient: Vector
    extra: Any = None


@dataclass(frozen=True, eq=False)
class LBFGSState:
    """All that a minimisation goes on from.

    Attributes:
        x: ``(n,)`` float64, the point.
        at: the function there.
        pairs: (step, change of the gradient), both ``(n,)``, the oldest first.
        iteration: steps taken.
        evaluations: of the function, the first one and those of the line searches.
        length: of the last step, in units of its direction.
        stuck: whether no step lowers the function any more.
    """

    x: Vector
    at: Evaluation
    pairs: tuple[Pair, ...] = ()
    iteration: int = 0
    evaluations: int = 1
    length: float = 0.0
    stuck: bool = False


def descent_direction(gradient: Vector, pairs: Sequence[Pair]) -> Vector:
    """-H ``gradient`` by the two-loop recursion (Nocedal & Wright 2006, Algorithm 7.4), H scaled by their (7.20).

    >>> descent_direction(np.array([2.0, 4.0]), [(np.array([1.0, 0.0]), np.array([4.0, 0.0]))])
    array([-0.5, -1. ])
    """
    q = -gradient
    shares = []
    for step, change in reversed(pairs):
        share = float(step @ q) / float(step @ change)
        q -= share * change
        shares.append(share)
    if pairs:
        step, change = pairs[-1]
        q *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float(change @ q) / float(step @ change)) * step
    return q


def is_curved(step: Vector, change: Vector, least: float = 1e-10) -> bool:
    """Whether a pair may be kept: step . change > 0 keeps H positive definite, and not so small as to be rounding.

    A line search for the Wolfe conditions sees to it, one that had to give up may not.
    """
    return float(step @ change) > least * math.sqrt(float(step @ step) * float(change @ change))


def start(function: Function, x: Vector) -> LBFGSState:
    """The state before the first step, from one evaluation at ``x (n,)``."""
    x = np.array(x, np.float64) if isinstance(x, np.ndarray) else x
    at = function(x)
    if not (math.isfinite(at.value) and math.isfinite(abs(at.gradient).max())):
        raise ValueError(f"the function is {at.value} at the start, or its gradient is not finite; start elsewhere")
    return LBFGSState(x, at)


def advance(
    function: Function,
    state: LBFGSState,
    *,
    memory: int = 10,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    most: int = 25,
    noise: float = 1e-15,
) -> LBFGSState:
    """The state after one step: a direction, a line search along it, a pair more.

    Args:
        function: what to minimise.
        state: of `start` or of the step before.
        memory: pairs that are kept.
        decrease: see `zoo.distribute.line_search.strong_wolfe`.
        curvature: see there.
        most: see there.
        noise: see there.
    """
    if memory < 1:
        raise ValueError(f"memory={memory}; keep at least 1 pair")
    direction = descent_direction(state.at.gradient, state.pairs)
    slope = float(direction @ state.at.gradient)
    if state.pairs and not slope < 0:  # rounding has spoilt what the pairs say
        state = replace(state, pairs=())
        direction, slope = -state.at.gradient, -float(state.at.gradient @ state.at.gradient)
    if not slope < 0:
        return replace(state, stuck=True)

    def along(length: float) -> tuple[float, float, tuple[Vector, Evaluation]]:
        x = state.x + length * direction
        at = function(x)
        return at.value, float(direction @ at.gradient), (x, at)

    # Without pairs the direction has no scale: a step of length 1 at most (Nocedal & Wright 2006, section 7.2).
    first = 1.0 if state.pairs else min(1.0, 1.0 / math.sqrt(-slope))
    trial, used = strong_wolfe(
        along, state.at.value, slope, first, decrease=decrease, curvature=curvature, most=most, noise=noise
    )
    evaluations = state.evaluations + used
    if trial is None:
        # Once more down the gradient itself, unless that was it.
        return replace(state, pairs=(), evaluations=evaluations, stuck=not state.pairs)
    x, at = trial.extra
    step, change = x - state.x, at.gradient - state.at.gradient
    pairs = (*state.pairs, (step, change))[-memory:] if is_curved(step, change) else state.pairs
    return LBFGSState(x, at, pairs, state.iteration + 1, evaluations, trial.length)


def minimise(
    function: Function,
    x: Vector,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-8,
    memory: int = 10,
) -> LBFGSState:
    """The state where the gradient's largest part is at most ``tolerance``, no step helps, or ``iterations`` are over.

    Example:
        >>> goal = np.array([1.0, -2.0])
        >>> state = minimise(lambda x: Evaluation(float(np.sum((x - goal) ** 2)), 2 * (x - goal)), np.zeros(2))
        >>> state.x.round(6).tolist()
        [1.0, -2.0]
    """
    state = start(function, x)
    while state.iteration < iterations and not state.stuck and abs(state.at.gradient).max() > tolerance:
        state = advance(function, state, memory=memory)
    return state
