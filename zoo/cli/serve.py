"""``zoo serve``: a model or an artifact behind HTTP, with a web page."""

from __future__ import annotations

import argparse
import ipaddress
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from zoo.cli.console import import_tensorflow_quietly, say, warn
from zoo.cli.models import add_weights_options, named_model
from zoo.cli.proposals import METHODS
from zoo.export.serving.limits import Limits

if TYPE_CHECKING:
    from zoo.export.runners import Artifact

_FORMATS = ("saved_model", "onnx", "tflite")
_DESCRIPTION = """Serve a model to this machine, or with --host to others, until Ctrl+C or SIGTERM, which let what has
begun finish. It speaks TensorFlow Serving's REST API (/v1), the Open Inference Protocol (/v2) and Prometheus
(/metrics); at / is a page to drop pictures on. There is neither password nor encryption."""
_OWN = "--proposals: {} finds its own; leave it out, it is for a Fast R-CNN"
_LIMITS = {
    "max_body": ("BYTES", "of a request"),
    "max_pixels": ("N", "of one picture"),
    "max_images": ("N", "in one request"),
    "max_proposals": ("N", "of one picture, for a Fast R-CNN"),
    "room_pixels": ("N", "of all pictures that are decoded and wait or run"),
    "max_requests": ("N", "predictions in the server at once; one more is answered 503"),
    "max_batch": ("N", "images of one size that run together"),
    "batch_proposals": ("N", "of all images that run together, for a Fast R-CNN; one image may have more"),
    "max_delay": ("SECONDS", "that an image waits for others to run with"),
    "timeout": ("SECONDS", "from a request's beginning to its answer"),
    "max_depth": ("N", "how deep a request's JSON is nested"),
}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``serve``."""
    parser = commands.add_parser("serve", help="answer predictions over HTTP", description=_DESCRIPTION)
    parser.add_argument(
        "model",
        metavar="MODEL_OR_ARTIFACT",
        nargs="?",
        help="an .onnx or .tflite file or a SavedModel's folder of `zoo export`; or a model's name, the name of "
        "weights, a run folder of `zoo train`, or a weights file, which is exported first, into a temporary folder "
        "(default: the shipped detector)",
    )
    add_weights_options(parser)
    parser.add_argument("--format", choices=_FORMATS, help="to export a model to (default: saved_model)")
    parser.add_argument(
        "--proposals",
        metavar="METHOD",
        choices=[name for name in METHODS if name != "rpn"],  # which wants a model of its own
        help="for a Fast R-CNN: propose boxes for pictures that come without, by one of %(choices)s; otherwise every "
        "request has to bring its own",
    )
    parser.add_argument("--name", help="of the model in addresses (default: its own)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8501, help="0 for any that is free (default: 8501)")
    group = parser.add_argument_group("limits")
    for field in fields(Limits):
        metavar, meaning = _LIMITS[field.name]
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar=metavar,
            help=f"{meaning} (default: {field.default:,})",
        )
    parser.set_defaults(run=_serve, tensorflow=False)


def _serve(args: argparse.Namespace) -> int:
    from zoo.export.serving.server import packages, serve

    limits = Limits(**{field.name: getattr(args, field.name) for field in fields(Limits)})
    packages()  # before a model is exported in vain
    artifact = _artifact(args)
    looks, propose = artifact.proposals is not None, None
    if args.proposals is not None:
        if not looks:
            raise ValueError(_OWN.format(artifact.metadata["model"]))
        from zoo.datasets.proposals_choice import named_method  # with it comes OpenCV

        propose = named_method(args.proposals, artifact.proposals)

    def ready(address: str) -> None:
        say(f"serving {artifact.metadata['model']} ({artifact.format}, {artifact.runtime}) on {address}")
        if looks and propose is None:
            say("requests have to bring proposals along; with --proposals METHOD the server would make them")
        if not _is_local(args.host):
            warn(f"zoo: {args.host} is open to all who reach this machine, without password or encryption")

    serve(artifact, name=args.name, propose=propose, host=args.host, port=args.port, limits=limits, ready=ready)
    say("stopped")
    return 0


def _artifact(args: argparse.Namespace) -> Artifact:
    """What MODEL_OR_ARTIFACT is, opened; a model is exported."""
    path = Path(args.model or "")
    if args.model and (path.suffix in (".onnx", ".tflite") or _holds_saved_model(path)):
        if args.weights or args.option or args.format:
            raise ValueError("--weights, --option and --format are for a model; an artifact has them inside")
        if path.is_dir():
            import_tensorflow_quietly()
        return zoo.export.open_artifact(path)
    return _exported(args)


def _holds_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file() or any(path.glob("*/saved_model.pb"))


def _exported(args: argparse.Namespace) -> Artifact:
    """The model as an artifact that is loaded and leaves no file behind."""
    import_tensorflow_quietly()
    model = named_model(args)
    if args.proposals is not None and not hasattr(model, "proposals"):
        raise ValueError(_OWN.format(model.name))  # before it is exported in vain
    kind = args.format or "saved_model"
    warn(f"zoo: exporting to {kind} first; `zoo export` once, and serve its result, to start faster")
    with tempfile.TemporaryDirectory(prefix="zoo-serve-") as folder:
        if kind == "saved_model":
            exported = zoo.export.saved_model(model, Path(folder) / "model", version=1)
        elif kind == "onnx":
            exported = zoo.export.onnx(model, Path(folder) / "model.onnx")
        else:
            exported = zoo.export.tflite(model, Path(folder) / "model.tflite")
        return zoo.export.open_artifact(exported.path)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
