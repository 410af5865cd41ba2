"""How long the metrics take and how much memory, on made-up detections as many as the real data sets give.

    python benchmarks/metrics.py --write

Each row is a process of its own. pycocotools, which COCO's figures are compared with, comes with the extra ``test``.
"""

import contextlib
import io
import sys
from dataclasses import replace
from pathlib import Path

import common
import numpy as np

# Pictures, classes, objects a picture, detections a picture: about VOC2007 test and COCO val2017.
SIZES = {"voc": (5000, 20, 3, 20), "coco": (5000, 80, 7, 100)}
# Name -> which of the sizes, and what is measured.
ROWS = {
    "voc": ("voc", "`evaluate_voc`, 11 points"),
    "voc_area": ("voc", "`evaluate_voc`, area"),
    "coco_small": ("voc", "`evaluate_coco`"),
    "pycocotools_small": ("voc", "pycocotools"),
    "errors": ("voc", "`find_errors`, scores from 0"),
    "coco": ("coco", "`evaluate_coco`"),
    "pycocotools": ("coco", "pycocotools"),
    "recall": ("coco", "`average_recall`, 100 proposals a picture"),
}
SECONDS, GIB = 10, 1


def problem(size: str, seed: int = 0):
    """Samples, and detections of them: half near an object and mostly of its class, half anywhere."""
    from zoo.datasets.records import Sample

    rng = np.random.default_rng(seed)
    pictures, classes, objects, detections = SIZES[size]

    def boxes(count):
        corner, sides = rng.uniform(0, 400, (count, 2)), np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
        return np.concatenate([corner, corner + sides], axis=1)

    samples, found = [], []
    for number in range(pictures):
        truth, labels = boxes(objects), rng.integers(0, classes, objects)
        hard, crowd = rng.random((2, objects)) < [[0.1], [0.01]]
        samples.append(Sample(str(number + 1), None, (700, 700), truth, labels, hard & (size == "voc"), crowd))
        near = rng.integers(0, objects, detections // 2)
        sides = np.tile(truth[near, 2:] - truth[near, :2], 2)
        moved = truth[near] + rng.normal(0, 0.1, sides.shape) * sides
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guesses = np.where(rng.random(len(near)) < 0.8, labels[near], rng.integers(0, classes, len(near)))
        rest = detections - len(near)
        all_boxes = np.concatenate([moved, boxes(rest)]).astype(np.float32)
        all_scores = np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1, 4, rest)]).astype(np.float32)
        found.append((all_boxes, all_scores, np.concatenate([guesses, rng.integers(0, classes, rest)])))
    return found, samples, [f"class {number}" for number in range(classes)]


def pycocotools_call(found, samples, names):
    """Its evaluation, on its own structures: building these is not timed."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, rows = [], []
    for sample, (boxes, scores, labels) in zip(samples, found, strict=True):
        image = int(sample.image_id)
        for box, label, crowd in zip(sample.boxes, sample.classes, sample.crowd, strict=True):
            x, y, right, bottom = box.tolist()
            one = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "iscrowd": int(crowd)}
            area = (right - x) * (bottom - y)
            annotations.append({**one, "bbox": [x, y, right - x, bottom - y], "area": area})
        for box, score, label in zip(boxes.astype(float), scores.tolist(), labels, strict=True):
            x, y, right, bottom = box.tolist()
            bbox = [x, y, right - x, bottom - y]
            rows.append({"image_id": image, "category_id": int(label), "bbox": bbox, "score": score})
    truth = COCO()
    images = [{"id": int(sample.image_id)} for sample in samples]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}

    def call():
        judge = COCOeval(truth, results, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return judge.stats.tolist()

    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes(rows)
    return call


def call_of(row: str, found, samples, names):
    """What is timed; it returns the twelve figures, or nothing of interest."""
    from zoo.datasets.coco_metrics import evaluate_coco
    from zoo.datasets.errors import find_errors
    from zoo.datasets.proposal_recall import average_recall
    from zoo.datasets.voc_metrics import evaluate_voc

    if row.startswith("pycocotools"):
        return pycocotools_call(found, samples, names)
    return {
        "voc": lambda: [evaluate_voc(found, samples, names).map],
        "voc_area": lambda: [evaluate_voc(found, samples, names, interpolation="area").map],
        "errors": lambda: find_errors(found, samples, names, score=0.0).counts.sum(axis=0).tolist(),
        "recall": lambda: average_recall([boxes for boxes, _, _ in found], samples).average[:, -1].tolist(),
    }.get(row, lambda: [*evaluate_coco(found, samples, names).figures.values()])


def child() -> None:
    parser = common.child_arguments(__doc__.splitlines()[0])
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--cores", type=int, required=True)
    args = parser.parse_args()
    common.pin(args.cores)
    found, samples, names = problem(ROWS[args.row][0])
    if args.row.startswith(("pycocotools", "coco")):
        # COCO knows no difficult objects: pycocotools would count them.
        samples = [replace(sample, difficult=np.zeros(len(sample))) for sample in samples]
    call = call_of(args.row, found, samples, names)
    before = common.peak_memory()
    figures = []
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = common.timed({"call": lambda: figures.append(call())}, args.repeats, warm_up=0)["call"]
    common.report(args.report, seconds=seconds, figures=figures[0], before=before, peak=common.peak_memory())


def main() -> None:
    args = common.arguments(__doc__.splitlines()[0]).parse_args()
    common.pin(args.cores)
    done, rows = {}, []
    for name, (size, what) in ROWS.items():
        repeats = args.repeats or (1 if name.startswith("pycocotools") else 3)
        got = common.run_child(
            sys.executable, Path(__file__).name, "--row", name, "--cores", str(args.cores), "--repeats", str(repeats)
        )
        if "error" in got:
            print(f"{name}: {got['error']}", file=sys.stderr)
            continue
        done[name] = got
        pictures, classes, _, detections = SIZES[size]
        counts = f"{pictures * detections:,} in {pictures:,} pictures, {classes} classes"
        rows.append([what, counts, common.spread(got["seconds"], "s"), f"{got['before']:.2f}", f"{got['peak']:.2f}"])
    text = common.table(["what", "detections", "s", "memory before, GiB", "peak, GiB"], rows)
    voc = done["voc"]
    met = common.median(voc["seconds"]) < SECONDS and voc["peak"] < GIB
    text = f"The aim for VOC, under {SECONDS} s and {GIB} GiB, is {'met' if met else '**missed**'}.\n\n{text}"
    for ours, theirs in (("coco_small", "pycocotools_small"), ("coco", "pycocotools")):
        if theirs in done:
            apart = np.abs(np.subtract(done[ours]["figures"], done[theirs]["figures"])).max()
            times = common.median(done[theirs]["seconds"]) / common.median(done[ours]["seconds"])
            text += f"\n\n{SIZES[ROWS[ours][0]][3]} detections a picture: {times:.1f} times as fast as "
            text += f"{common.versions('pycocotools')}; the twelve figures differ by at most {apart:.0e}."
    common.publish("metrics", text, args.write)


if __name__ == "__main__":
    child() if "--report" in sys.argv else main()
