"""What ``spanpost check`` finds about the ports, sockets and certificates of this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.settings import GatewaySettings, Settings


class NamedFinding(NamedTuple):
    """A finding of the check, with the name of the component."""

    name: str
    ok: bool
    finding: str
    next_step: str = ""


def examine_metrics(settings: Settings) -> Iterator[NamedFinding]:
    """Check the port of the metrics, if the section is set."""
    section = settings.metrics
    if section is None or not section.enabled:
        return
    trouble = _cannot_listen(section.host, section.port)
    if trouble:
        cure = "stop the program that listens there, or set SPANPOST_METRICS__HOST or SPANPOST_METRICS__PORT"
        # If another process of this host has the default port, spanpost runs without it.
        yield NamedFinding("metrics", "port" not in section.model_fields_set, trouble, cure)
    else:
        yield NamedFinding("metrics", True, f"{section.host}:{section.port} is free")
    if section.exposure:
        yield NamedFinding("metrics", True, section.exposure)


def _cannot_listen(host: str, port: int, *, is_shared: bool = False) -> str:
    """Return why a port cannot be opened; empty if it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
    except OSError as error:
        return f"cannot listen on {host}:{port}: {error.strerror or error}"
    return ""


def examine_gateway(settings: Settings) -> Iterator[NamedFinding]:
    """Check the receivers of `spanpost run`, if the section is set."""
    section = settings.gateway
    if section is None or not section.enabled:
        return
    from spanpost.runtime.certificates import tls_context
    from spanpost.runtime.ports import refuse_missing
    from spanpost.settings.gateway import GatewaySettings

    for verify in (GatewaySettings.refuse_exposure, refuse_missing, tls_context):
        try:
            verify(section)
        except ConfigError as error:
            yield NamedFinding("gateway", False, str(error))  # the message says what to do
    yield from _certificates(section)
    for field, port in (("http_port", section.http_port), ("grpc_port", section.grpc_port)):
        if port < 0:
            continue
        trouble = _cannot_listen(section.host, port, is_shared=section.share_ports)
        if trouble:
            cure = (
                "a gateway may be running; else stop the program that listens there, or set "
                f"SPANPOST_GATEWAY__{field.upper()}"
            )
            yield NamedFinding("gateway", False, trouble, cure)
        else:
            yield NamedFinding("gateway", True, f"{section.host}:{port} is free for {field}")
    if section.grpc_socket is not None:
        yield _socket(section.grpc_socket)
    if section.is_exposed:
        yield NamedFinding("gateway", True, "everybody who reaches the port may write: allow_insecure is set")
    for token in section.tokens:
        if len(token.sha256) > 1:
            yield NamedFinding(
                "gateway",
                True,
                f"two tokens of tenant {token.tenant} are valid; remove the old one when it is replaced",
            )


def _certificates(section: GatewaySettings) -> Iterator[NamedFinding]:
    """Check how long the certificates are valid; unusable files were reported before."""
    from spanpost.runtime.certificates import judge

    for field, path in (("tls_certificate", section.tls_certificate), ("client_ca", section.client_ca)):
        if path is None:
            continue
        try:
            for found in judge(path, field, datetime.now(UTC)):
                yield NamedFinding("gateway", found.holds, found.said, found.cure)
        except (OSError, ValueError):
            continue


def _socket(path: Path) -> NamedFinding:
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        cure = f"make it: install -d -m 0750 {path.parent}, for the user that runs spanpost"
        return NamedFinding("gateway", False, f"grpc_socket: {path.parent} is no directory that can be written", cure)
    if path.exists() and not path.is_socket():
        return NamedFinding(
            "gateway",
            False,
            f"grpc_socket: {path} is there and is no socket",
            "name another path, or move the file away",
        )
    return NamedFinding("gateway", True, f"{path} can be made for grpc_socket")
