"""Data sets for detection: reading, composing, batching and scoring."""
