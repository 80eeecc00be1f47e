"""Content encodings of request bodies, inflated within a bound: a small body may otherwise become all of the memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final

from spanpost.intake.decoded import Undecodable

#: Of a zstd frame's window: what RFC 8878 asks every decoder to have.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024


class TooLarge(Exception):
    """A body is larger than is taken. Sending it again will not help; sending smaller ones will."""

    def __init__(self, limit: int, said: str = "") -> None:
        super().__init__(said or f"the body is larger than {limit} bytes; send smaller batches")


class UnknownEncoding(Exception):
    """A body is encoded in a way that is not understood here."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"content encoding {encoding[:40]!r} is not supported; use one of {', '.join(known())}, or none")


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body as it was before it was encoded, at most `limit` bytes.

    `encoding` is in lower case, empty or ``identity`` for none. Raises `UnknownEncoding`, `TooLarge`, and `Undecodable` for
    what is damaged or truncated.
    """
    if not encoding or encoding == "identity":
        if len(body) > limit:
            raise TooLarge(limit)
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
    parts: list[bytes] = []
    room = limit
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            if parts and not body.strip(b"\0"):
                break  # padding after the last member
            raise Undecodable(f"damaged gzip: {error}") from None
        if len(part) > room:
            raise TooLarge(limit)
        if not member.eof:
            raise Undecodable("truncated gzip")
        parts.append(part)
        room -= len(part)
        body = member.unused_data
    return b"".join(parts)


def _inflate_deflate(body: bytes, limit: int) -> bytes:
    # The name means zlib's format (RFC 9110, 8.4.1.2); some senders leave its two bytes of header away.
    for wbits in (15, -15):
        stream = zlib.decompressobj(wbits=wbits)
        try:
            whole = stream.decompress(body, limit + 1)
        except zlib.error as error:
            refusal = error
            continue
        if len(whole) > limit:
            raise TooLarge(limit)
        if not stream.eof:
            raise Undecodable("truncated deflate")
        return whole
    raise Undecodable(f"damaged deflate: {refusal}")


def _inflate_zstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise UnknownEncoding("zstd") from None
    source = io.BytesIO(body)
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(source, read_across_frames=True)
        whole = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise Undecodable(f"damaged zstd: {error}") from None
    if len(whole) > limit:
        raise TooLarge(limit)
    if not _ends_whole(body):
        raise Undecodable("truncated zstd")
    return bytes(whole)


def _ends_whole(body: bytes) -> bool:
    """Say whether the last zstd frame is complete: a reader takes what is there of a truncated one without a word."""
    import zstandard

    while body:
        frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        frame.decompress(body)
        if not frame.eof:
            return False
        body = frame.unused_data
    return True


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
