"""What can go wrong in an export."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class ExportError(ValueError):
    """A model that cannot be exported, or an artifact that cannot be read; the message says what to do."""


class ParityError(ArithmeticError):
    """An artifact that does not give what its Keras model gives; the message shows the worst difference.

    Attributes:
        report: all that was compared, as the file beside a good artifact has it.
    """

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


def need(module: str, package: str, what: str, extra: str = "export") -> ModuleType:
    """Import an optional ``module``; without it an ``ExportError`` names the ``package`` to install for ``what``.

    ``extra`` is the name under which ours installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExportError(
            f"{what} needs the package {package}, which cannot be imported ({error}); install it and what else is "
            f'needed with `pip install "zoo-detection[{extra}]"`'
        ) from error
