"""Files of proposals: MATLAB's as SciPy and h5py write them, ours, COCO's; and what is wrong with bad ones."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from zoo.cli.proposal_options import _opened
from zoo.datasets.proposals import ProposalError, open_proposals
from zoo.datasets.proposals_files import ProposalTable, save_json, save_npz
from zoo.datasets.records import Sample

# (y1, x1, y2, x2), from 1 on, the last pixel included; and by hand what that is in continuous pixels.
ROWS = {"000005": [[1, 1, 40, 60], [11, 21, 20, 21]], "000007": [[3, 2, 9, 8]], "000009": []}
BOXES = {"000005": [[0, 0, 60, 40], [20, 10, 21, 20]], "000007": [[1, 2, 8, 9]], "000009": []}
# What only a pickle can hold; it is refused whatever it would do.
PICKLED = np.array([{"a": 1}], dtype=object)


def sample(name, size=(40, 60), path=None):
    return Sample(name, path, size, np.zeros((0, 4)), [], [], [])


def cells(values):
    made = np.empty((1, len(values)), object)
    for at, value in enumerate(values):
        made[0, at] = value
    return made


def mat_v5(path, rows=ROWS, kind=np.uint16):
    boxes = cells([np.array(each, kind).reshape(-1, 4) for each in rows.values()])
    savemat(path, {"boxes": boxes, "images": cells(list(rows)).T}, do_compression=True)
    return path


def mat_v73(path, rows=ROWS):
    """As MATLAB lays it out: a user block, matrices by columns, cells as references, empty ones as their size."""
    with h5py.File(path, "w", userblock_size=512) as file:
        keep = file.create_group("#refs#")
        made = {"boxes": [], "images": []}
        for at, (name, each) in enumerate(rows.items()):
            if each:
                boxes = keep.create_dataset(f"b{at}", data=np.array(each, np.float64).T)
            else:
                boxes = keep.create_dataset(f"b{at}", data=np.array([0, 4], np.uint64))
                boxes.attrs["MATLAB_empty"] = 1
            text = keep.create_dataset(f"n{at}", data=np.array([[ord(sign)] for sign in name], np.uint16))
            made["boxes"].append(boxes.ref)
            made["images"].append(text.ref)
        for name, references in made.items():
            cell = file.create_dataset(name, (len(references), 1), h5py.ref_dtype)
            for at, reference in enumerate(references):
                cell[at, 0] = reference
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return path


def check(table):
    assert len(table) == 3
    for name, want in BOXES.items():
        boxes = table.boxes(sample(name))
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(want), 4)
        assert boxes.tolist() == want


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float64])
def test_girshicks_release(tmp_path, kind):
    check(open_proposals(mat_v5(tmp_path / "voc_2007_test.mat", kind=kind)))


def test_girshicks_release_in_version_7_3(tmp_path):
    check(open_proposals(mat_v73(tmp_path / "voc_2007_test.mat")))


def test_boxes_are_cut_off_at_the_border_and_keep_their_order(tmp_path):
    path = mat_v5(tmp_path / "a.mat", {"x": [[1, 1, 100, 100], [50, 1, 60, 9], [5, 5, 9, 9], [1, 1, 2, 2]]})
    assert open_proposals(path).boxes(sample("x")).tolist() == [[0, 0, 60, 40], [4, 4, 9, 9], [0, 0, 2, 2]]


def test_pictures_go_by_id_or_file_name():
    table = ProposalTable("t", {"a": (np.ones((1, 4)) * [0, 0, 1, 2], None), "b.jpg": (np.zeros((0, 4)), None)})
    assert table.boxes(sample("139", path=Path("x/a.png"))).tolist() == [[0, 0, 1, 2]]
    assert len(table.boxes(sample("140", path=Path("x/b.jpg")))) == 0
    with pytest.raises(ProposalError, match=r"t: no proposals for image c; it has those of 2 images \(a, b.jpg"):
        table.boxes(sample("c", path=Path("x/c.jpg")))


@pytest.mark.parametrize("scores", [True, False])
def test_npz_round_trip(tmp_path, scores):
    rng = np.random.default_rng(0)
    found = {}
    for name, count in (("2007/a", 3), ("b", 0), ("ü", 2)):
        corner = rng.uniform(0, 20, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 15, (count, 2))], axis=1)
        found[name] = (boxes, rng.random(count) if scores else None)
    path = save_npz(tmp_path / "deep" / "p.npz", found)
    table = open_proposals(path)
    assert list(table.found) == list(found)
    for name, (boxes, values) in found.items():
        np.testing.assert_array_equal(table.boxes(sample(name)), boxes.astype(np.float32))
        if scores:
            np.testing.assert_array_equal(table.found[name][1], values.astype(np.float32))
        else:
            assert table.found[name][1] is None
    assert [each.name for each in path.parent.iterdir()] == ["p.npz"]
    assert len(open_proposals(save_npz(tmp_path / "none.npz", {}))) == 0


def test_coco_results(tmp_path):
    rows = [
        {"image_id": 139, "category_id": 1, "bbox": [1, 2, 3.5, 4], "score": 0.25},
        {"image_id": "b", "bbox": [0, 0, 9, 9], "score": 1},
        {"image_id": 139, "bbox": [5, 6, 7, 8], "score": 0.75},
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    table = open_proposals(tmp_path / "p.json")
    assert table.boxes(sample("139")).tolist() == [[5, 6, 12, 14], [1, 2, 4.5, 6]]  # the best first
    assert table.found["139"][1].tolist() == [0.75, 0.25]
    again = open_proposals(save_json(tmp_path / "q.json", table.found))
    assert {name: boxes.tolist() for name, (boxes, _) in again.found.items()} == {
        name: boxes.tolist() for name, (boxes, _) in table.found.items()
    }
    assert json.loads((tmp_path / "q.json").read_text())[0]["image_id"] == 139
    ranked = {"x": (np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]]), None)}
    kept = open_proposals(save_json(tmp_path / "r.json", ranked)).boxes(sample("x"))
    assert kept[:, 2].tolist() == [1, 2, 3]


def damaged(tmp_path):
    """(file, what the error has to say)."""
    good = mat_v5(tmp_path / "good.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(good[: len(good) // 2])
    yield "cut.mat", "cannot be read as a MATLAB file"
    (tmp_path / "cut73.mat").write_bytes(mat_v73(tmp_path / "good73.mat").read_bytes()[:900])
    yield "cut73.mat", "cannot be read as a MATLAB file"
    (tmp_path / "text.mat").write_text("boxes")
    yield "text.mat", "cannot be read as a MATLAB file"
    (tmp_path / "empty.mat").write_bytes(b"")
    yield "empty.mat", "cannot be read as a MATLAB file"
    savemat(tmp_path / "other.mat", {"all_boxes": np.ones((2, 4))})
    yield "other.mat", "no cell array 'boxes'"
    savemat(tmp_path / "nameless.mat", {"boxes": cells([np.ones((2, 4))])})
    yield "nameless.mat", "no cell array 'images'"
    savemat(tmp_path / "few.mat", {"boxes": cells([np.ones((2, 4))]), "images": cells(["a", "b"])})
    yield "few.mat", "2 images, but 1 boxes"
    savemat(tmp_path / "twice.mat", {"boxes": cells([np.ones((2, 4))] * 2), "images": cells(["a", "a"])})
    yield "twice.mat", "names an image twice"
    savemat(tmp_path / "five.mat", {"boxes": cells([np.ones((2, 5))]), "images": cells(["000005"])})
    yield "five.mat", r"boxes of image 000005 are float64 of shape \(2, 5\)"
    np.savez(tmp_path / "pickled.npz", image_id=PICKLED, ends=[1], boxes=np.ones((1, 4)))
    yield "pickled.npz", "cannot be read as .npz"
    (tmp_path / "text.npz").write_text("no zip")
    yield "text.npz", "cannot be read as .npz"
    yield from flipped(tmp_path)
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    yield "other.npz", "has the arrays weights; a file of proposals has image_id"
    np.savez(tmp_path / "short.npz", image_id=np.array(["a"]), ends=[3], boxes=np.ones((2, 4), np.float32))
    yield "short.npz", "do not fit together"
    nan = np.full((1, 4), np.nan, np.float32)
    np.savez(tmp_path / "nan.npz", image_id=np.array(["a"]), ends=[1], boxes=nan)
    yield "nan.npz", "image a"
    (tmp_path / "cut.json").write_text('[{"image_id": 1')
    yield "cut.json", "not JSON"
    (tmp_path / "object.json").write_text('{"image_id": 1}')
    yield "object.json", "a list of objects"
    for at, row in enumerate(
        ({"image_id": 1, "bbox": [1, 2, 3], "score": 1}, {"image_id": 1, "bbox": [1, 2, 3, 4]}, 7, {"bbox": [1] * 4})
    ):
        (tmp_path / f"row{at}.json").write_text(json.dumps([row]))
        yield f"row{at}.json", "entry 0 needs image_id, bbox"
    (tmp_path / "boxes.txt").write_text("1 2 3 4")
    yield "boxes.txt", r"proposals are read from \.npz, \.json, \.mat files and folders"
    yield "nowhere.npz", "no such file"
    (tmp_path / "folder").mkdir()
    yield "folder", "holds no proposals; make them with `zoo proposals"


def flipped(tmp_path):
    """A file in which bits are changed: of the first picture's deflate stream, and of a flag in the directory."""
    data = save_npz(tmp_path / "good.npz", {"a": (np.ones((9, 4)), None)}).read_bytes()
    name, extra = np.frombuffer(data[26:30], "<u2")
    for at, bits, place in (
        (30 + name + extra, 0b110, "stream"),  # a block of the kind that deflate does not have
        (data.index(b"PK\x01\x02") + 8, 1, "flag"),  # encrypted
    ):
        (tmp_path / f"{place}.npz").write_bytes(data[:at] + bytes([data[at] | bits]) + data[at + 1 :])
        yield f"{place}.npz", "cannot be read as .npz"


def test_files_of_several_splits_are_one(tmp_path):
    box = np.array([[1, 2, 3, 4.0]], np.float32)
    files = [save_npz(tmp_path / f"{name}.npz", {name: (box * number, None)}) for number, name in enumerate("abc", 1)]
    both = open_proposals(files[:2])
    assert len(both) == 2
    for number, name in enumerate("ab", 1):
        one = Sample(name, None, (20, 20), [], [], [], [])
        np.testing.assert_array_equal(both.boxes(one), box * number)
    with pytest.raises(ProposalError, match=r"a.npz,.*b.npz: no proposals for image c"):
        both.boxes(Sample("c", None, (20, 20), [], [], [], []))
    for wrong in ({"path": []}, {"path": files, "method": "dense"}):
        with pytest.raises(ProposalError, match="at least one file; method= chooses within a folder"):
            open_proposals(**wrong)
    with pytest.raises(ProposalError, match=r"both have proposals for image a"):
        open_proposals([files[0], files[0]])
    # As one writes it in a command.
    assert len(_opened(",".join(map(str, files)), ())) == 3
    with pytest.raises(ProposalError, match=r"nowhere.npz: no such file"):
        _opened(f"{files[0]},nowhere.npz", ())


def test_bad_files_are_named(tmp_path):
    for name, text in damaged(tmp_path):
        with pytest.raises(ProposalError, match=text) as caught:
            open_proposals(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(ProposalError, match="method= chooses within a folder"):
        open_proposals(tmp_path / "good.mat", "rpn")


def test_what_cannot_be_written(tmp_path):
    box = np.array([[0, 0, 1, 1.0]])
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        save_npz(tmp_path / "p.mat", {})
    with pytest.raises(ValueError, match="some have none"):
        save_npz(tmp_path / "p.npz", {"a": (box, None), "b": (box, [1.0])})
    with pytest.raises(ProposalError, match="image a has 1 boxes and 2 scores"):
        save_npz(tmp_path / "p.npz", {"a": (box, [1.0, 2.0])})
    assert not list(tmp_path.iterdir())
