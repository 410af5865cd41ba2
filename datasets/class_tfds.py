"""Classification data that tensorflow-datasets has prepared, read picture by picture."""

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.class_names import number_classes
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.images import read_image
from zoo.datasets.tfds_prepared import find_prepared, open_prepared
from zoo.datasets.tfrecord_index import PICTURE, index_file
from zoo.files import save_atomically

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_INDEX_VERSION = 1
_READERS = 8  # files looked through at the same time


class TfdsClasses:
    """A set of tensorflow-datasets with a picture ``image`` and a class ``label``; only what is asked for is read.

    Args:
        name: as for `zoo.datasets.tfds_boxes.load_tfds`: a name, or the path of a prepared set's folder.
        index_folder: see `zoo.datasets.class_sources.open_classes`.

    Attributes:
        splits: names of the splits; parts of them such as ``train[:90%]`` can be loaded too.
    """

    def __init__(self, name: str, index_folder: str | Path | None = None) -> None:
        """Raise ``ValueError`` if there is no such set, it is not prepared, or it is no classification set."""
        self.name = name
        self._builder = _checked(open_prepared(find_prepared(name)), name)
        self._folder = None if index_folder is None else Path(index_folder)
        self.splits = tuple(self._builder.info.splits)

    def load(self, split: str | None = None, classes: Sequence[str] | None = None) -> ClassificationDataset:
        """The pictures of one split, ``train`` by default, in the order of the files."""
        split = split or "train"
        where = f"tfds:{self.name}"
        try:
            instructions = self._builder.info.splits[split].file_instructions
        except (KeyError, ValueError) as error:
            raise ValueError(f"{where} has no split {split!r}; it has {', '.join(self.splits)}") from error
        files = [Path(instruction.filename) for instruction in instructions]
        if missing := [file for file in files if not file.is_file()]:
            raise ValueError(f"{where}: {missing[0]} is missing; prepare the set again")
        known, numbers = number_classes(self._builder.info.features["label"].names, classes, where)
        find = _tfrecords if ".tfrecord" in files[0].name else _random_access
        labels, read = find(self._builder, split, instructions, self._index_path(split, files))
        if len(labels) and labels.min() < 0:
            raise ValueError(f"{where}: the pictures of {split} have no labels; choose another split")
        order = np.array(list(numbers.values()))
        ids = [f"{split}/{index}" for index in range(len(labels))]
        return ClassificationDataset(
            f"{Path(self.name).name if os.sep in self.name else self.name} {split}",
            known,
            order[labels] if len(labels) else labels,
            ids,
            lambda index: read_image(read(index), name=f"{where} {ids[index]}"),
        )

    def _index_path(self, split: str, files: list[Path]) -> Path | None:
        """File for what was found in these files; another name if any of them changes."""
        if self._folder is None:
            return None
        state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        digest = hashlib.sha256(json.dumps([_INDEX_VERSION, split, state]).encode()).hexdigest()[:16]
        return self._folder / f"{self._builder.info.name}-{digest}.npz"


def _checked(builder: "tfds.core.DatasetBuilder", name: str) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    features = dict(builder.info.features or {})
    if not (
        isinstance(features.get("image"), tfds.features.Image)
        and isinstance(features.get("label"), tfds.features.ClassLabel)
    ):
        raise ValueError(f"tfds:{name} has the features {', '.join(features)}, not a picture image and a class label")
    return builder


def _tfrecords(builder, split: str, instructions: Sequence, cache: Path | None) -> tuple[np.ndarray, Callable]:
    """Labels, and a function that gives the encoded picture of an index, from TFRecord files."""
    files = [instruction.filename for instruction in instructions]

    def search() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(index_file, files))
        short = [(file, rows, i) for file, rows, i in zip(files, found, instructions, strict=True)]
        for file, rows, instruction in short:
            if len(rows) != instruction.examples_in_shard:
                raise ValueError(
                    f"{file} holds {len(rows)} records, not the {instruction.examples_in_shard} of its description; "
                    "prepare the set again"
                )
        rows = [rows[i.skip : i.skip + i.take] for rows, i in zip(found, instructions, strict=True)]
        shard = np.repeat(np.arange(len(files), dtype=np.int32), [len(each) for each in rows])
        return {"rows": np.concatenate([np.empty(0, PICTURE), *rows]), "shard": shard}

    found = _kept(cache, search)
    rows, shard = found["rows"], found["shard"]

    def read(index: int) -> bytes:
        # Opened each time: some sets have a thousand files, and an open file is not shared well between threads.
        with open(files[shard[index]], "rb") as file:
            file.seek(int(rows["start"][index]))
            return file.read(int(rows["size"][index]))

    return rows["label"].astype(np.int64), read


def _random_access(builder, split: str, instructions: Sequence, cache: Path | None) -> tuple[np.ndarray, Callable]:
    """As `_tfrecords`, from files that tensorflow-datasets itself reads at any place (array_record)."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        source = builder.as_data_source(split, deserialize_method=raw)
    except NotImplementedError as error:
        kind = builder.info.file_format.value
        raise ValueError(
            f"tfds:{builder.info.name} is stored as {kind}; prepare it as tfrecord or array_record"
        ) from error

    def example(index: int) -> tf.train.Features:
        return tf.train.Example.FromString(source[index]).features

    def search() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(_READERS) as pool:
            labels = pool.map(lambda index: example(index).feature["label"].int64_list.value[0], range(len(source)))
            return {"labels": np.fromiter(labels, np.int64, len(source))}

    return _kept(cache, search)["labels"], lambda index: example(index).feature["image"].bytes_list.value[0]


def _kept(path: Path | None, search: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What ``search`` finds, from the file ``path`` if it was kept there; one that cannot be read is written anew."""
    if path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                return dict(kept)
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            pass
    found = search()
    if path is not None:
        # Where nothing can be written it is found again the next time.
        with contextlib.suppress(OSError), save_atomically(path) as aside, open(aside, "wb") as file:
            np.savez(file, **found)
    return found
