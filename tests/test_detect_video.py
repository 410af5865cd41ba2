"""examples/detect_video.py finds in a video what the Keras model finds in its frames, without this package."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from export_helpers import decided_detector

from zoo.datasets.digits import digit_scenes
from zoo.export.to_tflite import tflite

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "detect_video.py"
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
FRAMES = 6
# Stands for a machine without these.
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({names}, None))
runpy.run_path({script!r}, run_name="__main__")
"""


def run(*args):
    code = WITHOUT.format(names=("zoo", "tensorflow", "keras", "matplotlib", "PIL"), script=str(SCRIPT))
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    return tflite(decided_detector(), folder / "tiny.tflite").path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Scenes of digits, each a frame."""
    path = tmp_path_factory.mktemp("video") / "digits.avi"
    scenes = digit_scenes("test", FRAMES, size=(240, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (320, 240))
    assert writer.isOpened()
    for number in range(FRAMES):
        writer.write(scenes.image(number)[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def script(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("detect_video")


def read(path):
    capture = cv2.VideoCapture(str(path))
    found = []
    while (frame := capture.read())[0]:
        found.append(frame[1])
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return np.stack(found), rate


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_an_annotated_video(suffix, model, video, tmp_path):
    done = run(model, video, "--out", tmp_path / f"found{suffix}", "--score", 0.2, "--threads", 1)
    assert done.returncode == 0, done.stderr
    frames, rate = read(tmp_path / f"found{suffix}")
    original, _ = read(video)
    assert frames.shape == original.shape == (FRAMES, 240, 320, 3)
    assert rate == pytest.approx(12.0)
    assert re.search(r"6 frames of 320x240 in [\d.]+ s: [\d.]+ frames a second", done.stdout)
    assert re.search(r"detection: \d+ ms a frame \(median of 6\)", done.stdout)
    # The model's classes, from inside the file.
    detector = decided_detector()
    expected = [set(detector.detect(frame[..., ::-1], score_threshold=0.2).class_names) for frame in original]
    counts = {name: sum(name in each for each in expected) for name in ("a", "b")}
    told = dict(re.findall(r"(\w) (\d)", done.stdout.partition("frames with: ")[2].partition("\n")[0]))
    assert {name: int(number) for name, number in told.items()} == {name: n for name, n in counts.items() if n}
    assert sum(counts.values()) > 3
    # Drawn where something was found.
    for frame, before, names in zip(frames, original, expected, strict=True):
        assert (np.abs(frame.astype(int) - before).max() > 100) == bool(names)
    assert [path.name for path in tmp_path.iterdir()] == [f"found{suffix}"]


def test_every_third_frame_is_looked_at(model, video, tmp_path):
    done = run(model, video, "--out", tmp_path / "found.avi", "--every", 3)
    assert "6 frames" in done.stdout
    assert "(median of 2)" in done.stdout


def test_a_model_of_one_size_looks_at_frames_of_another(script, tmp_path, video):
    fixed = tflite(decided_detector(), tmp_path / "fixed.tflite", size=(120, 160)).path
    frame = read(video)[0][0]
    found = script.Detector(str(fixed), 1).detect(frame, 0.2)
    small = cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA)
    expected = decided_detector().detect(small[..., ::-1], score_threshold=0.2)
    assert len(expected) > 1
    assert [each.name for each in found] == list(expected.class_names)
    np.testing.assert_allclose([each.box for each in found], expected.boxes * 2, atol=1.0)


def test_a_camera_in_a_window_until_q_is_pressed(script, model, video, monkeypatch, capsys):
    """Of camera and window only what OpenCV would do is made up."""
    opened, shown = [], []
    capture = cv2.VideoCapture(str(video))
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or capture)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: ord("q") if len(shown) == 4 else -1)
    monkeypatch.setattr(sys, "argv", ["detect_video.py", str(model), "camera:1"])
    script.main()
    assert opened == [1]
    assert len(shown) == 4
    before = digit_scenes("test", FRAMES, size=(240, 320)).image(0)[..., ::-1]
    # The rate stands in the corner.
    assert np.abs(shown[0][:30, :100].astype(int) - before[:30, :100]).max() > 100
    assert "4 of 6 frames of 320x240" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("{video}", "{video}"), "no TFLite file that `zoo export` wrote"),
        (("{model}", "nowhere.mp4"), "nowhere.mp4: no such file; give a video, or camera:0"),
        (("{model}", "camera:99", "--out", "{out}.avi"), "camera:99: there is no such camera"),
        (("{model}", "{model}", "--out", "{out}.avi"), "OpenCV cannot read it as a video"),
        (("{model}", "{video}", "--out", "{out}.gif"), "give a name that ends in .mp4 or .avi"),
        (("{model}", "{video}", "--out", "{video}"), "is the video itself"),
        (("{model}", "{video}", "--every", "0"), "1 or more"),
    ],
)
def test_mistakes_are_one_line(args, told, model, video, tmp_path):
    before = video.read_bytes()
    done = run(*[arg.format(model=model, video=video, out=tmp_path / "found") for arg in args])
    assert done.returncode != 0
    assert told in done.stderr
    assert not list(tmp_path.iterdir())
    assert video.read_bytes() == before


@pytest.mark.skipif("GTK" in cv2.getBuildInformation() and bool(os.environ.get("DISPLAY")), reason="there are windows")
def test_without_windows_it_says_so_before_it_starts(model, video):
    done = run(model, video)
    assert done.returncode != 0
    assert "write a video with --out" in done.stderr
