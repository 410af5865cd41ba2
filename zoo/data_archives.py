"""Data sets that anybody may fetch: where their archives are, how they are checked, and unpacking them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.cache import addresses, is_offline, locked, room_for
from zoo.fetch import fetch
from zoo.file_checks import Expected, Unfit, check, is_stamped, write_stamp
from zoo.unpack import unpack

_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_COCO = "http://images.cocodataset.org"
ARCHIVES = "archives"  # folder of what was fetched, in the folder of the data sets
# Data sets do not go into ZOO_HOME: where to keep them is said on the command line.
_MEND = "give `zoo data get --to` a folder"


@dataclass(frozen=True)
class Archive:
    """One file to fetch: its address, and what is known of it."""

    url: str
    expected: Expected

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DataSet:
    """A data set: the folder it becomes (with what is in it afterwards), and its archives.

    Attributes:
        folder: relative to where data sets are kept.
        root: folder inside the archives that becomes ``folder``; "" for their top.
        proof: files that are there when it is complete, relative to ``folder``, and how many.
        licence: what its makers say.
        archives: the files.
    """

    folder: str
    root: str
    proof: tuple[tuple[str, int], ...]
    licence: str
    archives: tuple[Archive, ...]


# MD5: as torchvision has them (datasets/voc.py). SHA-256 and sizes: as tensorflow-datasets has them (url_checksums).
# The publishers give none.
_FLICKR = "pictures: their owners' Flickr licences"
DATA_SETS = {
    "voc2007": DataSet(
        "VOCdevkit/VOC2007",
        "VOCdevkit/VOC2007",
        (("Annotations/*.xml", 9963), ("JPEGImages/*.jpg", 9963)),
        f"{_FLICKR} (PASCAL VOC)",
        (
            Archive(
                f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
                Expected(
                    460032000,
                    "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
                    "c52e279531787c972589f7e41ab4ae64",
                ),
            ),
            Archive(
                f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
                Expected(
                    451020800,
                    "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
                    "b6e924de25625d8de591ea690078ad9f",
                ),
            ),
        ),
    ),
    "voc2012": DataSet(
        "VOCdevkit/VOC2012",
        "VOCdevkit/VOC2012",
        (("Annotations/*.xml", 17125), ("JPEGImages/*.jpg", 17125)),
        f"{_FLICKR} (PASCAL VOC)",
        (
            Archive(
                f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                Expected(
                    1999639040,
                    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                    "6cd6e144f989b92b3379bac3b3de84fd",
                ),
            ),
        ),
    ),
    "coco2017": DataSet(
        "coco2017",
        "",
        (("train2017/*.jpg", 118287), ("val2017/*.jpg", 5000), ("annotations/instances_*.json", 2)),
        f"{_FLICKR}; annotations CC BY 4.0",
        tuple(
            Archive(f"{_COCO}/{path}", Expected(size, sha256))
            for path, size, sha256 in (
                (
                    "annotations/annotations_trainval2017.zip",
                    252907541,
                    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                ),
                (
                    "zips/val2017.zip",
                    815585330,
                    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                ),
                (
                    "zips/train2017.zip",
                    19336861798,
                    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                ),
            )
        ),
    ),
}


def get_data(
    name: str, home: Path, data_sets: dict[str, DataSet] | None = None, say: Callable[[str], object] = lambda text: None
) -> Path:
    """Fetch, check and unpack a data set; what is there already is not fetched again.

    Args:
        name: one of ``DATA_SETS``.
        home: the folder in which data sets are kept; archives go to ``archives`` in it. An archive put there by
            hand is checked and used.
        data_sets: the table to look in; None for ``DATA_SETS``.
        say: told what happens, a line at a time.

    Returns:
        The data set's folder. It appears when all of it is there.

    Raises:
        ValueError: no such data set; or it cannot be fetched, is damaged or unsafe: says which file to put where.
    """
    known = DATA_SETS if data_sets is None else data_sets
    if name not in known:
        raise ValueError(f"{name}: no such data set to fetch; there are {', '.join(known)}, and tfds:NAME")
    data_set = known[name]
    folder = home / data_set.folder
    if folder.is_dir():
        _check_complete(data_set, folder)
        say(f"{folder}: is there already")
        return folder
    archives = home / ARCHIVES
    archives.mkdir(parents=True, exist_ok=True)
    with locked(archives / name, _MEND):
        if not folder.is_dir():  # another process may have made it meanwhile
            paths = [_archive(name, archive, archives, say) for archive in data_set.archives]
            _unpack_all(name, data_set, paths, folder, say)
    return folder


def _archive(name: str, archive: Archive, folder: Path, say: Callable[[str], object]) -> Path:
    """The archive's path, fetched if it is not there, and checked."""
    path = folder / archive.name
    if path.exists():
        if not is_stamped(path, archive.expected):
            say(f"{path}: checking")
            try:
                write_stamp(path, check(path, archive.expected))
            except Unfit as error:
                raise ValueError(
                    f"{path}: is not the file wanted: {error}; delete it, and it is fetched again"
                ) from error
        return path
    if is_offline():
        raise ValueError(
            f"{name}: {archive.name} is not in {folder}, and ZOO_OFFLINE forbids the network; put it there "
            f"({archive.expected}, from {archive.url}) and run this again"
        )
    say(f"{archive.url} -> {path}")
    write_stamp(path, fetch(name, addresses(archive.name, archive.url), path, archive.expected, _MEND))
    return path


def _unpack_all(name: str, data_set: DataSet, paths: list[Path], folder: Path, say: Callable[[str], object]) -> None:
    """Unpack aside, check, then give the folder its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in _left_over(folder.parent, name):
        say(f"{left}: removing what an unpacking that was cut short left")
        shutil.rmtree(left, ignore_errors=True)
    aside = folder.parent / f".{os.getpid()}-{name}"
    try:
        with room_for(name, aside, sum(path.stat().st_size for path in paths), _MEND):
            for path in paths:
                say(f"{path}: unpacking")
                unpack(path, aside)
        made = aside / data_set.root
        if not made.is_dir():
            raise ValueError(f"{', '.join(map(str, paths))}: hold no folder {data_set.root}")
        _check_complete(data_set, made)
        os.replace(made, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _left_over(folder: Path, name: str) -> list[Path]:
    """What processes that were killed left; under the lock it can be nobody's at work."""
    return [path for path in folder.iterdir() if re.fullmatch(rf"\.\d+-{re.escape(name)}", path.name)]


def _check_complete(data_set: DataSet, folder: Path) -> None:
    for pattern, count in data_set.proof:
        found = sum(1 for _ in folder.glob(pattern))
        if found < count:
            raise ValueError(
                f"{folder}: has {found:,} files {pattern}, {count:,} belong there; remove the folder, and it is "
                "unpacked again"
            )
