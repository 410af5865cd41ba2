"""``zoo export`` and ``zoo verify``: models as SavedModel, ONNX or TFLite, and whether those detect the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo
from zoo.cli.console import out, say, table, warn
from zoo.cli.models import add_weights_options, describe, named_model
from zoo.cli.proposal_options import chosen_method

if TYPE_CHECKING:
    from zoo.detectors.detect import ProposalsOf

_FORMATS = ("saved_model", "onnx", "tflite")
# Of the weights, by format.
_PRECISIONS = {
    "saved_model": ("float32",),
    "onnx": ("float32", "dynamic_int8", "int8"),
    "tflite": ("float32", "float16", "dynamic_int8", "int8"),
}
_SCENES = 50
_MOST_PROPOSALS = 2000  # of a picture that is compared; the same in both commands, or its results were not found again
_MODEL_HELP = (
    "a model's name, the name of weights that `zoo list` shows, a run folder of `zoo train`, or a weights file"
)
_EXPORT = """The artifact takes RGB images of 0-255 in any size, prepares them itself, and gives final detections
or class probabilities. Before it is put in its place it runs in its own runtime and is compared with the Keras model;
where they differ nothing is written, and the exit status is 1."""
_VERIFY = """Check an artifact's form, run it here, and compare it with its Keras model: with what the model gave when
the artifact was written, or with MODEL itself. The exit status is 1 if they differ."""
_NUMBERS = ("Compared", "Same", "Ties", "Box off by", "Score off by", "Seconds", "Keras")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``export`` and ``verify``."""
    parser = commands.add_parser(
        "export", help="write a model as SavedModel, ONNX or TFLite, checked", description=_EXPORT
    )
    parser.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="NAME.onnx, NAME.tflite, or a folder for a SavedModel's versions"
    )
    parser.add_argument("--format", choices=_FORMATS, help="by default told by OUT")
    add_weights_options(parser)
    parser.add_argument("--size", type=_size, metavar="HxW", help="only images of this size (default: any)")
    parser.add_argument(
        "--precision",
        choices=_PRECISIONS["tflite"],
        default="float32",
        help="of ONNX's and TFLite's weights; int8 rounds what flows between layers too, and wants --representative",
    )
    parser.add_argument(
        "--representative",
        nargs="+",
        metavar="IMAGE",
        help="for int8: a folder or some fifty pictures of the kind that the model will see, or digits",
    )
    parser.add_argument(
        "--most-lost",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="mean average precision that fewer bits may cost on the pictures compared (default: .1)",
    )
    parser.add_argument(
        "--dtype",
        choices=("uint8", "float32"),
        default="uint8",
        help="of the input, 0-255 either way; a SavedModel's signature serving_float takes float32 anyway",
    )
    parser.add_argument("--version", type=int, metavar="N", help="of a SavedModel (default: one more than the highest)")
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="of a SavedModel: serve_encoded decodes no larger picture (default: 100,000,000)",
    )
    _add_images(parser)
    parser.set_defaults(run=_export)

    parser = commands.add_parser("verify", help="does an artifact detect what its model does", description=_VERIFY)
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="an .onnx or .tflite file, or a folder")
    parser.add_argument("--model", metavar="MODEL", help=_MODEL_HELP)
    add_weights_options(parser)
    _add_images(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")
    parser.set_defaults(run=_verify)


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="pictures to compare on, of the kind that the model knows (default: three scenes of digits)",
    )
    parser.add_argument(
        "--proposals",
        metavar="METHOD|PATH",
        help="of these pictures, for a Fast R-CNN: selective-fast, selective-quality, edge-boxes or dense, a folder of "
        "`zoo proposals`, or a .npz, .json or .mat file with the pictures' names (default: a coarse sliding window's)",
    )


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 480x640")
    return int(sides[0]), int(sides[1])


def _export(args: argparse.Namespace) -> int:
    kind = args.format or {".onnx": "onnx", ".tflite": "tflite"}.get(args.out.suffix, "saved_model")
    if args.precision not in _PRECISIONS[kind]:
        raise ValueError(f"--precision {args.precision}: {kind} has {', '.join(_PRECISIONS[kind])}")
    if (args.representative is not None) != (args.precision == "int8"):
        raise ValueError("--representative and --precision int8 go together: the pictures show what numbers flow")
    if args.version is not None and kind != "saved_model":
        raise ValueError(f"--version is for a SavedModel; {kind} is a single file")
    if args.max_pixels is not None and kind != "saved_model":
        raise ValueError(f"--max-pixels is for a SavedModel, which decodes files; {kind} takes decoded pictures")
    # Before the model is built: a path that is none is noticed at once.
    proposals = _proposals(args)
    model = named_model(args)
    if proposals is not None and not hasattr(model, "proposals"):
        raise ValueError(f"--proposals: {model.name} does not look at proposals of others; a Fast R-CNN does")
    shared: dict[str, Any] = {"size": args.size, "dtype": args.dtype, "images": args.images, "proposals": proposals}
    if kind == "saved_model":
        limit = {} if args.max_pixels is None else {"max_pixels": args.max_pixels}
        exported = zoo.export.saved_model(model, args.out, version=args.version, **limit, **shared)
    else:
        fewer = {"precision": args.precision, "most_lost": args.most_lost}
        export = {"onnx": zoo.export.onnx, "tflite": zoo.export.tflite}[kind]
        shown = _representative(args.representative, args.size)
        exported = export(model, args.out, representative=shown, **fewer, **shared)
    say(f"written   {exported.path}: {describe(model)}, {exported.report['bytes'] / 1e6:.1f} MB")
    say(f"written   {exported.report_path}")
    _tell(exported.report)
    return 0


def _representative(names: list[str] | None, size: tuple[int, int] | None) -> list[Any] | None:
    """Paths, and for the word ``digits`` scenes of them, in the artifact's size."""
    if names != ["digits"] or Path("digits").exists():
        return names
    from zoo.export.samples import digit_pictures

    return digit_pictures(_SCENES, size)


def _proposals(args: argparse.Namespace) -> ProposalsOf | None:
    """What the pictures are compared with: a method, or boxes that are kept on disk."""
    if args.proposals is None:
        return None
    method = chosen_method(args.proposals, _MOST_PROPOSALS)
    if method is not None:
        return method
    from zoo.datasets.images import image_size
    from zoo.datasets.proposals import open_proposals
    from zoo.datasets.proposals_choice import METHODS
    from zoo.datasets.proposals_files import ProposalTable
    from zoo.datasets.records import Sample
    from zoo.inputs import list_sources

    where = f"--proposals {args.proposals}"
    if not Path(args.proposals).exists():
        raise ValueError(f"{where}: there is no such file or folder; methods are {', '.join(METHODS)}")
    source = open_proposals(args.proposals)
    if not isinstance(source, ProposalTable):
        return source
    if args.images is None:
        raise ValueError(f"{where} has boxes by the names of pictures; give those pictures with --images")
    paths = list_sources(args.images)[0]
    return [source.boxes(Sample(path.stem, path, image_size(path), (), (), (), ())) for path in paths]


def _verify(args: argparse.Namespace) -> int:
    from zoo.files import save_json

    if args.model is None and (args.weights or args.option):
        raise ValueError("--weights and --option are for --model; give that too")
    proposals = _proposals(args)
    model = None if args.model is None else named_model(args)
    report = zoo.export.verify(args.artifact, model, args.images, proposals=proposals)
    size = f"{report['bytes'] / 1e6:.1f} MB"
    say(f"verified  {args.artifact}: {report['model']}, {report['format']}, {report['precision']}, {size}")
    _tell(report)
    if args.json is not None:
        save_json(report, args.json)
        say(f"JSON: {args.json}")
    return 0


def _tell(report: dict[str, Any]) -> None:
    """What was compared, a line for each picture."""
    rows = table(
        "Picture", "Compared", "Same", "Ties", "Box off by", "Score off by", "Seconds", "Keras", right=_NUMBERS
    )
    for entry in report["images"]:
        rows.add_row(
            entry["name"],
            str(entry["expected"]),
            str(entry["matched"]),
            str(entry["tied"]),
            f"{entry['worst_box']:.1e}",
            f"{entry['worst_score']:.1e}",
            f"{entry['seconds']:.3f}",
            f"{entry['keras_seconds']:.3f}",
        )
    out.print(rows)
    measured = "the same"
    if "map_lost" in report:
        lost = report["map_lost"]
        measured = "nothing to measure" if lost is None else f"{lost:.2%} of the Keras model's mAP lost"
    worst = f"boxes to {report['worst_box']:.1e} pixels, scores to {report['worst_score']:.1e}"
    say(f"{report['runtime']}: {measured}, {worst}")
    if not report["compared"]:
        warn("zoo: the model finds nothing on these pictures, so that nothing was compared; give others with --images")
