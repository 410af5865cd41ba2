"""Downpour SGD (Dean 2012, section 4.1): workers train on their own, and meet at the parameter servers now and then."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo.distribute.downpour_data import ReadAhead, names_of, numbered
from zoo.distribute.downpour_rules import Rule
from zoo.distribute.downpour_servers import DownpourServers, read_checkpoint
from zoo.distribute.observer import Observer
from zoo.distribute.parameter_servers import bytes_of_servers, fetched, naming_lost_servers
from zoo.distribute.sandblaster_servers import workers_of_cluster

if TYPE_CHECKING:
    from zoo.datasets.class_batches import ClassBatches
    from zoo.datasets.pipeline import Batches


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
    data: Batches | ClassBatches | Sequence[tuple[Any, Any]],
    strategy: tf.distribute.ParameterServerStrategy,
    *,
    steps: int,
    learning_rate: float | Callable[[Any], Any] = 0.01,
    rule: str | Rule = "adagrad",
    n_push: int = 1,
    n_fetch: int = 1,
    warm_start: int = 0,
    seed: int = 0,
    every: int = 100,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[DownpourRow], None] | None = None,
    observer: Observer | None = None,
) -> list[DownpourRow]:
    """Train a compiled model, whose weights are then those of the servers.

    A worker fetches the parameters every ``n_fetch`` mini-batches, goes on with its own copy in between, and every
    ``n_push`` sends the sum of its gradients to the servers, which take it as it comes. A worker that dies has its
    mini-batches done by others, and takes part again when it is back; what it had pushed of them counts twice. When a
    server dies, the training ends with a `WorkerLostError` and is started again from its checkpoint.

    Args:
        model: any that is compiled; built after the strategy was made and outside its scope.
        data: what `zoo.datasets` makes, its batches in their own order, with the crops and flips of each epoch; or
            mini-batches ``(x, y)``, drawn in a new order each epoch. They are read here, and sent to the workers.
        strategy: with a ``variable_partitioner`` large parameters are spread over the servers; see
            `zoo.distribute.parameter_servers.server_strategy`.
        steps: mini-batches, of all workers together; rounded up to what is fetched and pushed at a time.
        learning_rate: a number, or a schedule of the steps that the servers have counted.
        rule: ``"adagrad"`` as in the paper, ``"sgd"``, or a `Rule` with weight decay and clipping.
        n_push: of ``n_push`` and ``n_fetch`` one is a multiple of the other.
        n_fetch: 1 for both is what the paper's experiments used.
        warm_start: so many steps are taken by one worker alone before the others join.
        seed: of the order of a sequence, which does not depend on the number of workers.
        every: steps between two checkpoints and rows, at which all workers are waited for.
        checkpoint: file.
        resume: go on from it, if it is there.
        settings: anything that JSON can hold, kept in the checkpoint; whoever resumes has to give the same.
        report: called with each row, before the checkpoint is written; the model has the servers' weights then.
        observer: is told what each worker did.

    Raises:
        WorkerLostError: a server has died.
        ArithmeticError: the loss is no number any more.
        ValueError: for a checkpoint of another training.

    Example:
        >>> train_downpour(model, batches, strategy, steps=1000, n_push=2, n_fetch=2)         # doctest: +SKIP
    """
    check_pushes(n_push, n_fetch)
    together = max(n_push, n_fetch)
    if steps < 1 or every < 1 or warm_start < 0:
        raise ValueError(f"steps={steps}, every={every}: at least 1 each; warm_start={warm_start}: at least 0")
    rule = rule if isinstance(rule, Rule) else Rule(rule)
    observer = observer or Observer()
    began, rows = time.monotonic(), []
    training = DownpourServers(model, strategy, rule, learning_rate, n_push, n_fetch)
    observer.placed(servers=bytes_of_servers(training.servers.values))
    own = {**vars(rule), "rule": rule.name, "n_push": n_push, "n_fetch": n_fetch, "seed": seed}
    training.settings = {name: value for name, value in {**own, **(settings or {})}.items() if name != "name"}
    with naming_lost_servers(training.coordinator):
        if resume and checkpoint is not None and Path(checkpoint).is_file():
            training.load(checkpoint)
        done = int(training.counter.numpy())
        workers = workers_of_cluster()
        last = done + -(-max(0, steps - done) // together) * together
        with ReadAhead(numbered(data, seed), done, last, getattr(data, "workers", 1), 2 * workers * together) as read:
            while done < steps:
                end = min(done - done % every + every, steps)
                told = []
                # One at a time for as long as only one worker is to train.
                waiting: deque = deque()
                while done < end:
                    asked = time.monotonic()
                    batches = [read.take() for _ in range(together)]
                    observer.waited(seconds=time.monotonic() - asked)
                    waiting.append((range(done, done + together), training.schedule(batches, done)))
                    done += together
                    most = 1 if done <= warm_start else 2 * workers
                    while waiting and (len(waiting) >= most or done >= end):
                        told += _tell(data, *waiting.popleft(), observer)
                training.coordinator.join()
                loss, staleness = np.mean(told or [(math.nan, math.nan)], axis=0).tolist()
                rows.append(DownpourRow(done, loss, staleness, time.monotonic() - began))
                if report is not None:
                    training.finish()
                    report(rows[-1])
                if checkpoint is not None:
                    training.save(checkpoint, done)
        training.finish()
    return rows


def check_pushes(n_push: int, n_fetch: int) -> None:
    """Raise a ``ValueError`` unless a worker can push and fetch so often."""
    if min(n_push, n_fetch) < 1 or max(n_push, n_fetch) % min(n_push, n_fetch):
        raise ValueError(f"n_push={n_push}, n_fetch={n_fetch}; give numbers of which one is a multiple of the other")


def steps_in(checkpoint: str | Path) -> int:
    """Mini-batches that a checkpoint of `train_downpour` has behind it; a ``ValueError`` if the file is none."""
    return int(read_checkpoint(checkpoint)[0]["counter"])


def _tell(data: Any, numbers: range, remote: Any, observer: Observer) -> list[tuple[float, float]]:
    """Loss and staleness of what some worker has done, if it lived to tell; its gradients the servers have anyway."""
    found = fetched(remote)
    if found is None:
        return []
    loss, staleness = float(found["loss"]), float(found["staleness"])
    if not math.isfinite(loss):
        names = names_of(data, numbers)
        raise ArithmeticError(
            f"the loss became {loss} in step {numbers[0] + 1}{f', whose pictures were {names}' if names else ''}. Look "
            "at their boxes; if they are sound, lower the learning rate, warm up longer, clip the gradients, or let "
            "fewer workers train until the loss has come down (warm start). The checkpoint is that before this epoch"
        )
    seconds = {name: float(found[name]) for name in ("fetch", "compute", "push")}
    observer.pushed(
        worker=f"worker {int(found['worker'])}",
        steps=len(numbers),
        examples=int(found["examples"]),
        staleness=staleness,
        loss=loss,
        **seconds,
    )
    return [(loss, staleness)]
