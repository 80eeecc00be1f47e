"""Repairs attribute values so that JSON and PostgreSQL can store them: text, numbers, lists and maps.

Nothing raises, and no foreign object is asked for its repr (it might block or raise). Changes are flagged
by bits of `Repair`. Limits: 128 attributes, 64 KiB per value, 16 levels, about 1 MiB per span.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.observations import Repair

#: The SDK's own default (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT).
MAX_ATTRIBUTES = 128
MAX_VALUE = 64 * 1024
MAX_DEPTH = 16
MAX_KEY = 256
#: Attribute with the number of dropped attributes.
DROPPED = "spanpost.dropped_attributes"

#: Before bytes, which become text.
BYTES = "base64:"
#: Text up to this length is never cut; integers stay within plus and minus `MAX_INT`.
SHORT = 4096
_MAX_BYTES = 1024 * 1024
_NODES = 4096
_FLAT_DEPTH = 48
MAX_INT = 2**63 - 1
_SURROGATES = re.compile("[\ud800-\udfff]")
_INDEXED = re.compile(r"\.\d+(\.|$)")
#: Types of the standard library whose `str()` is safe and short.
_PLAIN = frozenset({Decimal, UUID, datetime, date, time, timedelta})


def mend(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the attributes as JSON-like values, and the bits of repairs.

    Returns the same dict if it is clean.
    """
    if type(attributes) is dict and len(attributes) <= MAX_ATTRIBUTES:
        for key, value in attributes.items():
            t = type(value)
            if t is str:
                if len(value) > SHORT or "\0" in value or not (value.isascii() or not _SURROGATES.search(value)):
                    break
            elif t is int:
                if not -MAX_INT <= value <= MAX_INT:
                    break
            elif t is float:
                if value - value != 0.0:  # NaN or infinite
                    break
            elif t is list:
                if not is_clean_list(value):
                    break
            elif t is not bool and value is not None:
                break
            if type(key) is not str or (key not in GOOD_KEYS and not is_good_key(key)):
                break
        else:
            return attributes, 0
    try:
        return _mend_all(attributes)
    except Exception:  # a foreign mapping may raise while it is read
        return {}, Repair.TRUNCATED


#: Keys that were checked before. They are few, and checking them again would be a third of the cost.
GOOD_KEYS: set[str] = set()


def is_good_key(key: str) -> bool:
    """Tell whether a key outside `GOOD_KEYS` needs no repair."""
    if not key.isascii() or len(key) > MAX_KEY or "\0" in key:
        return False
    if len(GOOD_KEYS) < 8192 and len(key) <= 64:
        GOOD_KEYS.add(key)
    return True


def is_clean_list(values: list[Any]) -> bool:
    """Tell whether a list certainly needs no repair."""
    # Frequent lists are short and of short words (finish reasons).
    return len(values) <= 16 and all(type(v) is str and len(v) <= 256 and v.isascii() and "\0" not in v for v in values)


def mend_text(text: str, limit: int = MAX_VALUE) -> tuple[str, int]:
    """Return text without NUL and lone surrogates, at most `limit` UTF-8 bytes, and the bits of repairs."""
    if text.isascii() and len(text) <= limit and len(text) <= SHORT and "\0" not in text:
        return text, 0
    repairer = _Repairer()
    return repairer.text(text, limit), repairer.repairs


def mend_value(value: Any) -> tuple[Any, int]:
    """Return one value (a log record's body) as `mend` would, and the bits of repairs."""
    repairer = _Repairer()
    return repairer.value(value, 1), repairer.repairs


def _mend_all(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    repairer = _Repairer()
    items: Iterable[tuple[Any, Any]] = attributes.items()
    dropped = 0
    if len(attributes) > MAX_ATTRIBUTES:
        before = attributes.get(DROPPED)  # dropped before by the reader
        names = most_informative((name for name in attributes if name != DROPPED), MAX_ATTRIBUTES - 1)
        items = [(name, attributes[name]) for name in names]
        dropped = len(attributes) - len(names)
        if type(before) is int and before > 0:
            dropped += before - 1
        repairer.repairs |= Repair.TRUNCATED
    mended: dict[str, Any] = {}
    for key, value in items:
        mended[repairer.key(key)] = repairer.value(value, 1)
    if dropped:
        mended[DROPPED] = dropped
    return mended, repairer.repairs


def most_informative(names: Iterable[Any], most: int) -> list[Any]:
    """Return at most `most` names.

    Flattened lists (llm.input_messages.17.…) go first: plain names say what a span is.
    """
    return sorted(names, key=_rank)[:most]


def _rank(key: Any) -> int:
    if type(key) is not str or not _INDEXED.search(key):
        return 0
    return 1 if "output" in key else 2


class _Repairer:
    """The remaining budget of one span, and its repairs."""

    __slots__ = ("bytes_left", "nodes", "repairs")

    def __init__(self) -> None:
        self.repairs = 0
        self.bytes_left = _MAX_BYTES
        self.nodes = _NODES

    def key(self, key: Any) -> str:
        if type(key) is str:
            if key.isascii() and len(key) <= MAX_KEY and "\0" not in key:
                return key
            text = key
        else:
            self.repairs |= Repair.TEXT
            text = self.value(key, MAX_DEPTH)
            text = text if isinstance(text, str) else _json(text)
        return self.text(text, MAX_KEY)

    def value(self, value: Any, depth: int) -> Any:
        t = type(value)
        if t is str:
            if value.isascii() and len(value) <= SHORT and depth == 1 and "\0" not in value:
                return value
            return self.text(value, MAX_VALUE)
        if t is bool or value is None:
            return value
        if t is int:
            return self.number(value)
        if t is float:
            if value - value == 0.0:
                return value
            self.repairs |= Repair.NUMBER
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        if t is list or t is tuple or t is dict:
            return self.container(value, depth)
        return self.other(value, depth)

    def text(self, text: str, limit: int) -> str:
        if "\0" in text:
            self.repairs |= Repair.TEXT
            text = text.replace("\0", "\u2400")
        size = len(text)
        if not text.isascii():
            if _SURROGATES.search(text):
                self.repairs |= Repair.TEXT
                text = _SURROGATES.sub("\ufffd", text)
            if size > limit // 4:
                size = len(text.encode())
        if size > SHORT:
            if self.bytes_left < size:
                limit = min(limit, max(self.bytes_left, SHORT // 16))
            self.bytes_left -= min(size, limit)
        if size <= limit:
            return text
        self.repairs |= Repair.TRUNCATED
        whole = text.encode()
        mark = f"…[{len(whole)} bytes, sha256 {sha256(whole).hexdigest()[:16]}]"
        kept = max(limit - len(mark.encode()), 0)
        return whole[:kept].decode("utf-8", "ignore") + mark

    def number(self, value: int) -> int | str:
        if -MAX_INT <= value <= MAX_INT:
            return value
        self.repairs |= Repair.NUMBER
        # str() of a huge int is quadratic and refused above 4,300 digits; hex is linear.
        return str(value) if value.bit_length() < 10_000 else self.text(hex(value), SHORT)

    def container(self, value: Any, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            if depth == MAX_DEPTH and value:
                self.repairs |= Repair.DEPTH
                return self.text(_json(self.container(value, depth + 1)), MAX_VALUE)
            if depth >= _FLAT_DEPTH:
                self.repairs |= Repair.TRUNCATED
                return "…"
        is_map = isinstance(value, dict)
        mended: Any = {} if is_map else []
        for item in dict.items(value) if is_map else value:
            if self.nodes <= 0 or self.bytes_left <= 0:
                self.repairs |= Repair.TRUNCATED
                if is_map:
                    mended["…"] = len(value) - len(mended)
                else:
                    mended.append(f"…[{len(value) - len(mended)} more]")
                break
            self.nodes -= 1
            if is_map:
                mended[self.key(item[0])] = self.nested(item[1], depth + 1)
            else:
                mended.append(self.nested(item, depth + 1))
        return mended

    def nested(self, value: Any, depth: int) -> Any:
        mended = self.value(value, depth)
        if type(mended) is str:
            self.bytes_left -= min(len(mended), SHORT)  # longer text was counted already
        return mended

    def other(self, value: Any, depth: int) -> Any:
        """Repair a type that OTLP does not have.

        Subclasses are read as their base; other types give only their name.
        """
        self.repairs |= Repair.TEXT
        try:
            if isinstance(value, (bytes, bytearray, memoryview)):
                raw = bytes(value[: MAX_VALUE // 2]) if len(value) > MAX_VALUE // 2 else bytes(value)
                if len(raw) < len(value):
                    self.repairs |= Repair.TRUNCATED
                return self.text(BYTES + b64encode(raw).decode(), MAX_VALUE)
            if isinstance(value, str):
                return self.text(str.__str__(value), MAX_VALUE)
            if isinstance(value, int):
                return self.number(int.__int__(value))
            if isinstance(value, float):
                return self.value(float.__float__(value), depth)
            if isinstance(value, dict):
                return self.container(value, depth)
            if isinstance(value, list):
                return self.container(list.copy(value), depth)
            if isinstance(value, (tuple, set, frozenset)):
                return self.container(tuple(value) if isinstance(value, tuple) else _sorted(value), depth)
            if type(value) in _PLAIN or isinstance(value, PurePath):
                return self.text(str(value), SHORT)
            kind = type(value)
            return self.text(
                f"<{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__qualname__')}>", SHORT
            )
        except Exception:
            return "<unreadable>"


def _sorted(values: Any) -> list[Any]:
    # A set has no order; the same set must give the same content hash twice.
    some = [v for _, v in zip(range(_NODES), values, strict=False)]
    try:
        return sorted(some)
    except Exception:
        return some


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
