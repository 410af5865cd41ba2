"""A file of 137 million numbers, as ChainerCV's Faster R-CNN: seconds and memory to convert and load it.

The numbers are random, the names and shapes those of the published file, and it is packed as Chainer packs it. Each
figure is of a fresh process that has TensorFlow loaded already; the file is in the system's cache.

Example:
    python benchmarks/weights_io.py --write
"""

import math
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import common

SCRIPT = "weights_io.py"
# The limits that the project has set itself.
FIRST, CACHED, MEMORY = 10.0, 3.0, 2.2
FILE = "weights.npz"


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of ChainerCV's ``faster_rcnn_vgg16`` with 20 classes."""
    found, before = {}, 3
    for block, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
        for i in range(1, count + 1):
            found[f"extractor/conv{block}_{i}/conv/W"] = (width, before, 3, 3)
            before = width
    found |= {"rpn/conv1/W": (512, 512, 3, 3), "rpn/score/W": (18, 512, 1, 1), "rpn/loc/W": (36, 512, 1, 1)}
    found |= {"head/fc6/W": (4096, 25088), "head/fc7/W": (4096, 4096)}
    found |= {"head/cls_loc/W": (84, 4096), "head/score/W": (21, 4096)}
    return {name: shape for w, s in found.items() for name, shape in ((w, s), (f"{w[:-1]}b", s[:1]))}


def make_file(path: Path) -> None:
    """The file; kernels are Gaussian, which packs as little as trained ones do."""
    import numpy as np
    from numpy.lib import format as npy

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, shape in shapes().items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, rng.standard_normal(shape, np.float32) * np.float32(0.01))


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM``, the most since it was last reset, of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def child() -> None:
    """Load once: ``path``, the file itself; ``entry``, through the cache in ``ZOO_HOME``."""
    parser = common.child_arguments("one process")
    parser.add_argument("way", choices=("path", "entry"))
    parser.add_argument("--file", type=Path, required=True)
    args = parser.parse_args()
    import keras

    import zoo
    from zoo.building import build
    from zoo.files import sha256_of
    from zoo.weights_entry import WeightsEntry
    from zoo.weights_source import Source, fetched

    info = zoo.info("faster_rcnn_vgg16")
    published = info.entry("voc07")
    keras.Variable(1.0)  # what TensorFlow does once
    digest = sha256_of(args.file)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    start = time.perf_counter()
    if args.way == "path":
        model = zoo.get("faster_rcnn_vgg16", weights=args.file)
    else:
        # The published entry, but for its address and hash: the file lies in the cache, put there by hand.
        entry = WeightsEntry(
            name="voc07",
            file=FILE,
            sha256=digest,
            url=f"http://localhost/{FILE}",
            classes=published.classes,
            options=published.options,
            layout=published.layout,
        )
        source = Source(fetched(info, entry), "'voc07'", info, entry.classes, entry.options)
        model = build(info, None, {}, source)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM") - before
    common.report(args.report, seconds=seconds, peak=peak, before=before, parameters=model.count_params())


def main() -> None:
    parser = common.arguments(__doc__)
    args = parser.parse_args()
    common.pin(args.cores)
    repeats = args.repeats or 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        make_file(path)
        numbers = 4 * sum(math.prod(shape) for shape in shapes().values())
        packed = path.stat().st_size
        os.environ["ZOO_HOME"] = folder
        ways = {"first": "entry", "cached": "entry", "path": "path"}
        found = {way: [] for way in ways}
        for _ in range(repeats):
            for left in (*Path(folder).glob("converted/*"), path.with_name(f"{FILE}.checked")):
                if left.is_file():
                    left.unlink()
            for way, kind in ways.items():
                one = common.run_child(sys.executable, SCRIPT, kind, "--file", str(path))
                if "error" in one:
                    sys.exit(f"{way}: {one['error']}")
                found[way].append(one)
    titles = {
        "first": f'`zoo.get(..., "voc07")`, first time: hash, convert into the cache, load (aim {FIRST:.0f} s)',
        "cached": f"the same again: from the converted cache (aim {CACHED:.0f} s)",
        "path": "`zoo.get(..., weights=PATH)`: straight from the published file",
    }
    rows = []
    for way, title in titles.items():
        seconds = [one["seconds"] for one in found[way]]
        peak = max(one["peak"] for one in found[way])
        rows.append([title, common.spread(seconds, "s"), f"{peak / 2**20:.0f}", f"{peak / numbers:.2f}"])
    base = max(one["before"] for way in found.values() for one in way) / 2**20
    text = [
        f"{found['first'][0]['parameters']:,} parameters, {numbers / 1e6:.0f} MB of numbers, {packed / 1e6:.0f} MB as "
        f"packed. Memory is what the process grows by at most, over the {base:.0f} MiB that TensorFlow and the package "
        f"take before; the aim is {MEMORY} times the numbers.",
        common.table(["what", "s", "memory, MiB", "memory / numbers"], rows),
    ]
    common.publish("weights_io", "\n\n".join(text), args.write)


if __name__ == "__main__":
    if "--report" in sys.argv:
        child()
    else:
        main()
