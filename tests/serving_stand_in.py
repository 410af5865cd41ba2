"""What stands for TensorFlow Serving in tests: its gRPC and REST interfaces, as far as the clients use them.

Models run as the server runs them: a graph-mode session is fed and fetched by the tensor names of the signatures, and
nothing of TensorFlow 2's Python loader takes part. Answers and errors follow ``predict_util.cc``, ``json_tensor.cc``
and ``http_rest_api_util.cc`` of tensorflow/serving. It batches no requests, and keeps no versions.
"""

import base64
import json
import re
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import tensorflow as tf


class Refusal(Exception):
    """An error for the client: its gRPC code, and a sentence."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Servable:
    """One version of a model."""

    def __init__(self, folder: Path):
        graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            self.signatures = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder)).signature_def

    def signature(self, name):
        if name not in self.signatures:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, name, inputs):
        """Outputs of a signature by name, for inputs by name."""
        signature = self.signature(name)
        if set(inputs) != set(signature.inputs):
            raise Refusal("INVALID_ARGUMENT", f"inputs {sorted(inputs)} for {sorted(signature.inputs)}")
        feed = {}
        for key, value in inputs.items():
            wanted = tf.as_dtype(signature.inputs[key].dtype)
            if (tf.string if value.dtype == object else tf.as_dtype(value.dtype)) != wanted:
                raise Refusal("INVALID_ARGUMENT", f"Expects {key} to be {wanted.name} but {value.dtype} is provided")
            feed[signature.inputs[key].name] = value
        fetches = {key: info.name for key, info in signature.outputs.items()}
        try:
            return self.session.run(fetches, feed)
        except ValueError as error:  # a shape that cannot be fed
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        except tf.errors.OpError as error:
            raise Refusal("INTERNAL", error.message) from error


@contextmanager
def grpc_server(models: dict[str, Servable]):
    """An address at which PredictionService answers for ``models``."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            try:
                if request.model_spec.name not in models:
                    raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({request.model_spec.name})")
                inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
                name = request.model_spec.signature_name or "serving_default"
                outputs = models[request.model_spec.name].run(name, inputs)
            except Refusal as refusal:
                context.abort(grpc.StatusCode[refusal.code], str(refusal))
            response = predict_pb2.PredictResponse()
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return response

    # As the server does: messages of any size come in.
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def rest_server(models: dict[str, Servable]):
    """An address at which the REST interface answers for ``models``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(lambda: _told(models, self.path))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(lambda: _predicted(models, self.path, body))

        def _answer(self, call):
            try:
                status, answer = 200, call()
            except Refusal as refusal:
                status = {"NOT_FOUND": 404, "INTERNAL": 500}.get(refusal.code, 400)
                answer = {"error": str(refusal)}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _model(models, path, pattern):
    match = re.fullmatch(pattern, path)
    if match is None:
        raise Refusal("INVALID_ARGUMENT", f"Malformed request: {path}")
    if match[1] not in models:
        raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({match[1]})")
    return models[match[1]]


def _told(models, path):
    model = _model(models, path, r"/v1/models/([^/:]+)(?:/metadata)?")
    if path.endswith("/metadata"):
        return {"metadata": {"signature_def": sorted(model.signatures)}}
    return {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


def _predicted(models, path, body):
    model = _model(models, path, r"/v1/models/([^/:]+):predict")
    request = json.loads(body)
    name = request.get("signature_name", "serving_default")
    signature = model.signature(name)
    if not signature.inputs:
        raise Refusal("INVALID_ARGUMENT", f"Failed to get input map for signature: {name}")
    if "instances" not in request:
        raise Refusal("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    rows = request["instances"]
    keys = sorted(signature.inputs)
    if not all(isinstance(row, dict) and set(row) == set(keys) for row in rows):
        rows = [{keys[0]: row} for row in rows]
    inputs = {key: _array([row[key] for row in rows], signature.inputs[key].dtype) for key in keys}
    outputs = model.run(name, inputs)
    if any(value.ndim == 0 or len(value) != len(rows) for value in outputs.values()):
        raise Refusal("INVALID_ARGUMENT", "inconsistent batch size")
    columns = {key: _plain(value) for key, value in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [{key: value[place] for key, value in columns.items()} for place in range(len(rows))]}


def _array(values, dtype):
    if tf.as_dtype(dtype) == tf.string:
        decoded = [base64.b64decode(each["b64"]) if isinstance(each, dict) else each.encode() for each in values]
        return np.array(decoded, object)
    try:
        return np.array(values, tf.as_dtype(dtype).as_numpy_dtype)
    except ValueError as error:
        raise Refusal("INVALID_ARGUMENT", f"Encountered list at unexpected size: {error}") from error


def _plain(value):
    if value.dtype == object:
        return [each.decode() for each in value]
    return value.tolist()
