"""``--proposals`` and ``--most-proposals`` of ``zoo train``, ``zoo eval`` and ``zoo detect``."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import progress, say

if TYPE_CHECKING:
    import keras

    from zoo.datasets.proposals import ProposalMethod, ProposalSource
    from zoo.datasets.records import DetectionDataset

FOLDER = "proposals"  # within a run folder, where a method's boxes are kept
_METHODS = "selective-fast (default), selective-quality, edge-boxes or dense"


def add_proposal_options(parser: argparse._ActionsContainer, kept: str) -> None:
    """Add both options; ``kept``: where the boxes of a method go."""
    parser.add_argument(
        "--proposals",
        metavar="PATH|METHOD",
        help="boxes for a Fast R-CNN to look at: a folder of `zoo proposals`, a .mat, .npz or .json file (or several: "
        f"A,B), or a method ({_METHODS}), {kept}",
    )
    parser.add_argument("--most-proposals", type=int, metavar="N", help="look at the first N boxes of a picture")


def wants_proposals(args: argparse.Namespace, model: keras.Model) -> bool:
    """Whether the model looks at proposals; raises if it does not, but some were given."""
    from zoo.training.evaluate import takes_proposals

    if args.most_proposals is not None and args.most_proposals < 1:
        raise ValueError(f"--most-proposals {args.most_proposals}: give a number from 1 on")
    if takes_proposals(model):
        if (args.most_proposals or 1) > model.proposals:
            raise ValueError(
                f"--most-proposals {args.most_proposals}: {model.name} looks at {model.proposals} at the most; build "
                f"it with --option proposals={args.most_proposals}"
            )
        return True
    sweep = getattr(args, "sweep_proposals", None)
    most = {"--most-proposals": args.most_proposals} if sweep is None else {"--sweep-proposals": sweep}
    given = {"--proposals": args.proposals, **most}
    given = [name for name, value in given.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: {model.name} does not look at proposals of others; a Fast R-CNN does")
    return False


def chosen_method(text: str | None, most: int) -> ProposalMethod | None:
    """The method that ``--proposals`` names, by default that of ``model.detect``; ``None`` if it names a path."""
    from zoo.datasets.proposals_choice import DEFAULT_METHOD, METHODS, named_method

    name = DEFAULT_METHOD if text is None else text
    if name not in METHODS or (text is not None and Path(text).exists()):
        return None
    return named_method(name, most)


def chosen_proposals(
    args: argparse.Namespace, model: keras.Model, parts: Sequence[DetectionDataset | None], folder: Path
) -> ProposalSource:
    """Where the model's proposals come from; those of a method are computed now, what ``folder`` lacks of them."""
    from zoo.datasets.proposals_choice import METHODS, First
    from zoo.datasets.proposals_make import make_proposals

    most = args.most_proposals or model.proposals
    # The first ones of many are the same as those of few: the folder serves all numbers.
    method = chosen_method(args.proposals, max(most, 2000))
    if method is None:
        return First(_opened(args.proposals, METHODS), most)
    if args.proposals is None:
        say(f"{model.name} looks at proposals that others make; without --proposals they are {method.name}'s")
    parts = [part for part in parts if part is not None]
    made = []
    with progress(f"proposing ({method.name})") as bar:
        task = bar.add_task("", total=sum(map(len, parts)))
        for part in parts:
            made.append(make_proposals(part, method, folder, progress=lambda: bar.advance(task)))
    computed, seconds = (sum(getattr(each, name) for each in made) for name in ("computed", "seconds"))
    took = f", {seconds / computed:.2f} s each" if computed else ""
    say(f"Proposals: {made[0].folder.path}   {computed} pictures computed now{took}")
    return First(made[0].folder, most)


def detection_proposals(args: argparse.Namespace, model: keras.Model) -> ProposalMethod | None:
    """What ``model.detect`` is to be told: a function of pictures, or ``None`` for a model without proposals."""
    from zoo.datasets.proposals_cache import ProposalFolder
    from zoo.datasets.proposals_choice import METHODS

    if not wants_proposals(args, model):
        return None
    most = args.most_proposals or model.proposals
    method = chosen_method(args.proposals, most)
    if method is not None:
        return method
    folder = _opened(args.proposals, METHODS)
    if not isinstance(folder, ProposalFolder):
        raise ValueError(f"--proposals {args.proposals}: give a method ({_METHODS}) or a folder of `zoo proposals`")
    return lambda image: folder(image)[:most]


@contextmanager
def beside_weights(weights: str | None) -> Iterator[Path]:
    """Where an evaluation keeps a method's boxes: in the run folder, or else nowhere for longer than it lasts."""
    if weights is not None and Path(weights).is_dir() and os.access(weights, os.W_OK):
        yield Path(weights) / FOLDER
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _opened(path: str, methods: Sequence[str]) -> ProposalSource:
    from zoo.datasets.proposals import ProposalError, open_proposals

    try:
        return open_proposals(path)
    except ProposalError as error:
        if "," in path or Path(path).exists():
            raise
        raise ProposalError(f"{error}; methods are {', '.join(methods)}") from error
