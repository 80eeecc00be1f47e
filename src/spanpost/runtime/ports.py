"""The ports and sockets of a gateway: listen on them, and say what to do if that fails."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

from spanpost.model.errors import ConfigError
from spanpost.runtime import workers
from spanpost.settings.gateway import GatewaySettings

if TYPE_CHECKING:
    from spanpost.receivers.otlp_grpc import GrpcServer


def url(is_secure: bool, host: str, port: int) -> str:
    """Return an address as people write it."""
    scheme = "https" if is_secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def listen_http(section: GatewaySettings) -> socket.socket | None:
    """Return the listening socket of the HTTP port; None without one. Raises `ConfigError`."""
    if section.http_port < 0:
        return None
    from spanpost.http.server import listen

    try:
        return listen(section.host, section.http_port, is_shared=section.share_ports)
    except (OSError, OverflowError) as error:
        raise _taken("http_port", section.host, section.http_port, error) from None


def listen_grpc(server: GrpcServer, section: GatewaySettings, *, is_secure: bool) -> str:
    """Let a server listen on its port and socket; return the port's address. Raises `ConfigError`."""
    address = ""
    if section.grpc_port >= 0:
        host = f"[{section.host}]" if ":" in section.host else section.host
        try:
            port = server.listen(f"{host}:{section.grpc_port}")
        except OSError as error:
            raise _taken("grpc_port", section.host, section.grpc_port, error) from None
        address = url(is_secure, section.host, port)
    if section.grpc_socket is not None and workers.is_first():
        try:
            _refuse_foreign(section.grpc_socket)
            server.listen_on_socket(section.grpc_socket)
        except OSError as error:
            raise ConfigError(
                f"gateway.grpc_socket: cannot listen on {section.grpc_socket}: {error}; its directory must exist and "
                "be ours to write, and the path have fewer than 100 bytes"
            ) from None
    return address


def refuse_missing(section: GatewaySettings) -> None:
    """Raise `ConfigError` if a package of the receivers is missing."""
    wanted = ["opentelemetry.proto", "uvicorn", "httptools", "starlette"] + (
        ["grpc"] if section.grpc_port >= 0 or section.grpc_socket else []
    )
    for name in wanted:
        try:
            __import__(name)
        except ImportError as error:
            raise ConfigError(
                f"gateway: {error.name or name} is missing; install it with: pip install 'spanpost[gateway]'"
                " (or turn the gateway off: SPANPOST_GATEWAY__ENABLED=false)"
            ) from None


def _refuse_foreign(path: os.PathLike[str]) -> None:
    """Raise OSError if the socket's path holds another kind of file, which would be removed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError("the path is taken by a file that is not a socket")


def _taken(field: str, host: str, port: int, error: BaseException) -> ConfigError:
    why = getattr(error, "strerror", None) or str(error)
    return ConfigError(
        f"gateway.{field}: cannot listen on {host} port {port}: {why}; stop what listens there (a Collector "
        f"takes 4317 and 4318 by default), or set SPANPOST_GATEWAY__{field.upper()} to another port, 0 for a free one, "
        "-1 for none"
    )
