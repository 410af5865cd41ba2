"""The clients of examples/serving find in picture files what the Keras model finds, over gRPC and over REST.

What answers them is a stand-in that runs the exported SavedModel (serving_stand_in.py), not TensorFlow Serving itself.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from export_helpers import decided_detector, picture, tiny_classifier
from PIL import Image
from serving_stand_in import Servable, grpc_server, rest_server

import zoo
from zoo.export.decoding import MESSAGES

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "serving"
NEEDS = {"grpc": "tensorflow_serving.apis.prediction_service_pb2_grpc", "rest": "requests"}
SIZES = {"tall.png": (90, 60), "wide.png": (70, 110)}
LINE = re.compile(r"  (\w+)  ([\d.]+)  at ([\d. -]+)")


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def models(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {"digits": detector, "kinds": tiny_classifier()}
    return {name: Servable(zoo.export.saved_model(model, folder / name).path) for name, model in made.items()}


@pytest.fixture(scope="module", params=["grpc", "rest"])
def client(request, models):
    """Runs one of the clients; gives its exit status."""
    pytest.importorskip(NEEDS[request.param], reason=f"the {request.param} client needs it")
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"{request.param}_client", FOLDER / f"{request.param}_client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = {"grpc": grpc_server, "rest": rest_server}[request.param]
    option = {"grpc": "--address", "rest": "--server"}[request.param]
    nowhere = {"grpc": "127.0.0.1:1", "rest": "http://127.0.0.1:1"}[request.param]

    with server(models) as address:

        def run(*args, up=True):
            kept, sys.argv = sys.argv, ["client", *map(str, args), option, address if up else nowhere]
            try:
                return module.main()
            finally:
                sys.argv = kept

        yield run
    sys.path.remove(str(FOLDER))


@pytest.fixture
def pictures(tmp_path):
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(picture(*size, seed=seed)).save(tmp_path / name)
    return [tmp_path / name for name in SIZES]


def printed(text):
    """For every picture what was printed of it: class, score and box."""
    found, current = {}, None
    for line in text.splitlines():
        if match := LINE.fullmatch(line):
            current.append((match[1], float(match[2]), [float(side) for side in match[3].split()]))
        else:
            current = found.setdefault(Path(line.rpartition(" (")[0]).name, [])
    return found


def test_pictures_of_any_size_in_one_request_and_one_of_them_broken(client, detector, pictures, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(pictures[0].read_bytes()[:100])
    status = client(pictures[0], tmp_path / "broken.jpg", pictures[1], "--score", 0, "--out", tmp_path / "drawn")
    told = capsys.readouterr()
    assert status == 1
    assert told.err == f"{tmp_path}/broken.jpg: {MESSAGES[1]}\n"
    found = printed(told.out)
    assert set(found) == set(SIZES)
    for path in pictures:
        expected = detector.detect(path)
        assert len(expected) > 3
        assert [name for name, _, _ in found[path.name]] == list(expected.class_names)
        np.testing.assert_allclose([score for _, score, _ in found[path.name]], expected.scores, atol=1.5e-3)
        np.testing.assert_allclose([box for _, _, box in found[path.name]], expected.boxes, atol=0.06)
        with Image.open(tmp_path / "drawn" / path.name) as drawn, Image.open(path) as original:
            assert drawn.size == original.size
            assert np.abs(np.asarray(drawn).astype(int) - np.asarray(original)).max() > 50


def test_no_picture_given_is_drawn_over(client, pictures, tmp_path, capsys):
    before = {path: path.read_bytes() for path in pictures}
    assert client(*pictures, "--score", 0, "--out", tmp_path) == 0
    assert {path: path.read_bytes() for path in pictures} == before
    for path in pictures:
        with Image.open(tmp_path / f"{path.stem}-detections.png") as drawn, Image.open(path) as original:
            assert drawn.size == original.size


def test_many_pictures_are_sent_in_several_requests(client, pictures, capsys):
    client(*pictures, "--score", 0.2)
    together = capsys.readouterr().out
    assert client(*pictures, "--score", 0.2, "--batch", 1) == 0
    assert capsys.readouterr().out == together
    scores = [score for each in printed(together).values() for _, score, _ in each]
    assert scores
    assert min(scores) >= 0.2


def test_a_classifier_names_what_the_picture_may_be(client, pictures, capsys):
    assert client(pictures[0], "--model", "kinds", "--score", 0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{pictures[0]} (60x90): 5 found"
    assert [re.fullmatch(r"  \d  [\d.]+", line) is not None for line in lines[1:]] == [True] * 5


@pytest.mark.parametrize(
    ("args", "up", "told"),
    [
        (("--model", "cats"), True, "Servable not found for request: Latest(cats)"),
        ((), False, "127.0.0.1:1"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(args, up, told, client, pictures, capsys):
    assert client(*pictures, *args, "--timeout", 20, up=up) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_a_file_that_does_not_exist_is_one_line(client, tmp_path, capsys):
    assert client(tmp_path / "no.jpg") == 2
    assert "no.jpg" in capsys.readouterr().err


def test_pictures_are_drawn_upright(client, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(60, 100)).save(tmp_path / "turned.jpg", exif=exif)
    assert client(tmp_path / "turned.jpg", "--score", 0, "--out", tmp_path / "drawn") == 0
    assert "turned.jpg (60x100): " in capsys.readouterr().out
    with Image.open(tmp_path / "drawn" / "turned.png") as drawn:
        assert drawn.size == (60, 100)


@pytest.mark.parametrize(
    ("pictures", "out", "names"),
    [
        (("a.jpg", "b.png"), "found", ("a.png", "b.png")),
        (("x/a.jpg", "y/a.png", "a.jpg"), "found", ("a.png", "a-2.png", "a-3.png")),
        (("x/a.jpg", "y/a.jpg", "a-2.jpg"), "found", ("a.png", "a-2.png", "a-2-2.png")),
        (("a.png", "x/b.png"), ".", ("a-detections.png", "b-detections.png")),
        (("a.png", "a.jpg"), "found/..", ("a-detections.png", "a-detections-2.png")),
        (("a.png", "a-detections.png"), ".", ("a-detections-2.png", "a-detections-detections.png")),
    ],
)
def test_every_picture_has_a_file_of_its_own_to_be_drawn_into(pictures, out, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    from results import groups

    found = [pair for group in groups([Path(name) for name in pictures], Path(out), 2) for pair in group]
    assert found == [(Path(name), Path(out) / target) for name, target in zip(pictures, names, strict=True)]
    assert [target for _, target in next(groups([Path(name) for name in pictures], None, 9))] == [None] * len(pictures)


def test_clients_need_nothing_of_this_package():
    for file in FOLDER.glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
        assert "zoo" not in names, file.name
