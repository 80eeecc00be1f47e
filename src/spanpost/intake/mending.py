"""A minimal mending of odd values; stands in for ``fold.mend``, which has the same three names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanpost.domain.observations import Repair

_DEPTH = 16


def mend(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the attributes as JSON-like values, and the bits of what was repaired."""
    mended: dict[str, Any] = {}
    repairs = 0
    for key, value in attributes.items():
        kept, bits = mend_value(value)
        mended[key if type(key) is str else str(key)] = kept
        repairs |= bits
    return mended, repairs


def mend_text(text: str, limit: int = 64 * 1024) -> tuple[str, int]:
    """Return text without NUL and lone surrogates, at most `limit` characters, and the bits of what was repaired."""
    repairs = 0
    if "\0" in text or not (text.isascii() or text.encode("utf-8", "ignore").decode() == text):
        text = text.replace("\0", "\u2400").encode("utf-8", "replace").decode()
        repairs = Repair.TEXT
    if len(text) > limit:
        return text[:limit], repairs | Repair.TRUNCATED
    return text, repairs


def mend_value(value: Any, depth: int = 0) -> tuple[Any, int]:
    """Return one value as `mend` would, and the bits of what was repaired."""
    kind = type(value)
    if kind is bool or value is None:
        return value, 0
    if kind is str:
        return mend_text(value)
    if kind is int:
        return (value, 0) if -(2**63) < value < 2**63 else (hex(value), Repair.NUMBER)
    if kind is float:
        return (value, 0) if value - value == 0.0 else (str(value), Repair.NUMBER)
    if depth >= _DEPTH:
        return "…", Repair.DEPTH
    if isinstance(value, (list, tuple)):
        pairs = [mend_value(v, depth + 1) for v in value]
        bits = 0
        for _, b in pairs:
            bits |= b
        return [v for v, _ in pairs], bits
    if isinstance(value, Mapping):
        bits = 0
        kept: dict[str, Any] = {}
        for k, v in value.items():
            kept[str(k)], b = mend_value(v, depth + 1)
            bits |= b
        return kept, bits
    return f"<{kind.__module__}.{kind.__qualname__}>", Repair.TEXT
