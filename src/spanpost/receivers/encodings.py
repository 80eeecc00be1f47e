"""Content encodings of request bodies, inflated within a bound: a small body may otherwise become all of the memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from spanpost.receivers.decoded import Undecodable

#: Of a zstd frame's window: what RFC 8878 asks every decoder to have.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
#: Members (gzip) or frames (zstd) of a body: each is begun anew, and may be nine bytes that hold nothing.
MEMBERS: Final = 1024
#: Bytes that are given to one call. What zstd gives back has no bound, and is at most 16 MiB for so few.
_STEP: Final = 64 * 1024
_ZSTD_STEP: Final = 512
#: Bytes that one call gives back, where it can be told.
_PART: Final = 1024 * 1024


class BodyTooLarge(Exception):
    """A body is larger than is taken. Sending it again will not help; sending smaller ones will."""

    def __init__(self, limit: int, said: str = "") -> None:
        super().__init__(said or f"the body is larger than {limit} bytes; send smaller batches")


class UnknownEncoding(Exception):
    """A body is encoded in a way that is not understood here."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"content encoding {encoding[:40]!r} is not supported; use one of {', '.join(known())}, or none")


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body as it was before it was encoded, at most `limit` bytes.

    `encoding` is in lower case, empty or ``identity`` for none. Raises `UnknownEncoding`, `BodyTooLarge`, and `Undecodable` for
    what is damaged or truncated.
    """
    if not encoding or encoding == "identity":
        if len(body) > limit:
            raise BodyTooLarge(limit)
        return body
    way = _WAYS.get(encoding)
    if way is None:
        raise UnknownEncoding(encoding)
    if not body:
        return b""  # nothing at all is an empty request, whatever it is said to be encoded with
    return way(body, limit)


def known() -> tuple[str, ...]:
    """Return the encodings that are understood."""
    return ("gzip", "deflate", "zstd") if _has_zstd() else ("gzip", "deflate")


def gunzip(body: bytes, limit: int) -> bytes:
    """Return all members of a gzip body; `inflate` says the rest."""
    return _inflate_members("gzip", body, limit, lambda: zlib.decompressobj(wbits=31), _STEP)


def _inflate_zstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise UnknownEncoding("zstd") from None
    frames = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return _inflate_members("zstd", body, limit, frames.decompressobj, _ZSTD_STEP)


def _inflate_members(encoding: str, body: bytes, limit: int, begin: Callable[[], Any], step: int) -> bytes:
    """Return a body that consists of members one after the other, of which each is inflated by an object that `begin` makes.

    A member is given `step` bytes at a time: what it leaves over is copied, once for each member.
    """
    parts: list[bytes] = []
    section, at, members = limit, 0, 0
    while at < len(body):
        members += 1
        if members > MEMBERS:
            raise BodyTooLarge(limit, f"the body has more than {MEMBERS} {encoding} members; compress each body as one")
        member = begin()
        while not member.eof and at < len(body):
            given = body[at : at + step]
            at += len(given)
            while given:
                try:
                    part = member.decompress(given) if encoding == "zstd" else member.decompress(given, min(section + 1, _PART))
                except Exception as error:  # zlib's and zstandard's own
                    if members > 1 and not body[at - len(given) :].strip(b"\0"):
                        return b"".join(parts)  # padding after the last member
                    raise Undecodable(f"damaged {encoding}: {error}") from None
                parts.append(part)
                section -= len(part)
                if section < 0:
                    raise BodyTooLarge(limit)
                given = member.unconsumed_tail
        if not member.eof:
            raise Undecodable(f"truncated {encoding}")
        at -= len(member.unused_data)
    return b"".join(parts)


def _inflate_deflate(body: bytes, limit: int) -> bytes:
    # The name means zlib's format (RFC 9110, 8.4.1.2); some senders leave its two bytes of header away.
    try:
        return _inflate_members("deflate", body, limit, zlib.decompressobj, _STEP)
    except Undecodable as error:
        try:
            return _inflate_members("deflate", body, limit, lambda: zlib.decompressobj(wbits=-15), _STEP)
        except Undecodable:
            raise error from None


def _has_zstd() -> bool:
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return False
    return True


_WAYS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": gunzip,
    "x-gzip": gunzip,
    "deflate": _inflate_deflate,
    "zstd": _inflate_zstd,
}
