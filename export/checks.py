"""Whether an artifact keeps to its format's rules, beyond being loadable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from zoo.export.errors import ExportError
from zoo.export.runners import Artifact

_SIGNATURES = ("serving_default", "serving_float", "serve_encoded", "features", "metadata")
_OPSET = 17


def check_format(artifact: Artifact) -> None:
    """Check the file itself.

    SavedModel: all signatures are there. ONNX: opset 17 or newer, and ``onnx.checker`` with full shape inference.
    TFLite: builtin operators only.

    Raises:
        ExportError: a rule is broken.
    """
    {"saved_model": _check_saved_model, "onnx": check_onnx, "tflite": check_tflite}[artifact.format](artifact)


def _check_saved_model(artifact: Artifact) -> None:
    missing = [name for name in _SIGNATURES if name not in artifact.loaded.signatures]
    if missing:
        raise ExportError(f"{artifact.path} lacks the signatures {', '.join(missing)}; export it again")


def check_onnx(artifact: Artifact) -> None:
    """``onnx.checker`` on the file, so that weights of more than 2 GB beside it are found."""
    import onnx

    model = onnx.load(artifact.path, load_external_data=False)
    (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OPSET:
        raise ExportError(f"{artifact.path} has opset {opset}, older than {_OPSET}; export it again")
    try:
        onnx.checker.check_model(str(artifact.path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{artifact.path} is not valid ONNX: {str(error).partition(chr(10))[0]}") from error


def check_tflite(artifact: Artifact) -> None:
    """No operator that only TensorFlow's own runtime has ("flex"), and none that somebody made ("custom")."""
    strange = {name for name in operators(artifact.path) if name.startswith(("Flex", "CUSTOM"))}
    if strange:
        raise ExportError(f"{artifact.path} has operators that are not builtin: {', '.join(sorted(strange))}")


def operators(path: str | Path) -> Counter[str]:
    """How often each operator occurs in a TFLite file; those that are not builtin by their own name."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    with open(path, "rb") as file:
        model = schema.Model.GetRootAs(bytearray(file.read()), 0)
    codes = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = code.CustomCode()
        codes.append(names[number] if custom is None else custom.decode())
    found: Counter[str] = Counter()
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        found.update(codes[graph.Operators(each).OpcodeIndex()] for each in range(graph.OperatorsLength()))
    return found
