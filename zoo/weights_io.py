"""Weights files: one HDF5 array per variable, named by its path; names and shapes are checked on loading.

Layout (format version 1): a dataset per variable under its path, for example ``conv1/kernel``; attributes
of the file: ``zoo_format`` (1), ``model``, ``classes`` (JSON list), ``options`` (JSON object), ``scores``
(JSON object), ``command``. A group ``_state`` may hold what resuming a training needs; it is no part of the
weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np

from zoo.arguments import as_tuples
from zoo.convert.damage import naming
from zoo.convert.layout import ArrayFile
from zoo.files import save_atomically, save_json
from zoo.pieces import Rows, assign, check_finite, pieces
from zoo.weights_error import WeightsError

if TYPE_CHECKING:
    import keras

FORMAT = 1
STATE_GROUP = "_state"
SUFFIX = ".weights.h5"
_SHOWN = 8  # names listed of each kind of mismatch


@dataclass(frozen=True)
class WeightsMeta:
    """What it takes to build the model that a weights file belongs to, and how the file came to be.

    Attributes:
        model: name in the registry; empty if the model was not built by ``zoo.get``.
        classes: class names in index order; empty if unknown.
        options: builder options, plain JSON values.
        scores: measured figures, for example ``{"val_map": 0.91}``.
        command: the command that made the file.
        started_from: the weights that the model was built with, if some of its layers did not come from there.
        new_layers: those layers.
    """

    model: str = ""
    classes: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    scores: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    started_from: str = ""
    new_layers: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain values that ``json`` can write; tuples become lists."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> WeightsMeta:
        """The inverse of ``to_dict``; lists inside options become tuples again, as builders declare them."""
        options = {name: as_tuples(value) for name, value in dict(data.get("options") or {}).items()}
        return cls(
            model=str(data.get("model") or ""),
            classes=tuple(data.get("classes") or ()),
            options=options,
            scores=dict(data.get("scores") or {}),
            command=str(data.get("command") or ""),
            started_from=str(data.get("started_from") or ""),
            new_layers=tuple(data.get("new_layers") or ()),
        )


def meta_path(path: str | Path) -> Path:
    """The JSON file that stands beside a weights or model file: ``model.weights.h5`` -> ``model.json``."""
    path = Path(path)
    stem = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
    return path.with_name(stem + ".json")


def save_meta(meta: WeightsMeta, path: str | Path) -> Path:
    """Write ``meta`` beside the weights file ``path``; gives the JSON file's path."""
    return save_json(meta.to_dict(), meta_path(path))


def read_meta(path: str | Path) -> WeightsMeta | None:
    """The metadata inside a weights file of ours, or in the JSON beside it; ``None`` if there is neither."""
    path = Path(path)
    if path.suffix == ".h5" and path.is_file():
        with _open(path) as file:
            if "zoo_format" in file.attrs:
                names = ("classes", "options", "scores", "new_layers")
                data = {name: json.loads(file.attrs.get(name, "null")) for name in names}
                texts = {name: file.attrs.get(name) for name in ("model", "command", "started_from")}
                return WeightsMeta.from_dict({**data, **texts})
    beside = meta_path(path)
    if not beside.is_file():
        return None
    try:
        return WeightsMeta.from_dict(json.loads(beside.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{beside} does not hold the metadata of a model ({error}); delete it and give the model's "
            "name, classes "
            "and options instead"
        ) from error


def weight_names(model: keras.Model) -> dict[str, keras.Variable]:
    """Every weight of ``model`` by the name it has in a file.

    That is the variable's path without the model's own name: Keras numbers a second model of one process
    (``faster_rcnn_1/conv1/kernel``), and a name in a file must not depend on that.
    """
    found: dict[str, keras.Variable] = {}
    for variable in model.weights:
        name = variable.path.removeprefix(model.name + "/")
        if name in found:
            raise WeightsError(f"two weights of {model.name} share the name {name!r}; give its layers distinct names")
        found[name] = variable
    return found


def save_weights_file(
    model: keras.Model,
    path: str | Path,
    dtype: Literal["float16", "float32"] = "float32",
    meta: WeightsMeta | None = None,
    state: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write the weights of ``model`` to ``path`` (atomically) and give the path back.

    With ``dtype="float16"`` kernels are halved; vectors (biases, batch-norm statistics) stay float32,
    because they cost next to nothing and a variance may be too small or too large for float16. ``state`` is
    stored beside the weights under ``_state`` and ignored by ``load_weights_file``.

    >>> save_weights_file(model, "model.weights.h5", "float16", meta)    # doctest: +SKIP
    """
    variables = weight_names(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    return save_arrays(ArrayFile("", shapes, lambda name: np.asarray(variables[name])), path, dtype, meta, state)


def save_arrays(
    arrays: Mapping[str, np.ndarray | Rows],
    path: str | Path,
    dtype: Literal["float16", "float32"] = "float32",
    meta: WeightsMeta | None = None,
    state: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write arrays as a weights file; each is taken out of the mapping in its turn, and large ones in pieces.

    >>> save_arrays({"conv1/kernel": np.zeros((3, 3, 3, 8))}, "model.weights.h5")    # doctest: +SKIP
    """
    meta = meta or WeightsMeta()
    with save_atomically(path) as aside, h5py.File(aside, "w") as file:
        file.attrs["zoo_format"] = FORMAT
        for name, value in meta.to_dict().items():
            file.attrs[name] = value if isinstance(value, str) else json.dumps(value)
        for name in arrays:
            _write(file, name, arrays[name], dtype, str(path))
        for name, value in (state or {}).items():
            file.create_dataset(f"{STATE_GROUP}/{name}", data=np.asarray(value))
    return Path(path)


def _write(file: h5py.File, name: str, array: np.ndarray | Rows, dtype: str, path: str) -> None:
    if dtype == "float32" and array.shape:
        kind = np.float32 if array.dtype.kind == "f" else array.dtype
        made = file.create_dataset(name, array.shape, kind)
        for rows, part in pieces(array):
            check_finite(name, part, f"{path}: what is to be written")
            made[rows] = part
        return
    value = np.asarray(array)
    check_finite(name, value, f"{path}: what is to be written")
    if dtype == "float16" and value.ndim > 1 and np.abs(value).max(initial=0) < np.finfo(np.float16).max:
        value = value.astype(np.float16)
    packing = {"compression": "gzip", "shuffle": True} if value.ndim and dtype == "float16" else {}
    file.create_dataset(name, data=value, **packing)


def load_weights_file(model: keras.Model, path: str | Path) -> None:
    """Load a file written by ``save_weights_file`` into ``model``.

    Every array must have its weight and every weight its array, in the same shape, or nothing is changed
    and a ``WeightsError`` lists all that differ.
    """
    with open_weights(path) as file:
        assign_weights(model, file, str(path))


def open_weights(path: str | Path) -> ArrayFile:
    """A file written by ``save_weights_file``: names, shapes, and arrays when they are asked for.

    >>> with open_weights("runs/cells/model.weights.h5") as file:    # doctest: +SKIP
    ...     file.shapes["conv1_conv/kernel"]
    (7, 7, 3, 64)
    """
    file = _open(path)
    if file.attrs.get("zoo_format") != FORMAT:
        found = file.attrs.get("zoo_format")
        file.close()
        raise WeightsError(
            f"{path} has weights format {found!r}, this version reads {FORMAT}: update the package, or load the file "
            "with Keras's model.load_weights"
        )
    sets: dict[str, h5py.Dataset] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(STATE_GROUP + "/"):
            sets[name] = item

    def read(name: str) -> np.ndarray | h5py.Dataset:
        # What lies in one piece can be read row by row by whoever wants it; a packed array is unpacked once.
        return sets[name] if sets[name].chunks is None and sets[name].shape else sets[name][()]

    with naming(Path(path)):
        file.visititems(collect)
    return ArrayFile(path, {name: item.shape for name, item in sets.items()}, read, "weights of ours", file.close)


def assign_weights(model: keras.Model, arrays: Mapping[str, np.ndarray | Rows], source: str) -> None:
    """Set the weights of ``model`` from arrays by name; all or nothing. ``source`` is named in errors."""
    weights = weight_names(model)
    check_shapes({name: tuple(v.shape) for name, v in weights.items()}, _shapes(arrays), source, model.name)
    with naming(Path(source)):
        for name in weights:
            check_finite(name, np.asarray(arrays[name]), source)
        for name, variable in weights.items():
            assign(variable, arrays[name])


def check_shapes(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str, model: str
) -> None:
    """``WeightsError`` that lists all that is missing, left over or of another shape, if anything is."""
    missing = sorted(wanted.keys() - found.keys())
    left_over = sorted(found.keys() - wanted.keys())
    misshapen = [
        f"{name} {tuple(found[name])} in the file, {tuple(wanted[name])} in the model"
        for name in sorted(wanted.keys() & found.keys())
        if tuple(found[name]) != tuple(wanted[name])
    ]
    kinds = {
        "missing from the file": missing,
        "left over in the file": left_over,
        "of another shape": misshapen,
    }
    problems = [
        f"{len(names)} {kind}: {'; '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit the model {model} ({len(wanted)} weights). {'. '.join(problems)}. "
            "Were they made with other classes or options, or for another model?"
        )


def _shapes(arrays: Mapping[str, np.ndarray]) -> Mapping[str, tuple[int, ...]]:
    """Shapes without reading, where that can be had."""
    known = getattr(arrays, "shapes", None)
    return known if known is not None else {name: tuple(np.shape(array)) for name, array in arrays.items()}


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load ``path`` into ``model``: our own file, Keras's ``.weights.h5``, or a ``.keras`` file's weights."""
    path = Path(path)
    if path.suffix == ".keras":
        whole = load_keras_file(path)
        arrays = {name: np.asarray(variable) for name, variable in weight_names(whole).items()}
        assign_weights(model, arrays, str(path))
        return
    if is_ours(path):
        load_weights_file(model, path)
        return
    from zoo.convert.readers.keras_h5 import is_keras_h5

    with _open(path) as file:
        if is_keras_h5(file):
            raise WeightsError(
                f"{path} is of the layout that Keras loads by the layers' order, whatever their names; "
                f"zoo.get(NAME, weights={str(path)!r}) takes it by name"
            )
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        # Keras prints whole arrays after the first line.
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path} does not fit the model {model.name}: {reason}") from error
    for name, variable in weight_names(model).items():
        if not np.isfinite(np.asarray(variable)).all():
            raise WeightsError(f"{path} holds NaN or infinite values in {name}; train it again")


def is_ours(path: str | Path) -> bool:
    """Whether ``path`` is an HDF5 file written by ``save_weights_file``; a file that is none is an error."""
    with _open(path) as file:
        return "zoo_format" in file.attrs


def load_keras_file(path: str | Path) -> keras.Model:
    """``keras.models.load_model`` with an error that names the file."""
    import keras

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the path of a .keras file")
    try:
        return keras.models.load_model(path)
    except (ValueError, KeyError, OSError, TypeError) as error:
        # Keras nests its complaints, each with a whole configuration; the last line is the cause.
        reason = str(error).strip().rpartition("\n")[2]
        raise WeightsError(f"{path} cannot be loaded as a Keras model: {reason}") from error


def _open(path: str | Path) -> h5py.File:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the path of a {SUFFIX} or .keras file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise WeightsError(f"{path} is not an HDF5 weights file, or is cut short ({error})") from error
