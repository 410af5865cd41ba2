"""How many pictures a second the pipeline delivers, how much of them is padding, and whether memory grows.

    ZOO_SHARED_DATA=data python benchmarks/pipeline.py --write

`ZOO_SHARED_DATA` is a folder that holds BCCD in VOC layout as bccd/ and the first 128 pictures of COCO as coco128/.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import common

SETS = {"BCCD": "bccd", "coco128": "coco128"}
SHORT, LONG, BATCH = 600, 1000, 2
AIM = 0.9
EPOCHS = 20
CROPS = {"crop": 0.3, "expand": 4.0, "colour_jitter": 0.2}
# Name -> what it does; each is asked for as many pictures.
WAYS = {
    "ours": "`Batches(short=600)`: shuffled, flipped, boxes, batches of 2 padded alike",
    "cached": "the same, decoded pictures in memory",
    "crops": "the same as the first, with crops, zooming out up to 4 and colours",
    "loop": "plain OpenCV loop: `imread`, `resize`, RGB; no boxes, no batches",
    "tf": "`tf.data`: `decode_jpeg`, `resize`, uint8; no boxes, no batches: **the ceiling**",
    "tf_accurate": "the same with the decoder's exact transform, which ours and OpenCV's use",
}


def load(name: str):
    from zoo.datasets import load

    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared:
        raise SystemExit(__doc__)
    return load(str(Path(shared) / SETS[name]))


def ours(data, **options) -> Iterator[int]:
    """How many pictures each batch holds, as `fit` takes them from TensorFlow, without end."""
    from zoo.datasets.pipeline import Batches

    batches = Batches(data, BATCH, short=SHORT, long=LONG, **options)
    for x, _ in batches.dataset():
        yield len(x["images"])


def opencv_loop(paths: list[str], sizes: list[tuple[int, int]]) -> Iterator[int]:
    import cv2

    while True:
        for path, (height, width) in zip(paths, sizes, strict=True):
            image = cv2.resize(cv2.imread(path), (width, height), interpolation=cv2.INTER_LINEAR)
            yield len([cv2.cvtColor(image, cv2.COLOR_BGR2RGB)])


def tf_alone(paths: list[str], sizes: list[tuple[int, int]], method: str) -> Iterator[int]:
    import tensorflow as tf

    def read(path, size):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method=method)
        return tf.cast(tf.round(tf.image.resize(image, size)), tf.uint8)

    data = tf.data.Dataset.from_tensor_slices((paths, sizes)).repeat().map(read, tf.data.AUTOTUNE)
    for _ in data.prefetch(tf.data.AUTOTUNE):
        yield 1


def taker(pictures: Iterator[int], count: int) -> Callable[[], None]:
    """A function that takes ``count`` pictures."""

    def take() -> None:
        done = 0
        while done < count:
            done += next(pictures)

    return take


def speed(name: str, repeats: int) -> tuple[list[list[str]], float, float]:
    """Rows of the table; how fast ours is by the ceiling, and by the plain loop."""
    from zoo.datasets.prepare import prepared_size

    data = load(name)
    paths = [str(sample.path) for sample in data.samples]
    sizes = [prepared_size(*sample.size, SHORT, LONG) for sample in data.samples]
    ways = {
        "ours": ours(data),
        "cached": ours(data, cache=True),
        "crops": ours(data, **CROPS),
        "loop": opencv_loop(paths, sizes),
        "tf": tf_alone(paths, sizes, ""),
        "tf_accurate": tf_alone(paths, sizes, "INTEGER_ACCURATE"),
    }
    # Whole epochs: pictures differ in size. The first turns fill the cache and let TensorFlow tune itself.
    count = -(-800 // len(data)) * len(data)
    times = common.timed({way: taker(pictures, count) for way, pictures in ways.items()}, repeats, warm_up=1)
    rates = {way: count / common.median(seconds) for way, seconds in times.items()}
    rows = [
        [name, WAYS[way], f"{rate:.0f} ({count / min(times[way]):.0f})", f"{rate / rates['tf']:.2f}"]
        for way, rate in rates.items()
    ]
    # Turn by turn: what slows one down for a while slows the other down as well.
    ceiling, loop = (
        common.median([theirs / mine for mine, theirs in zip(times["ours"], times[other], strict=True)])
        for other in ("tf", "loop")
    )
    return rows, ceiling, loop


def padding(name: str) -> list[list[str]]:
    """Rows: how much of the batches' pixels is padding, on average over the epochs."""
    import numpy as np

    from zoo.datasets.pipeline import Batches
    from zoo.datasets.prepare import prepared_size

    data = load(name)
    sizes = np.array([prepared_size(*size, SHORT, LONG) for size in data.sizes().tolist()])
    rows = []
    for batch in (2, 4, 8):
        shares = []
        for bucket in (False, True):
            batches = Batches(data, batch, bucket=bucket)
            plans = [indices for epoch in range(EPOCHS) for indices in batches.plan(epoch)]
            real = sum(sizes[indices].prod(axis=1).sum() for indices in plans)
            full = sum(len(indices) * sizes[indices].max(axis=0).prod() for indices in plans)
            shares.append(f"{1 - real / full:.1%}")
        rows.append([name, batch, *shares])
    return rows


def held() -> float:
    """Memory that this process holds now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_child(path: str, name: str) -> None:
    """In a process of its own: what is held after each of the epochs, every option on."""
    data = load(name)
    pictures = ours(data, rotate90=True, vertical_flip=True, scale_jitter=(0.8, 1.25), **CROPS)
    sizes = []
    for _ in range(EPOCHS):
        taker(pictures, len(data))()
        sizes.append(held())
    common.report(path, sizes=sizes)


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--report", help="for the measurement of memory, which is a process of its own")
    parser.add_argument("--set", choices=SETS, help="the same")
    args = parser.parse_args()
    common.pin(args.cores)
    if args.report:
        memory_child(args.report, args.set)
        return
    speeds, paddings, memories, verdicts = [], [], [], []
    for name in SETS:
        rows, ceiling, loop = speed(name, args.repeats or 5)
        speeds += rows
        paddings += padding(name)
        child = common.run_child(sys.executable, Path(__file__).name, "--set", name, "--cores", str(args.cores))
        memories.append([name, *(f"{child['sizes'][epoch - 1]:.0f}" for epoch in (1, 2, 5, 10, EPOCHS))])
        verdicts.append(
            f"- {name}: **{ceiling:.2f} of the ceiling** (median over the turns; the aim is at least {AIM}), "
            f"{loop:.2f} of the plain loop."
        )
    text = "\n".join(
        [
            *verdicts,
            f"\nShort side {SHORT}, long side at most {LONG}; pictures a second, and in the fastest turn.\n",
            common.table(["pictures", "way", "a second", "by the ceiling"], speeds),
            f"\nShare of the pixels that is padding, mean of {EPOCHS} epochs:\n",
            common.table(["pictures", "in a batch", "without buckets", "wide and tall apart"], paddings),
            "\nMemory of the process in MiB after so many epochs of what `fit` reads, every augmentation on:\n",
            common.table(["pictures", "1", "2", "5", "10", str(EPOCHS)], memories),
        ]
    )
    common.publish("pipeline", text, args.write)


if __name__ == "__main__":
    main()
