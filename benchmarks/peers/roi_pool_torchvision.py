"""torchvision's C++ ``roi_pool``, forwards and backwards. Started by ``benchmarks/roi_pool.py``."""

import os
from pathlib import Path

import common
import numpy as np
import torch
from peers import torchvision_ops

BACKWARD = 128  # as in the parent


def main() -> None:
    args = common.child_arguments(__doc__).parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torchvision_ops.load()
    with np.load(args.inputs) as arrays:
        features, rois, upstream = arrays["features"], arrays["rois"][0], arrays["upstream"][0]
    features = torch.from_numpy(np.ascontiguousarray(features.transpose(0, 3, 1, 2)))
    upstream = torch.from_numpy(np.ascontiguousarray(upstream.transpose(0, 3, 1, 2)))
    rois = torch.from_numpy(np.concatenate([np.zeros((len(rois), 1), "float32"), rois], axis=1))

    def forward():
        with torch.inference_mode():
            return torch.ops.torchvision.roi_pool(features, rois, 1 / 16, 7, 7)[0]

    def backward():
        # By hand: some of its releases register no automatic derivative.
        with torch.inference_mode():
            _, place = torch.ops.torchvision.roi_pool(features, rois[:BACKWARD], 1 / 16, 7, 7)
            given = (upstream, rois[:BACKWARD], place, 1 / 16, 7, 7, *features.shape)
            return torch.ops.torchvision._roi_pool_backward(*given)

    times = common.timed({"forward": forward, "backward": backward}, args.repeats)
    np.savez(
        Path(args.inputs).with_name("torchvision.npz"),
        forward=forward().numpy().transpose(0, 2, 3, 1)[None],
        backward=backward().numpy().transpose(0, 2, 3, 1),
    )
    name = f"`roi_pool` of {common.versions('torchvision', 'torch')}, C++"
    common.report(args.report, name=name, **times)


if __name__ == "__main__":
    main()
