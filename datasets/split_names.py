"""Which names splits may have in each layout, so that what is written can be read again."""

from collections.abc import Iterable

from zoo.datasets import coco, csv_boxes, voc_layout, yolo_layout


def check_split_names(names: Iterable[str], layout: str) -> None:
    """Refuse names of splits that the readers would not find again.

    Raises:
        ValueError: says which name, and what is allowed.

    >>> check_split_names(("train2017", "07+12"), "voc")
    >>> check_split_names(("train[:10%]",), "voc")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: the split 'train[:10%]' could not be read back from VOC folders: ...
    """
    names = tuple(names)
    for name in names:
        if name and (allowed := _what_is_allowed(name, layout, names)):
            kind = "CSV files" if layout == "csv" else f"{layout.upper()} folders"
            raise ValueError(
                f"the split {name!r} could not be read back from {kind}: {allowed}; choose another layout or, in "
                "Python, give it another name in zoo.datasets.writing.save"
            )


def _what_is_allowed(name: str, layout: str, names: tuple[str, ...]) -> str:
    """The rule that a name breaks, or "" where it may stay."""
    if layout == "voc" and not voc_layout.SPLIT_NAME.fullmatch(name):
        return "a name there is made of letters, digits and _ . + -"
    if layout == "voc" and "_" in name and name.rpartition("_")[2] in names:
        return "behind its last _ stands another split's name, as in the devkit's lists for a class"
    if name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        return "a name does not begin with a dot, and has no slashes and nothing that cannot be printed"
    if layout == "coco" and name.startswith(coco.OTHER_FILES):
        return f"a name there does not begin with {', '.join(coco.OTHER_FILES)}, as other files of COCO's do"
    if layout == "csv" and f"{name}.csv" == csv_boxes.CLASS_FILE:
        return f"{csv_boxes.CLASS_FILE} is the list of the classes"
    if layout == "yolo" and name in yolo_layout.NO_SPLITS:
        return f"{', '.join(yolo_layout.NO_SPLITS)} mean something else there"
    return ""
