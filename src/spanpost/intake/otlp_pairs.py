"""The attributes of one protobuf request, told by their bytes.

Most attributes of a body are met again and again, to the byte: they are read once, and looked up from then on. What is met
for the first time is read by hand where it has the shape that encoders give to short text and plain numbers, and by protobuf
where it has not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from spanpost.fold.mend import GOOD_KEYS, MAX_ATTRIBUTES, MAX_INT, SHORT, is_clean_list, is_good_key
from spanpost.intake.decoded import Undecodable
from spanpost.intake.otlp_classes import pair, salvaged

#: Tags of the wire format: field number and type. A pair's key and value; a value's text, truth, integer and double.
_KEY, _VALUE = 0x0A, 0x12
_TEXT, _TRUTH, _INTEGER, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
_double = struct.Struct("<d").unpack
#: Pairs of more bytes are text of its own, not met again.
_REMEMBERED = 160

Pair = tuple[str, Any]


class Pairs(dict[bytes, Pair]):
    """The pairs of one request by their bytes; one that was not met before is read, and raises `Undecodable`."""

    __slots__ = ("_keys", "is_clean", "is_utf8")

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[bytes, str] = {}
        #: Whether `mend` would surely leave alone what was returned last.
        self.is_clean = True
        #: Whether all text was UTF-8 since the reader set this.
        self.is_utf8 = True

    def attributes(self, pairs: Iterable[bytes]) -> dict[str, Any]:
        """Return pairs as a dict, of which `is_clean` then tells."""
        self.is_clean = True
        found = dict(map(self.__getitem__, pairs))
        if len(found) > MAX_ATTRIBUTES:
            self.is_clean = False
        return found

    def __missing__(self, raw: bytes) -> Pair:
        try:
            found = self._plain(raw)
        except UnicodeDecodeError:
            found = None
        if found is None:
            found = self._parsed(raw)
        if not _is_clean(*found):
            self.is_clean = False
        elif len(raw) <= _REMEMBERED and self.is_utf8:
            self[raw] = found
        return found

    def _plain(self, raw: bytes) -> Pair | None:
        """Read a pair in its plainest shape: a key and a value, each once, in this order, in less than 128 bytes."""
        end = len(raw)
        if end < 6 or raw[0] != _KEY or raw[1] > 127:
            return None
        at = raw[1] + 2
        size = end - at - 2
        if not 2 <= size <= 127 or raw[at] != _VALUE or raw[at + 1] != size:
            return None
        kind, first = raw[at + 2], raw[at + 3]
        value: Any
        if kind == _TEXT:
            if first != size - 2:
                return None
            value = raw[at + 4 :].decode()
        elif kind == _INTEGER:
            if size > 10:
                return None  # a negative one
            value = shift = 0
            for byte in raw[at + 3 : end - 1]:
                if byte < 128:
                    return None
                value |= (byte & 127) << shift
                shift += 7
            if raw[-1] > 127:
                return None
            value |= raw[-1] << shift
        elif kind == _TRUTH and size == 2 and first < 2:
            value = first == 1
        elif kind == _DOUBLE and size == 9:
            value = _double(raw[at + 3 :])[0]
        else:
            return None
        key = self._keys.get(head := raw[2:at])
        if key is None:
            key = self._keys[head] = head.decode()
        return key, value

    def _parsed(self, raw: bytes) -> Pair:
        kind = pair()
        try:
            message = kind.FromString(raw)
        except Exception as error:  # protobuf's DecodeError, or a UnicodeDecodeError of its pure Python twin
            try:
                message = kind.FromString(salvaged(kind, raw))
            except Exception:
                raise Undecodable(f"an attribute is not protobuf: {error}") from None
            self.is_utf8 = False
        return message.key, value_of(message.value)


def _is_clean(key: str, value: Any) -> bool:
    """Tell whether `mend` would surely leave the pair as it is. The rules are `mend`'s."""
    kind = type(value)
    if kind is str:
        if len(value) > SHORT or "\0" in value:
            return False
    elif kind is int:
        if value < -MAX_INT:  # the one integer that OTLP can hold and `mend` does not
            return False
    elif kind is list:
        if not is_clean_list(value):
            return False
    elif kind is float:
        if value - value != 0.0:  # NaN or infinite
            return False
    elif kind is not bool and value is not None:
        return False
    return key in GOOD_KEYS or is_good_key(key)


def value_of(value: Any) -> Any:
    """Return what an AnyValue holds; None for nothing."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [v.string_value or v.int_value or value_of(v) for v in content.values]
    if kind == "kvlist_value":
        return {p.key: p.value.string_value or p.value.int_value or value_of(p.value) for p in content.values}
    return content
