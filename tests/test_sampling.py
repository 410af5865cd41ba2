"""The hash behind the samples: as documented, uniform, and dependent on (image, step, element) alone."""

import numpy as np
import reference

from zoo.heads.sampling import uniform


def draw(ids, step, count, salt=1):
    found = np.asarray(uniform(np.array(ids, "int32"), step, count, salt))
    assert found.shape == (len(ids), count)
    assert found.dtype == np.float32
    return found


def test_the_documented_hash():
    ids = [0, 1, 5, 123456, 2**31 - 1]
    for step, salt in ((0, 1), (7, 1), (2**30, 2)):
        expected = [reference.uniform(i, step, 50, salt) for i in ids]
        np.testing.assert_array_equal(draw(ids, step, 50, salt), np.array(expected, "float32"))


def test_uniform_within_and_across_images_and_steps():
    spreads = [
        draw([3], 11, 20000).ravel(),  # elements of one image
        draw(range(20000), 11, 1).ravel(),  # the first of many images
        np.concatenate([draw(range(8), step, 8) for step in range(250)]).ravel(),
    ]
    for values in spreads:
        assert values.min() >= 0
        assert values.max() < 1
        counts, _ = np.histogram(values, 20, (0, 1))
        expected = len(values) / 20
        # Chi-square with 19 degrees of freedom is below 50 in all but one of ten thousand fair draws.
        assert ((counts - expected) ** 2 / expected).sum() < 50
        assert len(np.unique(values)) > 0.99 * len(values)


def test_neighbours_are_uncorrelated():
    count = 20000
    base = draw([8], 5, count)[0]
    others = [
        draw([9], 5, count)[0],  # next image
        draw([8], 6, count)[0],  # next step
        draw([8], 5, count, salt=2)[0],  # another draw of the step
        np.roll(base, 1),  # next element
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03
        assert (base == other).mean() < 0.001


def test_an_images_numbers_do_not_depend_on_its_batch():
    alone = draw([42], 3, 30)[0]
    np.testing.assert_array_equal(draw([7, 42, 9], 3, 30)[1], alone)
    np.testing.assert_array_equal(draw([42, 7], 3, 30)[0], alone)
    np.testing.assert_array_equal(draw([42, 42], 3, 30), [alone, alone])
    np.testing.assert_array_equal(draw([42], 3, 100)[0, :30], alone)
    np.testing.assert_array_equal(uniform(np.array([42], "int64"), np.int32(3), 30, 1), [alone])
