"""External proposals: what each method gives for a picture, against OpenCV called by hand and loops."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from zoo.datasets import load
from zoo.datasets.proposal_recall import proposal_recall
from zoo.datasets.proposals import Computed, Gathered, ProposalError, clipped, ranked, tidy
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_edges import EdgeBoxes, sobel_edges
from zoo.datasets.proposals_selective import SelectiveSearch, to_width

OBJECTS = np.array([[12, 10, 52, 60], [70, 30, 130, 80], [100, 90, 140, 115]], np.float32)


def picture(height=120, width=160):
    """Three rectangles of other colours on a noisy ground."""
    image = np.full((height, width, 3), (60, 90, 60), np.uint8)
    image += np.random.default_rng(0).integers(0, 6, image.shape).astype(np.uint8)
    for box, colour in zip(OBJECTS.astype(int), ((200, 40, 40), (40, 60, 220), (230, 220, 30)), strict=True):
        image[box[1] : box[3], box[0] : box[2]] = colour
    return image


def overlap(a, b):
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(tall, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def found_all(boxes, least):
    return all(max(overlap(box, want) for box in boxes) >= least for want in OBJECTS)


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_selective_search_is_opencvs(mode):
    image = picture()
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image[..., ::-1].copy())
    getattr(search, {"fast": "switchToSelectiveSearchFast", "quality": "switchToSelectiveSearchQuality"}[mode])()
    wanted = {(x, y, x + w, y + h) for x, y, w, h in search.process().tolist() if w >= 20 and h >= 20}
    method = SelectiveSearch(mode, width=None, most=None)
    boxes = method(image)
    assert boxes.dtype == np.float32
    assert {tuple(box) for box in boxes.astype(int).tolist()} == wanted
    assert len(boxes) == len(wanted) > 5
    assert found_all(boxes, 0.85)
    assert method.name == f"selective-{mode}"
    assert method.scored(image)[1] is None


def test_colours_are_handed_over_in_opencvs_order(monkeypatch):
    seen = []
    convert = cv2.cvtColor
    monkeypatch.setattr(cv2, "cvtColor", lambda image, code: seen.append(convert(image, code)) or seen[-1])
    SelectiveSearch(width=None)(picture())
    np.testing.assert_array_equal(seen[0], picture()[..., ::-1])


def test_selective_search_in_pixels_of_the_picture_whatever_its_scale():
    image = picture()
    boxes = SelectiveSearch(width=320, most=None)(image)
    assert found_all(boxes, 0.85)
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [160, 120, 160, 120]).all()
    # 100 pixels of the scaled picture are 50 of its own.
    large = {tuple(box) for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= 50}
    assert {tuple(box) for box in SelectiveSearch(width=320, min_side=100)(image)} == large
    assert 0 < len(large) < len(boxes)


def test_scaling_bounds_strips():
    assert to_width(picture(), 80).shape == (60, 80, 3)
    assert to_width(picture(333, 500), 500).shape == (333, 500, 3)
    assert to_width(picture(120, 160), 500).shape == (375, 500, 3)
    assert to_width(np.zeros((400, 30, 3), np.uint8), 50).shape == (100, 8, 3)
    assert to_width(np.zeros((1, 900, 3), np.uint8), 90).shape == (1, 90, 3)


def test_same_picture_same_boxes_whatever_ran_before_and_beside():
    image, method = picture(), SelectiveSearch(width=None)
    first = method(image)
    ctypes.CDLL(None).srand(7)  # what OpenCV's own order depends on
    np.testing.assert_array_equal(method(image), first)
    with ThreadPoolExecutor(3) as pool:
        for boxes in pool.map(method, [image] * 6):
            np.testing.assert_array_equal(boxes, first)
    other = SelectiveSearch(width=None, seed=1)(image)
    assert not np.array_equal(other, first)
    assert {tuple(box) for box in other} == {tuple(box) for box in first}
    np.testing.assert_array_equal(SelectiveSearch(width=None, most=4)(image), first[:4])


def test_order_depends_on_the_set_alone():
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 50, (200, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 60, (200, 2))], axis=1).astype(np.float32)
    shuffled = boxes[rng.permutation(200)]
    np.testing.assert_array_equal(boxes[ranked(boxes, 5)], shuffled[ranked(shuffled, 5)])
    # By the definition: places by falling area times random numbers.
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    early = np.mean([area[ranked(boxes, seed)][:50].mean() for seed in range(20)])
    late = np.mean([area[ranked(boxes, seed)][-50:].mean() for seed in range(20)])
    assert early > 1.5 * late
    assert len({int(ranked(boxes, seed)[0]) for seed in range(20)}) > 3
    assert ranked(np.zeros((0, 4)), 0).shape == (0,)


def test_tidy_by_a_loop():
    rng = np.random.default_rng(1)
    boxes = rng.integers(0, 6, (400, 4)).astype(np.float32)
    wanted, seen = [], set()
    for at, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if x2 - x1 >= 2 and y2 - y1 >= 2 and (x1, y1, x2, y2) not in seen:
            seen.add((x1, y1, x2, y2))
            wanted.append(at)
    assert tidy(boxes, 2).tolist() == wanted
    assert tidy(np.array([[0, 0, 3, 0.0]])).tolist() == []
    assert clipped([[-3, 2, 50, 60]], (20, 30)).tolist() == [[0, 2, 30, 20]]


def test_dense_boxes_by_loops():
    image = np.zeros((50, 70, 3), np.uint8)
    wanted = {(0.0, 0.0, 70.0, 50.0)}
    for size in (16, 32, 64):
        for ratio in (0.5, 2.0):
            tall, wide = size * ratio**0.5, size / ratio**0.5
            if tall > 50 or wide > 70:
                continue
            rows, columns = -(-(50 - tall) // (0.5 * tall)) + 1, -(-(70 - wide) // (0.5 * wide)) + 1
            for row in range(int(rows)):
                for column in range(int(columns)):
                    y, x = row * (50 - tall) / max(rows - 1, 1), column * (70 - wide) / max(columns - 1, 1)
                    wanted.add((x, y, x + wide, y + tall))
    boxes = DenseBoxes(smallest=16, factor=2, ratios=(0.5, 2.0), step=0.5, most=None)(image)
    rounded = {tuple(np.round(box, 2)) for box in np.array(sorted(wanted), np.float32)}
    assert {tuple(np.round(box, 2)) for box in boxes} == rounded
    assert len(boxes) == len(wanted)
    assert len(DenseBoxes(most=7)(image)) == 7


def test_dense_boxes_cover_every_box_of_their_sizes():
    rng = np.random.default_rng(0)
    boxes = DenseBoxes(most=None)(np.zeros((200, 300, 3), np.uint8))
    for _ in range(40):
        side = rng.uniform(40, 150)
        x, y = rng.uniform(0, 300 - side), rng.uniform(0, 200 - side)
        assert max(overlap(box, (x, y, x + side, y + side)) for box in boxes) > 0.6


def test_edge_boxes_find_outlines():
    method = EdgeBoxes()
    boxes, scores = method.scored(picture())
    assert method.name == "edge-boxes-sobel"  # never to be taken for the paper's
    assert found_all(boxes, 0.7)
    assert len(boxes) == len(scores) <= 2000
    assert (np.diff(scores) <= 0).all()
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 16
    np.testing.assert_array_equal(method(picture()), boxes)
    assert len(EdgeBoxes(most=5)(picture())) <= 5
    wide = EdgeBoxes(width=320)(picture())
    assert found_all(wide, 0.7)
    assert (wide.max(axis=0) <= [160, 120, 160, 120]).all()
    assert len(EdgeBoxes()(np.full((40, 50, 3), 9, np.uint8))) == 0


def test_edges_are_thin_and_know_their_direction():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    edges, normals = sobel_edges(image)
    assert np.flatnonzero(edges[20] > 0.5).tolist() in ([29], [30], [29, 30])
    assert edges.max() == 1
    assert edges[:, :24].max() < 0.001
    assert edges[:, 36:].max() < 0.001
    assert np.abs(np.sin(normals[20, 28:32])).max() < 0.01  # across a vertical edge: along x
    _, normals = sobel_edges(np.ascontiguousarray(image.transpose(1, 0, 2)))
    assert np.abs(normals[28:32, 20] - np.pi / 2).max() < 0.01
    assert not sobel_edges(np.zeros((9, 9, 3), np.uint8))[0].any()


def test_structured_edges_want_their_model(tmp_path):
    with pytest.raises(ProposalError, match=r"nothing\.yml: there is no such file"):
        EdgeBoxes(tmp_path / "nothing.yml")
    for text in ("%YAML:1.0\n---\nno: forest\n", "{}", "no: forest\n", "", "%YAML:1.0\n---\noptions:\n   stride: 2\n"):
        (tmp_path / "model.yml").write_text(text)
        method = EdgeBoxes(tmp_path / "model.yml")
        assert method.name == "edge-boxes"
        assert len(method.settings["model"]) == 64
        with pytest.raises(ProposalError, match="no model of structured edges"):
            method(picture())


def forest(path, feature=1771):
    """A structured forest of stumps, made by hand: an edge down the middle wherever one feature is large."""
    options = {"stride": 2, "shrinkNumber": 2, "patchSize": 32, "patchInnerSize": 16, "gradientSmoothingRadius": 0}
    options |= {"numberOfGradientOrientations": 4, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8}
    options |= {"gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5}
    options |= {"numberOfTrees": 8, "numberOfTreesToEvaluate": 4}
    lines = ["%YAML:1.0", "---", "options:", *(f"    {name}: {value}" for name, value in options.items())]
    # Node 0 asks, nodes 1 and 2 answer; where the edges of each node's patch begin, and their pixels (16 x 16).
    starts = [[16 * tree, 16 * tree, 16 * tree] for tree in range(8)]
    starts[-1].append(16 * 8)
    parts = {
        "childs": [[2, 0, 0]] * 8,
        "featureIds": [[feature, 0, 0]] * 8,
        "thresholds": [[0.1, 0.0, 0.0]] * 8,
        "edgeBoundaries": starts,
        "edgeBins": [[8 + 16 * row for row in range(16)]] * 8,
    }
    for name, rows in parts.items():
        lines += [f"{name}:", *(f"    - [ {', '.join(map(str, row))} ]" for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_edge_boxes_of_a_structured_forest(tmp_path):
    image, path = picture(), forest(tmp_path / "model.yml")
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(path))
    edges = detector.detectEdges(image.astype(np.float32) / 255)
    normals = detector.computeOrientation(edges)
    search = cv2.ximgproc.createEdgeBoxes(maxBoxes=40, minBoxArea=256.0)
    wanted, values = search.getBoundingBoxes(detector.edgesNms(edges, normals), normals)
    rows = [(x, y, x + w, y + h, s) for (x, y, w, h), s in zip(wanted.tolist(), values.ravel(), strict=True)]
    rows = [row for row in rows if row[2] - row[0] >= 16 and row[3] - row[1] >= 16]
    method = EdgeBoxes(path, most=40)
    boxes, scores = method.scored(image)
    assert method.name == "edge-boxes"
    assert len(boxes) == len(rows) > 10
    np.testing.assert_allclose(np.concatenate([boxes, scores[:, None]], axis=1), rows, atol=1e-5)
    other = EdgeBoxes(forest(tmp_path / "other.yml", 904), most=40)
    assert other.settings["model"] != method.settings["model"]
    assert not np.array_equal(other(image), boxes)


def test_opencv_without_contrib_says_what_to_install(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc")
    for method in (SelectiveSearch(), EdgeBoxes()):
        with pytest.raises(ProposalError, match="opencv-contrib-python-headless"):
            method(picture())


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40)])
def test_tiny_pictures(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    for method in (SelectiveSearch(width=40), SelectiveSearch(width=None, min_side=0), EdgeBoxes(), DenseBoxes()):
        boxes = method(image)
        assert boxes.shape[1:] == (4,)
        assert boxes.dtype == np.float32
        np.testing.assert_array_equal(boxes, clipped(boxes, size))


def test_settings_that_mean_nothing():
    for make in (
        lambda: SelectiveSearch("slow"),
        lambda: SelectiveSearch(width=0),
        lambda: SelectiveSearch(most=0),
        lambda: DenseBoxes(factor=1),
        lambda: DenseBoxes(ratios=()),
        lambda: DenseBoxes(most=0),
        lambda: EdgeBoxes(most=0),
    ):
        with pytest.raises(ValueError, match=r"at least 1|'fast' or 'quality'|above"):
            make()


def test_digits_are_proposed():
    data = load("digits:6", "test")
    assert proposal_recall(Gathered(Computed(SelectiveSearch(width=200, min_side=10)), data), data) > 0.8
    assert proposal_recall(Gathered(Computed(EdgeBoxes()), data), data) > 0.8
    assert proposal_recall(Gathered(Computed(DenseBoxes(smallest=16, most=None)), data), data) > 0.9
