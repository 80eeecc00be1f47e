"""Splits and shrinks encoded OTLP requests, so that each fits what the endpoint takes.

Sizes are those of the encoded request before compression: gRPC and the Collector's HTTP receiver apply their
limits to the decompressed size. A span or record that is alone too large is shrunk: its longest texts are
cut and marked (`spanpost.text.repair`), and then its largest events, links and attributes are left out and
counted in its `dropped_…_count`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from spanpost.receivers.otlp_classes import request
from spanpost.receivers.protobuf_pieces import fields_beside, messages_in, wrap
from spanpost.text.repair import mend_text

_ENTRY: Final = 2
#: Bytes that a field's tag and length take at most.
_TAG: Final = 6
#: Texts up to this many bytes are never cut.
_SHORT: Final = 256
#: How deep attribute values are searched for texts.
_DEPTH: Final = 16


class Entry(NamedTuple):
    """A span or log record, with what its request says of its resource and scope; all encoded."""

    resource: bytes
    scope: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of a request that holds this alone, at most."""
        return len(self.resource) + len(self.scope) + len(self.body) + 3 * _TAG


def entries(body: bytes) -> list[Entry]:
    """Return the spans or log records of a request."""
    found: list[Entry] = []
    for start, end in messages_in(body, 0, len(body), 1):
        resource = _beside(body, start, end)
        for scope_start, scope_end in messages_in(body, start, end, _ENTRY):
            scope = _beside(body, scope_start, scope_end)
            found += [Entry(resource, scope, body[a:b]) for a, b in messages_in(body, scope_start, scope_end, _ENTRY)]
    return found


def pack(some: list[Entry]) -> bytes:
    """Return a request of these entries, in order."""
    packed: list[bytes] = []
    run: list[bytes] = []
    for position, entry in enumerate(some):
        run.append(wrap(_ENTRY, entry.body))
        after = some[position + 1] if position + 1 < len(some) else None
        if after is None or (after.resource, after.scope) != (entry.resource, entry.scope):
            packed.append(wrap(1, entry.resource + wrap(_ENTRY, entry.scope + b"".join(run))))
            run = []
    return b"".join(packed)


def split(body: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    """Yield requests of at most `most` bytes that together equal `body`, with their numbers of entries.

    An entry that is alone larger is yielded alone, as it is.
    """
    held: list[Entry] = []
    size = 0
    for entry in entries(body):
        if held and size + entry.size > most:
            yield pack(held), len(held)
            held, size = [], 0
        held.append(entry)
        size += entry.size
    if held:
        yield pack(held), len(held)


def shrink(signal: str, body: bytes, most: int) -> bytes | None:
    """Return a request of one entry that is cut to at most `most` bytes.

    None: that is impossible, because its resource and scope alone are too large.
    """
    [entry] = entries(body)
    left = most - (entry.size - len(entry.body))
    if left < _SHORT:
        return None
    message = _class(signal).FromString(entry.body)
    _cut_texts(message, left)
    _leave_out(message, left)
    return pack([entry._replace(body=message.SerializeToString())]) if message.ByteSize() <= left else None


def _cut_texts(message: Any, most: int) -> None:
    """Cut the longest texts to one length, the largest with which the message fits."""
    texts = sorted(_texts_of(message), key=lambda text: text[0], reverse=True)
    excess = message.ByteSize() - most
    low, high = _SHORT, texts[0][0] if texts else _SHORT
    while excess > 0 and low < high:
        length = (low + high + 1) // 2
        if sum(size - length for size, _ in texts if size > length) >= excess:
            low = length
        else:
            high = length - 1
    for size, value in texts:
        if excess > 0 and size > low:
            value.string_value = mend_text(value.string_value, low)[0]


def _texts_of(message: Any) -> Iterator[tuple[int, Any]]:
    """Yield the text values of a span's or record's attributes, events, links and body, with their sizes."""
    values = [(pair.value, 0) for pair in message.attributes]
    values += [(message.body, 0)] if hasattr(message, "body") else []
    for inner in (*getattr(message, "events", ()), *getattr(message, "links", ())):
        values += [(pair.value, 0) for pair in inner.attributes]
    while values:
        value, depth = values.pop()
        kind = value.WhichOneof("value")
        if kind == "string_value":
            size = len(value.string_value.encode("utf-8", "replace"))
            if size > _SHORT:
                yield size, value
        elif depth < _DEPTH and kind == "array_value":
            values += [(each, depth + 1) for each in value.array_value.values]
        elif depth < _DEPTH and kind == "kvlist_value":
            values += [(each.value, depth + 1) for each in value.kvlist_value.values]


def _leave_out(message: Any, most: int) -> None:
    """Leave out the largest events, links, attributes and the body, until the message fits; count them."""
    excess = message.ByteSize() - most
    if excess <= 0:
        return
    named = [name for name in ("events", "links", "attributes") if hasattr(message, name)]
    ranked = sorted(
        ((each.ByteSize() + 2, name, index) for name in named for index, each in enumerate(getattr(message, name))),
        reverse=True,
    )
    left_out: dict[str, set[int]] = {}
    if hasattr(message, "body") and message.body.ByteSize() > _SHORT:
        excess -= message.body.ByteSize()
        message.ClearField("body")
    for size, name, index in ranked:
        if excess + 3 * _TAG <= 0:  # the counts take some bytes themselves
            break
        left_out.setdefault(name, set()).add(index)
        excess -= size
    for name, indexes in left_out.items():
        held = getattr(message, name)
        kept = [each for index, each in enumerate(held) if index not in indexes]
        del held[:]
        held.extend(kept)
        count = f"dropped_{name}_count"
        setattr(message, count, getattr(message, count) + len(indexes))


def _class(signal: str) -> Any:
    found = request(signal).DESCRIPTOR
    for number in (1, _ENTRY, _ENTRY):
        found = found.fields_by_number[number].message_type
    return found._concrete_class


def _beside(body: bytes, start: int, end: int) -> bytes:
    fields = fields_beside(body, start, end)
    while True:
        try:
            next(fields)
        except StopIteration as done:
            return bytes(done.value)
