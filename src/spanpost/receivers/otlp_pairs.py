"""The attributes of one protobuf request, cached by their bytes.

Most attributes of a body repeat byte for byte: they are parsed once and looked up afterwards. A new one is
parsed by hand if it has the shape that encoders give to short text and plain numbers, otherwise by protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.elements import VALUES, too_many_values
from spanpost.receivers.otlp_classes import pair
from spanpost.receivers.protobuf_pieces import has_more_fields
from spanpost.text.repair import (
    DROPPED,
    GOOD_KEYS,
    MAX_ATTRIBUTES,
    MAX_INT,
    SHORT,
    is_clean_list,
    is_good_key,
    most_informative,
)

#: Tags of the wire format: field number and type. A pair's key and value; a value's text, truth, integer and
#: double.
_KEY, _VALUE = 0x0A, 0x12
_TEXT, _TRUTH, _INTEGER, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
_double = struct.Struct("<d").unpack
#: Longer pairs, in bytes, are not cached: they rarely repeat.
_REMEMBERED = 160
#: Attributes of one span whose values are read (`mend` keeps `MAX_ATTRIBUTES`), and whose names are read.
#: Further ones are counted.
_READ, _NAMED = 512, 8192
#: The values of longer pairs, in bytes, are counted before parsing.
_COUNTED = 2 * VALUES

Pair = tuple[str, Any]


class Pairs(dict[bytes, Pair]):
    """Maps the bytes of a request's pairs to parsed pairs.

    Look-up parses a new one, and may raise `Undecodable`.
    """

    __slots__ = ("_keys", "is_clean", "is_utf8", "values_read")

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[bytes, str] = {}
        #: Whether `mend` would surely not change the last result.
        self.is_clean = True
        #: Since `begin`: whether all text was UTF-8, and the number of values read in lists and maps.
        self.is_utf8 = True
        self.values_read = 0

    def begin(self) -> None:
        """Start a span, a record or a data point."""
        self.is_utf8 = True
        self.values_read = 0

    def attributes(self, pairs: Sequence[bytes]) -> dict[str, Any]:
        """Return pairs as a dict; sets `is_clean`."""
        self.is_clean = True
        if len(pairs) > _READ:
            return self._some(pairs)
        found = dict(map(self.__getitem__, pairs))
        if len(found) > MAX_ATTRIBUTES:
            self.is_clean = False
        return found

    def _some(self, pairs: Sequence[bytes]) -> dict[str, Any]:
        """Return many pairs; values that `mend` will drop are not read and become None."""
        by_name = {self._name(raw): raw for raw in pairs[:_NAMED]}
        read = set(most_informative(by_name, _READ))
        found = {name: self[raw][1] if name in read else None for name, raw in by_name.items()}
        if len(pairs) > _NAMED:
            found[DROPPED] = len(pairs) - _NAMED
        self.is_clean = len(found) <= MAX_ATTRIBUTES and self.is_clean
        return found

    def _name(self, raw: bytes) -> str:
        if len(raw) > 2 and raw[0] == _KEY and raw[1] < 128 and raw[raw[1] + 2 : raw[1] + 3] == b"\x12":
            return self.text(raw[2 : raw[1] + 2])
        return self[raw][0]

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
        """Parse a pair in its plainest form (key, then value, each under 128 bytes); None: another form."""
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
        if len(raw) > _COUNTED and has_more_fields(raw, kind.DESCRIPTOR, VALUES):
            raise too_many_values()
        try:
            message = kind.FromString(raw)
        except Exception as error:  # protobuf's DecodeError
            raise Undecodable(f"an attribute is not protobuf: {error}") from None
        return self.text(message.key), self.value(message.value)

    def text(self, raw: bytes) -> str:
        """Decode text; invalid UTF-8 becomes U+FFFD, and `is_utf8` False."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.is_utf8 = False
            return raw.decode("utf-8", "replace")

    def value(self, value: Any) -> Any:
        """Return the value of an AnyValue; None: unset.

        Raises `TooHeavy` for too many values since `begin`.
        """
        kind = value.WhichOneof("value")
        if kind == "string_value":
            return self.text(value.string_value)
        if kind is None:
            return None
        content = getattr(value, kind)
        if kind == "array_value" or kind == "kvlist_value":
            inner = content.values
            self.values_read += len(inner)
            if self.values_read > VALUES:
                raise too_many_values()
            if kind == "array_value":
                return [self.text(v.string_value) if v.string_value else v.int_value or self.value(v) for v in inner]
            return {
                self.text(p.key): self.text(v.string_value)
                if (v := p.value).string_value
                else v.int_value or self.value(v)
                for p in inner
            }
        return content


def _is_clean(key: str, value: Any) -> bool:
    """Whether `mend` would surely not change the pair. The rules are those of `mend`."""
    kind = type(value)
    if kind is str:
        if len(value) > SHORT or "\0" in value:
            return False
    elif kind is int:
        if value < -MAX_INT:  # the only OTLP integer that `mend` does not keep
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
