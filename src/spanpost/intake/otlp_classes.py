"""The protobuf classes of OTLP requests: as they are, with attributes left as bytes, and with text left as bytes.

All three read the same wire format. Needs ``opentelemetry-proto`` (the extra ``spanpost[otlp]``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from spanpost.domain.errors import ConfigError

_PACKAGES = {"traces": "trace.v1.trace_service", "logs": "logs.v1.logs_service", "metrics": "metrics.v1.metrics_service"}
_REQUESTS = {"traces": "ExportTraceServiceRequest", "logs": "ExportLogsServiceRequest", "metrics": "ExportMetricsServiceRequest"}
_PAIR = "opentelemetry.proto.common.v1.KeyValue"


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
def request_of_pairs(signal: str) -> Any:
    """Return the request's class with each attribute as the bytes that it is made of: a third of the cost of parsing."""

    def loosen(field: Any, proto: Any) -> None:
        if field.type_name == f".{_PAIR}" and field.name == "attributes":
            field.type = proto.TYPE_BYTES
            field.ClearField("type_name")

    strict = request(signal).DESCRIPTOR
    return _class(_pool(strict.file, loosen), strict.full_name)


@cache
def pair() -> Any:
    """Return the class of one attribute."""
    return import_module("opentelemetry.proto.common.v1.common_pb2").KeyValue


def salvaged(strict: Any, raw: bytes) -> bytes:
    """Return a message of that class with invalid UTF-8 replaced by U+FFFD; protobuf refuses it whole for one bad string."""
    message = _class(_pool_of_bytes(strict.DESCRIPTOR.file), strict.DESCRIPTOR.full_name).FromString(raw)
    _clean(message, strict.DESCRIPTOR)
    return bytes(message.SerializeToString())


def _clean(message: Any, strict: Any) -> None:
    for field, value in message.ListFields():
        twin = strict.fields_by_number.get(field.number)
        if twin is None:
            continue
        is_many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        if twin.type == twin.TYPE_MESSAGE:
            for part in value if is_many else (value,):
                _clean(part, twin.message_type)
        elif twin.type == twin.TYPE_STRING:
            if is_many:
                value[:] = [_utf8(v) for v in value]
            elif _utf8(value) != value:
                setattr(message, field.name, _utf8(value))


def _utf8(raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode()


@cache
def _pool_of_bytes(file: Any) -> Any:
    def loosen(field: Any, proto: Any) -> None:
        if field.type == proto.TYPE_STRING:
            field.type = proto.TYPE_BYTES

    return _pool(file, loosen)


def _class(pool: Any, name: str) -> Any:
    return import_module("google.protobuf.message_factory").GetMessageClass(pool.FindMessageTypeByName(name))


def _pool(file: Any, loosen: Callable[[Any, Any], None]) -> Any:
    """Build a file and what it imports anew, with fields changed by `loosen(field, FieldDescriptorProto)`."""
    descriptor_pb2 = import_module("google.protobuf.descriptor_pb2")
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
            loosen(field, descriptor_pb2.FieldDescriptorProto)
        for nested in message.nested_type:
            change(nested)

    add(file)
    return pool
