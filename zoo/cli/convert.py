"""``zoo convert``: other libraries' weights into ours, and ours into some of theirs."""

from __future__ import annotations

import argparse
from pathlib import Path

import zoo
from zoo.cli.console import say
from zoo.cli.models import add_option

_LAYOUTS = ("keras_applications", "chainercv")
_DESCRIPTION = """SRC may be
  .h5          keras.applications: VGG-16/19, ResNet-50/101/152; for files without their top ('notop') add
               --option include_top=False
  .npz         ChainerCV: VGG-16, ResNet-50/101/152 ('he'; for 'fb' add --option stride_in=3x3), Faster R-CNN VGG-16
  .pth         torchvision: AlexNet, VGG, ResNet; state dictionaries, read without running what is pickled in them
  .onnx        the ONNX model zoo: AlexNet, CaffeNet, VGG, ResNet v1
  .caffemodel  AlexNet, CaffeNet, VGG_CNN_M_1024, VGG, He's ResNet, py-faster-rcnn
and becomes DST, a .weights.h5 of ours, with a .json beside it. Or SRC is a .weights.h5 of ours and DST a .h5
(keras.applications) or .npz (ChainerCV). Every array is accounted for, or nothing is written."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``convert``."""
    parser = commands.add_parser(
        "convert",
        help="convert weights from or to other libraries",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", type=Path)
    parser.add_argument("target", metavar="DST", type=Path)
    parser.add_argument("--model", metavar="NAME", help="which model SRC is for, where it does not tell")
    parser.add_argument("--layout", choices=_LAYOUTS, help="of DST; by default told by its suffix")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the classes of SRC in index order")
    add_option(parser, "an option of the model that SRC was made with, where its layout does not tell")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    from zoo.convert.readers import is_foreign

    source = args.source / "model.weights.h5" if args.source.is_dir() else args.source
    if not source.is_file():
        raise ValueError(f"{source} does not exist; give a weights file, or a run folder of `zoo train`")
    return _into_ours(args) if is_foreign(args.source) else _out_of_ours(args, source)


def _into_ours(args: argparse.Namespace) -> int:
    from zoo.weights_io import SUFFIX, read_meta, save_meta
    from zoo.weights_source import convert_file, published_model

    if not args.target.name.endswith(SUFFIX):
        raise ValueError(f"{args.target}: {args.source} becomes weights of ours; give a DST that ends in {SUFFIX}")
    if args.layout:
        raise ValueError(f"--layout {args.layout}: only what is written from weights of ours has another layout")
    model = zoo.info(args.model or published_model(args.source))
    classes = tuple(args.classes) if args.classes else None
    arrays = convert_file(args.source, args.target, model, classes, dict(args.option))
    meta = read_meta(args.target)
    beside = save_meta(meta, args.target)
    say(f"read     {args.source}: {len(arrays.file)} arrays, {arrays.file.format}, {arrays.layout.about}")
    for reason, names in arrays.ignored.items():
        say(f"ignored  {len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {reason}")
    constant = f", of which {len(arrays.constant)} are zero and have no array" if arrays.constant else ""
    options = ", ".join(f"{name}={value!r}" for name, value in meta.options.items()) or "none"
    say(f"written  {args.target}: {len(arrays)} weights of {model.name}{constant}; options: {options}")
    say(f"written  {beside}")
    return 0


def _out_of_ours(args: argparse.Namespace, source: Path) -> int:
    from zoo.convert.writers import write_file
    from zoo.weights_io import SUFFIX, is_ours, read_meta

    if not is_ours(source):
        raise ValueError(
            f"{source} is a file of Keras' own; load it with zoo.get(NAME, weights={str(source)!r}), and save that "
            "with zoo.weights_io.save_weights_file first"
        )
    by_suffix = {".npz": "chainercv", ".h5": "keras_applications"}
    layout = args.layout or by_suffix.get(args.target.suffix)
    if layout is None or args.target.name.endswith(SUFFIX):
        raise ValueError(
            f"{source} has our layout already; give a DST that ends in .h5 (keras.applications) or .npz (ChainerCV), "
            f"or --layout {' or '.join(_LAYOUTS)}"
        )
    if args.classes or args.option:
        raise ValueError("--classes and --option are for files of other libraries; those of ours tell theirs")
    meta = read_meta(source)
    name = args.model or (meta.model if meta is not None else "")
    if not name:
        raise ValueError(f"{source} does not tell which model it is for; load it with zoo.get and save it again")
    written = write_file(source, args.target, layout, zoo.info(name))
    say(f"read     {source}: weights of {name}")
    say(f"written  {args.target}: {len(written)} arrays in the layout {layout}")
    return 0
