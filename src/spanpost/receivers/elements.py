"""The limits on what a body may hold, the same for protobuf and JSON. Elements are counted before they are built.

An element is a resource, a scope, a span, a log record, a metric, a span event, or a data point that is
read: each of them takes about a kilobyte of memory and several microseconds, however few bytes it has on
the wire.
"""

from __future__ import annotations

from typing import Final

from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge

#: Bytes of a body for each element, at least. The densest body of a working sender that we know has 16: log
#: records with a time and one delivery. Spans with ids and times have 53 and more, recorded ones 97 and more.
SPARSE: Final = 12
#: A body of up to so many bytes may hold as many elements as one of this size.
SMALL: Final = 16 * 1024
#: Elements of a body, however large it is.
MOST: Final = 600_000
#: Attributes, events, links and values of one span or log record. At most 4,096 of its values are kept.
VALUES: Final = 50_000
#: Bytes of one span, log record or metric, which is read without a pause. A megabyte of it is kept. A
#: Collector takes 4 MiB in a whole request over gRPC unless it is told otherwise.
LARGEST: Final = 8 * 1024 * 1024
#: Bytes of a resource, and of a scope, of a body that is cut: each piece repeats them.
SHARED: Final = 128 * 1024
#: The same for a metric: few of its points are read, and those that are not are cheap.
METRIC_VALUES: Final = 200_000
#: Values of a JSON body: its lists are opened by single calls of 60 ns a value. Its objects are counted for
#: elements.
JSON_VALUES: Final = 750_000
#: Bytes up to which JSON that is not strict is read by the milder parser, in one call.
MILD: Final = 1024 * 1024


#: Spans, log records and metrics of one body that are left out and kept, and the bytes that are kept of
#: each, or of a body that cannot be read. All of them are counted.
KEPT: Final = 16
KEPT_BYTES: Final = 64 * 1024


class TooHeavy(Undecodable):
    """One span, log record or metric is larger than the limits. It is left out, its neighbours are read."""


class Elements:
    """The elements that a body may still hold."""

    __slots__ = ("_size", "left")

    def __init__(self, size: int, left: int | None = None) -> None:
        self._size = size
        self.left = min(allowed(size), MOST) if left is None else left

    @classmethod
    def unlimited(cls) -> Elements:
        """Return the elements of a body that nobody sent: a recording of one's own."""
        return cls(0, 1 << 62)

    def take(self, count: int) -> None:
        """Count elements that are about to be built. Raises `BodyTooLarge` when the body holds more than it may."""
        self.left -= count
        if self.left < 0:
            raise too_dense(self._size)


def allowed(size: int) -> int:
    """Return how many elements a body of `size` bytes may hold for its size."""
    return max(size, SMALL) // SPARSE


def too_dense(size: int) -> BodyTooLarge:
    """Return the refusal of a body that holds too many elements."""
    return BodyTooLarge(
        size,
        f"the body holds more than {min(allowed(size), MOST)} resources, scopes, spans, records, events and data points, the limit for "
        f"its {size} bytes (one in {SPARSE} bytes, at most {MOST}); send batches of at most {allowed(0)}",
    )


def too_large_entry(size: int) -> TooHeavy:
    """Return the refusal of a span, log record or metric of `size` bytes."""
    return TooHeavy(f"one span, log record or metric has {size} bytes, the limit is {LARGEST}; put large content elsewhere")


def too_many_values(most: int = VALUES) -> TooHeavy:
    """Return the refusal of a span, log record or metric with too many values."""
    return TooHeavy(
        f"one span, log record or metric holds more than {most} attributes, events, links, data points and values; send fewer of them"
    )


def values_of(signal: str) -> int:
    """Return how many values an entry of a signal may hold."""
    return METRIC_VALUES if signal == "metrics" else VALUES


def too_large_shared() -> BodyTooLarge:
    """Return the refusal of a resource or scope that is too large."""
    return BodyTooLarge(SHARED, f"a resource or scope is larger than {SHARED} bytes; put what belongs to spans into the spans")
