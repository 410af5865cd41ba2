"""How long `zoo doctor` takes on 20,000 annotations: a VOC folder several times over, every picture another file.

    ZOO_SHARED_DATA=data python benchmarks/doctor.py --write

`ZOO_SHARED_DATA` is a folder that holds BCCD in VOC layout as bccd/.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import common
import numpy as np

BOXES = 20_000


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    shared = os.environ.get("ZOO_SHARED_DATA")
    parser.add_argument("--data", default=shared and f"{shared}/bccd", help="a VOC folder (bccd of ZOO_SHARED_DATA)")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set ZOO_SHARED_DATA to the folder that holds bccd/")
    common.pin(args.cores)
    from zoo.datasets import load
    from zoo.datasets.doctor import examine

    source = Path(args.data)
    boxes = sum(len(sample) for sample in load(source).samples)
    copies = -(-BOXES // boxes)
    with tempfile.TemporaryDirectory() as folder:
        root = copied(source, Path(folder) / "data", copies)
        start = time.perf_counter()
        found = examine(root)
        seconds = time.perf_counter() - start
    objects = sum(each.objects for each in found.classes)
    common.publish(
        "doctor",
        f"{found.pictures:,} pictures, {objects:,} annotations: **{seconds:.1f} s** (aim: a minute).",
        args.write,
    )


def copied(source: Path, target: Path, copies: int) -> Path:
    """The data set several times over, every picture another file: rows of it are exchanged."""
    import cv2

    for part in ("Annotations", "JPEGImages"):
        (target / part).mkdir(parents=True)
    for xml in sorted((source / "Annotations").glob("*.xml")):
        image = cv2.imread(str(source / "JPEGImages" / f"{xml.stem}.jpg"))
        for number in range(copies):
            shutil.copy(xml, target / "Annotations" / f"{number}-{xml.stem}.xml")
            text = (target / "Annotations" / f"{number}-{xml.stem}.xml").read_text()
            name = f"{number}-{xml.stem}.jpg"
            (target / "Annotations" / f"{number}-{xml.stem}.xml").write_text(text.replace(f"{xml.stem}.jpg", name))
            cv2.imwrite(str(target / "JPEGImages" / name), np.roll(image, 90 * number, axis=0))
    return target


if __name__ == "__main__":
    main()
