"""What a training by Downpour or Sandblaster tells about itself while it runs, for whoever wants to keep it."""

from __future__ import annotations

from collections.abc import Mapping


class Observer:
    """Hooks that do nothing; a subclass overrides those that it needs, and is given to a training as ``observer``.

    They are called on the coordinator. Those of Sandblaster's units come from several threads, also at the same time.
    All seconds of a worker are by the worker's own clock; what waiting in a queue took is in none of them.

    Example:
        >>> class Staleness(Observer):
        ...     def pushed(self, *, worker, steps, staleness, **seconds):
        ...         print(f"{worker}: {steps} mini-batches, {staleness:.1f} late")
        >>> train_downpour(model, data, strategy, steps=1000, observer=Staleness())    # doctest: +SKIP
    """

    def placed(self, *, servers: Mapping[str, int]) -> None:
        """The parameters are where they belong: their bytes on each server, by ``"ps 0"``; both trainings."""

    def waited(self, *, seconds: float) -> None:
        """Downpour: the coordinator had to wait so long for data to be read."""

    def pushed(
        self,
        *,
        worker: str,
        steps: int,
        examples: int,
        staleness: float,
        loss: float,
        fetch: float,
        compute: float,
        push: float,
    ) -> None:
        """Downpour: a worker has done what it fetched parameters for, and its gradients are with the servers.

        Args:
            worker: ``"worker 1"``.
            steps: mini-batches, ``max(n_push, n_fetch)``.
            examples: in them.
            staleness: mini-batches of others that the servers took between a fetch and the push after it, on average.
            loss: mean over the mini-batches.
            fetch: seconds until the parameters were there.
            compute: seconds for losses and gradients.
            push: seconds until the servers had all.
        """

    def unit_done(
        self, *, worker: str, unit: int, examples: int, fetch: float, compute: float, seconds: float, counted: bool
    ) -> None:
        """Sandblaster: a unit of work is done.

        Args:
            worker: ``"worker 1"`` of a cluster, ``"thread 1"`` of this process.
            unit: its number.
            examples: in it.
            fetch: seconds until the parameters were there; 0 for a thread, which has them.
            compute: seconds for loss and gradient.
            seconds: on the coordinator, from when the unit was handed out: reading and sending data, and the way back.
            counted: False if another copy of the unit was there before.
        """

    def pass_done(self, *, seconds: float, loss: float, backups: int, lost: int) -> None:
        """Sandblaster: a pass over the data is over; see `zoo.distribute.sandblaster_pool.PassResult`."""

    def line_search(self, *, iteration: int, evaluations: int, length: float, seconds: float) -> None:
        """Sandblaster: a step is taken.

        Args:
            iteration: its number, from 1.
            evaluations: passes over the data that it took.
            length: of the step, in units of the direction.
            seconds: of all the passes.
        """
