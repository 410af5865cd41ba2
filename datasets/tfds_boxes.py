"""Reads prepared tensorflow-datasets that have boxes, such as ``voc/2007`` and ``coco/2017``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.checks import checked_classes, tidy_box, unknown_class
from zoo.datasets.images import ImageError, image_size, read_image
from zoo.datasets.notes import AnnotationError, OnError, Reading
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.tfds_prepared import find_prepared, open_prepared
from zoo.datasets.tfds_records import RecordFiles

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_FLAGS = {"difficult": ("is_difficult", "difficult"), "crowd": ("is_crowd", "iscrowd", "crowd"), "area": ("area",)}
_IDS = ("image/filename", "image/id", "image_id", "filename", "id")


def load_tfds(
    name: str,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> DetectionDataset:
    """Read a set that tensorflow-datasets has prepared; nothing is downloaded.

    Any set will do whose examples have an ``image`` and a sequence with a ``BBoxFeature``, as
    ``objects {bbox, label, is_difficult, is_crowd}``. Its boxes are (ymin, xmin, ymax, xmax) as shares of the
    picture. Those of ``voc`` are the devkit's numbers divided by the size, so they are shifted by its one pixel, as
    in `zoo.datasets.voc`.

    Args:
        name: "voc/2007", "coco/2017:1.1.0" or the like, looked up in ``TFDS_DATA_DIR`` or else in
            ``~/tensorflow_datasets``; or the path of such a folder, beginning with "/", "./" or "~".
        split: "train", "validation[:10%]" or whatever the set has; None takes all.
        classes: the class names in the order to number them; None takes the set's.
        on_error: "note" leaves out what cannot be used and goes on.

    Pictures are decoded when asked for. To learn their sizes, every example is read once here.

    Example: ``load_tfds("voc/2007", "train")``.
    """
    folder = find_prepared(name)
    reading = Reading(on_error)
    builder = open_prepared(folder)
    fields = _fields(folder, builder.info.features)
    records = RecordFiles(_pieces(folder, builder, split))
    names = fields.names if classes is None else checked_classes(classes)
    samples, kept = [], []
    for number in range(len(records)):
        sample = _sample(folder, builder, fields, records.read(number), number, split, names, reading)
        if sample is not None:
            samples.append(sample)
            kept.append(number)
    return TfdsDataset(f"{name} {split or 'all'}", names, samples, reading.notes, fields, records, kept)


def tfds_splits(name: str) -> tuple[str, ...]:
    """The splits of a prepared set."""
    return tuple(open_prepared(find_prepared(name)).info.splits)


class TfdsDataset(DetectionDataset):
    """Samples of a prepared set; pictures are read from its record files."""

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        samples: Sequence[Sample],
        notes: Sequence[str],
        fields: "_Fields",
        records: RecordFiles,
        numbers: Sequence[int],
    ) -> None:
        """``numbers`` are the samples' places in ``records``."""
        super().__init__(name, classes, samples, notes)
        self._fields, self._records, self._numbers = fields, records, tuple(numbers)

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Picture and ground truth together, read once."""
        sample = self.sample(index)
        image = self._fields.image(self._records.read(self._numbers[index]))
        # The shares were taken of the pixels as stored, whatever the camera says of its orientation.
        return read_image(image, sample.image_id, exif=False), sample


@dataclass(frozen=True)
class _Fields:
    """What is read of an example, and how it is called there."""

    specs: Any  # of the few features that are read
    objects: str
    box: str
    label: str | None
    flags: dict[str, str]
    image_id: str | None
    names: tuple[str, ...]

    def parse(self, record: bytes) -> dict[str, Any]:
        import tensorflow_datasets as tfds

        return self.specs.deserialize_example_np(record, decoders={"image": tfds.decode.SkipDecoding()})

    def image(self, record: bytes) -> bytes:
        return bytes(self.parse(record)["image"])


def _fields(folder: Path, features: "tfds.features.FeaturesDict") -> _Fields:
    import tensorflow_datasets as tfds

    def boxes_in(feature: Any) -> str | None:
        inner = getattr(feature, "feature", None)
        if not isinstance(feature, tfds.features.Sequence) or not isinstance(inner, tfds.features.FeaturesDict):
            return None
        return next((key for key, each in inner.items() if isinstance(each, tfds.features.BBoxFeature)), None)

    found = {key: box for key, feature in features.items() if (box := boxes_in(feature)) is not None}
    if not found or not isinstance(dict(features.items()).get("image"), tfds.features.Image):
        raise AnnotationError(
            f"{folder}: is no detection set: it needs an image and a sequence of objects with a BBoxFeature; "
            f"its features are {', '.join(sorted(features))}"
        )
    objects = "objects" if "objects" in found else next(iter(found))
    inner = features[objects].feature
    labels = [key for key, each in inner.items() if isinstance(each, tfds.features.ClassLabel)]
    label = "label" if "label" in labels else next(iter(labels), None)
    names = ("object",)
    if label is not None:
        names = tuple(inner[label].names or map(str, range(inner[label].num_classes)))
    flags = {flag: key for flag, keys in _FLAGS.items() for key in keys if key in inner}
    image_id = next((key for key in _IDS if key in features), None)
    box_format = inner[found[objects]].bbox_format
    if box_format is not None and box_format.value != "REL_YXYX":
        raise AnnotationError(
            f"{folder}: its boxes are {box_format.value}; only shares (ymin, xmin, ymax, xmax) are read"
        )
    read = (found[objects], label, *flags.values())
    wanted: dict[str, Any] = {"image": True, objects: {key: True for key in read if key is not None}}
    if image_id is not None:
        wanted[image_id] = True
    specs = tfds.decode.PartialDecoding(wanted).extract_features(features)
    return _Fields(specs, objects, found[objects], label, flags, image_id, names)


def _pieces(folder: Path, builder: "tfds.core.DatasetBuilder", split: str | None) -> list[tuple[Path, int, int]]:
    splits = builder.info.splits
    try:
        found = splits[split if split is not None else "+".join(splits)]
    except (KeyError, ValueError) as error:
        raise AnnotationError(f"{folder}: there is no split {split!r}; splits: {', '.join(splits)}") from error
    return [(Path(piece.filename), piece.skip, piece.take) for piece in found.file_instructions]


def _sample(
    folder: Path,
    builder: "tfds.core.DatasetBuilder",
    fields: _Fields,
    record: bytes,
    number: int,
    split: str | None,
    classes: tuple[str, ...],
    reading: Reading,
) -> Sample | None:
    example = fields.parse(record)
    name = _image_id(example.get(fields.image_id), f"{split or 'all'}-{number:06d}")
    try:
        size = image_size(bytes(example["image"]), name, exif=False)
    except ImageError as error:
        if reading.on_error == "raise":
            raise
        reading.error("unreadable-picture", folder, f"{name}: {error.problem}", image_id=name)
        return None
    objects = example[fields.objects]
    height, width = size
    # tensorflow-datasets divides the devkit's numbers, which count from 1, by the size.
    shift = 1.0 if builder.name == "voc" else 0.0
    kept = []
    boxes = []
    for at, (top, left, bottom, right) in enumerate(np.asarray(objects[fields.box], np.float64).reshape(-1, 4)):
        label = int(objects[fields.label][at]) if fields.label else 0
        called = fields.names[label] if 0 <= label < len(fields.names) else label
        if called not in classes:
            reading.error(
                "unknown-class", folder, f"{name}: object {at + 1} {unknown_class(called, classes)}", image_id=name
            )
            continue
        corners = (left * width - shift, top * height - shift, right * width, bottom * height)
        box, kind, problem = tidy_box(corners, size, least=shift)
        if problem:
            shown = ", ".join(f"{value:.1f}" for value in corners)
            text = f"object {at + 1} of {name} ({called}, {shown}) {problem}"
            reading.note(kind, folder, text, image_id=name, box=corners)
        if box is not None:
            boxes.append(box)
            kept.append((classes.index(called), at))

    def values(flag: str) -> list:
        return [objects[fields.flags[flag]][at] for _, at in kept] if flag in fields.flags else [False] * len(kept)

    areas = values("area") if "area" in fields.flags else None
    labels = [label for label, _ in kept]
    return Sample(name, None, size, boxes, labels, values("difficult"), values("crowd"), areas)


def _image_id(value: object, otherwise: str) -> str:
    if value is None:
        return otherwise
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return re.sub(r"\.(jpe?g|png|bmp|webp|tiff?|gif)$", "", text, flags=re.IGNORECASE) or otherwise
