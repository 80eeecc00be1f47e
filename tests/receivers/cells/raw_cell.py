"""A cell that answers as a test says, and keeps what it received, byte by byte."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import trustme

from spanpost.http.tokens import hash_of
from spanpost.runtime.router import Router
from spanpost.settings import Settings, load

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TOKEN = "spt_router_0123456789abcdef0123456789"
TOKENS = [{"tenant": "red", "sha256": [hash_of("red")]}, {"tenant": "blue", "sha256": [hash_of("blue")]}]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


class Received(NamedTuple):
    """A request as the cell received it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class RawCell:
    """`answer` gets a request and its connection, writes the response, and returns whether the connection stays."""

    def __init__(self, certificate: trustme.LeafCert | None = None) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received, socket.socket], bool] = answered(OK)
        self.is_ready = True
        #: Status and header of the answer to a check, while it is ready.
        self.ready_status, self.ready_header = b"200 OK", b""
        cell = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                line = self.rfile.readline(70_000)
                if not line:
                    self.close_connection = True
                    return
                self.raw_requestline = line
                if not self.parse_request():
                    return
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                request = Received(line.decode().strip(), list(self.headers.items()), body)
                if self.path == "/health/ready":
                    status = cell.ready_status if cell.is_ready else b"503 Service Unavailable"
                    self.connection.sendall(
                        b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n" + cell.ready_header + b"\r\n"
                    )
                    self.close_connection = False
                    return
                cell.received.append(request)
                self.close_connection = not cell.answer(request, self.connection)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answered(response: bytes) -> Callable[[Received, socket.socket], bool]:
    """Answer every request with these bytes, and keep the connection."""

    def answer(request: Received, connection: socket.socket) -> bool:
        connection.sendall(response)
        return True

    return answer


def broken_off(request: Received, connection: socket.socket) -> bool:
    """Take the request and close the connection."""
    return False


class Routed:
    """A router in this process, with a cell each for red and blue."""

    def __init__(
        self,
        red: list[str],
        blue: list[str],
        *,
        gateway: dict[str, Any] | None = None,
        reread: Callable[[], Settings] | None = None,
        **cells: Any,
    ) -> None:
        section = {"http_port": 0, "grpc_port": 0, "tokens": TOKENS} | (gateway or {})
        named = {
            "a": {"urls": red, "token": TOKEN, "public_url": "https://a.agents.test"},
            "b": {"urls": blue, "token": TOKEN},
        }
        caller = {"name": "red", "tenant": "red", "roles": ["viewer"], "sha256": [hash_of("api")]}
        settings = load(
            gateway=section,
            interactions={"tokens": [caller]},
            cells={"named": named, "tenants": {"red": "a", "blue": "b"}} | cells,
        )
        self.router = Router(settings, reread)
        self.router.start()
        self.port = int(self.router.http_url.rpartition(":")[2])

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, path: str = "/v1/traces", body: bytes | None = b"{}", token: str = "red", method: str = "", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a response."""
        given = {"authorization": f"Bearer {token}"} if token else {}
        given |= {"content-type": "application/json"} if body is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connection()
        try:
            connection.request(method or ("POST" if body is not None else "GET"), path, body, given)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, request: bytes, *, is_last: bool = False) -> bytes:
        """Send these bytes, and with `is_last` the end; return what comes back until the router closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            if is_last:
                connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65_536):
                parts.append(part)
            return b"".join(parts)


Start = Callable[..., Routed]


def export(routed: Routed, body: bytes, token: str = "red", **options: Any) -> Any:
    """Send a message; return the answer, or the error."""
    import grpc

    channel = grpc.insecure_channel(routed.router.grpc_url.removeprefix("http://"))
    try:
        return channel.unary_unary(METHOD)(
            body, metadata=(("authorization", f"Bearer {token}"),), timeout=30, **options
        )
    except grpc.RpcError as error:
        return error
    finally:
        channel.close()
