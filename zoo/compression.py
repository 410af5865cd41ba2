"""Truncated SVD of a trained detector's dense layers (Girshick 2015, section 3.1)."""

from __future__ import annotations

import bisect
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import keras
import numpy as np

from zoo.convert.layout import ArrayFile
from zoo.filling import build_filled
from zoo.heads.box_head import BoxHead
from zoo.heads.low_rank import LowRankDense, dense_layers, with_ranks
from zoo.pieces import pieces
from zoo.weights_io import WeightsMeta, weight_names

Storage = Literal["float32", "float16"]
_WEIGHT_BYTES = 4096  # at most, of a weights file: the name and place of an array, and the edges of packed pieces


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The singular value decomposition of a kernel, as far as truncating needs it: ``kernel = left * values @ right``.

    Girshick's W is the transposed kernel, outputs by inputs: his U is ``right`` transposed.

    Attributes:
        kernel: (u, v) float32.
        values: (r,) singular values, falling; r is the lesser of u and v.
        right: (r, v), orthonormal rows.
    """

    kernel: np.ndarray
    values: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, kernel: np.ndarray) -> Decomposition:
        """Decompose a matrix (u, v).

        By the eigenvectors of ``kernel.T @ kernel`` in double precision: exact to what 32 bits hold, and for fc6 of a
        VGG-16 many times quicker than a general decomposition of all its 25088 rows.
        """
        kernel = np.asarray(kernel, np.float32)
        square = np.zeros((kernel.shape[1],) * 2)
        for _, rows in pieces(kernel):
            rows = rows.astype(np.float64)
            square += rows.T @ rows
        values, vectors = np.linalg.eigh(square)
        count = min(kernel.shape)
        values = np.sqrt(np.maximum(values[::-1][:count], 0.0))
        return cls(kernel, values, vectors[:, ::-1][:, :count].T.astype(np.float32))

    def kernels(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Thin kernels, (u, t) and (t, v), whose product is the nearest matrix of rank t (Eckart and Young 1936)."""
        return self.kernel @ self.right[:rank].T, self.right[:rank]

    def lost(self) -> np.ndarray:
        """Shares of the squared singular values that ranks 1 to r leave out: squared relative errors, (r,)."""
        # Summed from the small end: next to 1 their differences would be lost to rounding.
        tails = np.cumsum(np.square(self.values[::-1], dtype=np.float64))[::-1]
        return np.append(tails[1:], 0.0) / (tails[0] or 1.0)

    def rank_for(self, lost: float) -> int:
        """The least rank that leaves out no more than this share."""
        return 1 + int(np.argmax(self.lost() <= lost))


def compress(
    model: keras.Model,
    ranks: Mapping[str, int] | None = None,
    *,
    energy: float | None = None,
    megabytes: float | None = None,
    layers: Sequence[str] | None = None,
    storage: Storage = "float32",
) -> keras.Model:
    """A detector whose dense layers are products of two thin ones, from one that is trained.

    Kernels are replaced by their nearest ones of the rank asked for; all else is as it was. What comes out is a model
    like any other: it detects, is trained further, saved, loaded and exported. The one given stays as it is.

    Args:
        model: a detector with a box head, such as a Faster R-CNN.
        ranks: rank by layer name. Give one of ``ranks``, ``energy`` and ``megabytes``.
        energy: each layer gets the least rank that keeps this share of its squared singular values, in (0, 1].
        megabytes: the greatest common share whose weights file has at most so many million bytes.
        layers: which layers for ``energy`` and ``megabytes``; by default all dense ones of the head's body, such as
            fc6 and fc7. One that would get no smaller stays whole.
        storage: numbers of the weights file that ``megabytes`` means.

    Raises:
        ValueError: no detector, an unknown layer, a rank that cannot be, a size that cannot be had.

    Example:
        >>> model = zoo.load("runs/voc")                                  # doctest: +SKIP
        >>> small = zoo.compress(model, {"fc6": 1024, "fc7": 256})        # doctest: +SKIP
        >>> small = zoo.compress(model, megabytes=25, storage="float16")  # doctest: +SKIP
    """
    _check_one(ranks, energy, megabytes)
    dense = head_layers(model)
    if ranks is None:
        names = tuple(dense if layers is None else layers)
    elif layers is not None:
        raise ValueError("layers= goes with energy= or megabytes=; ranks names its layers itself")
    else:
        names = tuple(ranks)
        if not names:
            raise ValueError(f"ranks is empty; name at least one layer of {', '.join(dense)}")
    _check_names(model, names, dense)
    if ranks is not None:
        for name, rank in ranks.items():
            _check_rank(name, rank, dense[name])
    parts = {name: Decomposition.of(kernel_of(dense[name])) for name in names}
    if energy is not None:
        # 1 - .9 is a little less than .1.
        chosen = _ranks_for(parts, (1 - energy) * (1 + 1e-9), dense)
    elif megabytes is not None:
        chosen = _ranks_for_size(model, parts, megabytes, storage, dense)
    else:
        chosen = {name: int(rank) for name, rank in ranks.items()}
    if not chosen:
        raise ValueError(f"energy={energy}: {', '.join(names)} would get no smaller; ask for less")
    return _rebuilt(model, chosen, parts)


def head_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The dense layers between RoI pooling and the last ones by name, in order; ``ValueError`` if there are none."""
    head = getattr(model, "head", None)
    if not isinstance(head, BoxHead):
        raise ValueError(f"{model.name} has no box head; only detectors that have one can be compressed")
    found = dense_layers(head.body)
    if not found:
        raise ValueError(f"the head of {model.name} has no dense layers such as fc6; there is nothing to compress")
    return found


def kernel_of(layer: keras.layers.Layer) -> np.ndarray:
    """The kernel (u, v) of a dense layer, multiplied out if it is of low rank."""
    if isinstance(layer, LowRankDense):
        return _array(layer.first) @ _array(layer.second)
    return _array(layer.kernel)


def stored_bytes(model: keras.Model, storage: Storage = "float32", ranks: Mapping[str, int] | None = None) -> int:
    """Upper bound of the size of the model's weights file, were its layers of these ranks."""
    sizes = [_array_bytes(v.shape, storage) for v in model.weights]
    dense = head_layers(model) if ranks else {}
    for name, rank in (ranks or {}).items():
        layer = dense[name]
        sizes += [-_array_bytes(v.shape, storage) for v in layer.weights if v is not layer.bias]
        sizes += [_array_bytes((side, rank), storage) for side in _sides(layer)]
    return sum(sizes) + _WEIGHT_BYTES


def _array_bytes(shape: Sequence[int], storage: Storage) -> int:
    """Vectors stay in 32 bits; packing may add a little to numbers that it cannot make smaller."""
    count = math.prod(shape)
    return math.ceil(count * 2 * 1.01 if storage == "float16" and len(shape) > 1 else count * 4) + _WEIGHT_BYTES


def _ranks_for(
    parts: Mapping[str, Decomposition], lost: float, dense: Mapping[str, keras.layers.Layer]
) -> dict[str, int]:
    """The least ranks that leave out no more than this share, of the layers that get smaller."""
    ranks = {name: part.rank_for(lost) for name, part in parts.items()}
    return {name: rank for name, rank in ranks.items() if _numbers(dense[name], rank) < _numbers(dense[name])}


def _ranks_for_size(
    model: keras.Model,
    parts: Mapping[str, Decomposition],
    megabytes: float,
    storage: Storage,
    dense: Mapping[str, keras.layers.Layer],
) -> dict[str, int]:
    """The ranks of the greatest common energy at which the file is small enough."""
    limit = megabytes * 1e6

    def size(lost: float) -> int:
        return stored_bytes(model, storage, _ranks_for(parts, lost, dense))

    whole = stored_bytes(model, storage)
    if whole <= limit:
        raise ValueError(
            f"the weights of {model.name} take {whole / 1e6:.1f} MB in {storage} as they are, "
            f"no more than the {megabytes:g} MB asked for; there is nothing to do"
        )
    choices = np.unique(np.concatenate([part.lost() for part in parts.values()]))
    if size(choices[-1]) > limit:
        half = " or storage='float16' (--half)" if storage == "float32" else ""
        raise ValueError(
            f"megabytes={megabytes:g}: even at rank 1 of {', '.join(parts)} the weights of {model.name} take "
            f"{size(choices[-1]) / 1e6:.2f} MB in {storage}; ask for more{half}"
        )
    least = bisect.bisect_left(choices, -limit, key=lambda lost: -size(lost))
    return _ranks_for(parts, float(choices[least]), dense)


def _rebuilt(model: keras.Model, ranks: Mapping[str, int], parts: Mapping[str, Decomposition]) -> keras.Model:
    """The model with these ranks, its other weights the same."""
    body = with_ranks(model.head.body, ranks)
    merged = {name: layer.rank for name, layer in dense_layers(body).items() if isinstance(layer, LowRankDense)}
    old, dense = weight_names(model), head_layers(model)
    new: dict[str, np.ndarray] = {}
    for name, rank in ranks.items():
        bias = dense[name].bias
        kernel = next(path for path, v in old.items() if v is not bias and any(v is w for w in dense[name].weights))
        folder = kernel.rpartition("/")[0]
        new[f"{folder}/first"], new[f"{folder}/second"] = parts[name].kernels(rank)

    def choose(shapes: Mapping[str, tuple[int, ...]]) -> ArrayFile:
        return ArrayFile(model.name, shapes, lambda path: new[path] if path in new else _array(old[path]))

    config = {**model.get_config(), "body": keras.saving.serialize_keras_object(body)}
    made = build_filled(lambda: type(model).from_config(config), choose, model.name)
    meta = getattr(model, "zoo_meta", None) or WeightsMeta(classes=tuple(model.classes))
    # Scores are left out: they are those of the model that this one was made of.
    made.zoo_meta = replace(meta, options={**meta.options, "ranks": merged}, scores={}, started_from="", new_layers=())
    return made


def _array(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)


def _sides(layer: keras.layers.Layer) -> tuple[int, int]:
    """Inputs and outputs."""
    matrices = [variable.shape for variable in layer.weights if variable is not layer.bias]
    return int(matrices[0][0]), int(matrices[-1][1])


def _numbers(layer: keras.layers.Layer, rank: int | None = None) -> int:
    """Numbers in the kernels of a layer, as it is or were it of another rank."""
    if rank is not None:
        return rank * sum(_sides(layer))
    return sum(math.prod(variable.shape) for variable in layer.weights if variable is not layer.bias)


def _check_one(ranks: object, energy: float | None, megabytes: float | None) -> None:
    given = [
        name for name, value in (("ranks", ranks), ("energy", energy), ("megabytes", megabytes)) if value is not None
    ]
    if len(given) != 1:
        raise ValueError(f"give one of ranks, energy and megabytes; given: {', '.join(given) or 'none'}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy={energy}; give the share of the squared singular values to keep, above 0 and up to 1")
    if megabytes is not None and not megabytes > 0:
        raise ValueError(f"megabytes={megabytes}; give a positive number")


def _check_names(model: keras.Model, names: Sequence[str], dense: Mapping[str, keras.layers.Layer]) -> None:
    unknown = [name for name in names if name not in dense]
    if unknown:
        raise ValueError(f"{model.name} has no dense layer {', '.join(unknown)} in its head; it has {', '.join(dense)}")


def _check_rank(name: str, rank: object, layer: keras.layers.Layer) -> None:
    most = getattr(layer, "rank", min(_sides(layer)))
    if isinstance(rank, bool) or not isinstance(rank, numbers.Integral) or not 1 <= rank <= most:
        u, v = _sides(layer)
        raise ValueError(f"rank {rank!r} of {name}, whose kernel is {u} x {v} of rank {most}: give 1 to {most}")
