"""One artifact in its own runtime, with nothing of this package; ``benchmarks/export.py`` starts it."""

import os
from pathlib import Path

import common
import numpy as np


def saved_model(path: str):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    return lambda inputs: serve(**{name: tf.constant(value) for name, value in inputs.items()})


def onnx(path: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def tflite(path: str):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=len(os.sched_getaffinity(0)))
    serve = interpreter.get_signature_runner("serving_default")
    return lambda inputs: serve(**inputs)


def main() -> None:
    parser = common.child_arguments(__doc__)
    parser.add_argument("format", choices=("saved_model", "onnx", "tflite"))
    parser.add_argument("artifact", type=Path)
    args = parser.parse_args()
    inputs = dict(np.load(args.inputs))
    run = {"saved_model": saved_model, "onnx": onnx, "tflite": tflite}[args.format](str(args.artifact))
    times = common.timed({"seconds": lambda: run(inputs)}, args.repeats)
    common.report(args.report, **times, peak=common.peak_memory())


if __name__ == "__main__":
    main()
