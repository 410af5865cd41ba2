"""Run by test_jax.py with KERAS_BACKEND=jax: does everything that it checks, and saves what came out.

Usage: jax_run.py model.keras fast.keras inputs.npz outputs.npz
"""

import sys

import jax
import keras
import numpy as np
from tiny import under_conventions

from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.detectors.preprocessing import Preprocessing
from zoo.heads.nms import nms
from zoo.heads.roi_pool import RoIMaxPool
from zoo.heads.sampling import uniform


def main(model_path: str, fast_path: str, inputs_path: str, outputs_path: str) -> None:
    """Every array of the outputs is named after what the test compares it with."""
    assert keras.backend.backend() == "jax"
    given = dict(np.load(inputs_path))
    out = {"uniform": uniform(given["ids"], 7, 1000, 2)}

    for clipped in (False, True):
        layer = RoIMaxPool(7, 16, clipped=clipped)
        rois = given["rois_inside" if clipped else "rois"]

        def pool(features, training, layer=layer, rois=rois):
            pooled = layer(features, rois, training=training)
            return (pooled * given["upstream"]).sum(), pooled

        for training in (False, True):
            run = jax.jit(jax.value_and_grad(pool, has_aux=True), static_argnums=1)
            (_, pooled), gradient = run(given["features"], training)
            out[f"pooled_{clipped}_{training}"], out[f"gradient_{clipped}_{training}"] = pooled, gradient

    out["nms_index"], out["nms_valid"] = jax.jit(lambda b, s: nms(b, s, 0.5, 12))(given["boxes"], given["scores"])

    layer = Preprocessing(60, 100)
    out["prepared"], out["prepared_sizes"], _ = layer(given["images"][:1])
    out["padded"], out["padded_sizes"], _ = layer(given["images"], given["sizes"])

    model = keras.saving.load_model(model_path)
    assert isinstance(model, FasterRCNN)
    for i in range(2):
        for key, value in model.predict_on_batch(given["images"][i : i + 1]).items():
            out[f"found_{i}_{key}"] = value

    other = under_conventions(model)
    for key, value in other.predict_on_batch({"images": given["images"], "sizes": given["sizes"]}).items():
        out[f"found_other_{key}"] = value

    y = {"boxes": given["truth_boxes"], "classes": given["truth_classes"]}
    x = {"images": given["images"], "image_id": given["image_id"]}
    model.compile(keras.optimizers.Adam(1e-3))
    # One step an epoch: the first epoch's losses are those of the weights as they were loaded.
    history = model.fit(x, y, batch_size=4, epochs=4, verbose=0).history
    out.update({f"fit_{key}": value for key, value in history.items()})
    out["step"] = int(model.sampling_step)
    x["sizes"] = given["sizes"]
    out["validation"] = list(model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True).values())

    fast = keras.saving.load_model(fast_path)
    assert isinstance(fast, FastRCNN)
    x = {key: given[key] for key in ("images", "image_id", "proposals", "num_proposals")}
    for key, value in fast.predict_on_batch(x).items():
        out[f"found_fast_{key}"] = value
    fast.compile(keras.optimizers.Adam(1e-3))
    history = fast.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    out.update({f"fast_{key}": value for key, value in history.items()})
    np.savez(outputs_path, **{key: np.asarray(value) for key, value in out.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
