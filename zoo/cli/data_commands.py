"""``zoo data``: fetch data sets, and write them in another layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli.console import out, say, table, warn
from zoo.cli.data import DATA_HELP, add_reading_options, tell_notes


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``data`` with ``list``, ``get`` and ``convert``."""
    parser = commands.add_parser(
        "data", help="fetch or convert data sets", description="Fetch data sets, or write them in another layout."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="list what `zoo data get` can fetch").set_defaults(run=_list)
    get = actions.add_parser("get", help="download, verify and unpack a data set")
    get.add_argument("names", nargs="+", metavar="NAME", help="a name that `zoo data list` shows, or tfds:NAME")
    get.add_argument("--to", type=Path, default=Path("data"), metavar="DIR", help="where to keep it (default: data/)")
    get.set_defaults(run=_get)
    convert = actions.add_parser("convert", help="write a data set in another layout")
    convert.add_argument("data", metavar="DATA", help=DATA_HELP)
    convert.add_argument("folder", type=Path, metavar="FOLDER", help="new folder")
    convert.add_argument("--to", required=True, choices=("voc", "coco", "csv", "yolo"), help="layout")
    convert.add_argument(
        "--split", action="append", default=[], help="only this split; may be repeated; without it all that there are"
    )
    add_reading_options(convert)
    convert.add_argument("--link", action="store_true", help="symbolic links to the pictures instead of copies")
    convert.set_defaults(run=_convert)
    for action in actions.choices.values():
        action.add_argument("--debug", action="store_true", help="show the traceback of an error")
        action.set_defaults(tensorflow=False)


def _list(args: argparse.Namespace) -> int:
    from zoo.data_archives import DATA_SETS

    rows = table("Name", "Folder", "Download", "Terms", right=("Download",))
    for name, data_set in DATA_SETS.items():
        size = sum(archive.expected.size or 0 for archive in data_set.archives)
        rows.add_row(name, data_set.folder, f"{size / 1e9:.2f} GB", data_set.licence)
    rows.add_row("tfds:NAME", "tensorflow-datasets' own", "-", "see tensorflow-datasets")
    out.print(rows)
    return 0


def _get(args: argparse.Namespace) -> int:
    for name in args.names:
        if name.startswith("tfds:"):
            _get_tfds(name.removeprefix("tfds:"))
            continue
        from zoo.data_archives import get_data

        folder = get_data(name, args.to, say=warn)
        say(f"Data: {folder}")
    return 0


def _get_tfds(name: str) -> None:
    """Let tensorflow-datasets download and prepare a set, where it keeps its own."""
    from zoo.cache import is_offline
    from zoo.datasets.tfds_prepared import data_folder, find_prepared

    try:
        say(f"Data: {find_prepared(name)}")
        return
    except ValueError:
        if is_offline():
            raise
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError("tfds: needs tensorflow-datasets: pip install tensorflow-datasets") from error
    try:
        builder = tfds.builder(name, data_dir=data_folder())
        builder.download_and_prepare()
    except Exception as error:  # its downloader, its parsers and the set's own code raise what they like
        raise ValueError(
            f"tfds:{name}: tensorflow-datasets could not download and prepare it ({error}). Prepare it where there "
            f"is a network and put its folder at {data_folder() / name.replace(':', '/')}"
        ) from error
    # A name without configuration is that of the set's first: voc is voc/2007.
    full, _, version = builder.info.full_name.rpartition("/")
    say(f"Data: {Path(builder.data_dir)} (tfds:{full}:{version})")


def _convert(args: argparse.Namespace) -> int:
    from zoo.datasets.loading import load, splits
    from zoo.datasets.splits import base_splits
    from zoo.datasets.writing import save

    names = args.split or base_splits(splits(args.data))
    if not names:
        parts = load(args.data, classes=args.classes, images=args.images)
        tell_notes(parts)
    else:
        # One list of classes for all: those that occur in any.
        found = {name: load(args.data, name, args.classes, images=args.images) for name in names}
        classes = tuple(dict.fromkeys(label for part in found.values() for label in part.classes))
        parts = {
            name.replace("/", "-"): part
            if part.classes == classes
            else load(args.data, name, classes, images=args.images)
            for name, part in found.items()
        }
        for part in parts.values():
            tell_notes(part)
    for note in save(parts, args.folder, args.to, "link" if args.link else "copy"):
        warn(f"note: {note}")
    say(f"Data: {args.folder} ({args.to}{', ' + ', '.join(names) if names else ''})")
    return 0
