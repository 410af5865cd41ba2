"""PyTorch, channels last, on the networks of a VGG-16 Faster R-CNN. Started by ``benchmarks/vgg16_detect.py``.

With torchvision's compiled RoI pooling if it loads, otherwise without any.
"""

import os

import common
import numpy as np
import torch
from peers import torchvision_ops
from torch import nn

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Networks(nn.Module):
    """Backbone, RPN convolutions and the two fully connected layers, with random weights."""

    def __init__(self, pooling: bool):
        super().__init__()
        layers, channels = [], 3
        for i, block in enumerate(BLOCKS):
            if i:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            for filters in block:
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
                channels = filters
        self.backbone = nn.Sequential(*layers)
        self.rpn = nn.Sequential(nn.Conv2d(512, 512, 3, padding=1), nn.ReLU(inplace=True))
        self.rpn_logits, self.rpn_deltas = nn.Conv2d(512, 18, 1), nn.Conv2d(512, 36, 1)
        self.body = nn.Sequential(nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU())
        self.logits, self.deltas = nn.Linear(4096, 21), nn.Linear(4096, 84)
        self.pooling = pooling

    def forward(self, image: torch.Tensor, rois: torch.Tensor, pooled: torch.Tensor):
        """The RPN's outputs and the head's."""
        features = self.backbone(image)
        hidden = self.rpn(features)
        if self.pooling:
            pooled = torch.ops.torchvision.roi_pool(features, rois, 1 / 16, 7, 7)[0]
        vectors = self.body(pooled.flatten(1))
        return self.rpn_logits(hidden), self.rpn_deltas(hidden), self.logits(vectors), self.deltas(vectors)


def main() -> None:
    args = common.child_arguments(__doc__).parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    try:
        torchvision_ops.load()
        pooling = f"`roi_pool` of {common.versions('torchvision')}"
    except OSError:
        pooling = ""
    with np.load(args.inputs) as arrays:
        image, rois = arrays["prepared"], arrays["rois"]
    image = torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
    rois = torch.from_numpy(np.concatenate([np.zeros((len(rois), 1), "float32"), rois], axis=1))
    pooled = torch.rand(len(rois), 512, 7, 7)
    model = Networks(bool(pooling)).eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        times = common.timed({"seconds": lambda: model(image, rois, pooled)}, args.repeats)
    middle = f"{pooling} of our 300 proposals" if pooling else "**no RoI pooling** (300 stored RoIs instead)"
    common.report(
        args.report,
        who=f"{common.versions('torch')}, channels last",
        what=f"prepared image to backbone, RPN convolutions, {middle}, fully connected layers; no resize, no proposals "
        "of its own, no NMS",
        **times,
    )


if __name__ == "__main__":
    main()
