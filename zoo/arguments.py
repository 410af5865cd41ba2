"""What a user asks of a model - classes, options, names - checked, with errors that say what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.model_info import ModelInfo


class RegistryError(ValueError):
    """A name or option that the registry does not know; the message says what is known."""


def nearest(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """``: did you mean a, b?``, or all that is known when nothing is near and the list is short."""
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    near = near or sorted(k for k in known if str(name) and str(name).lower() in k.lower())[:3]
    if near:
        return f": did you mean {' or '.join(repr(k) for k in near)}?"
    return f"; known: {', '.join(sorted(known)) or 'none'}" if len(known) <= 30 else ""


def check_options(model: ModelInfo, options: Mapping[str, object]) -> None:
    """Raise for an option that the builder does not have."""
    unknown = [name for name in options if name not in model.options]
    if unknown:
        allowed = ", ".join(f"{name}={value!r}" for name, value in model.options.items()) or "none"
        hint = nearest(unknown[0], list(model.options)) if model.options else ""
        raise RegistryError(
            f"{model.name} has no option {', '.join(map(repr, unknown))}{hint.split(';')[0]}; "
            f"options and defaults: {allowed}"
        )


def merge_classes(
    model: ModelInfo, given: Sequence[str] | int | None, stored: tuple[str, ...]
) -> Sequence[str] | int | None:
    """The classes to build with: the caller's, else those of the weights.

    They may differ: the layers that depend on the classes are then new (``zoo.transfer``).
    """
    if isinstance(given, str):
        raise RegistryError(f"classes={given!r} is one string; give a sequence of names, such as ({given!r},)")
    if given is None:
        return stored or None
    if isinstance(given, int):
        if model.task == "detection":
            raise RegistryError(f"classes={given}: a detector needs the class names, in index order")
        return stored if len(stored) == given else given
    names = tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise RegistryError(f"classes={given!r}: give at least one name, each a string that is not empty")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RegistryError(f"classes names {', '.join(twice)} more than once; every class has its own name")
    if model.task == "detection" and names[0].strip("_").lower() == "background":
        raise RegistryError(f"classes starts with {names[0]!r}: leave it out, the model adds the background itself")
    return names


def merge_options(given: Mapping[str, Any], stored: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Options of the weights and of the caller together; both may say the same, not different things."""
    for name in given.keys() & stored.keys():
        if as_tuples(given[name]) != as_tuples(stored[name]):
            raise RegistryError(
                f"option {name}={given[name]!r} contradicts the weights {weights}, which were made with "
                f"{name}={stored[name]!r}; leave it out, or train new weights"
            )
    return {**stored, **given}


def as_tuples(value: object) -> object:
    """Lists as tuples, also within others: as builders declare them, and as JSON does not know them."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
