"""A TensorFlow/Keras model zoo for object detection.

>>> import zoo
>>> model = zoo.get("faster_rcnn_resnet18", weights="digits")    # doctest: +SKIP
>>> found = model.detect("street.jpg")                          # doctest: +SKIP
>>> print(found.table())                                        # doctest: +SKIP

Importing this package is quick and prints nothing: TensorFlow, Keras and NumPy are imported when the first
name below is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path

__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "get": "zoo.registry",
    "load": "zoo.registry",
    "list_models": "zoo.registry",
    "info": "zoo.registry",
    "register": "zoo.registry",
    "ModelInfo": "zoo.model_info",
    "WeightsEntry": "zoo.weights_entry",
    "Detections": "zoo.detections",
    "draw": "zoo.drawing",
    "contact_sheet": "zoo.sheets",
    "train": "zoo.training.fit",
    "train_alternating": "zoo.training.alternating",
    "FourSteps": "zoo.training.four_steps",
    "Recipe": "zoo.training.fit",
    "evaluate": "zoo.training.evaluate",
    "compress": "zoo.compression",
}

# Sub-packages that `import zoo` alone makes reachable, as in zoo.datasets.load(...).
_PARTS = ("datasets", "export", "heads")

__all__ = ["__version__", *_PUBLIC]

# An installed copy holds heads/, datasets/ and export/ inside zoo/ (setup.py puts them there). In a
# checkout they lie beside zoo/; when Python was started in the checkout and nothing is installed,
# `zoo.heads` is found through the checkout's own folder. It comes last, so that it can never hide a module
# of zoo/.
_here = Path(__file__).resolve().parent
if not (_here / "heads").is_dir() and (_here.parent / "heads" / "__init__.py").is_file():
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _PARTS:
        return importlib.import_module(f"zoo.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}; it offers {', '.join(sorted(_PUBLIC))}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not, and what the module already holds."""
    return sorted({*globals(), *_PUBLIC, *_PARTS})
