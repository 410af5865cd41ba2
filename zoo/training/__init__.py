"""Training: the callbacks, and ``train``, which puts them together around Keras's ``fit``."""
