"""One class's SVM and its cache of hard negatives: the plane against the dual problem, the cache rule by rule."""

import numpy as np
import pytest
from scipy.optimize import minimize

from zoo.heads.postprocess import class_scores, detections
from zoo.training.svm_class import ClassSVM, SVMSettings


def plane(positives, negatives, cost, bias, weight):
    """Weights and bias by the dual problem, solved as one with bounds: no line of it is liblinear's."""
    x = np.concatenate([positives, negatives]).astype(float)
    y = np.repeat([1.0, -1.0], [len(positives), len(negatives)])
    longer = np.concatenate([x, np.full((len(x), 1), bias)], axis=1) * y[:, None]
    bounds = [(0, cost * weight)] * len(positives) + [(0, cost)] * len(negatives)

    def dual(alpha):
        w = alpha @ longer
        return 0.5 * w @ w - alpha.sum(), longer @ w - 1.0

    solved = minimize(dual, np.zeros(len(x)), jac=True, bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9})
    w = solved.x @ longer
    return w[:-1], bias * w[-1]


@pytest.mark.parametrize(("cost", "weight"), [(0.001, 2.0), (0.05, 1.0)])
def test_the_plane_solves_the_weighted_hinge_loss(cost, weight):
    rng = np.random.default_rng(1)
    positives, negatives = rng.normal(1.0, 2, (30, 6)), rng.normal(-1.0, 2, (200, 6))
    machine = ClassSVM(positives, SVMSettings(cost=cost, positive_weight=weight, retrain=1000, easy=-99.0))
    assert machine.add(negatives.astype("float32"), [(i,) for i in range(200)]) is False
    assert not machine.weights.any(), "nothing is learnt before the cache is full, or the end"
    machine.fit()
    weights, bias = plane(positives, negatives, cost, 10.0, weight)
    np.testing.assert_allclose(machine.weights, weights, atol=3e-3)
    np.testing.assert_allclose(machine.bias, bias, atol=3e-2)
    assert abs(plane(positives, negatives, cost, 1.0, weight)[1] - bias) > 0.1, "the bias feature is seen"
    assert abs(plane(positives, negatives, cost, 10.0, weight * 1.5)[1] - bias) > 0.1, "and the positives' weight"


class Known(ClassSVM):
    """Its plane is the first coordinate, whatever it is trained on."""

    fits = 0

    def fit(self):
        super().fit()
        self.fits += 1
        self.weights, self.bias = np.array([1.0, 0.0]), 0.0


def test_the_cache_takes_hard_ones_once_and_is_trained_when_enough_have_come():
    machine = Known(np.array([[3.0, 0.0]]), SVMSettings(retrain=3, easy=-99.0))

    def add(values, first):
        vectors = np.array([[value, 0.5] for value in values], "float32")
        return machine.add(vectors, [("picture", first + i) for i in range(len(values))])

    assert add([-5.0, -4.0, 0.0], 0) is False, "of zero weights all are hard; three are not more than three"
    assert add([-5.0, -4.0, 0.0], 0) is False, "known ones do not count again"
    assert (machine.fits, len(machine.negatives)) == (0, 3)
    assert add([2.0], 3) is True
    assert (machine.fits, len(machine.negatives)) == (1, 4)
    # Now margins are the first coordinate: above -1.0001 is hard.
    assert add([-1.1, -1.001, -1.00001, -0.5], 10) is False
    assert machine.negatives[4:, 0].tolist() == pytest.approx([-1.00001, -0.5])
    assert machine._keys[4:] == [("picture", 12), ("picture", 13)]
    assert add([0.0, 0.1], 20) is True, "two and two are more than three since the last training"
    assert machine.fits == 2


def test_easy_negatives_leave_after_a_training():
    rng = np.random.default_rng(3)
    positives = rng.normal(4.0, 1, (20, 2))
    negatives = np.concatenate([rng.normal(3.0, 0.5, (15, 2)), rng.normal(-8.0, 0.5, (25, 2))]).astype("float32")
    whole = ClassSVM(positives, SVMSettings(cost=0.1, easy=-99.0))
    whole.add(negatives, [(i,) for i in range(40)])
    whole.fit()
    assert len(whole.negatives) == 40
    margins = negatives @ whole.weights + whole.bias
    limit = float(np.sort(margins)[17:19].mean())
    assert limit < -1.1
    machine = ClassSVM(positives, SVMSettings(cost=0.1, easy=limit))
    machine.add(negatives, [(i,) for i in range(40)])
    machine.fit()
    kept = np.flatnonzero(margins >= limit)
    assert len(kept) == 22
    assert machine._keys == [(i,) for i in kept]
    np.testing.assert_array_equal(machine.negatives, negatives[kept])


def test_settings_that_cannot_be():
    for wrong in ({"cost": 0}, {"norm": -1}, {"passes": 0}, {"negative_overlap": 0}, {"retrain": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SVMSettings(**wrong)


def test_scores_of_margins():
    margins = np.array([[[9.0, -3.0, -1.47222, 0.0, 1.0]]], "float32")
    scores = np.asarray(class_scores(margins, "svm"))[0, 0]
    wanted = [1 / (1 + np.exp(-2 * margin)) for margin in margins[0, 0, 1:].astype(float)]
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    assert scores[1] == pytest.approx(0.05, rel=1e-4)
    many = np.arange(-6, 6, 0.01, dtype="float32")
    rising = np.asarray(class_scores(np.stack([many, many], axis=-1), "svm"))[:, 0]
    assert (np.diff(rising) > 0).all()


def test_detections_are_ranked_by_the_margin_whatever_the_others_are():
    """A softmax would let the classes compete; each machine answers for itself."""
    logits = np.array([[[0.0, 2.0, 1.9], [50.0, 1.0, -5.0]]], "float32")
    rois = np.array([[[0.0, 0, 10, 10], [30, 30, 50, 50]]], "float32")
    found = detections(
        *(logits, np.zeros((1, 2, 3, 4), "float32"), rois, np.ones((1, 2), "float32"), np.array([[60, 60]])),
        deviations=(1.0,) * 4,
        most=5,
        scoring="svm",
    )
    assert np.asarray(found["classes"])[0].tolist() == [0, 1, 0, -1, -1]
    np.testing.assert_allclose(
        np.asarray(found["scores"])[0, :3], [1 / (1 + np.exp(-2 * m)) for m in (2.0, 1.9, 1.0)], rtol=1e-5
    )
