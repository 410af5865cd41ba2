"""Sandblaster's checkpoint: all that a minimisation goes on from, in one file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.distribute.lbfgs import Evaluation, LBFGSState
from zoo.distribute.settings import check_settings
from zoo.files import save_atomically

if TYPE_CHECKING:
    from zoo.distribute.lbfgs import Vector


@dataclass(frozen=True, eq=False)
class Drawn:
    """Where what a detector samples was drawn: the draw's number, the iteration, and the parameters ``(n,)``."""

    number: int
    iteration: int
    x: Vector


def save_state(state: LBFGSState, path: str | Path, settings: Mapping[str, Any], drawn: Drawn) -> None:
    """Write all that a run goes on from, atomically; vectors that lie elsewhere are fetched."""
    told = {"value": state.at.value, "settings": settings, "pairs": len(state.pairs), "extra": len(state.at.extra)}
    told |= {name: getattr(state, name) for name in ("iteration", "evaluations", "length", "stuck")}
    told["drawn"] = [drawn.number, drawn.iteration]
    arrays = {"x": state.x, "gradient": state.at.gradient, "told": np.array(json.dumps(told)), "drawn": drawn.x}
    for number, (step, change) in enumerate(state.pairs):
        arrays |= {f"step{number}": step, f"change{number}": change}
    arrays |= {f"extra{number}": each for number, each in enumerate(state.at.extra)}
    with save_atomically(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def load_state(
    path: str | Path, settings: Mapping[str, Any], put: Callable[[np.ndarray], Vector] = np.asarray
) -> tuple[LBFGSState, Drawn]:
    """Read what `save_state` wrote in a training with the same ``settings``; else a ``ValueError``.

    ``put`` brings each vector where it is to lie, which may be elsewhere than in the run before.
    """
    state, drawn, stored = _read(path)
    check_settings(stored, settings, path)
    at = replace(state.at, gradient=put(state.at.gradient))
    pairs = tuple((put(step), put(change)) for step, change in state.pairs)
    return replace(state, x=put(state.x), at=at, pairs=pairs), replace(drawn, x=put(drawn.x))


def iterations_in(checkpoint: str | Path) -> int:
    """Iterations that a checkpoint has behind it; a ``ValueError`` if the file is none."""
    return _read(checkpoint)[0].iteration


def _read(path: str | Path) -> tuple[LBFGSState, Drawn, dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(str(file["told"]))
            pairs = tuple((file[f"step{number}"], file[f"change{number}"]) for number in range(told["pairs"]))
            extra = [file[f"extra{number}"] for number in range(told["extra"])]
            at = Evaluation(told["value"], file["gradient"], extra)
            rest = {name: told[name] for name in ("iteration", "evaluations", "length", "stuck")}
            state = replace(LBFGSState(file["x"], at, pairs), **rest)
            return state, Drawn(*told["drawn"], file["drawn"]), told["settings"]
    except (OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no checkpoint of Sandblaster ({error}); start without resuming, or with another file"
        ) from error
