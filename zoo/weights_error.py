"""The error of everything that has to do with weights; apart, so that all modules about weights may use it."""

from __future__ import annotations


class WeightsError(ValueError):
    """Weights that cannot be used; the message names the file and what to do."""
