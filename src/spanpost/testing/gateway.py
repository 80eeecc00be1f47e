"""A stand-in for the gateway: takes OTLP over HTTP, decodes it as the gateway does, and answers as it is told."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from spanpost.domain.observations import Observation, Part
from spanpost.intake.decode import decode_logs, decode_traces
from spanpost.testing.receivers import Seen


class Gateway(Seen):
    """Listens on a free port of this machine: ``with Gateway() as gateway``. What arrived stands in `observations`.

    `answers` are statuses for the next requests; a refused request is not taken. Set `held` and it answers nobody until
    that event is set. `requests` are (path, headers in lower case, decompressed body) of what was taken.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.answers: deque[int] = deque()
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

    def __enter__(self) -> Gateway:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
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
        status = self.answers.popleft() if self.answers else 200
        answer, kind = b"", headers.get("content-type", "")
        if status == 200:
            if headers.get("content-encoding") == "gzip":
                body = zlib.decompress(body, wbits=31)
            is_json = kind.startswith("application/json")
            decode = decode_traces if request.path == "/v1/traces" else decode_logs
            try:
                decoded = decode(body, is_json=is_json)
            except ValueError as error:
                status, answer = 400, str(error).encode()
            else:
                answer = b"{}" if is_json else b""
                self.requests.append((request.path, headers, body))
                self(decoded.observations)
        if status != 200:
            self.refused += 1
        request.send_response(status)
        request.send_header("content-type", kind or "text/plain")
        request.send_header("content-length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def names(self, part: Part) -> list[str]:
        """Return the names of what arrived of a part, in order."""
        return [o.name for o in self.of(part)]
