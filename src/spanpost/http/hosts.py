"""Strict parsing of hosts, origins and addresses in requests and settings."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_PORT: Final = re.compile(r"[0-9]{1,5}")
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,252})")
_ORIGIN: Final = re.compile(r"(https?)://(.+)")
#: Longest address in characters: IPv6 that ends in IPv4.
_LONGEST: Final = 45
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Host(NamedTuple):
    """A host in lower case; an IPv6 address without brackets."""

    name: str
    port: int | None = None


class HttpOrigin(NamedTuple):
    """The origin of a web page."""

    scheme: str
    name: str
    port: int


def host_of(text: str) -> Host | None:
    """Parse a host with an optional port; None for any other text."""
    if text.startswith("["):
        name, is_closed, rest = text[1:].partition("]")
        if not is_closed or not isinstance(_address(name), IPv6Address) or (rest and rest[0] != ":"):
            return None
        is_with_port, port = bool(rest), rest[1:]
    else:
        name, colon, port = text.lower().partition(":")
        is_with_port = bool(colon)
        if not text.isascii() or not _NAME.fullmatch(name):
            return None
    if is_with_port and not (_PORT.fullmatch(port) and int(port) <= 65_535):
        return None
    return Host(name.lower(), int(port) if is_with_port else None)


def origin_of(text: str) -> HttpOrigin | None:
    """Parse an origin; None for any other text, ``null`` included."""
    found = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    host = host_of(found[2]) if found is not None else None
    return origin_at(found[1], host) if found is not None and host is not None else None


def origin_at(scheme: str, host: Host) -> HttpOrigin:
    """Return the origin of pages that a host serves."""
    return HttpOrigin(scheme, host.name, host.port if host.port is not None else DEFAULT_PORTS[scheme])


def is_loopback(name: str) -> bool:
    """Whether a host is this machine: ``localhost``, or a loopback address."""
    address = _address(name)
    return name.lower() == "localhost" if address is None else address.is_loopback


def address_of(text: str) -> Address | None:
    """Parse an address, IPv4-mapped IPv6 as IPv4; None for any other text."""
    address = _address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _address(text: str) -> Address | None:
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)  # every request names the same few, several times
def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text) if "%" not in text else None
    except ValueError:
        return None
