"""What the registry tells about a model."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from zoo.weights_entry import WeightsEntry

if TYPE_CHECKING:
    import keras

Task = Literal["detection", "classification"]


@dataclass(frozen=True)
class ModelInfo:
    """A registered model; ``print`` it to read it.

    Attributes:
        name: name in the registry.
        task: ``"detection"`` or ``"classification"``.
        builder: the decorated function.
        paper: the paper it follows, with its year.
        summary: one sentence.
        input: what images it takes, in words.
        preprocessing: what it does to them first, in words (size, colour order, means).
        licence: licence of the code; weights have their own.
        source: the reference implementation, or where the definition comes from.
        params: declared number of parameters with default options, or ``None``.
        weights: entries that ``zoo.get(name, weights=...)`` accepts.
        base: name of the classifier that a detector is built on, where the detector's own name does not end with it.
    """

    name: str
    task: Task
    builder: Callable[..., keras.Model] = field(repr=False)
    paper: str
    summary: str
    input: str = ""
    preprocessing: str = ""
    licence: str = "Apache-2.0"
    source: str = ""
    params: int | None = None
    weights: tuple[WeightsEntry, ...] = ()
    base: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The builder's options with their defaults; ``classes`` left out."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "classes"}

    @cached_property
    def parameters(self) -> int:
        """Number of parameters with default options; builds the model if the number was not declared."""
        return self.params if self.params is not None else self.builder().count_params()

    def entry(self, name: str) -> WeightsEntry | None:
        """The weights entry of that name, or ``None``."""
        return next((entry for entry in self.weights if entry.name == name), None)

    def __str__(self) -> str:
        """A page of text: what it is, how it is called, which weights it has."""
        facts = {
            "Task": self.task,
            "Paper": self.paper,
            "Parameters": f"{self.parameters:,}",
            "Input": self.input,
            "Preprocessing": self.preprocessing,
            "Licence": self.licence,
            "Source": self.source,
            "Options": ", ".join(f"{name}={value!r}" for name, value in self.options.items()) or "none",
        }
        lines = [self.name, "=" * len(self.name), *textwrap.wrap(self.summary, 100), ""]
        for label, text in facts.items():
            lines += _fact(label, text)
        lines += [
            "",
            "Weights" if self.weights else "Weights: none ship or are registered; train it with `zoo train`",
        ]
        for entry in self.weights:
            size = "" if entry.size is None else f"  ({entry.size / 1e6:.1f} MB)"
            lines += ["", f"  {entry.name}{size}"]
            for label, text in _entry_facts(entry).items():
                lines += _fact(label, text, indent=4)
        return "\n".join(lines)


def _entry_facts(entry: WeightsEntry) -> dict[str, str]:
    return {
        "File": entry.url or f"packaged, {entry.file}",
        "Layout": "" if entry.layout == "zoo" else entry.layout,
        "SHA-256": entry.sha256 or "",
        "MD5": entry.md5 or "",
        "Classes": _few(entry.classes),
        "Options": ", ".join(f"{name}={value!r}" for name, value in entry.options.items()),
        "Preprocessing": entry.preprocessing,
        "Measured": entry.measured_score,
        "Published": entry.published_score,
        "Licence": entry.licence,
        "Source": entry.source,
    }


def _few(names: tuple[str, ...], most: int = 100) -> str:
    """``3: cat, dog, cow``; of very many only the first and the last."""
    if not names:
        return ""
    shown = names if len(names) <= most else (*names[:3], "...", names[-1])
    return f"{len(names)}: {', '.join(shown)}"


def _fact(label: str, text: str, indent: int = 0) -> list[str]:
    """``Label:  text`` wrapped to 110 columns with a hanging indent; nothing for an empty text."""
    head = " " * indent + f"{label}:".ljust(15)
    return textwrap.wrap(text, 110, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
