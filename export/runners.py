"""Runs an artifact in its own runtime: TensorFlow, ONNX Runtime or LiteRT."""

from __future__ import annotations

import hashlib
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.export.errors import ExportError, need
from zoo.export.metadata import from_json

if TYPE_CHECKING:
    from zoo.detectors.detect import ProposalsOf

METADATA_FILE = "zoo.json"
LABELS_FILE = "labels.txt"


class Artifact(ABC):
    """An exported model, ready to run; :func:`open_artifact` makes one.

    It has what :func:`zoo.evaluate` asks of a detector.

    Attributes:
        path: the file, or a SavedModel's version folder.
        format: ``"saved_model"``, ``"onnx"`` or ``"tflite"``.
        runtime: package and version that runs it.
        metadata: see :func:`zoo.export.metadata.describe`.
    """

    format = ""
    runtime = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = from_json(self._read_metadata(), str(path))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return tuple(self.metadata["classes"])

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the images it takes; ``None`` for any."""
        height, width = self.metadata["input"]["shape"][1:3]
        return None if height is None else (height, width)

    @property
    def proposals(self) -> int | None:
        """How many proposals of an image, made by others, it looks at; ``None`` where it takes no such."""
        return self.metadata.get("proposals", {}).get("most")

    def predict_on_batch(self, images: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run ``images (B, H, W, 3)``, RGB 0-255; gives the outputs that ``metadata["outputs"]`` explains.

        A Fast R-CNN takes a dict, as its Keras model: ``images``, ``proposals (B, P, 4)``, ``num_proposals (B,)`` if
        rows behind are not boxes of no area anyway.
        """
        given = dict(images) if isinstance(images, Mapping) else {"images": images}
        self._check_size(given["images"])
        inputs = {"images": np.ascontiguousarray(given["images"], self.metadata["input"]["dtype"])}
        if self.proposals is not None:
            inputs["proposals"] = _proposals(given, str(self.path))
        return self._run(inputs)

    def _check_size(self, images: np.ndarray) -> None:
        """Refuse sizes but the artifact's own: a runtime may take other pixels for those of that size."""
        shape = tuple(np.shape(images))
        if self.size is not None and shape[1:3] != self.size:
            raise ExportError(
                f"{self.path} takes images of height and width {self.size} only, these have the shape {shape}; scale "
                "them to that size, or export the model again without a size, for images of any"
            )

    def detect(
        self,
        images: Any,
        *,
        score_threshold: float | None = None,
        batch_size: int = 1,
        proposals: ProposalsOf | None = None,
    ):
        """Detect objects in paths, folders or arrays; see :func:`zoo.detectors.detect.detect`.

        ``proposals`` are for a Fast R-CNN: by default, as its Keras model has it, selective search's.
        """
        from zoo.detectors.detect import detect

        if self.metadata["task"] != "detection":
            raise ExportError(f"{self.path} is a classifier; use predict_on_batch")
        if self.proposals is None and proposals is not None:
            raise ExportError(f"{self.path} finds its own proposals; leave them out")
        return detect(
            self,
            images,
            score_threshold=score_threshold,
            batch_size=batch_size,
            proposals=proposals,
            most=self.proposals or 0,
        )

    def files(self) -> list[Path]:
        """The files it consists of."""
        return [self.path]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of all its files, as 64 hex digits; a file itself may be renamed."""
        folder = self.path if self.path.is_dir() else self.path.parent
        total = hashlib.sha256()
        named = {"" if file == self.path else str(file.relative_to(folder)): file for file in self.files()}
        for name in sorted(named):
            with open(named[name], "rb") as opened:
                total.update(f"{name} ".encode())
                total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.stat().st_size for file in self.files())

    @abstractmethod
    def _read_metadata(self) -> str | bytes:
        """The JSON inside."""

    @abstractmethod
    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for inputs, by name, of the right types."""


def open_artifact(path: str | Path) -> Artifact:
    """Load an artifact that :mod:`zoo.export` wrote.

    Args:
        path: an ``.onnx`` or ``.tflite`` file, or a SavedModel: its version folder, or the folder of versions, of
            which the highest is taken, as TensorFlow Serving does.

    Raises:
        ExportError: there is none, it is damaged, or its runtime is not installed.

    Example:
        >>> open_artifact("digits.onnx").detect("street.jpg")    # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        return SavedModelArtifact(_version_folder(path))
    if not path.is_file():
        raise ExportError(f"{path} does not exist; give an .onnx or .tflite file, or a SavedModel's folder")
    kinds: dict[str, type[Artifact]] = {".onnx": OnnxArtifact, ".tflite": TFLiteArtifact}
    if path.suffix not in kinds:
        raise ExportError(f"{path} is no artifact; give an .onnx or .tflite file, or a SavedModel's folder")
    return kinds[path.suffix](path)


def _version_folder(path: Path) -> Path:
    if (path / "saved_model.pb").is_file():
        return path
    versions = saved_versions(path)
    if not versions:
        raise ExportError(f"{path} holds no SavedModel: neither saved_model.pb nor a folder with a number that has one")
    return path / str(versions[-1])


def saved_versions(path: str | Path) -> list[int]:
    """Numbers of the SavedModels in a folder of versions, in order."""
    found = [each for each in Path(path).glob("*/saved_model.pb") if each.parent.name.isdecimal()]
    return sorted(int(each.parent.name) for each in found)


class SavedModelArtifact(Artifact):
    """A SavedModel, run by TensorFlow through its signature ``serving_default``."""

    format = "saved_model"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import tensorflow as tf

        self.runtime = f"tensorflow {tf.__version__}"
        try:
            self.loaded = tf.saved_model.load(str(path))
            self._serve = self.loaded.signatures["serving_default"]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise ExportError(f"{path} cannot be loaded as a SavedModel ({_line(error)}); export it again") from error

    def files(self) -> list[Path]:
        """All but what lies in ``assets.extra``, where the report is."""
        extra = self.path / "assets.extra"
        kept = [file for file in self.path.rglob("*") if file.is_file() and extra not in file.parents]
        return [*kept, extra / METADATA_FILE]

    def _read_metadata(self) -> bytes:
        file = self.path / "assets.extra" / METADATA_FILE
        if not file.is_file():
            raise ExportError(f"{self.path} was not written by `zoo export`: it has no assets.extra/{METADATA_FILE}")
        return file.read_bytes()

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        found = self._serve(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}


class OnnxArtifact(Artifact):
    """An ONNX file, run by ONNX Runtime on the CPU."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        runtime = need("onnxruntime", "onnxruntime", "running an ONNX file")
        self.runtime = f"onnxruntime {runtime.__version__}"
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base but this
            raise ExportError(f"{path} cannot be loaded by {self.runtime} ({_line(error)}); export it again") from error
        super().__init__(path)

    def files(self) -> list[Path]:
        """The model, and its weights where they are kept beside it."""
        import onnx

        from zoo.export.onnx_files import outside

        model = onnx.load(self.path, load_external_data=False)
        return [self.path, *(self.path.parent / name for name in outside(model))]

    def _read_metadata(self) -> str:
        known = self._session.get_modelmeta().custom_metadata_map
        if "zoo" not in known:
            raise ExportError(f"{self.path} was not written by `zoo export`: it has no metadata called 'zoo'")
        return known["zoo"]

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, inputs), strict=True))


class TFLiteArtifact(Artifact):
    """A TFLite file, run by LiteRT through its signature ``serving_default``."""

    format = "tflite"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path)
        package = "ai-edge-litert"
        interpreter = need("ai_edge_litert.interpreter", package, "running a TFLite file")
        import importlib.metadata

        self.runtime = f"{package} {importlib.metadata.version(package)}"
        try:
            self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or _cores())
            # By name: the order of a TFLite file's outputs is not that of the function.
            self._serve = self._interpreter.get_signature_runner("serving_default")
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"{path} cannot be loaded by {self.runtime} ({_line(error)}); export it again") from error

    def _read_metadata(self) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as packed:
                return packed.read(METADATA_FILE)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ExportError(
                f"{self.path} was not written by `zoo export`, or is cut short: no {METADATA_FILE} is packed into it"
            ) from error

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self._serve(**inputs).items()}


def _proposals(given: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Those given, as the graph takes them."""
    if "proposals" not in given:
        raise ExportError(
            f"{where} looks at proposals that others make: give it a dict with 'images' and 'proposals' (B, P, 4), or "
            "call detect"
        )
    boxes = np.ascontiguousarray(given["proposals"], np.float32)
    if boxes.ndim != 3 or boxes.shape[0] != len(given["images"]) or not boxes.shape[1] or boxes.shape[2] != 4:
        raise ExportError(
            f"proposals have shape {boxes.shape}; give ({len(given['images'])}, P, 4) with P at least 1, zeros where "
            "there are none"
        )
    if given.get("num_proposals") is not None:
        real = np.arange(boxes.shape[1]) < np.asarray(given["num_proposals"])[:, None]
        boxes = np.where(real[..., None], boxes, np.float32(0.0))
    return boxes


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
