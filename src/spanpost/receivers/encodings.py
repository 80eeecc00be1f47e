"""Content encodings of request bodies, inflated up to a limit: otherwise a small body could use up all
memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from spanpost.receivers.decoded import Undecodable

#: Largest window of a zstd frame, bytes: RFC 8878 requires it of every decoder.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
#: Most members (gzip) or frames (zstd) of a body: each costs a new decoder, and may be nine empty bytes.
MEMBERS: Final = 1024
#: Input bytes of one call. The output of zstd cannot be limited; for this input it is at most 16 MiB.
_STEP: Final = 64 * 1024
_ZSTD_STEP: Final = 512
#: Output bytes of one call, if the decoder can limit them.
_PART: Final = 1024 * 1024


class BodyTooLarge(Exception):
    """A body is larger than allowed. Sending it again will not help; smaller bodies will."""

    def __init__(self, limit: int, message: str = "") -> None:
        super().__init__(message or f"the body is larger than {limit} bytes; send smaller batches")


class UnknownEncoding(Exception):
    """A body's content encoding is not supported."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"content encoding {encoding[:40]!r} is not supported; use one of {', '.join(known())}, or none"
        )


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the decoded body, at most `limit` bytes.

    `encoding` is in lower case; empty or ``identity``: none. Raises `UnknownEncoding`, `BodyTooLarge`, and
    `Undecodable` for a damaged or truncated body.
    """
    if not encoding or encoding == "identity":
        if len(body) > limit:
            raise BodyTooLarge(limit)
        return body
    decode = _DECODERS.get(encoding)
    if decode is None:
        raise UnknownEncoding(encoding)
    if not body:
        return b""  # an empty body is an empty request, in any encoding
    return decode(body, limit)


def known() -> tuple[str, ...]:
    """Return the supported encodings."""
    return ("gzip", "deflate", "zstd") if _has_zstd() else ("gzip", "deflate")


def gunzip(body: bytes, limit: int) -> bytes:
    """Return all members of a gzip body; limits and errors as in `inflate`."""
    return _inflate_members("gzip", body, limit, lambda: zlib.decompressobj(wbits=31), _STEP)


def _inflate_zstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise UnknownEncoding("zstd") from None
    frames = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return _inflate_members("zstd", body, limit, frames.decompressobj, _ZSTD_STEP)


def _inflate_members(encoding: str, body: bytes, limit: int, begin: Callable[[], Any], step: int) -> bytes:
    """Inflate a body of consecutive members, each with a new decoder from `begin`.

    A decoder gets `step` bytes at a time: the rest that it leaves over is copied, once per member.
    """
    parts: list[bytes] = []
    left, at, members = limit, 0, 0
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
                    part = (
                        member.decompress(given)
                        if encoding == "zstd"
                        else member.decompress(given, min(left + 1, _PART))
                    )
                except Exception as error:  # zlib's and zstandard's own
                    if members > 1 and not body[at - len(given) :].strip(b"\0"):
                        return b"".join(parts)  # padding after the last member
                    raise Undecodable(f"damaged {encoding}: {error}") from None
                parts.append(part)
                left -= len(part)
                if left < 0:
                    raise BodyTooLarge(limit)
                given = member.unconsumed_tail
        if not member.eof:
            raise Undecodable(f"truncated {encoding}")
        at -= len(member.unused_data)
    return b"".join(parts)


def _inflate_deflate(body: bytes, limit: int) -> bytes:
    # The name means zlib's format (RFC 9110, 8.4.1.2); some senders omit its two header bytes.
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


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": gunzip,
    "x-gzip": gunzip,
    "deflate": _inflate_deflate,
    "zstd": _inflate_zstd,
}
