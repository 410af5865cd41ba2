"""Data sets for detection: reading, composing, batching and scoring."""

from zoo.datasets.loading import load

__all__ = ["load"]
