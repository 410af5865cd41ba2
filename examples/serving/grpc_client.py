"""Ask TensorFlow Serving over gRPC what is in some pictures.

    pip install tensorflow-serving-api pillow
    python examples/serving/grpc_client.py street.jpg yard.png --model digits --out found/

Files are sent as they are; the server decodes them, whatever their sizes. One that is no picture gets its own error,
and the others their detections.
"""

import argparse
import json
import sys

import grpc
import numpy as np
import tensorflow as tf
from results import add_options, groups, report
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

# What is received is 4 MB at most by default: too little for "features".
OPTIONS = [("grpc.max_receive_message_length", 1 << 30)]


def predict(stub, model: str, signature: str, inputs: dict[str, np.ndarray], timeout: float) -> dict[str, np.ndarray]:
    """Ask one of the model's signatures; its outputs by name."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    answer = stub.Predict(request, timeout=timeout)
    return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--address", default="localhost:8500", help="of the server (default: localhost:8500)")
    args = parser.parse_args()
    good = True
    with grpc.insecure_channel(args.address, options=OPTIONS) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            query = {"query": np.array([b""], object)}
            told = predict(stub, args.model, "metadata", query, args.timeout)
            classes = json.loads(told["json"][0])["classes"]
            for pairs in groups(args.pictures, args.out, args.batch):
                data = {"image_bytes": np.array([path.read_bytes() for path, _ in pairs], object)}
                outputs = predict(stub, args.model, "serve_encoded", data, args.timeout)
                for place, (path, target) in enumerate(pairs):
                    row = {name: value[place] for name, value in outputs.items()}
                    good &= report(path, row, classes, args.score, target)
        except grpc.RpcError as error:
            print(f"{args.address}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 2
        except OSError as error:
            print(error, file=sys.stderr)
            return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
