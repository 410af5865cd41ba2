"""The CIFAR-10 classifiers that ship: as good on the 10,000 test pictures as their descriptions say."""

import re

import numpy as np
import pytest

import zoo
from zoo.datasets import load


@pytest.fixture(scope="module")
def pictures(cifar10_zip):
    data = load(cifar10_zip, "test", task="classification")
    return np.stack([data.image(index) for index in range(len(data))]), np.asarray(data.labels), tuple(data.classes)


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_the_shipped_weights_err_as_rarely_as_they_claim(pictures, name):
    images, labels, classes = pictures
    model = zoo.get(name, weights="cifar10")
    entry = next(entry for entry in zoo.info(name).weights if entry.name == "cifar10")
    assert entry.classes == classes
    assert entry.size < 1.5e6
    claimed = float(re.search(r"top-1 error ([\d.]+)%", entry.measured_score)[1]) / 100
    found = model.predict(images, batch_size=500, verbose=0).argmax(1)
    assert len(images) == 10_000
    # Other processors round otherwise; a probability of .5 more or less is a picture or two.
    assert np.mean(found != labels) == pytest.approx(claimed, abs=0.0005)
