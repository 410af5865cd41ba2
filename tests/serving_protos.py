"""Messages of TensorFlow Serving's configuration that tensorflow-serving-api leaves out, from their definitions."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

INT64, BOOL, STRING, MESSAGE = 3, 8, 9, 11
_WRAPPED = ".google.protobuf.Int64Value"
MESSAGES = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": [
        ("max_batch_size", 1, MESSAGE, _WRAPPED),
        ("batch_timeout_micros", 2, MESSAGE, _WRAPPED),
        ("max_enqueued_batches", 3, MESSAGE, _WRAPPED),
        ("num_batch_threads", 4, MESSAGE, _WRAPPED),
        ("thread_pool_name", 5, MESSAGE, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, INT64, "repeated"),
        ("pad_variable_length_inputs", 7, BOOL, None),
    ],
    # tensorflow_serving/config/monitoring_config.proto
    "PrometheusConfig": [("enable", 1, BOOL, None), ("path", 2, STRING, None)],
    "MonitoringConfig": [("prometheus_config", 1, MESSAGE, ".serving_config.PrometheusConfig")],
}


def message(name):
    """The message class called ``name``."""
    pool = descriptor_pool.Default()
    try:
        found = pool.FindMessageTypeByName(f"serving_config.{name}")
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto(
            name="serving_config.proto",
            package="serving_config",
            syntax="proto3",
            dependency=[wrappers_pb2.DESCRIPTOR.name],
        )
        for kind, fields in MESSAGES.items():
            made = file.message_type.add(name=kind)
            for field, number, of, detail in fields:
                added = made.field.add(name=field, number=number, type=of, label=3 if detail == "repeated" else 1)
                if of == MESSAGE:
                    added.type_name = detail
        pool.Add(file)
        found = pool.FindMessageTypeByName(f"serving_config.{name}")
    return message_factory.GetMessageClass(found)
