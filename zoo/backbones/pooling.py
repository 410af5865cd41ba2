"""Max pooling at the edges of a feature map, as the libraries that made the published weights do it."""

from keras import layers

# Zero cells before the map and after it.
EDGES = {"bare": (0, 0), "padded": (1, 1), "covering": (0, 1), "padded covering": (1, 2)}


def max_pool(x, edges: str, name: str, pad_name: str | None = None):
    """Pool 3 x 3 cells with stride 2; ``x (B, Hf, Wf, C)`` must be nowhere negative, as after a ReLU.

    The zeros that are put around the map then never win, and one valid pooling serves all libraries. A side of n
    cells becomes:

    - ``"bare"``: ``floor((n - 3) / 2) + 1``; cells at the end may be left out (Krizhevsky 2012; torch).
    - ``"padded"``: ``ceil(n / 2)``; one zero on each side (torchvision's and keras.applications' ResNets).
    - ``"covering"``: ``ceil((n - 3) / 2) + 1``; every cell is covered, as Caffe and Chainer do (torch: ``ceil_mode``).
    - ``"padded covering"``: ``floor(n / 2) + 1``; Caffe's with its parameter ``pad: 1``.

    Args:
        x: a Keras tensor.
        edges: one of the above.
        name: of the pooling layer.
        pad_name: of the padding before it, by default ``<name>_pad``.
    """
    if edges not in EDGES:
        raise ValueError(f"unknown edges {edges!r}; there are {', '.join(map(repr, EDGES))}")
    if any(EDGES[edges]):
        x = layers.ZeroPadding2D((EDGES[edges], EDGES[edges]), name=pad_name or f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)
