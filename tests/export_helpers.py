"""Small models to export, and running artifacts in a process that cannot import this package."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny import tiny_detector

from zoo.detectors.faster_rcnn import FasterRCNN

# Stands for an environment without the packages named, or with nothing but those allowed: importing others fails.
_BEGIN = """
import sys
for name in {without!r}:
    sys.modules[name] = None

class Fence:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{{top}} is not in this environment", name=name)

allowed = {allowed!r}
if allowed:
    sys.meta_path.insert(0, Fence())
import numpy as np
given = dict(np.load(sys.argv[1], allow_pickle=False))
"""
_END = "\nnp.savez(sys.argv[2], **results)\n"


def decided_detector():
    """A detector with random weights whose scores differ: tiny ones would be ordered by rounding alone.

    So would be those of boxes that cover the same cells of the feature map; hence large pictures and anchors.
    """
    config = {**tiny_detector().get_config(), "anchor_sizes": (48, 96)}
    config["preprocessing"]["config"] |= {"short": 160, "long": 240}
    keras.utils.set_random_seed(0)
    model = FasterRCNN.from_config(config)
    for layer in (model.rpn.score, model.rpn.loc, model.head.score, model.head.loc):
        layer.kernel.assign(layer.kernel * 30)
    return model


def tiny_classifier(side=32, classes=7):
    """A classifier of a few layers that has opinions."""
    keras.utils.set_random_seed(1)
    images = keras.Input((side, side, 3), name="images")
    x = keras.layers.Rescaling(1 / 60, -2.0)(images)
    for i, width in enumerate((8, 16)):
        x = keras.layers.Conv2D(width, 3, 2, padding="same", activation="relu", name=f"conv{i + 1}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0), name="fc")(x)
    return keras.Model(images, keras.layers.Softmax(dtype="float32")(x), name="tiny_classifier")


def run_alone(
    code: str, folder: Path, without: Sequence[str] = ("zoo",), only: str | None = None, **arrays
) -> dict[str, np.ndarray]:
    """Run ``code`` in a fresh process where packages cannot be imported, this one above all.

    ``code`` finds the arrays in ``given``, and puts what it has to say into a dict called ``results``. With ``only``,
    a package's name, nothing can be imported but what pip installs with that package, and NumPy.
    """
    np.savez(folder / "given.npz", **arrays)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    files = [str(folder / name) for name in ("given.npz", "results.npz")]
    begin = _BEGIN.format(without=tuple(without), allowed=modules_of(only, "numpy") if only else ())
    done = subprocess.run(
        [sys.executable, "-c", begin + code + _END, *files], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "results.npz", allow_pickle=False))


def modules_of(*packages: str) -> tuple[str, ...]:
    """Modules that pip installs with ``packages``: their own, and those of all that they require."""
    found, left = set(), list(packages)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        for line in metadata.distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    homes = metadata.packages_distributions().items()
    return tuple(sorted(module for module, owners in homes if found & {canonicalize_name(each) for each in owners}))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured squares, on which detectors with random weights have opinions.

    No two places look the same: on flat ground boxes would have equal scores, which rounding alone would order.
    """
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 256, 3), np.float64)
    for _ in range(12):
        x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
        side = rng.integers(8, 40)
        image[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return (image + rng.normal(0, 25, image.shape)).clip(0, 255).astype(np.uint8)
