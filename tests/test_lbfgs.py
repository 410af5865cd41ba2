"""L-BFGS against SciPy, linear algebra, and BFGS with whole matrices."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der
from scipy.special import log_softmax
from sklearn.datasets import load_digits

from zoo.distribute.lbfgs import Evaluation, advance, descent_direction, is_curved, minimise, start
from zoo.distribute.line_search import strong_wolfe


def quadratic(size=40, seed=0):
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix, vector = turned @ np.diag(np.geomspace(0.1, 100, size)) @ turned.T, rng.normal(size=size)
    return matrix, vector, lambda x: Evaluation(float(0.5 * x @ matrix @ x - vector @ x), matrix @ x - vector)


def test_a_quadratic_is_solved_as_linear_algebra_solves_it():
    matrix, vector, function = quadratic()
    state = minimise(function, np.ones(40), tolerance=1e-9)
    np.testing.assert_allclose(state.x, np.linalg.solve(matrix, vector), atol=1e-6)
    assert not state.stuck


def test_logistic_regression_meets_scipys_optimum():
    images, labels = load_digits(return_X_y=True)
    images, hot = images / 16, np.eye(10)[labels]

    def loss(flat):
        weights = flat.reshape(64, 10)
        logs = log_softmax(images @ weights, axis=1)
        gradient = images.T @ (np.exp(logs) - hot) / len(images) + 1e-2 * weights
        return -(logs * hot).sum() / len(images) + 5e-3 * flat @ flat, gradient.ravel()

    state = minimise(lambda x: Evaluation(*loss(x)), np.zeros(640), tolerance=1e-8)
    theirs = minimize(loss, np.zeros(640), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 0})
    assert abs(state.at.value - theirs.fun) < 1e-12
    np.testing.assert_allclose(state.x, theirs.x, atol=1e-6)
    assert state.evaluations < 2 * theirs.nfev


def test_rosenbrocks_valley_is_followed_to_its_end():
    state = minimise(lambda x: Evaluation(float(rosen(x)), rosen_der(x)), np.full(8, -1.2), tolerance=1e-9)
    np.testing.assert_allclose(state.x, np.ones(8), atol=1e-6)


def test_the_two_loops_are_bfgs_with_the_whole_matrix():
    # Nocedal & Wright 2006, equation 6.17, from a multiple of the identity (7.20).
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    pairs = [(step, (root @ root.T + np.eye(6)) @ step) for step in rng.normal(size=(4, 6))]
    step, change = pairs[-1]
    inverse = np.eye(6) * (step @ change) / (change @ change)
    for step, change in pairs:
        left = np.eye(6) - np.outer(step, change) / (step @ change)
        inverse = left @ inverse @ left.T + np.outer(step, step) / (step @ change)
    gradient = rng.normal(size=6)
    before = gradient.copy()
    np.testing.assert_allclose(descent_direction(gradient, pairs), -inverse @ gradient, rtol=1e-10)
    np.testing.assert_array_equal(gradient, before)


def test_pairs_are_kept_only_if_they_curve_and_only_so_many():
    assert is_curved(np.array([1.0, 0.0]), np.array([0.5, 9.0]))
    assert not is_curved(np.array([1.0, 0.0]), np.array([-0.5, 9.0]))
    assert not is_curved(np.array([1.0, 0.0]), np.array([1e-12, 9.0]))
    _, _, function = quadratic()
    state = start(function, np.ones(40))
    for _ in range(6):
        state = advance(function, state, memory=3)
    assert (len(state.pairs), state.iteration) == (3, 6)
    # Down a hill that only gets steeper every line search gives up, on a pair that does not curve.
    hill = advance(lambda x: Evaluation(float(-x @ x), -2 * x), start(lambda x: Evaluation(-1.0, -2 * x), np.ones(1)))
    assert (hill.pairs, hill.iteration) == ((), 1)


LINES = {
    # More & Thuente 1994, functions 1 and 2 (section 5), and one that is not defined beyond 1.
    "rational": (lambda a: -a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2),
    "quintic": (
        lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
        lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3,
    ),
    "barrier": (
        lambda a: -math.log(1 - a) - 3 * a if a < 1 else math.nan,
        lambda a: 1 / (1 - a) - 3 if a < 1 else math.nan,
    ),
}


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("line", LINES)
def test_a_line_search_meets_both_conditions(line, first):
    value, slope = LINES[line]
    found, used = strong_wolfe(
        lambda a: (value(a), slope(a), a), value(0), slope(0), first, decrease=0.1, curvature=0.2
    )
    assert value(found.length) <= value(0) + 0.1 * found.length * slope(0)
    assert abs(slope(found.length)) <= 0.2 * abs(slope(0))
    assert (found.extra, found.value) == (found.length, value(found.length))
    assert used <= 20


def test_where_values_are_rounding_slopes_decide():
    # The slopes of 1 + 1e-5 (a - 1)^2, whose values come out wrong by 1e-3.
    def rounded(a):
        return 1.001 if a else 1.0, 2e-5 * (a - 1), None

    found, _ = strong_wolfe(rounded, 1.0, -2e-5, 1.5, noise=2e-3, curvature=0.6)
    assert found.length == 1.5
    assert strong_wolfe(rounded, 1.0, -2e-5, 1.5, noise=0.0, most=5) == (None, 5)
    assert strong_wolfe(rounded, 1.0, -2e-5, 3.0, noise=2e-3, curvature=0.6, most=1) == (None, 1)


def test_a_line_search_that_cannot_succeed_says_so():
    # The slope is said to fall where the function rises.
    assert strong_wolfe(lambda a: (a, 1.0, None), 0.0, -1.0, most=7) == (None, 7)
    with pytest.raises(ValueError, match="direction downwards"):
        strong_wolfe(lambda a: (a, 1.0, None), 0.0, 1.0)
    with pytest.raises(ValueError, match="0 < decrease < curvature < 1"):
        strong_wolfe(lambda a: (a, 1.0, None), 0.0, -1.0, decrease=0.9, curvature=0.1)
    with pytest.raises(ValueError, match="start elsewhere"):
        start(lambda x: Evaluation(math.nan, x), np.zeros(2))
    # And a minimisation ends there.
    state = minimise(lambda x: Evaluation(float(x.sum()), -np.ones(2)), np.zeros(2))
    assert (state.stuck, state.iteration, state.x.tolist()) == (True, 0, [0, 0])
