"""The weights that ship with the package: a file and its description side by side in ``zoo/weights``.

The description is written by the script that trained and measured, so that no figure is typed by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from zoo.files import save_json, sha256_of
from zoo.weights_entry import PACKAGED, WeightsEntry


def shipped_weights(model: str) -> tuple[WeightsEntry, ...]:
    """Entries of all weights of ``model`` that ship.

    >>> [entry.name for entry in shipped_weights("faster_rcnn_resnet18")]
    ['bccd', 'digits']
    """
    entries = []
    for path in sorted(PACKAGED.glob(f"{model}_*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        # JSON knows no tuples; builders declare their options as such.
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.pop("options").items()}
        entries.append(WeightsEntry(**{**fields, "classes": tuple(fields["classes"]), "options": options}))
    return tuple(entries)


def describe_shipped(
    model: str,
    name: str,
    *,
    classes: tuple[str, ...],
    options: dict[str, object],
    source: str,
    measured_score: str,
    preprocessing: str,
) -> WeightsEntry:
    """Write the description of ``zoo/weights/MODEL_NAME.weights.h5``, which must be there, and return it."""
    file = PACKAGED / f"{model}_{name}.weights.h5"
    entry = WeightsEntry(
        name=name,
        file=file.name,
        sha256=sha256_of(file),
        size=file.stat().st_size,
        classes=classes,
        options=options,
        licence="Apache-2.0",
        source=source,
        measured_score=measured_score,
        preprocessing=preprocessing,
    )
    save_json(asdict(entry), PACKAGED / f"{model}_{name}.json")
    return entry
