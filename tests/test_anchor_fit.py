"""Anchor coverage against a grid laid out anchor by anchor; the search for anchors on boxes made from known ones."""

import numpy as np
import pytest

from zoo.datasets.anchor_fit import (
    AnchorPlan,
    best_iou,
    coverage,
    fit_grid,
    grid_shapes,
    k_means,
    prepare,
)
from zoo.detectors.preprocessing import Preprocessing


def laid_out(box, size, shapes, stride, inside):
    """The best IoU of one box, by going over every anchor of the picture."""
    best = 0.0
    height, width = size
    for row in range(-(-height // stride)):
        for column in range(-(-width // stride)):
            for w, h in shapes:
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
                if inside and (x1 < 0 or y1 < 0 or x2 > width or y2 > height):
                    continue
                both = max(0, min(x2, box[2]) - max(x1, box[0])) * max(0, min(y2, box[3]) - max(y1, box[1]))
                union = w * h + (box[2] - box[0]) * (box[3] - box[1]) - both
                best = max(best, both / union)
    return best


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("stride", [8, 16])
def test_coverage_is_that_of_every_anchor(inside, stride):
    rng = np.random.default_rng(stride)
    shapes = grid_shapes((20, 50, 120), (0.5, 1, 2.3))
    boxes, sizes = [], []
    for _ in range(120):
        size = rng.integers(20, 200, 2)
        corner = rng.uniform(0, 0.9, 2) * size[::-1]
        boxes.append([*corner, *(corner + rng.uniform(0.02, 1, 2) * (size[::-1] - corner))])
        sizes.append(size)
    found = best_iou(np.array(boxes), np.array(sizes), shapes, stride, inside)
    expected = [laid_out(box, size, shapes, stride, inside) for box, size in zip(boxes, sizes, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found > 0.3).any()


def test_anchors_that_fit_exactly_touch_the_border():
    boxes, sizes = np.array([[0.0, 0, 32, 32]]), np.array([[32, 32]])
    # One cell of 32 pixels: its anchor of 32 pixels is the picture, and inside it.
    assert best_iou(boxes, sizes, grid_shapes((32,), (1,)), 32, inside=True).tolist() == [1.0]
    assert best_iou(boxes, sizes, grid_shapes((33,), (1,)), 32, inside=True).tolist() == [0.0]


def test_boxes_are_prepared_as_the_detectors_do():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 3000, (300, 2))
    plan = AnchorPlan(short=600, long=1000)
    boxes, new = prepare(np.hstack([np.zeros((300, 2)), sizes[:, ::-1]]), sizes, plan)
    layer = Preprocessing(600, 1000)
    assert [tuple(int(side) for side in row) for row in new] == [layer.prepared_size(int(h), int(w)) for h, w in sizes]
    np.testing.assert_allclose(boxes[:, 2:], new[:, ::-1])


def test_figures_of_coverage():
    found = coverage(np.array([0.2, 0.5, 0.7, 1.0]))
    assert (found.mean, found.at_50, found.at_70) == (0.6, 0.75, 0.5)
    assert np.isnan(coverage(np.zeros(0)).mean)


def boxes_like(shapes, count, rng, size=(600, 800)):
    """Boxes of these shapes, a little larger or smaller, anywhere in pictures of one size."""
    sides = shapes[rng.integers(len(shapes), size=count)] * rng.uniform(0.95, 1.05, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array(size[::-1]) - sides)
    return np.hstack([corner, corner + sides]), np.tile(size, (count, 1))


def test_the_grid_that_boxes_were_made_from_is_found():
    rng = np.random.default_rng(3)
    boxes, sizes = boxes_like(grid_shapes((40, 100, 250), (0.5, 1, 2)), 900, rng)
    found_sizes, ratios = fit_grid(boxes, sizes, 8, 3, 3)
    np.testing.assert_allclose(found_sizes, (40, 100, 250), rtol=0.08)
    np.testing.assert_allclose(ratios, (0.5, 1, 2), rtol=0.12)
    fitted = coverage(best_iou(boxes, sizes, grid_shapes(found_sizes, ratios), 8))
    usual = coverage(best_iou(boxes, sizes, AnchorPlan().shapes, 8))
    assert fitted.at_70 > 0.95 > usual.at_70
    assert fit_grid(boxes, sizes, 8, 3, 3) == (found_sizes, ratios)


def test_the_search_goes_beyond_its_beginnings():
    rng = np.random.default_rng(6)
    # Most are small: neither quantiles of the sizes nor sizes at equal factors lie near the other two.
    kinds = ((30.0, 450), (46.0, 70), (210.0, 80))
    made = [boxes_like(np.array([[side, side]]), count, rng) for side, count in kinds]
    boxes, sizes = (np.concatenate(each) for each in zip(*made, strict=True))
    found_sizes, ratios = fit_grid(boxes, sizes, 8, 3, 1)
    np.testing.assert_allclose(found_sizes, (30, 46, 210), rtol=0.05)
    np.testing.assert_allclose(ratios, (1,), rtol=0.05)


def test_k_means_finds_the_shapes_that_boxes_have():
    rng = np.random.default_rng(4)
    shapes = np.array([[20.0, 30], [60, 50], [100, 220], [300, 150]])
    boxes, _ = boxes_like(shapes, 400, rng)
    np.testing.assert_allclose(k_means(boxes[:, 2:] - boxes[:, :2], 4), shapes[[0, 1, 2, 3]], rtol=0.05)
    equal = k_means(np.full((5, 2), 7.0), 3)
    assert equal.tolist() == [[7, 7]] * 3


@pytest.mark.parametrize("wrong", [{"sizes": ()}, {"sizes": (0,)}, {"ratios": (-1,)}, {"stride": 0}, {"short": 1001}])
def test_plans_that_make_no_anchors(wrong):
    with pytest.raises(ValueError, match=r"positive|short"):
        AnchorPlan(**wrong)
