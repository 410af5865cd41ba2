"""The kinds of training that a folder can hold, told apart by the file that each goes on from.

All of them leave their result under the same name, so that one must not begin in the folder of another.
"""

from __future__ import annotations

from pathlib import Path

FIT, BY_TURNS, DOWNPOUR, SANDBLASTER = "checkpoint.weights.h5", "alternating.json", "downpour.npz", "sandblaster.npz"
_KINDS = {
    FIT: "one of `zoo train`",
    BY_TURNS: "an alternating one of `zoo train --alternating`",
    DOWNPOUR: "one of `zoo train --strategy parameter_server`",
    SANDBLASTER: "one of `zoo train --strategy sandblaster`",
}


def kinds_in(folder: Path) -> list[str]:
    """The files of ``folder`` that trainings go on from."""
    return [name for name in _KINDS if (folder / name).is_file()]


def check_folder(folder: Path, own: str, resume: bool) -> None:
    """Refuse a folder that holds a training of another kind than that which goes on from ``own``, or is not resumed.

    Raises:
        ValueError: it would have lost its result.

    Example:
        >>> check_folder(Path("runs/new"), FIT, resume=False)
    """
    for name in kinds_in(folder):
        if name != own:
            raise ValueError(
                f"{folder} holds a training of another kind, {_KINDS[name]} ({name}), whose result this one would "
                "replace; go on with that one by its own options and --resume, or choose another folder"
            )
    if not resume and (folder / own).is_file():
        raise ValueError(f"{folder} holds a training already ({own}); resume it, or choose another folder")
