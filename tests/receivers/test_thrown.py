"""The exception of a span, kept with the span."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.receivers.decoded import DecodedEvent
from spanpost.receivers.thrown import exception_words, thrown_of


def test_the_last_exception_of_a_span_is_kept_with_the_end_of_its_stack_trace() -> None:
    """Of several exceptions the last is kept; of a long stack trace the end, where the assertion stands."""
    stack = "File x\n" * 20_000 + "AssertionError: the end"
    events = [
        DecodedEvent(name=c.EVENT_EXCEPTION, attributes={c.EXCEPTION_TYPE: "First"}),
        DecodedEvent(
            name=c.EVENT_EXCEPTION,
            attributes={c.EXCEPTION_TYPE: "Last", c.EXCEPTION_MESSAGE: "no", c.EXCEPTION_STACKTRACE: stack},
        ),
        DecodedEvent(name="other"),
    ]
    kind, message, log = thrown_of(events)
    assert (kind, message) == ("Last", "no")
    assert len(log) <= 64 * 1024
    assert log.endswith("AssertionError: the end")


def test_an_exception_that_says_nothing_is_none() -> None:
    """Numbers and missing texts are no words."""
    assert exception_words({c.EXCEPTION_TYPE: 7}) == ()
    assert thrown_of([]) == ()
