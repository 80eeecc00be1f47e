"""The limits on the contents of a body, the same for protobuf and JSON. Elements are counted before they are
built.

An element is a resource, a scope, a span, a log record, a metric, a span event, or a data point that is
read. Each takes about a kilobyte of memory and several microseconds, even if it has few bytes on the wire.
"""

from __future__ import annotations

from typing import Final

from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge

#: Minimum bytes of a body per element. The densest known body of a working sender has 16: log records with a
#: time and one letter of text. Spans with ids and times have 53 or more, captured ones 97 or more.
SPARSE: Final = 12
#: Smaller bodies, in bytes, may hold as many elements as one of this size.
SMALL: Final = 16 * 1024
#: Most elements of a body of any size.
MOST: Final = 600_000
#: Most attributes, events, links and values of one span or log record. At most 4,096 of its values are kept.
VALUES: Final = 50_000
#: Most bytes of one span, log record or metric, which is read without a pause. A megabyte of it is kept. By
#: default a Collector accepts 4 MiB in a whole gRPC request.
LARGEST: Final = 8 * 1024 * 1024
#: Most bytes of a resource, and of a scope, in a body that is cut: each piece repeats them.
SHARED: Final = 128 * 1024
#: As `VALUES`, for a metric: few of its points are read, and the others are cheap.
METRIC_VALUES: Final = 200_000
#: Most values of a JSON body: single calls open its lists, at 60 ns a value. Its objects are counted as
#: elements.
JSON_VALUES: Final = 750_000
#: Most bytes of invalid JSON that the lenient parser reads, in one call.
MILD: Final = 1024 * 1024


#: Unreadable spans, log records and metrics stored per body, and bytes stored of each, or of an unreadable
#: body. All of them are counted.
KEPT: Final = 16
KEPT_BYTES: Final = 64 * 1024


class TooHeavy(Undecodable):
    """One span, log record or metric exceeds the limits. It is left out; the others are read."""


class Elements:
    """The elements that a body may still hold."""

    __slots__ = ("_size", "left")

    def __init__(self, size: int, left: int | None = None) -> None:
        self._size = size
        self.left = min(allowed(size), MOST) if left is None else left

    @classmethod
    def unlimited(cls) -> Elements:
        """Return no limit, for local recordings."""
        return cls(0, 1 << 62)

    def take(self, count: int) -> None:
        """Count elements that are about to be built.

        Raises `BodyTooLarge` when the body holds more than it may.
        """
        self.left -= count
        if self.left < 0:
            raise too_dense(self._size)


def allowed(size: int) -> int:
    """Return how many elements a body of `size` bytes may hold for its size."""
    return max(size, SMALL) // SPARSE


def too_dense(size: int) -> BodyTooLarge:
    """Return the error for a body with too many elements."""
    return BodyTooLarge(
        size,
        f"the body holds more than {min(allowed(size), MOST)} resources, scopes, spans, records, events and "
        f"data points, the limit for its {size} bytes (one in {SPARSE} bytes, at most {MOST}); "
        f"send batches of at most {allowed(0)}",
    )


def too_large_entry(size: int) -> TooHeavy:
    """Return the error for a span, log record or metric of `size` bytes."""
    return TooHeavy(
        f"one span, log record or metric has {size} bytes, the limit is {LARGEST}; put large content elsewhere"
    )


def too_many_values(most: int = VALUES) -> TooHeavy:
    """Return the error for a span, log record or metric with too many values."""
    return TooHeavy(
        f"one span, log record or metric holds more than {most} attributes, events, links, data points and "
        "values; send fewer of them"
    )


def values_of(signal: str) -> int:
    """Return how many values an entry of a signal may hold."""
    return METRIC_VALUES if signal == "metrics" else VALUES


def too_large_shared() -> BodyTooLarge:
    """Return the error for a resource or scope that is too large."""
    return BodyTooLarge(
        SHARED, f"a resource or scope is larger than {SHARED} bytes; put what belongs to spans into the spans"
    )
