"""Fake gateways for OTLP over HTTP and over gRPC. They decode requests as the gateway does and answer as configured."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from spanpost.model.observations import Part
from spanpost.receivers.decode import decode_logs, decode_traces
from spanpost.testing.receivers import SeenRequest


class RunningGateway(SeenRequest):
    """A fake gateway on a free port of this machine: ``with RunningGateway() as gateway``.

    `observations` holds what arrived. `answers` are the statuses of the next requests, each alone or with the
    headers of its answer; a refused request is not recorded. `judge` gets the decompressed body of each other
    request and returns its status. `accepted` is the body of a success for spans in protobuf. While `held` is
    set, no request is answered until that event is set. Paths outside `paths` are not found. `requests` are
    (path, headers in lower case, decompressed body) of the accepted requests.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.answers: deque[int | tuple[int, dict[str, str]]] = deque()
        self.accepted = b""
        self.judge: Callable[[bytes], int] = lambda body: 200
        self.paths = {"/v1/logs", "/v1/traces"}
        self.held: threading.Event | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.refused = 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                gateway._take(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> RunningGateway:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.held is not None:
            self.held.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.rfile.read(int(headers.get("content-length", "0")))
        if self.held is not None:
            self.held.wait()
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, wbits=31)
        next_answer = self.answers.popleft() if self.answers else self.judge(body)
        status, extra = next_answer if isinstance(next_answer, tuple) else (next_answer, {})
        if request.path not in self.paths:
            status = 404
        answer, kind = b"", headers.get("content-type", "")
        if status == 200:
            is_json = kind.startswith("application/json")
            decode = decode_traces if request.path == "/v1/traces" else decode_logs
            try:
                decoded = decode(body, is_json=is_json)
            except ValueError as error:
                status, answer = 400, str(error).encode()
            else:
                answer = b"{}" if is_json else self.accepted if request.path == "/v1/traces" else b""
                self.requests.append((request.path, headers, body))
                self(decoded.observations)
        if status != 200:
            self.refused += 1
        request.send_response(status)
        request.send_header("content-type", kind or "text/plain")
        request.send_header("content-length", str(len(answer)))
        for name, value in extra.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(answer)

    def names(self, part: Part) -> list[str]:
        """Return the names of what arrived of a part, in order."""
        return [o.name for o in self.of(part)]


class GrpcGateway:
    """Takes OTLP over gRPC on a free port: ``with GrpcGateway() as gateway``. Needs ``grpcio``.

    `logs` and `spans` are (event or span name, metadata of the request) in order of arrival. `answers` are
    called with the context of the next requests, to abort them. A request of more than 4 MiB is refused by
    gRPC itself, as by default everywhere.
    """

    def __init__(self, takes: tuple[str, ...] = ("logs", "traces")) -> None:
        import grpc
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
            ExportLogsServiceRequest,
            ExportLogsServiceResponse,
        )
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )

        self.logs: list[tuple[str, dict[str, str]]] = []
        self.spans: list[tuple[str, dict[str, str]]] = []
        self.answers: deque[Callable[[Any], None]] = deque()
        self.sizes: list[int] = []

        def note(request: Any, context: Any) -> None:
            self.sizes.append(request.ByteSize())
            if self.answers:
                self.answers.popleft()(context)

        def take_logs(request: Any, context: Any) -> Any:
            note(request, context)
            names = [r.event_name for a in request.resource_logs for b in a.scope_logs for r in b.log_records]
            self.logs.extend((name, dict(context.invocation_metadata())) for name in names)
            return ExportLogsServiceResponse()

        def take_spans(request: Any, context: Any) -> Any:
            note(request, context)
            names = [s.name for a in request.resource_spans for b in a.scope_spans for s in b.spans]
            self.spans.extend((name, dict(context.invocation_metadata())) for name in names)
            return ExportTraceServiceResponse()

        services: dict[str, tuple[str, Any, Any, Any]] = {
            "logs": ("logs.v1.LogsService", take_logs, ExportLogsServiceRequest, ExportLogsServiceResponse),
            "traces": ("trace.v1.TraceService", take_spans, ExportTraceServiceRequest, ExportTraceServiceResponse),
        }
        self._server = grpc.server(ThreadPoolExecutor(2))
        for signal in takes:
            service, take, asked, answered = services[signal]
            export = grpc.unary_unary_rpc_method_handler(take, asked.FromString, answered.SerializeToString)
            name = f"opentelemetry.proto.collector.{service}"
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": export}),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> GrpcGateway:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None)
