"""Faster R-CNN trained in four steps, each of which may be interrupted (Ren 2015, section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals_make import Made, make_proposals
from zoo.datasets.records import DetectionDataset
from zoo.detectors.deltas import DELTA_DEVIATIONS
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.files import save_json
from zoo.proposals_of import RPNProposals
from zoo.training.evaluate import check_classes, evaluate
from zoo.training.fit import CHECKPOINT, FINAL, train
from zoo.training.four_steps import SETTINGS, START, STEPS, FourSteps
from zoo.training.kinds import check_folder
from zoo.training.same_data import data_digest
from zoo.weights_io import WeightsMeta, load_weights_file, save_meta, save_weights_file, weight_names

PROPOSALS = "proposals"
_PARTS = ("extractor", "body", "preprocessing")
# What makes batches: ``Batches``, or with other augmentation ``functools.partial(Batches, flip=False)``.
MakeBatches = Callable[..., Batches]


def train_alternating(
    model: FasterRCNN,
    train_data: DetectionDataset,
    val_data: DetectionDataset | None = None,
    *,
    out: str | Path,
    plan: FourSteps | None = None,
    steps: Sequence[int] = (1, 2, 3, 4),
    make_batches: MakeBatches = Batches,
    resume: bool = False,
    tensorboard: bool = True,
    verbose: int | str = "auto",
    say: Callable[[str], None] = print,
    command: str = "",
) -> FasterRCNN:
    """Train ``model`` by turns: RPN, then Fast R-CNN on its proposals, then each once more on shared convolutions.

    1. The RPN, together with the convolutions, from the model's weights (ImageNet's in the paper).
    2. Fast R-CNN, together with convolutions of its own, from the same weights, on the proposals of step 1.
    3. The RPN anew on the convolutions of step 2, which stay as they are from here on.
    4. Fast R-CNN's own layers, on from step 2, on the proposals of step 3.

    The folder ``out`` then holds ``start.weights.h5``, a folder for each step as `zoo.train` leaves it, ``proposals/``
    (of each picture, before and after; see `zoo.datasets.proposals_cache`), and the whole as ``model.weights.h5``.

    Args:
        model: a Faster R-CNN; it ends up with the final weights if step 4 is done.
        train_data: pictures to train on.
        val_data: the final model's mAP is measured on these.
        out: folder for all files.
        plan: lengths and settings.
        steps: which to do now; each needs what the ones before have left in ``out``.
        make_batches: called with a data set, a batch size, a seed and ``proposals=``.
        resume: go on in ``out``: steps that are done are not done again, and one that was broken off goes on from its
            checkpoint. The weights come out as if there had been no break.
        tensorboard: write TensorBoard logs.
        verbose: as in ``fit``.
        say: is told what is being done.
        command: the command line, kept in ``model.json``.

    Example:
        >>> model = zoo.get("faster_rcnn_vgg16", "imagenet", classes=data.classes)    # doctest: +SKIP
        >>> zoo.train_alternating(model, data, out="runs/voc07")                     # doctest: +SKIP
    """
    if not isinstance(model, FasterRCNN):
        raise ValueError(f"{model.name} is no Faster R-CNN: it has no region proposal network to alternate with")
    wrong = [step for step in steps if step not in (1, 2, 3, 4)]
    if wrong or not steps:
        raise ValueError(f"steps={tuple(steps)}; give some of 1, 2, 3 and 4")
    check_classes(model.classes, train_data)
    if val_data is not None:
        check_classes(model.classes, val_data)
    run = _Run(model, train_data, Path(out), plan or FourSteps(), make_batches, tensorboard, verbose, say)
    run.begin(resume)
    for step in sorted(set(steps)):
        run.step(step)
    if run.done(4):
        run.finish(val_data, command)
    return model


@dataclass(frozen=True)
class _Run:
    """One training's folder and what is the same for all of its steps."""

    model: FasterRCNN
    data: DetectionDataset
    out: Path
    plan: FourSteps
    make_batches: MakeBatches
    tensorboard: bool
    verbose: int | str
    say: Callable[[str], None]

    def begin(self, resume: bool) -> None:
        """Keep the networks and the weights that steps 1 and 2 start from; or see that the folder is this training's.

        All steps build their models from what is kept: layers without names of their own are called otherwise in
        each process, and proposals are kept under a hash of the model.
        """
        check_folder(self.out, SETTINGS, resume=True)  # whether it is to be resumed is looked at below
        path = self.out / SETTINGS
        about = {"images": len(self.data), "data": data_digest(self.data), "model": _about(self.model)}
        settings = _plain({"plan": self.plan.to_dict(), **about})
        if not path.is_file():
            save_weights_file(self.model, self.out / START, meta=_meta(self.model))
            # Last: with it the folder counts as begun.
            save_json({**settings, "config": _plain(self.model.get_config())}, path)
            return
        if not resume:
            raise ValueError(f"{self.out} holds an alternating training already; resume it, or choose another folder")
        differ = list(_differences(self._stored(), settings))
        if differ:
            raise ValueError(
                f"{path} was written with other settings: {'; '.join(differ)}; resume with the same, or choose another "
                "folder"
            )

    def _stored(self) -> dict[str, Any]:
        path = self.out / SETTINGS
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another folder") from error

    def done(self, step: int) -> bool:
        """Whether a step has come to its end."""
        return self.weights(step).is_file()

    def weights(self, step: int) -> Path:
        """Where a step leaves its weights."""
        return self.out / STEPS[step - 1] / FINAL

    def step(self, step: int) -> None:
        """Do a step, or what is left of it."""
        if self.done(step):
            self.say(f"Step {STEPS[step - 1]}: done before")
            return
        missing = [STEPS[before - 1] for before in range(1, step) if not self.done(before)]
        if missing:
            raise ValueError(f"step {STEPS[step - 1]} needs what {missing[0]} leaves in {self.out}; do that first")
        # Dropout draws the same whether this process has done the steps before or not.
        keras.utils.set_random_seed(self.plan.recipe(step).seed)
        model = self._rpn_model(step) if step % 2 else self._fast_model(step)
        proposals = None if step % 2 else self.proposals(step - 1).folder
        batches = self.make_batches(
            self.data,
            self.plan.batch_size(step),
            self.plan.recipe(step).seed,
            proposals=proposals,
            most_proposals=self.model.train_proposals[1],
        )
        folder = self.out / STEPS[step - 1]
        if step % 2 == 0 and not (folder / CHECKPOINT).is_file():
            self.say(f"Step {STEPS[step - 1]}: statistics of box deltas")
            # What step 2 has learnt goes on meaning the same in step 4.
            model.measure_targets(batches.numpy_batches(), new=step == 2)
        self.say(f"Step {STEPS[step - 1]}: {self.plan.length(step)} batches")
        train(
            model,
            batches,
            out=folder,
            steps=self.plan.length(step),
            recipe=self.plan.recipe(step),
            keep="last",
            resume=True,
            targets="keep",
            tensorboard=self.tensorboard,
            verbose=self.verbose,
        )

    def proposals(self, step: int) -> Made:
        """What the RPN of step 1 or 3 proposes for the training pictures; made now if it is not there yet."""
        before, after = self.model.train_proposals
        method = RPNProposals(self._faster(self.weights(step)), most=after, before_nms=before)
        self.say(f"Step {STEPS[step - 1]}: proposals of {len(self.data)} pictures")
        return make_proposals(self.data, method, self.out / PROPOSALS, workers=1)

    def finish(self, val_data: DetectionDataset | None, command: str) -> None:
        """Put the parts together in the caller's model, measure it, and write it."""
        steps = {2: self._fast(self.weights(2)), 3: self._faster(self.weights(3)), 4: self._fast(self.weights(4))}
        for variables in zip(*(model.extractor.weights for model in steps.values()), strict=True):
            first, *others = (np.asarray(variable) for variable in variables)
            if not all(np.array_equal(first, other) for other in others):
                raise ValueError(
                    f"{self.out}: {variables[0].path} is not the same after steps 2, 3 and 4, which share it; has a "
                    "file been replaced? Remove the folders of steps 3 and 4 and resume"
                )
        fast = steps[4]
        means = np.zeros((len(fast.classes), 4), np.float32)
        fast.set_target_statistics(means, np.broadcast_to(np.float32(DELTA_DEVIATIONS), means.shape))
        for part, source in (("extractor", fast), ("head", fast), ("rpn", steps[3])):
            _copy(getattr(source, part), getattr(self.model, part))
        scores: dict[str, object] = {}
        if val_data is not None:
            self.say(f"mAP on {len(val_data)} pictures")
            scores["val_map"] = float(evaluate(self.model, val_data).result.map)
            self.say(f"mAP {scores['val_map']:.4f}")
        meta = replace(_meta(self.model), scores=scores, command=command)
        save_weights_file(self.model, self.out / FINAL, meta=meta)
        save_meta(meta, self.out / FINAL)

    def _rpn_model(self, step: int) -> FasterRCNN:
        """What steps 1 and 3 train: a Faster R-CNN of which only the RPN's losses count."""
        model = self._faster(self.out / START)
        if step == 3:
            _copy(self._fast(self.weights(2)).extractor, model.extractor)
            model.extractor.trainable = False
        model.set_stage("rpn")
        return model

    def _fast_model(self, step: int) -> FastRCNN:
        """What steps 2 and 4 train: Fast R-CNN with the same networks."""
        if step == 4:
            model = self._fast(self.weights(2))
            model.sampling_step.assign(0)
            model.extractor.trainable = False
            return model
        model, start = self._fast(), self._faster(self.out / START)
        _copy(start.extractor, model.extractor)
        _copy(start.head, model.head)
        return model

    def _faster(self, weights: Path) -> FasterRCNN:
        model = FasterRCNN.from_config(self._stored()["config"])
        load_weights_file(model, weights)
        return model

    def _fast(self, weights: Path | None = None) -> FastRCNN:
        config, own = self._stored()["config"], self.model
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in _PARTS}
        model = FastRCNN(
            parts["extractor"],
            parts["body"],
            own.classes,
            parts["preprocessing"],
            stride=own.stride,
            pool_size=own.pool_size,
            proposals=own.train_proposals[1],
            head_samples=max(1, own.head_samples // self.plan.fast_batch),
            head_foreground=own.head_foreground,
            background_from=self.plan.background_from,
            use_difficult=own.use_difficult,
            convention=own.convention,
            name="fast_rcnn",
        )
        if weights is not None:
            load_weights_file(model, weights)
        return model


def _copy(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    target.set_weights(source.get_weights())


def _meta(model: keras.Model) -> WeightsMeta:
    meta = getattr(model, "zoo_meta", None)
    return WeightsMeta(classes=tuple(model.classes)) if meta is None else meta


def _about(model: FasterRCNN) -> dict[str, Any]:
    """What has to be the same to go on: all that has a number or a name, and the shapes of the weights."""
    plain = {key: getattr(model, key) for key in model.PLAIN if key != "name"}
    shapes = {name: list(map(int, variable.shape)) for name, variable in weight_names(model).items()}
    return {**plain, "preprocessing": model.preprocessing.describe(), "weights": shapes}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Through JSON and back: what is written and what is compared are the same."""
    return json.loads(json.dumps(values))


def _differences(then: dict[str, Any], now: dict[str, Any], where: str = "") -> Iterator[str]:
    for key, value in now.items():
        before = then.get(key) if isinstance(then, dict) else None
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _differences(before, value, f"{where}{key}.")
        elif before != value:
            yield f"{where}{key} {before!r} then, {value!r} now"
