"""The exception of a span, kept with the span."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part
from spanpost.readers.redaction import Redaction, RedactionRules
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


def test_half_a_secret_is_not_shown_where_a_text_was_cut() -> None:
    """A secret at the place of the cut matches no pattern; what redaction leaves beside that place is dropped."""
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    padding = "password=" + "x" * 16_300 + " "
    message = padding + "key " + "z" * (16 * 1024 - len(padding) - 80) + token
    stack = token + "z" * 60 + " password=" + "y" * (64 * 1024 - 100) + " ValueError: end"
    thrown = exception_words({c.EXCEPTION_MESSAGE: message, c.EXCEPTION_STACKTRACE: stack})
    o = Observation(part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, thrown=thrown)
    _, said, log = Redaction(RedactionRules()).clean(o).thrown
    assert "ghp_" in thrown[1]
    assert "ghp_" not in said
    assert token[-8:] not in log
    assert log.endswith("ValueError: end")
