"""What an exception event says of a span's failure, kept with the ended span (`Observation.thrown`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spanpost import semconv as c
from spanpost.model.observations import THROWN_CAPS
from spanpost.text.repair import mend_text

if TYPE_CHECKING:
    from spanpost.receivers.decoded import DecodedEvent

_TYPE, _MESSAGE, _STACK = THROWN_CAPS


def exception_words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return type, message and the end of the stack trace; empty where it says nothing."""
    found = tuple(
        mend_text(value[-cap:] if cap == _STACK else value, cap)[0]
        if type(value := attributes.get(name)) is str
        else ""
        for name, cap in ((c.EXCEPTION_TYPE, _TYPE), (c.EXCEPTION_MESSAGE, _MESSAGE), (c.EXCEPTION_STACKTRACE, _STACK))
    )
    return found if any(found) else ()


def exceptions_of(events: list[DecodedEvent]) -> int:
    """Return how many of a span's kept events are exceptions."""
    return sum([e.name == c.EVENT_EXCEPTION for e in events])


def thrown_of(events: list[DecodedEvent]) -> tuple[str, ...]:
    """Return the last exception of a span's kept events (`Observation.thrown`)."""
    for event in reversed(events):
        if event.name == c.EVENT_EXCEPTION:
            return exception_words(event.attributes)
    return ()
