"""Observations read from a spool's file equal those of the living spans."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from spanpost.model.observations import Observation, Part, content_hash, event_id
from spanpost.receivers import spool_packing
from spanpost.receivers.follower import Follower
from spanpost.receivers.queue import Losses, QueuedKind
from spanpost.receivers.spool_unpacking import Unpacker
from spanpost.receivers.spool_writer import SpoolFile
from tests.thorough import thorough

#: Set while the agent's thread works, which calls no method of foreign objects.
_packing = threading.Event()


class Shouting(str):
    """A foreign text class."""

    def __str__(self) -> str:
        assert not _packing.is_set()
        return str.__str__(self)

    def __repr__(self) -> str:
        assert not _packing.is_set()
        return str.__repr__(self)


class Stranger:
    """An object of an unknown class."""

    def __repr__(self) -> str:
        assert not _packing.is_set()
        return "stranger"


_LONG = {"long": "ä" * 40_000, "longer": "x" * 70_000, "loud": Shouting("loud")}
_texts = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=30),  # lone surrogates and NUL among them
    st.sampled_from(["", "\0", "\ud800", "long", "longer", "loud"]).map(lambda t: _LONG.get(t, t)),
)
_numbers = st.one_of(
    st.integers(),
    st.sampled_from([63, 64, 65, 1400, 40_000]).map(lambda n: 1 << n),
    st.sampled_from([2**63 - 1, -(2**63)]),
)
_scalars: st.SearchStrategy[Any] = st.one_of(
    _texts,
    _numbers,
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
)
_foreign: st.SearchStrategy[Any] = st.sampled_from(
    [
        Stranger(),
        Decimal("1.50"),
        datetime(2026, 1, 1, tzinfo=UTC),
        StatusCode.OK,
        {"b", "a"},
        frozenset({1, 2}),
        memoryview(b"m"),
        1j,
    ]
)
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars | _foreign,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.one_of(_texts, st.integers(), st.booleans(), st.none()), inner, max_size=5),
    ),
    max_leaves=12,
)
_keys = st.one_of(st.sampled_from(["gen_ai.operation.name", "a", "ä", "k" * 300, "\ud800", "\0"]), st.text(max_size=9))
_attributes = st.dictionaries(_keys, _values, max_size=8)
_times = st.one_of(st.none(), st.integers(-5, 2**64), st.floats(), st.just("12"), st.integers(1, 2**62))
_contexts = st.builds(SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
_events = st.builds(lambda n, a, t: _event(n, a, t), _texts, _attributes, _times)
_resources = st.sampled_from(
    [Resource({"service.name": "s", "n": 1, "list": ("a", "b")}), Resource({}), Resource({"ä": "\0"})]
)
_scopes = st.one_of(st.none(), st.sampled_from([InstrumentationScope("an.agent", "1"), InstrumentationScope("other")]))


def _event(name: str, attributes: dict[Any, Any], at: Any) -> Event:
    event = Event("x", timestamp=1)
    event._name, event._timestamp, event._attributes = name, at, attributes  # type: ignore[attr-defined,assignment]
    return event


_spans = st.builds(
    ReadableSpan,
    name=_texts,
    context=_contexts,
    parent=st.one_of(st.none(), _contexts),
    resource=_resources,
    attributes=_attributes,
    events=st.lists(_events, max_size=4).map(tuple),
    links=st.lists(st.builds(Link, _contexts), max_size=3).map(tuple),
    kind=st.sampled_from(SpanKind),
    status=st.one_of(
        st.just(Status(StatusCode.UNSET)),
        st.just(Status(StatusCode.OK)),
        st.builds(lambda t: Status(StatusCode.ERROR, t), _texts),
    ),
    start_time=_times,
    end_time=_times,
    instrumentation_scope=_scopes,
)


class Written:
    """Records as they would be in a file."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self._spool_file = SpoolFile(-1, None, 1)  # type: ignore[arg-type]

    def write(self, thing: Any, pack: Any) -> None:
        from spanpost.receivers.spool_files import parse

        number, head, fresh = self._spool_file.origin(thing.resource, thing.instrumentation_scope)
        if fresh is not None:
            self.records += parse(head).records
            self._spool_file.keep(fresh)
        _packing.set()
        try:
            self.records.append(pack(number))
        finally:
            _packing.clear()

    def observations(self) -> list[Observation]:
        unpacked = Unpacker("acme", "").unpack(self.records)
        assert unpacked.bad == 0
        return unpacked.observations


def keys(observations: list[Observation]) -> list[tuple[bytes, bytes]]:
    return [(event_id(o), content_hash(o)) for o in observations]


def direct(item: Any) -> list[Observation]:
    losses = Losses()
    observations = Follower("acme", "", losses).convert(item)
    assert losses.totals() == {}
    return observations


@pytest.mark.slow
@thorough(120)
@given(span=_spans, is_cancelled=st.booleans())
def test_an_ended_span(span: ReadableSpan, is_cancelled: bool) -> None:
    """Any ended span is the same when read from the file: identity, content, all fields."""
    written = Written()
    written.write(span, lambda n: spool_packing.pack_span(n, span, True, is_cancelled))
    expected = direct((QueuedKind.END, span, is_cancelled))
    observations = written.observations()
    assert keys(observations) == keys(expected)
    assert repr(observations) == repr(expected)  # NaN equals nothing but its own name


class _Log:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


_logs = st.builds(
    lambda record, resource, scope: _Log(log_record=record, resource=resource, instrumentation_scope=scope),
    st.builds(
        _Log,
        event_name=_texts,
        timestamp=st.one_of(st.none(), st.integers(0, 2**64)),
        observed_timestamp=st.one_of(st.none(), st.integers(0, 2**64)),
        severity_number=st.one_of(st.none(), st.sampled_from([StatusCode.OK, StatusCode.ERROR])),
        body=_values,
        attributes=_attributes,
        trace_id=st.integers(0, 2**128 - 1),
        span_id=st.integers(0, 2**64 - 1),
    ),
    _resources,
    _scopes,
)


@thorough(120)
@given(data=_logs)
def test_a_log_record(data: Any) -> None:
    """So is any log record, with any body."""
    written = Written()
    written.write(data, lambda n: spool_packing.pack_log(n, data))
    expected = direct((QueuedKind.LOG, data, None))
    assert keys(written.observations()) == keys(expected)
    assert repr(written.observations()) == repr(expected)


@thorough(60)
@given(attributes=_attributes, names=st.lists(st.sampled_from(["a", "b"]), max_size=6), at=st.integers(1, 3))
def test_a_living_span(attributes: dict[Any, Any], names: list[str], at: int) -> None:
    """A start and the events of a living span equal the follower's, with equals numbered alike."""
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent").start_span("s")
    span._attributes = attributes
    written = Written()
    written.write(span, lambda n: spool_packing.pack_span(n, span, False))
    losses = Losses()
    follower = Follower("acme", "", losses)
    expected = follower.convert(span)
    for index, name in enumerate(names):
        event = _event(name, attributes, at)
        span._events.append(event)
        written.write(span, lambda n, event=event, index=index: spool_packing.pack_event(n, span, event, index))
        expected += follower.convert((span, event))
    observations = written.observations()
    assert keys(observations) == keys(expected)
    assert [(o.part, o.index, o.ordinal, o.name, o.at_ns) for o in observations] == [
        (o.part, o.index, o.ordinal, o.name, o.at_ns) for o in expected
    ]
    assert losses.totals() == {}


def test_what_is_too_large_is_refused() -> None:
    """A record beyond the size limit is refused at once, nested or not, without a delay."""
    for value in (
        "x" * (spool_packing.MAX_RECORD + 1),
        ["x" * 3_000_000] * 2,
        list(range(30_000)),
        1 << (8 * spool_packing.MAX_RECORD + 8),
    ):
        span = ReadableSpan("s", SpanContext(1, 1, False), attributes={"v": value})  # type: ignore[dict-item]
        with pytest.raises(spool_packing.RecordTooLarge):
            spool_packing.pack_span(1, span, True)


def test_a_start_is_left_out_where_its_end_is_there() -> None:
    """A span that ended in the same file is read as its end alone; an open one as its start."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent")
    done, left = tracer.start_span("done"), tracer.start_span("left")
    written = Written()
    for span in (done, left):
        written.write(span, lambda n, span=span: spool_packing.pack_span(n, span, False))
    done.end()
    written.write(done, lambda n: spool_packing.pack_span(n, done, True))
    unpacker = Unpacker("acme", "p")
    unpacked = unpacker.unpack(written.records)
    assert [(o.part, o.name) for o in unpacked.observations] == [(Part.STARTED, "left"), (Part.ENDED, "done")]
    [gone] = unpacker.interruptions(unpacked)
    assert (gone.name, gone.span_id) == ("agent.span.interrupted", unpacked.observations[0].span_id)
    assert unpacker.unpack([*written.records, spool_packing.encode((spool_packing.CLOSED,))]).left_open == []


def test_open_spans_are_known_from_the_files_before() -> None:
    """A writer cut off at the head of a new file leaves the open spans of the one before, except those ended
    there.
    """
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent")
    done, left = tracer.start_span("done"), tracer.start_span("left")
    first, second = Written(), Written()
    for span in (done, left):
        first.write(span, lambda n, span=span: spool_packing.pack_span(n, span, False))
    done.end()
    second.write(done, lambda n: spool_packing.pack_span(n, done, True))
    unpacker = Unpacker("acme", "p")
    began = unpacker.unpack(first.records)
    assert {o.name for o in began.left_open} == {"done", "left"}
    empty = unpacker.unpack([])
    assert {o.name for o in empty.left_open} == {"done", "left"}
    assert [o.at_ns for o in unpacker.interruptions(empty)] == [began.last_ns] * 2
    assert [o.name for o in unpacker.unpack(second.records).left_open] == ["left"]
    closed = unpacker.unpack([spool_packing.encode((spool_packing.CLOSED,))])
    assert closed.left_open == []
