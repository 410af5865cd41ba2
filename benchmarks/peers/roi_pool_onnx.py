"""ONNX Runtime's compiled ``MaxRoiPool``, forward only. Started by ``benchmarks/roi_pool.py``."""

from pathlib import Path

import common
import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def main() -> None:
    args = common.child_arguments(__doc__).parse_args()
    with np.load(args.inputs) as arrays:
        features, rois = arrays["features"], arrays["rois"][0]
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[7, 7], spatial_scale=1 / 16)
    declared = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "c", "h", "w"]),
        helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["r", 5]),
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["r", "c", 7, 7])
    graph = helper.make_graph([node], "roi_pool", declared, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {
        "x": np.ascontiguousarray(features.transpose(0, 3, 1, 2)),
        "rois": np.concatenate([np.zeros((len(rois), 1), "float32"), rois], axis=1),
    }
    times = common.timed({"forward": lambda: session.run(None, feed)}, args.repeats)
    pooled = session.run(None, feed)[0].transpose(0, 2, 3, 1)[None]
    np.savez(Path(args.inputs).with_name("onnx.npz"), forward=pooled)
    common.report(args.report, name=f"`MaxRoiPool` of {common.versions('onnxruntime')}, compiled", **times)


if __name__ == "__main__":
    main()
