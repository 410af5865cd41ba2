"""Where things lie in the PASCAL VOC devkit: the folders of its years, and their splits."""

import re
from pathlib import Path

from zoo.datasets.checks import read_text
from zoo.datasets.images import natural_key
from zoo.datasets.notes import AnnotationError, Reading

LAYOUT = "Annotations/NAME.xml, JPEGImages/NAME.jpg and, for splits, ImageSets/Main/SPLIT.txt"

SPLIT_NAME = re.compile(r"[\w.+-]+")

# What papers call these unions (Girshick 2015, section 4): 07++12 also trains on the test pictures of 2007.
COMBINATIONS = {
    "07": "2007/trainval",
    "12": "2012/trainval",
    "07+12": "2007/trainval+2012/trainval",
    "07++12": "2007/trainval+2007/test+2012/trainval",
}


def find_folders(root: Path) -> list[Path]:
    """The VOC folders that a path leads to: itself, or those in a devkit, in the order of their years."""
    if not root.is_dir():
        raise AnnotationError(f"{root}: no such folder; give a VOC folder with {LAYOUT}")
    if is_voc(root):
        return [root]
    candidates = [root / "VOCdevkit", *sorted(root.glob("VOC[0-9]*")), *sorted(root.glob("VOCdevkit/VOC[0-9]*"))]
    found = [path for path in candidates if is_voc(path)]
    if not found:
        raise AnnotationError(f"{root}: not a VOC folder (no Annotations in it); expected {LAYOUT}")
    return found


def is_voc(folder: Path) -> bool:
    """Whether this folder itself is in the VOC layout."""
    return (folder / "Annotations").is_dir()


def has_voc(folder: Path) -> bool:
    """Whether a folder is, or holds as a devkit does, a folder in the VOC layout."""
    try:
        return bool(find_folders(folder))
    except AnnotationError:
        return False


def parts_of(root: Path, split: str | None) -> list[tuple[Path, str | None]]:
    """The (folder, split file's name) pairs that a split stands for.

    "train" is ImageSets/Main/train.txt; "2007/train" that of the folder VOC2007 in a devkit; "A+B" the union of
    A and B, if there is no file of that name; "07", "12", "07+12" and "07++12" what papers mean by them.
    """
    folders = find_folders(root)
    if split in COMBINATIONS and not any(_split_file(folder, split).is_file() for folder in folders):
        return [_part(root, folders, text, split) for text in COMBINATIONS[split].split("+")]
    if split is None:
        return [(_only(root, folders), None)]
    # A file may itself be called 07+12.
    texts = [split] if _has_file(folders, split) else split.split("+")
    return [_part(root, folders, text, split) for text in texts]


def voc_splits(root: str | Path) -> tuple[str, ...]:
    """The splits a VOC folder has: the names in ``ImageSets/Main``, the devkit's per-class lists left out.

    Of a devkit with several years: "2007/train" and so on, and the combinations that papers use.
    """
    folders = find_folders(Path(root))
    if len(folders) == 1:
        return _names(folders[0])
    years = {_year(folder): _names(folder) for folder in folders}
    names = [f"{year}/{name}" for year, splits in years.items() for name in splits]
    return (*names, *(short for short, parts in COMBINATIONS.items() if set(parts.split("+")) <= set(names)))


def is_unlabelled(folder: Path, split: str | None) -> bool:
    """Whether it is a test whose annotations are not published, as that of VOC2012 since its year.

    A few of its pictures have annotation files all the same, which are of other tasks than detection. Where most have
    one, or the split has another name, a missing file is a mistake.
    """
    if split != "test":
        return False
    known = {path.stem for path in (folder / "Annotations").glob("*.xml")}
    listed = set(read_text(_split_file(folder, split), Reading("note")).split())
    return 2 * len(listed & known) < len(listed)


def image_ids(folder: Path, split: str | None, reading: Reading, annotated: bool = True) -> list[str]:
    """The ids of a split in its file's order; without a split those of all annotation files.

    ``annotated``: each has to have an annotation file.
    """
    annotations = folder / "Annotations"
    if split is None:
        ids = sorted((path.stem for path in annotations.glob("*.xml")), key=natural_key)
        if not ids:
            raise AnnotationError(f"{annotations}: no .xml files in it")
        return ids
    file = _split_file(folder, split)
    found: dict[str, None] = {}
    for number, line in enumerate(read_text(file, reading).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if annotated and not (annotations / f"{name}.xml").is_file():
            # The devkit's per-class lists have a flag (-1, 0 or 1) behind the id.
            name = re.sub(r"\s+-?[01]$", "", name)
        leads_out = ".." in name or name.startswith("/")
        if leads_out or (annotated and not (annotations / f"{name}.xml").is_file()):
            text = f"{name!r} has no file {annotations}/{name}.xml"
            reading.error("missing-annotation", file, text, line=number, image_id=name)
            continue
        if name in found:
            reading.note("listed-twice", file, f"{name} is listed twice; taken once", line=number, image_id=name)
        found[name] = None
    if not found:
        raise AnnotationError(f"{file}: the split is empty")
    return list(found)


def _part(root: Path, folders: list[Path], text: str, split: str) -> tuple[Path, str]:
    year, slash, name = text.rpartition("/")
    if slash:
        matching = [folder for folder in folders if _year(folder) == year]
        if not matching:
            known = ", ".join(folder.name for folder in folders)
            raise AnnotationError(
                f"{root}: there is no split {split!r}: it needs a folder VOC{year}, and there are {known}"
            )
        folder = matching[0]
    else:
        folder = _only(root, folders)
    file = _split_file(folder, name)
    if not SPLIT_NAME.fullmatch(name) or not file.is_file():
        known = ", ".join(_names(folder)) or "none; without a split every annotated picture is taken"
        raise AnnotationError(f"{file}: there is no split {text!r}; splits of this folder: {known}")
    return folder, name


def _only(root: Path, folders: list[Path]) -> Path:
    if len(folders) > 1:
        raise AnnotationError(
            f"{root}: holds several VOC folders, choose one: {', '.join(map(str, folders))}; or give a split that "
            f"says which: {', '.join(voc_splits(root))}"
        )
    return folders[0]


def _split_file(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{split}.txt"


def _has_file(folders: list[Path], split: str) -> bool:
    year, slash, name = split.rpartition("/")
    return any(_split_file(folder, name).is_file() for folder in folders if not slash or _year(folder) == year)


def _names(folder: Path) -> tuple[str, ...]:
    names = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    return tuple(sorted(name for name in names if name.rpartition("_")[2] not in names - {name}))


def _year(folder: Path) -> str:
    return folder.name.removeprefix("VOC")
