"""The blood cell detector that ships: as good on the 72 test pictures as its description says."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.datasets import load
from zoo.training.evaluate import evaluate


@pytest.fixture(scope="module")
def pictures():
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "bccd").is_dir():
        pytest.skip("BCCD is not here: set ZOO_SHARED_DATA to the folder that holds bccd/")
    return load(Path(shared) / "bccd", "test")


def test_the_shipped_weights_score_what_they_claim(pictures):
    model = zoo.get("faster_rcnn_resnet18", weights="bccd")
    entry = next(entry for entry in zoo.info("faster_rcnn_resnet18").weights if entry.name == "bccd")
    claimed = float(re.search(r"mAP (\.?\d[\d.]*)", entry.measured_score)[1])
    scores = evaluate(model, pictures).result
    assert len(pictures) == 72
    # Other processors round otherwise; a detection more or less moves a class's AP by about .001.
    assert scores.map == pytest.approx(claimed, abs=0.005)
    assert claimed >= 0.85
    assert np.all(scores.ap > 0.8)
