"""What ``zoo train`` was told of its data, kept in the run folder: for ``--resume``, and for measuring the run."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from zoo.arguments import as_tuples
from zoo.cli.console import say
from zoo.files import save_atomically, save_json

OPTIONS = "options.json"
# What a training that goes on takes as it was, if it is not told anew; the rest of the settings is in the checkpoint.
_TAKEN = ("split", "val_split", "images", "classes", "proposals", "most_proposals", "stage")
# Where no checkpoint says how the model was built: before the first one, and on parameter servers.
_START = ("model", "weights", "init_from", "option")
_SAME = ("precision",)
_PATHS = ("images", "proposals")
_WEIGHTS = ("weights", "init_from")


def remember(args: argparse.Namespace) -> None:
    """Keep the options in ``--out``; paths as absolute ones, since a training may be taken up from elsewhere.

    Those of a training that is there already stay.
    """
    from zoo.training.kinds import kinds_in

    if kinds_in(args.out):
        return
    values = {name: getattr(args, name) for name in (*_TAKEN, *_SAME, *_START)}
    for name in _PATHS:
        if values[name] is not None:
            values[name] = _absolute(values[name])
    for name in _WEIGHTS:
        # A folder may be called like registered weights, which are meant then.
        if values[name] is not None and not re.fullmatch(r"\w+", values[name]):
            values[name] = _absolute(values[name])
    save_json(values, args.out / OPTIONS)


def recall(args: argparse.Namespace) -> None:
    """With ``--resume``, set what is not given to what the training was started with; before `find_start`.

    Raises:
        ValueError: the precision is another one; the checkpoint does not hold it.
    """
    from zoo.training.kinds import BY_TURNS, FIT, kinds_in

    stored = _stored(args.out) if args.resume else {}
    for name in _SAME:
        if name in stored and getattr(args, name) != stored[name]:
            raise ValueError(
                f"--{name} {getattr(args, name)}: the training in {args.out} was started with {stored[name]}; resume "
                "with the same, or choose another folder"
            )
    names = (*_TAKEN, *(() if {FIT, BY_TURNS} & set(kinds_in(args.out)) else _START))
    if args.weights is not None or args.init_from is not None:
        names = tuple(name for name in names if name not in ("weights", "init_from"))
    taken = {name: stored[name] for name in names if getattr(args, name) in (None, []) and stored.get(name)}
    for name, value in taken.items():
        setattr(args, name, as_tuples(value))
    if taken:
        say(f"As at the start: {' '.join(_words(name, value) for name, value in taken.items())}")


def keep_options(run: Path, folder: Path) -> None:
    """Copy what ``run`` was told of its data, if it is a run, so that `zoo eval` takes the same proposals."""
    if (run / OPTIONS).is_file():
        with save_atomically(folder / OPTIONS) as aside:
            shutil.copyfile(run / OPTIONS, aside)


def take_proposals(args: argparse.Namespace, run: str | None) -> None:
    """Where ``--proposals`` is not given, take those that ``run``, a folder of ``zoo train``, was trained on."""
    if args.proposals is None and run is not None:
        args.proposals = _stored(Path(run)).get("proposals")
        if args.proposals is not None:
            say(f"Proposals as in the training of {run}: {args.proposals}")


def _stored(folder: Path) -> dict[str, object]:
    path = folder / OPTIONS
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it and give its options anew") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold options; remove it and give them anew")
    return found


def _absolute(text: str) -> str:
    """A path, or several with commas between them, from the root on; what is no path, such as a name, as it is."""
    parts = [text] if Path(text).exists() else text.split(",")
    return ",".join(str(Path(part).resolve()) for part in parts) if all(Path(part).exists() for part in parts) else text


def _words(name: str, value: object) -> str:
    """As one would type it."""
    if name == "option":
        return " ".join(f"--option {key}={chosen!r}" for key, chosen in value)
    return f"--{name.replace('_', '-')} {','.join(value) if isinstance(value, list) else value}"
