"""Large arrays in pieces, and what is no number."""

import doctest

import keras
import numpy as np
import pytest

import zoo.pieces
from zoo.pieces import Rows, assign, check_finite, pieces
from zoo.weights_error import WeightsError


def test_examples_are_true():
    outcome = doctest.testmod(zoo.pieces)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_found_wherever_it_is(bad):
    for shape, place in (((), ()), ((5,), (4,)), ((3, 4, 5), (1, 2, 3))):
        array = np.ones(shape, np.float32)
        array[place] = bad
        with pytest.raises(WeightsError, match=r"x\.npz holds NaN or infinite values in conv1/kernel"):
            check_finite("conv1/kernel", array, "x.npz")
    both = np.array([np.inf, -np.inf], np.float16)
    with pytest.raises(WeightsError):
        check_finite("w", both, "x")


def test_large_numbers_are_numbers():
    check_finite("w", np.full(10, 3e38, np.float32), "x")  # their sum overflows
    check_finite("w", np.full(10, 6e4, np.float16), "x")
    check_finite("w", np.arange(5), "x")


@pytest.mark.parametrize("shape", [(), (7,), (6000, 1000), (1, 5_000_000), (3, 3, 900, 900)])
def test_a_variable_gets_all_pieces(shape):
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    parts = [(rows, part) for rows, part in pieces(array)]
    assert sum(part.size for _, part in parts) == array.size
    assert all(np.array_equal(array[rows], part) for rows, part in parts)
    variable = keras.Variable(np.zeros(shape, np.float32))
    assign(variable, array)
    np.testing.assert_array_equal(np.asarray(variable), array)


def test_numbers_of_another_type_are_cast():
    variable = keras.Variable(np.zeros((3000, 2000), np.float32))
    assign(variable, np.full((3000, 2000), 0.5, np.float64))
    assert np.asarray(variable).min() == np.asarray(variable).max() == 0.5
    step = keras.Variable(np.zeros((), np.int32))
    assign(step, np.float32(4))
    assert int(np.asarray(step)) == 4


def test_rows_are_the_rearranged_whole():
    stored = np.random.default_rng(0).normal(size=(5, 4, 3))  # (outputs, channels, cells)
    rows = Rows(stored.transpose(2, 1, 0))
    whole = np.array([[stored[o, c, cell] for o in range(5)] for cell in range(3) for c in range(4)])
    assert rows.shape == whole.shape
    np.testing.assert_array_equal(np.asarray(rows), whole)
    for start in range(12):
        for stop in range(start, 13):
            np.testing.assert_array_equal(rows[start:stop], whole[start:stop])
    assert [part.shape for _, part in pieces(rows)] == [(4, 5)] * 3
