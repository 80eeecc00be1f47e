"""One HTTP exchange over asyncio's streams, directly or through a proxy. Uses the standard library alone."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

#: Maximum bytes of an answer, and of one line of it.
_MOST: Final = 4 * 1024 * 1024
_LINE: Final = 64 * 1024
#: Maximum number of interim answers (1xx), which are ignored.
_INTERIM: Final = 20


class NoProxy(Exception):
    """The proxy of the environment is malformed, or refuses. The text may be shown."""


@dataclass(frozen=True)
class Proxy:
    """A proxy and its credentials."""

    host: str
    port: int
    is_tls: bool
    headers: Mapping[str, str] = field(repr=False)


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the environment's proxy for an address, or None.

    None: the address is in ``NO_PROXY``, or on this machine. Raises `NoProxy`.
    """
    if _is_here(host):
        return None
    # Not urllib's `getproxies`, which asks the whole operating system.
    proxies = getproxies_environment()
    said = (proxies.get(scheme) or proxies.get("all") or "").strip()
    if not said or proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        found = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, found = urlsplit(""), (None, 0)
    if parts.scheme not in ("http", "https") or not found[0]:
        raise NoProxy(f"the proxy in {scheme.upper()}_PROXY is not an http:// one; name one, or put {host} in NO_PROXY")
    headers = {}
    if parts.username is not None:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["proxy-authorization"] = f"Basic {b64encode(who.encode()).decode()}"
    return Proxy(found[0], found[1], parts.scheme == "https", headers)


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class WireOrigin:
    """The server that requests go to."""

    host: str
    port: int
    is_tls: bool

    @property
    def authority(self) -> str:
        """Host and port, as written in a request."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def exchange(
    origin: WireOrigin, tls: ssl.SSLContext | None, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    """Return the status and body of the answer.

    Raises `NoProxy`, the errors of asyncio's streams and of ssl, and `ValueError` for a malformed answer.
    """
    proxy = proxy_for("https" if origin.is_tls else "http", origin.host, origin.port)
    if proxy is None:
        reader, writer = await asyncio.open_connection(
            origin.host, origin.port, ssl=tls if origin.is_tls else None, limit=_LINE
        )
    else:
        secured = ssl.create_default_context() if proxy.is_tls else None
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=secured, limit=_LINE)
    try:
        more: Mapping[str, str] = {}
        if proxy is not None and origin.is_tls:
            await _send(writer, "CONNECT", origin.authority, {"host": origin.authority, **proxy.headers}, b"")
            status, _ = await _head(reader)
            if not 200 <= status < 300:
                raise _refused(status)
            await writer.start_tls(tls or ssl.create_default_context(), server_hostname=origin.host)
        elif proxy is not None:
            target, more = f"http://{origin.authority}{target}", proxy.headers
        await _send(writer, method, target, {"host": origin.authority, "connection": "close", **headers, **more}, body)
        status, headers = await _head(reader)
        if status == 407:
            raise _refused(status)
        return status, await _body(reader, headers)
    finally:
        writer.close()


def _refused(status: int) -> Exception:
    if status >= 500:
        return ConnectionError(f"the proxy answers {status}")  # the server behind it cannot be reached
    return NoProxy(f"the proxy refuses ({status}): look at HTTP_PROXY and HTTPS_PROXY, or put the host in NO_PROXY")


async def _send(
    writer: asyncio.StreamWriter, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> None:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
    await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read status and headers, names in lower case."""
    for _ in range(_INTERIM):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        status = rest[:3]
        if not protocol.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
            raise ValueError("what answers speaks no HTTP/1")
        if status[0] != "1":
            return int(status), {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
    raise ValueError("no end of interim answers")


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        parts, size = [], 0
        while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            size += length
            if length < 0 or size > _MOST:
                raise ValueError("the answer is too long")
            parts.append(await reader.readexactly(length))
            await reader.readexactly(2)
        return b"".join(parts)
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= _MOST:
            raise ValueError("the answer is too long")
        return await reader.readexactly(length)
    whole = b""
    while part := await reader.read(_LINE):  # to the end of the connection
        whole += part
        if len(whole) > _MOST:
            raise ValueError("the answer is too long")
    return whole
