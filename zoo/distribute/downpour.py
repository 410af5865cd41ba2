"""Downpour SGD (Dean 2012, section 4.1): workers train on their own, and meet at the parameter servers now and then."""

from __future__ import annotations

import time
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.downpour_rules import Rule, shards
from zoo.distribute.sandblaster_model import Objective
from zoo.distribute.sandblaster_servers import ServerValues, workers_of_cluster
from zoo.files import save_atomically


@dataclass(frozen=True)
class DownpourRow:
    """What happened since the row before.

    Attributes:
        steps: mini-batches that came to the servers, since the start of the training.
        loss: mean over the mini-batches.
        staleness: mini-batches of others that came to the servers between a fetch and the push after it, on average.
        seconds: since this run started.
    """

    steps: int
    loss: float
    staleness: float
    seconds: float


def train_downpour(
    model: keras.Model,
    data: Sequence[tuple[Any, Any]],
    strategy: tf.distribute.ParameterServerStrategy,
    *,
    steps: int,
    learning_rate: float | Callable[[Any], Any] = 0.01,
    rule: str = "adagrad",
    n_push: int = 1,
    n_fetch: int = 1,
    warm_start: int = 0,
    seed: int = 0,
    every: int = 100,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    report: Callable[[DownpourRow], None] | None = None,
) -> list[DownpourRow]:
    """Train a compiled model, whose weights are then those of the servers.

    A worker fetches the parameters every ``n_fetch`` mini-batches, goes on with its own copy in between, and every
    ``n_push`` sends the sum of its gradients to the servers, which take it as it comes. A worker that dies has its
    mini-batches done by others, and takes part again when it is back; what it had pushed of them counts twice. When a
    server dies, the training ends with a `WorkerLostError` and is started again from its checkpoint.

    Args:
        model: any that is compiled; built after the strategy was made and outside its scope.
        data: mini-batches ``(x, y)``, drawn in a new order each epoch; read here, and sent to the workers.
        strategy: with a ``variable_partitioner`` large parameters are spread over the servers.
        steps: mini-batches, of all workers together; rounded up to what is fetched and pushed at a time.
        learning_rate: a number, or a schedule of the steps that the servers have counted.
        rule: ``"adagrad"`` as in the paper, or ``"sgd"``.
        n_push: of ``n_push`` and ``n_fetch`` one is a multiple of the other.
        n_fetch: 1 for both is what the paper's experiments used.
        warm_start: so many steps are taken by one worker alone before the others join.
        seed: of the order, which does not depend on the number of workers.
        every: steps between two checkpoints and rows, at which all workers are waited for.
        checkpoint: file.
        resume: go on from it, if it is there.
        report: called with each row.

    Example:
        >>> train_downpour(model, units, strategy, steps=1000, n_push=2, n_fetch=2)           # doctest: +SKIP
    """
    together = max(n_push, n_fetch)
    if min(n_push, n_fetch) < 1 or together % min(n_push, n_fetch):
        raise ValueError(f"n_push={n_push}, n_fetch={n_fetch}; give numbers of which one is a multiple of the other")
    if steps < 1 or every < 1 or warm_start < 0:
        raise ValueError(f"steps={steps}, every={every}: at least 1 each; warm_start={warm_start}: at least 0")
    began, rows = time.monotonic(), []
    training = _Downpour(model, strategy, Rule(rule), learning_rate, n_push, n_fetch)
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        training.load(checkpoint)
    done = int(training.counter.numpy())
    try:
        while done < steps:
            end = min(done - done % every + every, steps)
            losses, late = [], []
            # One at a time for as long as only one worker is to train.
            waiting: deque = deque()
            while done < end:
                batches = [data[_unit(done + each, len(data), seed)] for each in range(together)]
                waiting.append(training.schedule(batches, done))
                done += together
                most = 1 if done <= warm_start else 2 * workers_of_cluster()
                while waiting and (len(waiting) >= most or done >= end):
                    loss, staleness = waiting.popleft().fetch()
                    losses.append(float(loss))
                    late.append(float(staleness))
            training.coordinator.join()
            rows.append(DownpourRow(done, float(np.mean(losses)), float(np.mean(late)), time.monotonic() - began))
            if checkpoint is not None:
                training.save(checkpoint, done)
            if report is not None:
                report(rows[-1])
        training.finish()
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.FailedPreconditionError) as error:
        raise WorkerLostError(
            f"a parameter server has ended ({str(error)[:300]}); start the cluster again and resume: what was done "
            "since the last checkpoint is lost"
        ) from error
    return rows


def _unit(number: int, count: int, seed: int) -> int:
    """Which mini-batch comes as the ``number``-th."""
    epoch, place = divmod(number, count)
    return int(np.random.default_rng((seed, epoch)).permutation(count)[place])


class _Downpour:
    """What lies on the servers, and the function that workers run."""

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.ParameterServerStrategy,
        rule: Rule,
        learning_rate: float | Callable[[Any], Any],
        n_push: int,
        n_fetch: int,
    ) -> None:
        self.objective = Objective(model)
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self.servers = ServerValues(self.objective, strategy)
        self.rule, self.rate = rule, learning_rate
        self.n_push, self.n_fetch = n_push, n_fetch
        with strategy.scope():
            self.squares = [tf.Variable(np.zeros(each.shape, each.dtype)) for each in self.objective.trainable]
            # An optimiser's own counter loses updates when several workers add to it.
            aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.counter = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=aggregation)
        self._round = tf.function(self._train, reduce_retracing=True, autograph=False)

    def schedule(self, batches: Sequence[tuple[Any, Any]], number: int) -> Any:
        """Give some worker the mini-batches from ``number`` on; a remote (mean loss, staleness)."""
        batches = [tf.nest.map_structure(tf.convert_to_tensor, each) for each in batches]
        return self.coordinator.schedule(self._round, args=(batches, tf.constant(number, tf.int32)))

    def _train(self, batches: Sequence[tuple[Any, Any]], number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses, late, fetched = [], [], None
        pushed = [tf.zeros(each.shape, each.dtype) for each in self.objective.trainable]
        for place, (x, y) in enumerate(batches):
            if place % self.n_fetch == 0:
                values, state = self.servers.read()
                squares = [tf.convert_to_tensor(each) for each in self.squares]
                fetched, own = tf.convert_to_tensor(self.counter), 0
            rate = self.rate(fetched) if callable(self.rate) else self.rate
            at = number + place
            loss, gradients, moved = self.objective.sums(values, state, x, y, at, at)
            share = 1 / tf.cast(tf.shape(tf.nest.flatten(x)[0])[0], loss.dtype)
            losses.append(loss * share)
            gradients = [each * tf.cast(share, each.dtype) for each in gradients]
            state = [_moved(old, new, share) for old, new in zip(state, moved, strict=True)]
            pushed = [total + each for total, each in zip(pushed, gradients, strict=True)]
            squares = [old + each * each for old, each in zip(squares, gradients, strict=True)]
            values = [
                value - self.rule.step(each, square, tf.cast(rate, value.dtype))
                for value, each, square in zip(values, gradients, squares, strict=True)
            ]
            if (place + 1) % self.n_push == 0:
                late.append(tf.convert_to_tensor(self.counter) - fetched - own)
                for variable, square, each in zip(self.servers.values, self.squares, pushed, strict=True):
                    self.rule.push(variable, square, each, tf.cast(rate, each.dtype))
                for variable, value, new in zip(self.servers.state, state, moved, strict=True):
                    if new.shape != [0]:
                        _assign(variable, value)
                self.counter.assign_add(self.n_push)
                own += self.n_push
                pushed = [tf.zeros_like(each) for each in pushed]
        return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(tf.stack(late), tf.float32))

    def finish(self) -> None:
        """Bring what the servers hold to the model."""
        values, state = self.servers.read()
        self.objective.assign(
            np.concatenate([np.ravel(each) for each in values]).astype(np.float64), [np.asarray(each) for each in state]
        )

    def save(self, path: str | Path, done: int) -> None:
        """Write what the servers hold; no worker is at work."""
        arrays = {f"{name}{number}": np.asarray(each) for name, number, each in self._named()}
        with save_atomically(path) as aside, aside.open("wb") as file:
            np.savez(file, counter=np.int64(done), **arrays)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote for the same model; else a ``ValueError``."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            stored = {f"{name}{number}": arrays[f"{name}{number}"].shape for name, number, _ in self._named()}
            counter = int(arrays["counter"])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is no checkpoint of Downpour for this model ({error}); start without resuming, or with "
                "another file"
            ) from error
        for name, number, each in self._named():
            if stored[f"{name}{number}"] != tuple(each.shape):
                raise ValueError(
                    f"{path} holds {name} {number} of the shape {stored[f'{name}{number}']}, this model has "
                    f"{tuple(each.shape)}; resume with the model it was started with"
                )
        groups = {"value": self.servers.values, "state": self.servers.state, "square": self.squares}
        for name, number, _ in self._named():
            groups[name][number].assign(arrays[f"{name}{number}"])
        self.counter.assign(counter)

    def _named(self) -> list[tuple[str, int, tf.Tensor]]:
        values, state = self.servers.read()
        groups = {"value": values, "state": state, "square": [tf.convert_to_tensor(each) for each in self.squares]}
        return [(name, number, each) for name, group in groups.items() for number, each in enumerate(group)]


def _moved(old: tf.Tensor, new: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The state after a mini-batch, of which the objective gives sums, and nothing where it stays."""
    return old if new.shape == [0] else new * tf.cast(share, new.dtype)


def _assign(variable: Any, value: tf.Tensor) -> None:
    at = 0
    for part in shards(variable):
        part.assign(value if part is variable else value[at : at + part.shape[0]])
        at += part.shape[0] if part.shape.rank else 0
