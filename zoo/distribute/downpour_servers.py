"""What lies on Downpour's parameter servers, and what its workers do with it."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.distribute.clock import when
from zoo.distribute.downpour_rules import Rule, assign_shards
from zoo.distribute.parameter_servers import coordinator_of
from zoo.distribute.sandblaster_model import Objective
from zoo.distribute.sandblaster_servers import ServerValues
from zoo.distribute.settings import check_settings
from zoo.files import save_atomically


class DownpourServers:
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
        self.coordinator = coordinator_of(strategy)
        self.servers = ServerValues(self.objective, strategy)
        self.rule, self.rate = rule, learning_rate
        self.rates = rule.rates([each.name for each in self.objective.trainable])
        self.n_push, self.n_fetch = n_push, n_fetch
        self.settings: dict[str, Any] = {}
        with strategy.scope():
            shapes = [(each.shape, each.dtype) for each in self.objective.trainable]
            self.squares = [tf.Variable(np.zeros(*each)) for each in shapes] if rule.name == "adagrad" else []
            # An optimiser's own counter loses updates when several workers add to it.
            aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.counter = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=aggregation)
        self._round = tf.function(self._train, reduce_retracing=True, autograph=False)

    def schedule(self, batches: Sequence[tuple[Any, Any]], number: int) -> Any:
        """Give some worker the mini-batches from ``number`` on; what `_train` gives, remote."""
        batches = [tf.nest.map_structure(tf.convert_to_tensor, each) for each in batches]
        return self.coordinator.schedule(self._round, args=(batches, tf.constant(number, tf.int32)))

    def _train(self, batches: Sequence[tuple[Any, Any]], number: tf.Tensor) -> dict[str, tf.Tensor]:
        losses, late, examples, fetched = [], [], [], None
        spent = {name: tf.zeros([], tf.float64) for name in ("fetch", "compute", "push")}
        clock = when([number])
        pushed = [tf.zeros(each.shape, each.dtype) for each in self.objective.trainable]
        for place, (x, y) in enumerate(batches):
            if place % self.n_fetch == 0:
                with tf.control_dependencies([clock]):
                    values, state = self.servers.read()
                    squares = [tf.convert_to_tensor(each) for each in self.squares] if self.n_fetch > 1 else []
                    fetched, own = tf.convert_to_tensor(self.counter), 0
                clock, before = when([*values, *state, *squares, fetched]), clock
                spent["fetch"] += clock - before
            rate = self.rate(fetched) if callable(self.rate) else self.rate
            at = number + place
            loss, gradients, moved = self.objective.sums(values, state, x, y, at, at)[:3]
            examples.append(tf.shape(tf.nest.flatten(x)[0])[0])
            share = 1 / tf.cast(examples[-1], loss.dtype)
            losses.append(loss * share)
            gradients = self.rule.shaped([each * tf.cast(share, each.dtype) for each in gradients], values)
            state = [_moved(old, new, share) for old, new in zip(state, moved, strict=True)]
            pushed = [total + each for total, each in zip(pushed, gradients, strict=True)]
            squares = [old + each * each for old, each in zip(squares, gradients, strict=True)] if squares else []
            clock, before = when([*gradients, *moved, loss]), clock
            spent["compute"] += clock - before
            if self.n_fetch > 1:  # until it fetches again, a worker goes on from its own step
                values = [
                    value - self.rule.step(each, square, tf.cast(rate * factor, value.dtype))
                    for value, each, square, factor in zip(
                        values, gradients, squares or values, self.rates, strict=True
                    )
                ]
            if (place + 1) % self.n_push == 0:
                # Not sooner: what does not depend on the gradients would be read at the very beginning.
                with tf.control_dependencies([clock]):
                    late.append(tf.convert_to_tensor(self.counter) - fetched - own)
                clock, before = self._push(pushed, state, moved, rate), clock
                spent["push"] += clock - before
                own += self.n_push
                pushed = [tf.zeros_like(each) for each in pushed]
        return {
            "loss": tf.reduce_mean(losses),
            "staleness": tf.reduce_mean(tf.cast(tf.stack(late), tf.float32)),
            "examples": tf.add_n(examples),
            "worker": tf.distribute.coordinator.experimental_get_current_worker_index(),
            **spent,
        }

    def _push(self, pushed: list[tf.Tensor], state: list[tf.Tensor], moved: list[tf.Tensor], rate: Any) -> tf.Tensor:
        """Bring the sums of gradients to the servers, and count; the time when that is done."""
        done = []
        squares = self.squares or [None] * len(pushed)
        for variable, square, each, factor in zip(self.servers.values, squares, pushed, self.rates, strict=True):
            done += self.rule.push(variable, square, each, tf.cast(rate * factor, each.dtype))
        for variable, value, new in zip(self.servers.state, state, moved, strict=True):
            if new.shape != [0]:
                assign_shards(variable, value)
        done.append(self.counter.assign_add(self.n_push, read_value=False))
        return when([each for each in done if isinstance(each, tf.Operation)])

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
            np.savez(file, counter=np.int64(done), settings=np.array(json.dumps(self.settings)), **arrays)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote for the same model; else a ``ValueError``."""
        arrays, settings = read_checkpoint(path)
        check_settings(settings, self.settings, path)
        named = [(name, number, f"{name}{number}", each) for name, number, each in self._named()]
        missing = [key for _, _, key, _ in named if key not in arrays]
        if missing:
            raise _no_checkpoint(path, f"{missing[0]} is not in it")
        for name, number, key, each in named:
            if arrays[key].shape != tuple(each.shape):
                raise ValueError(
                    f"{path} holds {name} {number} of the shape {arrays[key].shape}, this model has "
                    f"{tuple(each.shape)}; resume with the model it was started with"
                )
        groups = {"value": self.servers.values, "state": self.servers.state, "square": self.squares}
        for name, number, key, _ in named:
            groups[name][number].assign(arrays[key])
        self.counter.assign(int(arrays["counter"]))

    def _named(self) -> list[tuple[str, int, tf.Tensor]]:
        values, state = self.servers.read()
        groups = {"value": values, "state": state, "square": [tf.convert_to_tensor(each) for each in self.squares]}
        return [(name, number, each) for name, group in groups.items() for number, each in enumerate(group)]


def read_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a checkpoint, and its settings."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays["settings"]))
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _no_checkpoint(path, error) from error


def _no_checkpoint(path: str | Path, why: object) -> ValueError:
    return ValueError(
        f"{path} is no checkpoint of Downpour for this model ({why}); start without resuming, or with another file"
    )


def _moved(old: tf.Tensor, new: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The state after a mini-batch, of which the objective gives sums, and nothing where it stays."""
    return old if new.shape == [0] else new * tf.cast(share, new.dtype)
