"""ONNX with eight bits a weight, by ONNX Runtime's own quantiser."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from zoo.export.errors import ExportError, need
from zoo.export.onnx_files import outside, save_model
from zoo.export.onnx_weights import drop_unused_domains, sort_nodes

_DENSE = ("MatMul", "Gemm")
# What may follow a convolution without leaving eight bits.
_BETWEEN = ("Relu", "MaxPool", "Add")
# Weights have seven bits: processors without VNNI add products of eight bits in sixteen, and overflow.
_REDUCED = True


def quantise(
    model: onnx.ModelProto,
    folder: Path,
    precision: str,
    kept: Collection[str],
    pictures: Iterable[dict[str, np.ndarray]],
) -> onnx.ModelProto:
    """The same model with eight bits a weight, of which seven are used.

    ``"dynamic_int8"`` has them in fully connected layers alone, and rounds what flows into them by the range that it
    happens to have; convolutions done so would be slower than in float32. ``"int8"`` has them in convolutions too, and
    rounds what flows in and out of them by ranges that it had on ``pictures``.

    Args:
        model: with its weights as initialisers, which are lost.
        folder: for intermediate files, of which nothing is left.
        precision: one of the two above.
        kept: names of the weights that keep their bits.
        pictures: what the model takes, by name, each with a batch axis; for ``"int8"``.

    Raises:
        ExportError: there is nothing to round.
    """
    ort = need("onnxruntime.quantization", "onnxruntime", "an ONNX file with eight bits a weight")
    # In a folder of their own: what is beside the model that is written is taken for its weights.
    with TemporaryDirectory(dir=folder) as aside:
        source, prepared, target = (Path(aside) / f"{name}.onnx" for name in ("float", "prepared", "rounded"))
        save_model(model, source)
        beside = bool(outside(model))
        static = precision == "int8"
        # Normalisation goes into the convolution before it, where it can: nothing stands between that and its ReLU
        # then.
        ort.quant_pre_process(
            source, prepared, skip_optimization=not static, skip_symbolic_shape=True, save_as_external_data=beside
        )
        nodes = _chosen(onnx.load(prepared, load_external_data=False).graph, static, kept)
        if static:
            ort.quantize_static(
                prepared,
                target,
                _Pictures(pictures),
                op_types_to_quantize=["Conv", *_DENSE, *_BETWEEN],
                nodes_to_quantize=nodes,
                per_channel=True,
                activation_type=ort.QuantType.QUInt8,
                weight_type=ort.QuantType.QInt8,
                reduce_range=_REDUCED,
                use_external_data_format=beside,
            )
        else:
            ort.quantize_dynamic(
                prepared,
                target,
                op_types_to_quantize=list(_DENSE),
                nodes_to_quantize=nodes,
                per_channel=True,
                reduce_range=_REDUCED,
                use_external_data_format=beside,
            )
        rounded = onnx.load(target)
    sort_nodes(rounded.graph)  # the quantiser's own order forgets what branches use
    drop_unused_domains(rounded)  # all that ONNX Runtime knows are named
    return rounded


def _chosen(graph: onnx.GraphProto, static: bool, kept: Collection[str]) -> list[str]:
    """Names of the nodes to round: those with weights of their own, and what may stand between them."""
    weights = {tensor.name for tensor in graph.initializer}
    kinds = ("Conv", *_DENSE) if static else _DENSE
    chosen, rounded = [], set()
    for node in graph.node:
        if node.op_type in kinds:
            fits = node.input[1] in weights and node.input[1] not in kept
        else:
            fits = static and node.op_type in _BETWEEN and all(name in rounded for name in node.input)
        if fits:
            chosen.append(node.name)
            rounded.update(node.output)
    if not chosen:
        what = "layer with weights" if static else "fully connected layer"
        raise ExportError(f"{graph.name} has no {what} besides its last, so that no bits can be saved")
    return chosen


class _Pictures:
    """What the quantiser asks of representative data: one input after the other, then ``None``."""

    def __init__(self, pictures: Iterable[dict[str, np.ndarray]]) -> None:
        self._left = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input by name."""
        return next(self._left, None)
