"""Random access to the record files in which tensorflow-datasets keeps its examples."""

from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.notes import AnnotationError
from zoo.datasets.tfrecord_index import tfrecord_places


class RecordFiles:
    """Serialized examples of several TFRecord or ArrayRecord files, by number.

    Args:
        pieces: (file, first record, number of records) in order.

    Nothing but the places of the records is kept in memory; every read opens its file, so that threads need
    not share one.
    """

    def __init__(self, pieces: Sequence[tuple[Path, int, int]]) -> None:
        """Finds where each record lies."""
        self._places: list[tuple[Path, int, int]] = []
        for path, first, count in pieces:
            if ".array_record" in path.name:
                places = [(path, number, -1) for number in range(first, first + count)]
            elif ".tfrecord" in path.name:
                places = [(path, *place) for place in tfrecord_places(path)[first : first + count]]
            else:
                raise AnnotationError(f"{path}: only TFRecord and ArrayRecord files are read; prepare the set as one")
            if len(places) != count:
                raise AnnotationError(f"{path}: has {len(places)} records from {first} on, {count} are announced")
            self._places += places

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._places)

    def read(self, index: int) -> bytes:
        """Record ``index``."""
        path, place, length = self._places[index]
        if length < 0:
            return _array_record(path, place)
        with open(path, "rb") as file:
            file.seek(place)
            return file.read(length)


def _array_record(path: Path, number: int) -> bytes:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    try:
        return reader.read([number])[0]
    finally:
        reader.close()
