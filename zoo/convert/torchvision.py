"""torchvision's state dictionaries: AlexNet's one-tower variant, VGG without batch normalisation, ResNet v1.5."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.convert.layout import Array, Shapes, same
from zoo.convert.networks import RESNETS, VGGS, Names, Place, kernels, plain_arrays, resnet_arrays, vgg_index

# Where its Sequential of AlexNet's layers has those with weights (torchvision/models/alexnet.py).
_ALEXNET = {
    **{f"conv{i}": f"features.{n}" for i, n in zip(range(1, 6), (0, 3, 6, 8, 10), strict=True)},
    **{f"fc{i}": f"classifier.{n}" for i, n in zip(range(6, 9), (1, 4, 6), strict=True)},
}
_VGG_TOP = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
_BLOCKS = {"conv1": 0, "conv2": 1, "conv3": 2, "conv4": 3, "conv5": 4}


class TorchAlexNet:
    """``features.0.weight`` ... ``classifier.6.bias`` with five convolutions: the variant of Krizhevsky 2014."""

    name = "torchvision"
    about = "torchvision's AlexNet"

    def recognises(self, found: Shapes) -> bool:
        """By the shape of the first convolution: 11 x 11."""
        return tuple(found.get("features.0.weight", ()))[2:] == (11, 11)

    def model(self, found: Shapes) -> str | None:
        """Always the one-tower variant: the two towers of 2012 are called ``alexnet`` here."""
        return "alexnet_one_tower"

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """torchvision's mean and deviation."""
        return {"inputs": "torch"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); fc6 sees C, H, W."""
        return plain_arrays(wanted, lambda layer: _names(_ALEXNET[layer]))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


class TorchVGG:
    """``features.0.weight`` ... ``classifier.6.bias`` with 8, 10, 13 or 16 convolutions of 3 x 3."""

    name = "torchvision"
    about = "torchvision's VGG without batch normalisation"

    def recognises(self, found: Shapes) -> bool:
        """By the first convolution, and no normalisation behind it."""
        return tuple(found.get("features.0.weight", ())) == (64, 3, 3, 3) and "features.1.weight" not in found

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return VGGS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """torchvision's mean and deviation."""
        return {"inputs": "torch"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Each convolution takes two places of the Sequential, with its ReLU; each pool before it one."""
        places = {layer: 2 * n + _BLOCKS[layer[:5]] for layer, n in vgg_index(wanted).items()}
        files = {layer: f"features.{place}" for layer, place in places.items()} | _VGG_TOP
        return plain_arrays(wanted, lambda layer: _names(files[layer]))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


class TorchResNet:
    """``conv1.weight``, ``layer1.0.conv1.weight`` ... ``fc.bias``: v1.5, the stride of a stage in its 3x3."""

    name = "torchvision"
    about = "torchvision's ResNet"

    def recognises(self, found: Shapes) -> bool:
        """By the first block's arrays."""
        return {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.weight"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return RESNETS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Its own epsilon, padding and place of the stride."""
        return {"inputs": "torch", "epsilon": 1e-5, "pool": "padded", "stride_in": "3x3"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """No convolution has a bias."""
        return resnet_arrays(wanted, found, _conv_names, _norm, ("fc.weight", "fc.bias"))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """The counters of the normalisations."""
        counters = [name for name in found if name.endswith(".num_batches_tracked")]
        return dict.fromkeys(counters, "a count of batches, used in training only")


def _names(module: str) -> Names:
    return f"{module}.weight", f"{module}.bias"


def _conv_names(place: Place) -> Names:
    if place.stage == 1:
        return _names("conv1")
    block = f"layer{place.stage - 1}.{place.block - 1}"
    return _names(f"{block}.conv{place.index}" if place.index else f"{block}.downsample.0")


def _norm(place: Place) -> Mapping[str, Array]:
    block = "" if place.stage == 1 else f"layer{place.stage - 1}.{place.block - 1}."
    module = f"{block}bn{place.index}" if place.index else f"{block}downsample.1"
    roles = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return {ours: same(f"{module}.{theirs}") for ours, theirs in roles.items()}
