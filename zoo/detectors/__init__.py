"""Detectors assembled from a backbone and the parts in ``zoo.heads``."""
