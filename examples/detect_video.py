"""Detect objects in a video file or in what a camera sees, with a TFLite file that `zoo export` wrote.

    python examples/detect_video.py digits.tflite street.mp4 --out found.mp4
    python examples/detect_video.py digits.tflite camera:0

It needs ai-edge-litert, NumPy and OpenCV, and nothing of this package: copy it to where it is to run. What the model
takes, and the names of its classes, stand inside the file. A window needs OpenCV with windows (opencv-python, not
opencv-python-headless); q or Esc closes it.
"""

import argparse
import json
import os
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
# BGR, far from each other.
COLOURS = ((229, 136, 30), (67, 112, 255), (80, 190, 67), (135, 0, 255), (30, 210, 255), (225, 0, 120))
WINDOW = "detections"


@dataclass(frozen=True)
class Found:
    """One detection: x1 y1 x2 y2 in pixels of the frame, its score, class number and name."""

    box: tuple[float, float, float, float]
    score: float
    number: int
    name: str


class Detector:
    """A detector in a TFLite file."""

    def __init__(self, path: str, threads: int) -> None:
        # The file is a zip archive too: the metadata are packed behind the model.
        try:
            with zipfile.ZipFile(path) as packed:
                about = json.loads(packed.read("zoo.json"))
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise SystemExit(f"{path}: no TFLite file that `zoo export` wrote ({error})") from error
        if about["task"] != "detection":
            raise SystemExit(f"{path} is a classifier; this script draws boxes, give a detector")
        if "proposals" in about:
            raise SystemExit(f"{path} looks at proposals that other programs make; give a Faster R-CNN")
        self.classes, self.dtype = about["classes"], about["input"]["dtype"]
        self.height, self.width = about["input"]["shape"][1:3]
        try:
            # Outputs are told apart by name: their order in the file means nothing.
            self._run = Interpreter(path, num_threads=threads).get_signature_runner("serving_default")
        except (ValueError, RuntimeError) as error:
            raise SystemExit(f"{path}: damaged, LiteRT cannot load it ({error})") from error

    def detect(self, frame: np.ndarray, least: float) -> list[Found]:
        """What is in a frame ``(H, W, 3)`` uint8, BGR as OpenCV reads it, with a score of ``least`` or more."""
        image, scale = frame, (1.0, 1.0)
        if self.height is not None and frame.shape[:2] != (self.height, self.width):
            # Exported for one size only: the frame is brought to it, and boxes back.
            image = cv2.resize(frame, (self.width, self.height), interpolation=cv2.INTER_AREA)
            scale = (frame.shape[1] / self.width, frame.shape[0] / self.height)
        rgb = np.ascontiguousarray(image[None, ..., ::-1], self.dtype)
        results = {name: value[0] for name, value in self._run(images=rgb).items()}
        found = []
        for place in range(int(results["num_detections"])):
            score, number = float(results["scores"][place]), int(results["classes"][place])
            if score >= least:
                box = results["boxes"][place] * np.tile(scale, 2)
                found.append(Found(tuple(map(float, box)), score, number, self.classes[number]))
        return found


def draw(frame: np.ndarray, found: list[Found]) -> None:
    """Draw boxes and names into ``frame``; the best comes last, and lies on top."""
    line = max(2, round(max(frame.shape) / 400))
    size = max(0.5, max(frame.shape) / 1300)
    for each in reversed(found):
        colour = COLOURS[each.number % len(COLOURS)]
        x1, y1, x2, y2 = (round(side) for side in each.box)
        cv2.rectangle(frame, (x1, y1), (x2, y2), colour, line, cv2.LINE_AA)
        text = f"{each.name} {each.score:.0%}"
        (width, height), under = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        # Above the box, or inside it at the upper border; never beyond the right one.
        left = max(0, min(x1, frame.shape[1] - width))
        top = max(0, y1 - height - under)
        cv2.rectangle(frame, (left, top), (left + width, top + height + under), colour, cv2.FILLED)
        dark = (0, 0, 0) if np.dot(colour, (0.114, 0.587, 0.299)) > 120 else (255, 255, 255)
        cv2.putText(frame, text, (left, top + height), cv2.FONT_HERSHEY_SIMPLEX, size, dark, 1, cv2.LINE_AA)


def open_source(text: str) -> cv2.VideoCapture:
    """A video file, or ``camera:N``."""
    kind, _, number = text.partition(":")
    if kind == "camera" and number.isdecimal():
        capture = cv2.VideoCapture(int(number))
        if not capture.isOpened():
            raise SystemExit(f"{text}: there is no such camera, or another program has it")
        return capture
    if not Path(text).is_file():
        raise SystemExit(f"{text}: no such file; give a video, or camera:0 for the first camera")
    capture = cv2.VideoCapture(text)
    if not capture.isOpened():
        raise SystemExit(f"{text}: OpenCV cannot read it as a video")
    return capture


def frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """All frames, upright, until there are no more."""
    while True:
        good, frame = capture.read()
        if not good:
            return
        yield frame


@contextmanager
def written(path: Path | None, rate: float, width: int, height: int) -> Iterator[cv2.VideoWriter | None]:
    """A video to write into; it gets its name when it is whole."""
    if path is None:
        yield None
        return
    if path.suffix.lower() not in CODECS:
        raise SystemExit(f"{path}: give a name that ends in {' or '.join(CODECS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    writer = cv2.VideoWriter(str(aside), cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()]), rate, (width, height))
    try:
        if not writer.isOpened():
            raise SystemExit(f"{path} cannot be written: this OpenCV has no {CODECS[path.suffix.lower()]} encoder")
        yield writer
        writer.release()
        os.replace(aside, path)
    finally:
        writer.release()
        aside.unlink(missing_ok=True)


def open_window() -> None:
    """Fail now rather than after the first frame where OpenCV has no windows."""
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise SystemExit("this OpenCV opens no windows (opencv-python-headless?); write a video with --out") from error


def run(args: argparse.Namespace) -> None:
    """Detect in every frame, and tell how quickly."""
    detector = Detector(args.model, args.threads)
    capture = open_source(args.source)
    if args.out is None:
        open_window()
    # Cameras and odd files tell no rate.
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    pictures = frames(capture)
    first = next(pictures, None)
    if first is None:
        raise SystemExit(f"{args.source}: not one frame could be read")
    # What is told of the video may be its size before it was turned upright.
    height, width = first.shape[:2]
    promised = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    seconds: list[float] = []
    seen: Counter[str] = Counter()
    found: list[Found] = []
    count = 0
    with written(args.out, rate, width, height) as writer:
        started = time.perf_counter()
        try:
            for count, frame in enumerate(chain([first], pictures), start=1):
                if (count - 1) % args.every == 0:
                    before = time.perf_counter()
                    found = detector.detect(frame, args.score)
                    seconds.append(time.perf_counter() - before)
                seen.update({each.name for each in found})
                draw(frame, found)
                if writer is not None:
                    writer.write(frame)
                elif shown(frame, count / (time.perf_counter() - started)):
                    break
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
        passed = time.perf_counter() - started
    of = f" of {promised}" if promised > count else ""
    print(f"{count}{of} frames of {width}x{height} in {passed:.1f} s: {count / passed:.1f} frames a second")
    print(f"detection: {1000 * np.median(seconds):.0f} ms a frame (median of {len(seconds)})")
    print("frames with: " + (", ".join(f"{name} {number}" for name, number in seen.most_common()) or "nothing"))
    if args.out is not None:
        print(f"video: {args.out}")


def shown(frame: np.ndarray, rate: float) -> bool:
    """Show a frame and how many there are a second; whether the window is to close."""
    cv2.putText(frame, f"{rate:.1f} fps", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 255, 255), 2, cv2.LINE_AA)
    cv2.imshow(WINDOW, frame)
    return cv2.waitKey(1) & 0xFF in (ord("q"), 27)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("source", help="a video file, or camera:0 for the first camera")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a video, .mp4 or .avi (default: a window)")
    parser.add_argument("--score", type=float, default=0.5, metavar="S", help="least score drawn (default: .5)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="detect in every Nth frame (default: 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="(default: all cores)")
    args = parser.parse_args()
    if args.every < 1 or args.threads < 1:
        parser.error("--every and --threads are 1 or more")
    if args.out is not None and args.out.exists() and Path(args.source).exists() and args.out.samefile(args.source):
        parser.error(f"--out {args.out} is the video itself; give another name")
    run(args)


if __name__ == "__main__":
    main()
