"""Networks whose modules are called as torchvision's are, written from its documented structure; random weights."""

from __future__ import annotations

import torch
from torch import nn

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
VGG = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


class Block(nn.Module):
    """A basic block or, with ``expansion`` 4, a bottleneck of version 1.5: the stride is in its 3x3."""

    def __init__(self, before: int, width: int, stride: int, expansion: int):
        super().__init__()
        out = width * expansion
        sizes = [(before, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        if expansion == 1:
            sizes = [(before, width, 3, stride), (width, out, 3, 1)]
        for i, (a, b, size, step) in enumerate(sizes, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        self.count = len(sizes)
        self.downsample = None
        if stride > 1 or before != out:
            self.downsample = nn.Sequential(nn.Conv2d(before, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        expansion = 1 if name in ("resnet18", "resnet34") else 4
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        before = 64
        for stage, count in enumerate(BLOCKS[name], start=1):
            width = 64 * 2 ** (stage - 1)
            layer = nn.Sequential()
            for i in range(count):
                layer.append(Block(before, width, 2 if i == 0 and stage > 1 else 1, expansion))
                before = width * expansion
            self.add_module(f"layer{stage}", layer)
        self.fc = nn.Linear(before, 1000)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Plain(nn.Module):
    """AlexNet and VGG: ``features``, an average pool that does nothing at 224 pixels, ``classifier``."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def build(name: str) -> nn.Module:
    """A network of that name, ready for inference."""
    if name in BLOCKS:
        return ResNet(name).eval()
    if name == "alexnet":
        features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
            nn.Linear(4096, 1000),
        )
        return Plain(features, classifier).eval()
    features, before = nn.Sequential(), 3
    for block, count in enumerate(VGG[name]):
        width = min(64 * 2**block, 512)
        for _ in range(count):
            features.append(nn.Conv2d(before, width, 3, padding=1)).append(nn.ReLU())
            before = width
        features.append(nn.MaxPool2d(2, 2))
    classifier = nn.Sequential(
        *(nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
        nn.Linear(4096, 1000),
    )
    return Plain(features, classifier).eval()


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Vectors away from zero and one, so that a forgotten or exchanged one is seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, t in network.state_dict().items():
        if t.ndim == 1:
            around = 1.0 if "var" in name or ("weight" in name) else 0.0
            t.copy_(around + 0.2 * torch.randn(t.shape, generator=generator).clamp(-2, 2))
    return network
