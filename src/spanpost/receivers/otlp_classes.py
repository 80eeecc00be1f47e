"""The protobuf classes of OTLP requests, in three forms: original; text as bytes; text, attributes and
points as bytes.

All three read the same wire format. Fields left as bytes are not built, and with text fields protobuf
refuses a whole request for one invalid string. Needs ``opentelemetry-proto`` (the extra ``spanpost[otlp]``).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from spanpost.model.errors import ConfigError

_PACKAGES = {
    "traces": "trace.v1.trace_service",
    "logs": "logs.v1.logs_service",
    "metrics": "metrics.v1.metrics_service",
}
_REQUESTS = {
    "traces": "ExportTraceServiceRequest",
    "logs": "ExportLogsServiceRequest",
    "metrics": "ExportMetricsServiceRequest",
}
_LEFT_AS_BYTES = ("attributes", "data_points", "exemplars")


@cache
def request(signal: str) -> Any:
    """Return the request's class."""
    try:
        module = import_module(f"opentelemetry.proto.collector.{_PACKAGES[signal]}_pb2")
    except ImportError as error:
        raise ConfigError(
            "OTLP protobuf cannot be read: opentelemetry-proto is missing. Install it: pip install 'spanpost[otlp]'"
        ) from error
    return getattr(module, _REQUESTS[signal])


@cache
def request_of_bytes(signal: str) -> Any:
    """Return the request's class with text left as bytes."""
    strict = request(signal).DESCRIPTOR
    return _class(_pool(signal, False), strict.full_name)


@cache
def lazy_request(signal: str) -> Any:
    """Return the request's class with text, attributes and data points left as bytes: a third of the cost of
    parsing.
    """
    strict = request(signal).DESCRIPTOR
    return _class(_pool(signal, True), strict.full_name)


@cache
def entry_descriptor(signal: str) -> Any:
    """Return the descriptor of a span, log record or metric within `lazy_request`."""
    resource = lazy_request(signal).DESCRIPTOR.fields_by_number[1].message_type
    return resource.fields_by_number[2].message_type.fields_by_number[2].message_type


@cache
def lazy_point() -> Any:
    """Return the class of a data point of a sum, with text and attributes left as bytes."""
    return _class(_pool("metrics", True), "opentelemetry.proto.metrics.v1.NumberDataPoint")


@cache
def pair() -> Any:
    """Return the class of one attribute, with text left as bytes."""
    return _class(_pool("traces", False), "opentelemetry.proto.common.v1.KeyValue")


def _class(pool: Any, name: str) -> Any:
    return import_module("google.protobuf.message_factory").GetMessageClass(pool.FindMessageTypeByName(name))


@cache
def _pool(signal: str, is_lazy: bool) -> Any:
    """Return a descriptor pool with the files of a signal's request and their imports, rebuilt with text as
    bytes.
    """
    descriptor_pb2 = import_module("google.protobuf.descriptor_pb2")
    kinds = descriptor_pb2.FieldDescriptorProto
    pool = import_module("google.protobuf.descriptor_pool").DescriptorPool()
    known: set[str] = set()

    def add(file: Any) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            change(message)
        pool.Add(proto)

    def change(message: Any) -> None:
        for field in message.field:
            if field.type == kinds.TYPE_STRING:
                field.type = kinds.TYPE_BYTES
            elif is_lazy and field.type == kinds.TYPE_MESSAGE and field.name in _LEFT_AS_BYTES:
                field.type = kinds.TYPE_BYTES
                field.ClearField("type_name")
        for nested in message.nested_type:
            change(nested)

    add(request(signal).DESCRIPTOR.file)
    return pool
