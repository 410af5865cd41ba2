"""Checkpoints from which a training goes on as if it had never stopped.

One file, replaced as a whole: the weights (readable by ``zoo.get`` like any weights file), and under
``_state`` the optimizer's variables, the model's random seeds and, as JSON, the epoch and what the
callbacks need.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from zoo.weights_entry import WeightsError
from zoo.weights_io import STATE_GROUP, WeightsMeta, load_weights_file, read_meta, save_weights_file


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: whole epochs done, which is the index of the next one.
        settings: what must not change when it goes on, such as the batch size and the seed.
        history: one row of logs per epoch.
        best: highest validation mAP so far; -1 if none was measured.
        elapsed: seconds used.
        steps: batches done, fewer than in so many epochs if the last one was not whole; ``None`` for whole ones.
    """

    epoch: int
    settings: Mapping[str, Any]
    history: list[dict[str, float]]
    best: float = -1.0
    elapsed: float = 0.0
    steps: int | None = None


def save_checkpoint(model: keras.Model, path: str | Path, progress: Progress, meta: WeightsMeta) -> Path:
    """Write weights, optimizer, seeds and progress of a compiled model to ``path``, atomically."""
    state = {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    state |= {f"seeds/{i}": np.asarray(v) for i, v in enumerate(_seeds(model))}
    state["progress"] = np.bytes_(json.dumps(vars(progress)).encode())
    return save_weights_file(model, path, meta=meta, state=state)


def read_progress(path: str | Path) -> Progress:
    """The progress in a checkpoint; ``WeightsError`` if the file is none."""
    try:
        with h5py.File(path, "r") as file:
            return Progress(**json.loads(file[f"{STATE_GROUP}/progress"][()]))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist; start without resuming") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} is no checkpoint of a training ({error}); start without resuming, or into another folder"
        ) from error


def load_checkpoint(model: keras.Model, path: str | Path) -> Progress:
    """Bring a compiled model, its optimizer, which is built, and its seeds to where ``path`` was written."""
    progress = read_progress(path)
    _check_model(model, path)
    load_weights_file(model, path)
    with h5py.File(path, "r") as file:
        state = file[STATE_GROUP]
        for group, variables in (("optimizer", model.optimizer.variables), ("seeds", _seeds(model))):
            stored = state.get(group, {})
            shapes = [tuple(stored[str(i)].shape) for i in range(len(stored))]
            if shapes != [tuple(variable.shape) for variable in variables]:
                raise WeightsError(
                    f"{path} holds {len(shapes)} variables of the {group}, this training has "
                    f"{len(variables)} or of "
                    "other shapes; resume with the settings that it was started with"
                )
            for i, variable in enumerate(variables):
                variable.assign(stored[str(i)][()])
    return progress


def _check_model(model: keras.Model, path: str | Path) -> None:
    """Options such as the channel order change no shape, so that only their names tell that they are others."""
    stored, own = read_meta(path), getattr(model, "zoo_meta", None)
    if stored is None or own is None or not (stored.model and own.model):
        return
    if stored.model != own.model:
        raise WeightsError(
            f"{path} is of {stored.model}, not of {own.model}; resume with the model it was started with"
        )
    then, now = all_options(stored), all_options(own)
    differ = [f"{name} {then.get(name)!r} then, {now.get(name)!r} now" for name in now if then.get(name) != now[name]]
    if differ:
        raise WeightsError(
            f"{path} was written with other options of {own.model}: {'; '.join(differ)}; build the model with the same "
            f"(zoo.load({str(path)!r}) does), or choose another folder"
        )


def all_options(meta: WeightsMeta) -> dict[str, Any]:
    """The options that a model was built with, defaults included; only their names tell that some are others."""
    from zoo.arguments import RegistryError
    from zoo.registry import info

    try:
        defaults = info(meta.model).options
    except RegistryError:
        defaults = {}
    # Through JSON and back, as what is stored went: tuples and lists are the same.
    return dict(WeightsMeta.from_dict(WeightsMeta(options={**defaults, **meta.options}).to_dict()).options)


class Checkpoint(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch; ``progress(next_epoch)`` says what to store."""

    def __init__(self, path: str | Path, progress: Callable[[int], Progress], meta: WeightsMeta) -> None:
        """Nothing is written yet."""
        super().__init__()
        self.path, self.progress, self.meta = Path(path), progress, meta

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write it."""
        save_checkpoint(self.model, self.path, self.progress(epoch + 1), self.meta)


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """State that is not a weight: the seeds of dropout and sampling."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
