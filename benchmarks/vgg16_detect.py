"""A whole detector, faster_rcnn_vgg16 at 600 x 800 and 300 proposals: seconds, memory, and where the time goes.

Example:
    python benchmarks/vgg16_detect.py --peer-python peers/bin/python
"""

import json
import sys
import tempfile
from pathlib import Path

import common

PEERS = ("onnx", "torch")
EVERYTHING = "uint8 375 x 500 to detections: resize, networks, proposals, RoI pooling, NMS (`predict_on_batch`)"


def stage_table(found: dict) -> str:
    """Where the time goes: each stage alone, fed by the one before."""
    stages = found["stages"]
    total = sum(common.median(seconds) for seconds in stages.values())
    rows = [[name, common.spread(seconds), f"{common.median(seconds) / total:.1%}"] for name, seconds in stages.items()]
    rows.append(["sum of the stages", f"{total * 1000:.1f}", "100%"])
    rows.append(["whole detector", common.spread(found["detector"]), ""])
    rows.append(["bare networks", common.spread(found["bare"]), ""])
    return common.table(["stage", "ms", "share"], rows)


def peer_table(entries: list[dict]) -> str:
    """Who takes how long for what, started plainly and with large pages."""
    rows = []
    for entry in entries:
        plain, large = entry["plain"], entry.get("large")
        rows.append(
            [
                entry["who"],
                entry["what"],
                common.spread(plain["seconds"], "s"),
                common.spread(large["seconds"], "s") if large else "-",
                f"{plain['peak']:.2f}" if "peak" in plain else "-",
            ]
        )
    header = ["who", "from what to what", "s", "s, large pages", "peak memory, GiB"]
    return common.table(header, rows)


def measure(python: str, script: str, *args: str) -> tuple[dict, dict | None]:
    """One child as it comes and one with large pages."""
    plain = common.run_child(python, script, *args)
    if "error" in plain:
        return plain, None
    large = common.run_child(python, script, *args, large_pages=True)
    return plain, None if "error" in large else large


def main() -> None:
    parser = common.arguments(__doc__)
    args = parser.parse_args()
    common.pin(args.cores)
    repeats = args.repeats or 9
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--inputs", str(Path(folder) / "inputs.npz"), "--repeats", str(repeats)]
        stages = common.run_child(sys.executable, "vgg16_ours.py", "stages", *shared)
        if "error" in stages:
            sys.exit("the detector could not be timed")
        scales = ["--scales", json.dumps(stages["scales"])]
        plain, large = measure(sys.executable, "vgg16_ours.py", "detector", *shared, *scales)
        if "error" in plain:
            sys.exit("the detector could not be timed")
        entries = [{"who": "zoo", "what": EVERYTHING, "plain": plain, "large": large}]
        bare = "prepared image to backbone, RPN convolutions; 300 pooled RoIs to fully connected layers; nothing else"
        entries.append({"who": "zoo, bare", "what": bare, "plain": {"seconds": stages["bare"]}})
        for name in PEERS if args.peer_python else ():
            plain_peer, large_peer = measure(args.peer_python, f"peers/vgg16_{name}.py", *shared)
            if "error" in plain_peer:
                print(f"left out: {name}: {plain_peer['error']}")
                continue
            entries.append(
                {**{key: plain_peer[key] for key in ("who", "what")}, "plain": plain_peer, "large": large_peer}
            )
    ratios = [whole / bare for whole, bare in zip(stages["detector"], stages["bare"], strict=True)]
    text = [
        f"**Detector / bare networks: {common.median(ratios):.3f}** (median of {len(ratios)} pairs, "
        f"{min(ratios):.3f} to {max(ratios):.3f}; the aim is below 1.1).",
        f"{stages['proposals']} proposals and {stages['detections']} detections of 20 classes; prepared image "
        f"{stages['prepared'][0]} x {stages['prepared'][1]}, batch 1, float32. Peak memory of the process: "
        f"{plain['built']:.2f} GiB once the model is built, {plain['peak']:.2f} GiB after detecting.",
        stage_table(stages),
        "Side by side; peers run random weights of the same shapes, and none of them does more than is said:",
        peer_table(entries),
    ]
    common.publish("vgg16_detect", "\n\n".join(text), args.write)


if __name__ == "__main__":
    main()
