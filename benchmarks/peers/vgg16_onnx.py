"""ONNX Runtime on the networks of a VGG-16 Faster R-CNN. Started by ``benchmarks/vgg16_detect.py``.

The graph is built by hand, with random weights of the right shapes: a prepared image through backbone and RPN
convolutions, its features and given proposals through ``MaxRoiPool`` and the fully connected layers.
"""

import os
import tempfile
from pathlib import Path

import common
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Graph:
    """Nodes and weights as they are added."""

    def __init__(self):
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(0)

    def weight(self, shape: tuple[int, ...], inputs: int) -> str:
        """He-initialised weights; their name."""
        name = f"w{len(self.weights)}"
        values = self.rng.standard_normal(shape, "float32") * np.float32((2 / inputs) ** 0.5)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """Add a node; the name of its output."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def conv(self, x: str, before: int, after: int, size: int, output: str | None = None) -> str:
        """Convolution with bias; with ReLU unless its output is named."""
        kernel = self.weight((after, before, size, size), before * size * size)
        y = self.node("Conv", x, kernel, self.weight((after,), after), output=output, pads=[size // 2] * 4)
        return y if output else self.node("Relu", y)

    def dense(self, x: str, before: int, after: int, output: str | None = None) -> str:
        """Fully connected layer with bias; with ReLU unless its output is named."""
        y = self.node("Gemm", x, self.weight((before, after), before), self.weight((after,), after), output=output)
        return y if output else self.node("Relu", y)


def networks() -> onnx.ModelProto:
    """The whole graph."""
    graph, x, channels = Graph(), "image", 3
    for i, block in enumerate(BLOCKS):
        if i:
            x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        for filters in block:
            x, channels = graph.conv(x, channels, filters, 3), filters
    hidden = graph.conv(x, 512, 512, 3)
    graph.conv(hidden, 512, 18, 1, "rpn_logits")
    graph.conv(hidden, 512, 36, 1, "rpn_deltas")
    pooled = graph.node("MaxRoiPool", x, "rois", pooled_shape=[7, 7], spatial_scale=1 / 16)
    vectors = graph.dense(graph.dense(graph.node("Flatten", pooled), 25088, 4096), 4096, 4096)
    graph.dense(vectors, 4096, 21, "logits")
    graph.dense(vectors, 4096, 84, "deltas")
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"]),
        helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["r", 5]),
    ]
    names = ("rpn_logits", "rpn_deltas", "logits", "deltas")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    whole = helper.make_graph(graph.nodes, "networks", inputs, outputs, graph.weights)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    args = common.child_arguments(__doc__).parse_args()
    with np.load(args.inputs) as arrays:
        image, rois = arrays["prepared"], arrays["rois"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "networks.onnx"
        onnx.save(networks(), path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {
        "image": np.ascontiguousarray(image.transpose(0, 3, 1, 2)),
        "rois": np.concatenate([np.zeros((len(rois), 1), "float32"), rois], axis=1),
    }
    times = common.timed({"seconds": lambda: session.run(None, feed)}, args.repeats)
    common.report(
        args.report,
        who=common.versions("onnxruntime"),
        what="prepared image and our 300 proposals to backbone, RPN convolutions, `MaxRoiPool`, fully connected "
        "layers; no resize, no proposals of its own, no NMS",
        **times,
    )


if __name__ == "__main__":
    main()
