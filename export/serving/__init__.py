"""A small HTTP server for an artifact: TensorFlow Serving's REST API, the Open Inference Protocol, and a web page.

>>> import zoo                                                       # doctest: +SKIP
>>> from zoo.export.serving import Limits, serve                     # doctest: +SKIP
>>> serve(zoo.export.open_artifact("digits.onnx"), port=8501)        # doctest: +SKIP

It runs in one process for one model on one machine; ``zoo serve`` starts it. A request never names a file that is then
read: pictures come as bytes or numbers inside it. See ``docs/serving.md``.

Importing this package is quick; what it needs (``pip install "zoo-detection[serve]"``) is imported when first used.
"""

from __future__ import annotations

import importlib

# Public name -> the module that defines it.
_PUBLIC = {
    "serve": "zoo.export.serving.server",
    "build_app": "zoo.export.serving.app",
    "Limits": "zoo.export.serving.limits",
    "Served": "zoo.export.serving.served",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(
            f"module 'zoo.export.serving' has no attribute {name!r}; it offers {', '.join(sorted(_PUBLIC))}"
        )
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not, and what the module already holds."""
    return sorted({*globals(), *_PUBLIC})
