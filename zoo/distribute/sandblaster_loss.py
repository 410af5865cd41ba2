"""What Sandblaster's L-BFGS minimises: a pass over the data by all workers, as a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.distribute.lbfgs import Evaluation
from zoo.distribute.sandblaster_model import Draw, Objective
from zoo.distribute.sandblaster_pool import Pool
from zoo.distribute.sandblaster_state import Drawn

if TYPE_CHECKING:
    from zoo.distribute.lbfgs import Vector


class SharedLoss:
    """The function that is minimised: what the pool's workers compute, and the pull of weight decay.

    Args:
        objective: what the workers compute.
        pool: of them.
        weight_decay: see `zoo.distribute.sandblaster.train_sandblaster`.
        put: brings vectors to where the others lie.

    Attributes:
        drawn: what the last draw was, and where.
    """

    def __init__(
        self, objective: Objective, pool: Pool, weight_decay: float, put: Callable[[np.ndarray], Vector]
    ) -> None:
        """Draws nothing yet."""
        self.pool, self.weight_decay, self.drawn = pool, weight_decay, Drawn(0, 0, np.zeros(0))
        self._kernels = put(objective.kernels()) if weight_decay else None
        self._draw, self._holds = Draw(), objective.draws
        self._backups = self._lost = 0

    def __call__(self, x: Vector) -> Evaluation:
        """Loss and gradient at ``x (n,)``, as was drawn."""
        return self._pass(x)[0]

    def draw(self, x: Vector, number: int, iteration: int) -> Evaluation:
        """Draw anew at ``x (n,)``, and hold it from now on; loss and gradient with it."""
        self._draw = Draw(number)
        found, kept = self._pass(x)
        if self._holds:
            self._draw = Draw(number, kept)
        self.drawn = Drawn(number, iteration, x)
        return found

    def backups_and_lost(self) -> tuple[int, int]:
        """How many there were since this was asked before."""
        found, self._backups, self._lost = (self._backups, self._lost), 0, 0
        return found

    def _pass(self, x: Vector) -> tuple[Evaluation, Mapping[int, Any]]:
        done = self.pool.run(x, self._draw)
        self._backups += done.backups
        self._lost += done.lost
        loss, gradient = done.loss, done.gradient
        if self._kernels is not None:
            decayed = x * self._kernels
            loss, gradient = loss + self.weight_decay / 2 * decayed @ decayed, gradient + self.weight_decay * decayed
        return Evaluation(float(loss), gradient, done.state), done.kept
