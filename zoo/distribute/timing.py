"""Where the time of Keras's training steps goes: waiting for data, computing, exchanging gradients, updating."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import keras


@dataclass
class StepTimes:
    """Sums over steps of one process; where its replicas differ, their mean.

    Steps during which TensorFlow traces a function, the first and those with pictures of new shapes, are kept apart.

    Attributes:
        steps: that were timed.
        examples: of this process's part of their batches.
        seconds: that they took, what happens between them included, validation not.
        input: of these, from when a step is asked for until its data are there.
        compute: from then until all gradients are there; synchronised batch normalisation talks within it.
        exchange: from then until their sum over all replicas is there: what computing did not hide, waiting for
            slower replicas included.
        update: from then until the step is over.
        inside: steps of which these four are known; 0 under XLA, which nothing looks into.
        traced: steps during which something was traced.
        tracing: seconds that they took.
    """

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    input: float = 0.0
    compute: float = 0.0
    exchange: float = 0.0
    update: float = 0.0
    inside: int = 0
    traced: int = 0
    tracing: float = 0.0

    def __sub__(self, before: StepTimes) -> StepTimes:
        """What came since ``before``."""
        return StepTimes(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    @property
    def examples_per_second(self) -> float | None:
        """Throughput; None while nothing was timed."""
        return self.examples / self.seconds if self.seconds else None

    @property
    def milliseconds(self) -> dict[str, float | None]:
        """Where a step's time goes, on average; None where that is not known."""
        parts = {name: getattr(self, name) for name in ("input", "compute", "exchange", "update")}
        if not self.inside:
            return {**dict.fromkeys(parts), "other": None}
        found = {name: 1000 * seconds / self.inside for name, seconds in parts.items()}
        return {**found, "other": max(0.0, 1000 * self.seconds / self.steps - sum(found.values()))}


class StepTimer:
    """Measures `StepTimes` while a model is trained.

    The four parts are read off the system's clock inside the step, where the graph says that the data, the gradients
    and their sums are there: on a GPU when one number of them, computed after all, has come back.

    Make it outside any strategy's scope, where its own variables would become the strategy's.

    Args:
        examples: of a step, on this process.
        replicas: of this process.

    Attributes:
        total: of all epochs so far.

    Example:
        >>> timer = StepTimer(examples=8)                                                     # doctest: +SKIP
        >>> with timer.watch(model):                                                          # doctest: +SKIP
        ...     model.fit(data, callbacks=[EpochTimes(timer)])
        >>> timer.total.examples_per_second                                                   # doctest: +SKIP
        31.7
    """

    def __init__(self, examples: int, replicas: int = 1) -> None:
        """The clock stands."""
        self.examples, self.replicas = examples, replicas
        self.total = StepTimes()
        self._began = 0.0
        self._tracing = self._inside = False
        self._marks: dict[int, list[Any]] = {}
        self._stamps: list[Any] = []  # when data, gradients and their sums were there, by replica
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.device("CPU:0"):
                self._stamps = [tf.Variable(tf.zeros(3, tf.float64), trainable=False) for _ in range(replicas)]

    @contextmanager
    def watch(self, model: keras.Model) -> Iterator[None]:
        """While the block runs, ``model.fit`` is timed. ``model`` is compiled, and otherwise ready for ``fit``."""
        self._inside = _can_look_inside(model)
        changes: dict[str, Any] = {"make_train_function": self._timed_function(model)}
        if keras.backend.backend() == "tensorflow":
            changes["train_step"] = self._timed_step(model.train_step)
        own = {name: vars(model)[name] for name in changes if name in vars(model)}
        model.train_function = None
        # Not by setattr, which Keras watches.
        vars(model).update(changes)
        try:
            with self._watched_optimizer(model.optimizer):
                yield
        finally:
            for name in changes:
                del vars(model)[name]
            vars(model).update(own)
            model.train_function = None

    def begin(self) -> None:
        """An epoch begins: what happened since the last step does not count."""
        self._began = time.monotonic()

    def _timed_function(self, model: keras.Model) -> Callable[..., None]:
        make = model.make_train_function

        def make_timed(force: bool = False) -> None:
            if model.train_function is not None and not force:
                return
            make(force)
            run, calls = model.train_function, itertools.count()

            def timed(*args: Any) -> Any:
                self._tracing = next(calls) == 0  # and later, when a step says so
                asked = time.time()
                logs = run(*args)
                self._note(asked, time.time())
                return logs

            model.train_function = timed

        return make_timed

    def _note(self, asked: float, done: float) -> None:
        total, now = self.total, time.monotonic()
        took, self._began = now - self._began, now
        if self._tracing:
            total.traced += 1
            total.tracing += took
            return
        total.steps += 1
        total.examples += self.examples
        total.seconds += took
        total.inside += self._inside
        for stamp in self._stamps if self._inside else ():
            data, gradients, summed = stamp.numpy().tolist()
            total.input += (data - asked) / self.replicas
            total.compute += (gradients - data) / self.replicas
            total.exchange += (summed - gradients) / self.replicas
            total.update += (done - summed) / self.replicas

    def _timed_step(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        import tensorflow as tf

        from zoo.distribute.clock import when

        def timed_step(data: Any) -> Any:
            self._tracing = True
            if not self._inside:
                return step(data)
            number = self._replica()
            begun = when(data)
            # Nothing else makes TensorFlow ask for the time before it computes: with one thread it asks at the end.
            with tf.control_dependencies([begun]):
                data = tf.nest.map_structure(
                    lambda part: tf.identity(part) if tf.is_tensor(part) else part, data, expand_composites=True
                )
            logs = step(data)
            self._stamps[number].assign(tf.stack([begun, *self._marks.pop(number)]))
            return logs

        return timed_step

    @contextmanager
    def _watched_optimizer(self, optimizer: keras.Optimizer) -> Iterator[None]:
        if not self._inside:
            yield
            return
        from zoo.distribute.clock import when

        add_up, own = optimizer._all_reduce_sum_gradients, vars(optimizer).get("_all_reduce_sum_gradients")

        def timed_add_up(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
            pairs = list(pairs)
            begun = when([gradient for gradient, _ in pairs if gradient is not None])
            pairs = list(add_up(pairs))
            self._marks[self._replica()] = [begun, when([gradient for gradient, _ in pairs if gradient is not None])]
            return pairs

        vars(optimizer)["_all_reduce_sum_gradients"] = timed_add_up
        try:
            yield
        finally:
            del vars(optimizer)["_all_reduce_sum_gradients"]
            if own is not None:
                vars(optimizer)["_all_reduce_sum_gradients"] = own

    def _replica(self) -> int:
        """Which replica of this process is being traced."""
        import tensorflow as tf

        number = tf.get_static_value(tf.convert_to_tensor(tf.distribute.get_replica_context().replica_id_in_sync_group))
        return int(number) % self.replicas


def _can_look_inside(model: keras.Model) -> bool:
    """Whether a step's parts can be told apart.

    Neither XLA nor TensorFlow's deterministic mode knows a clock; and gradients that are accumulated, or scaled, are
    exchanged within a condition.
    """
    if keras.backend.backend() != "tensorflow" or model.jit_compile:
        return False
    from zoo.distribute.clock import has_clock

    if not has_clock():
        return False
    return not model.optimizer.gradient_accumulation_steps and not hasattr(model.optimizer, "inner_optimizer")
