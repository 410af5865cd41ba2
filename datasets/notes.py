"""What readers of data sets have to say: errors that name a file, and notes on what they left out or changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

OnError = Literal["raise", "note"]


class AnnotationError(ValueError):
    """An annotation or split file that cannot be used; the message names the file."""

    def __init__(self, message: str) -> None:
        """File names of another encoding are made printable."""
        super().__init__(printable(message))


class Note(str):
    """A sentence on something dropped, clipped or odd, which programs can ask for its parts.

    Attributes:
        kind: one of the names in ``zoo.datasets.findings.KINDS``.
        file: the file at fault, or None.
        image_id: the picture it concerns, or None.
        box: (x1, y1, x2, y2) as the file has it, in continuous pixels, or None.
    """

    kind: str
    file: Path | None
    image_id: str | None
    box: tuple[float, ...] | None

    def __new__(
        cls,
        text: str,
        kind: str = "odd",
        file: Path | None = None,
        image_id: str | None = None,
        box: Sequence[float] | None = None,
    ) -> "Note":
        """A string with attributes."""
        made = super().__new__(cls, printable(text))
        made.kind, made.file, made.image_id = kind, file, image_id
        made.box = None if box is None else tuple(float(value) for value in box)
        return made


class Reading:
    """Collects the notes of one reading, and decides what an error does.

    Args:
        on_error: "raise" stops at the first thing that cannot be used; "note" leaves it out and goes on, as a
            check of a whole data set needs it.
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        """No notes yet."""
        if on_error not in ("raise", "note"):
            raise ValueError(f"on_error is 'raise' or 'note', not {on_error!r}")
        self.on_error = on_error
        self.notes: list[Note] = []

    def note(
        self,
        kind: str,
        file: Path,
        text: str,
        *,
        line: int | None = None,
        image_id: str | None = None,
        box: Sequence[float] | None = None,
    ) -> None:
        """Remember what was left out or changed; the text follows the file's name and the line."""
        self.notes.append(Note(_at(file.name, line) + text, kind, file, image_id, box))

    def error(self, kind: str, file: Path, text: str, *, line: int | None = None, image_id: str | None = None) -> None:
        """Raise an `AnnotationError`, or note it: whoever calls then leaves the thing out."""
        message = _at(str(file), line) + text
        if self.on_error == "raise":
            raise AnnotationError(message)
        self.notes.append(Note(f"{message}; left out", kind, file, image_id))


def printable(text: str) -> str:
    """Bytes of a file name that are no UTF-8 (Python keeps them as lone surrogates) as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _at(file: str, line: int | None) -> str:
    return f"{file}: " if line is None else f"{file}, line {line}: "
