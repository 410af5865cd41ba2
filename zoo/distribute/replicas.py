"""What `zoo.train` asks of the strategy that a model was built under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.datasets.class_batches import ClassBatches
    from zoo.datasets.pipeline import Batches


class Replicas:
    """The replicas of a model and who takes care of which.

    Without a strategy all of this is as Keras has it: one replica, one worker.

    Attributes:
        strategy: the model's, or None.
        count: replicas that train together.
        workers: processes that they belong to.
        worker: this process's number.

    Example:
        >>> Replicas(model).count    # doctest: +SKIP
        4
    """

    def __init__(self, model: keras.Model) -> None:
        """Refuses a model that was not built where it is to be trained."""
        self.strategy = strategy_of(model)
        self.count = self.workers = 1
        self.worker = 0
        if self.strategy is None:
            return
        self.count = int(self.strategy.num_replicas_in_sync)
        resolver = self.strategy.cluster_resolver
        jobs = {} if resolver is None else resolver.cluster_spec().as_dict()
        if jobs:
            chiefs = len(jobs.get("chief", ()))
            self.workers = chiefs + len(jobs.get("worker", ()))
            self.worker = int(resolver.task_id) + (chiefs if resolver.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager:
        """Where variables are made, and where ``fit`` runs."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def check(self, batches: Batches | ClassBatches, accumulate: int = 1, by_clock: bool = False) -> None:
        """Refuse what several replicas cannot do.

        Args:
            batches: of which each replica has to get equally many pictures.
            accumulate: batches whose gradients make one step; replicas take one.
            by_clock: whether the training's length is in minutes, of which several workers have different ones.
        """
        pictures, size = len(batches.source), batches.batch_size
        if self.count > pictures:
            raise ValueError(
                f"{self.count} replicas, but {batches.source.name} has {pictures} pictures; use at most {pictures} "
                "replicas"
            )
        if size % self.count:
            below, above = size // self.count * self.count, (size // self.count + 1) * self.count
            choices = " or ".join(str(each) for each in (below, above) if each)
            raise ValueError(
                f"a batch of {size} pictures cannot be shared evenly by {self.count} replicas; the batch size is that "
                f"of all replicas together: give {choices}"
            )
        if accumulate > 1 and self.count > 1:
            raise ValueError(
                f"accumulate={accumulate}: Keras cannot accumulate gradients on several replicas, which do the same; "
                f"give accumulate=1 and a batch of {size * accumulate}"
            )
        if by_clock and self.workers > 1:
            raise ValueError(
                "the length in minutes goes by this machine's clock, and several workers have several; give epochs or "
                "steps"
            )

    def train_data(self, batches: Batches | ClassBatches, start_epoch: int) -> Any:
        """The batches without end, each replica its part of each."""
        if self.strategy is None:
            return batches.dataset(start_epoch=start_epoch)
        return self.strategy.distribute_datasets_from_function(
            lambda context: batches.per_worker(context, start_epoch=start_epoch)
        )

    def val_data(self, batches: Batches | None) -> Any:
        """One epoch of batches, in which each picture comes once; a replica may get nothing of a short one."""
        if batches is None:
            return None
        if self.strategy is None:
            return batches.dataset(repeat=False)
        return self.strategy.distribute_datasets_from_function(lambda context: _once(batches, context))

    @contextmanager
    def ready(self, model: keras.Model, batches: Batches | ClassBatches) -> Iterator[None]:
        """``model.fit`` inside the block gives what it gives on one device."""
        if self.strategy is None:
            yield
            return
        from zoo.distribute.clipping import clip_summed_gradients
        from zoo.distribute.loss_scale import agree_on_overflow
        from zoo.distribute.steps import distributed_steps

        if self.count > 1:
            clip_summed_gradients(model.optimizer)
            agree_on_overflow(model.optimizer)
        spec = batches.dataset().element_spec
        with self.strategy.scope(), distributed_steps(model, self.strategy, spec):
            yield

    def numbers_of_all(self, number: float) -> list[float]:
        """What each worker calls this with, by worker. It waits until all have called."""
        return [row[0] for row in self.rows_of_all([number])]

    def rows_of_all(self, numbers: Sequence[float]) -> list[list[float]]:
        """The same for several numbers each, as many on all workers."""
        if self.workers == 1:
            return [[float(each) for each in numbers]]
        import tensorflow as tf

        mine = tf.constant([float(each) for each in numbers]) * (self.workers / self.count)
        share = tf.one_hot(self.worker, self.workers)[:, None] * mine

        @tf.function
        def together() -> tf.Tensor:
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, self.strategy.run(lambda: share), axis=None)

        return together().numpy().tolist()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All workers enter the block together, and leave it together."""
        self.numbers_of_all(0)
        yield
        self.numbers_of_all(0)

    def check_same_epoch(self, epoch: int, folder: Any) -> None:
        """Raise unless all workers go on from the same checkpoint."""
        epochs = [round(each) for each in self.numbers_of_all(epoch)]
        if len(set(epochs)) > 1:
            seen = ", ".join(f"worker {worker}: {each}" for worker, each in enumerate(epochs))
            raise ValueError(
                f"the workers see different checkpoints in {folder} (epochs done, {seen}); give a folder that all of "
                "them share"
            )


def strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """The strategy that ``model`` was built under; None for TensorFlow's default, and on other backends.

    Raises ``ValueError`` under a scope in which the model was not built.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    # Keras gives the strategy that the model was built under or, if that was none, the one in force.
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or (strategy is tf.distribute.get_strategy() and not tf.distribute.has_strategy()):
        return None
    if not all(strategy.extended.variable_created_in_scope(each.value) for each in model.weights):
        raise ValueError(
            f"{model.name} was not built under the scope of the strategy that it is to be trained with; build it "
            "inside `with strategy.scope():`"
        )
    return strategy


def _once(batches: Batches, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """One worker's rows of every batch, as consecutive pieces for its replicas."""
    import tensorflow as tf

    mine = batches.shard(context.input_pipeline_id, context.num_input_pipelines)
    replicas = context.num_replicas_in_sync // context.num_input_pipelines
    rows = mine.batch_size // replicas

    # Also for one replica: cut out at a place that is not known before, a piece has a size that is not known before,
    # the same on all workers. Those to whom no batch leaves a row would trace something that cannot run.
    def pieces(x: dict, y: dict) -> tf.data.Dataset:
        def piece(number: tf.Tensor) -> Any:
            return tf.nest.map_structure(lambda part: part[number * rows : (number + 1) * rows], (x, y))

        return tf.data.Dataset.range(replicas).map(piece)

    return (
        mine.dataset(repeat=False).flat_map(pieces).apply(tf.data.experimental.assert_cardinality(replicas * len(mine)))
    )
