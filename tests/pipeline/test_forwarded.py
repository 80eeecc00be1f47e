"""A run forwarded over OTLP gives the same as one followed in process, or known from its end alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import _logs as logs
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.observations import MAX_NS, Observation, Origin, Part, Status, content_hash, event_id
from spanpost.model.queries import TaskQuery
from spanpost.receivers.decode import decode_logs, decode_traces
from spanpost.receivers.decoded import origin_of
from spanpost.receivers.forward_target import Target
from spanpost.receivers.forward_transports import OtlpAnswer, OtlpOutcome
from spanpost.receivers.forwarder import ForwardedSpans, Forwarder
from spanpost.receivers.otlp_encoder import Encoder
from spanpost.receivers.sdk import SdkLogProcessor, SdkSpanProcessor
from spanpost.receivers.spans import with_log_index
from spanpost.receivers.worker import Feed
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.text.repair import mend, mend_text
from tests.tasks import recorded_runs

Store = MemoryStore
RULES = FoldRules(windows={"m": 1000})


def outcome(store: Store) -> dict[str, Any]:
    """Return the tasks and their reported checkpoints."""
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    checkpoints = [c for c in store.checkpoints_now(limit=10**9) if c.kind in REPORTED_KINDS]
    return report(
        sorted(store.tasks_now(TaskQuery(limit=10**9)), key=lambda t: t.task_id),
        sorted(checkpoints, key=lambda c: c.id),
        {},
    )


class Over(SpanExporter):
    """An exporter of finished spans whose wire is a function call: encode, decode as the gateway does, record."""

    def __init__(self, store: Store, log: list[Observation]) -> None:
        self.wire = Stored("traces", store, log)

    def export(self, spans: Any) -> SpanExportResult:
        self.wire.send(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


class Stored:
    """A transport whose wire is a function call: decode as the gateway does, record."""

    def __init__(self, signal: str, store: Store, log: list[Observation]) -> None:
        self.decode = decode_traces if signal == "traces" else decode_logs
        self.store, self.log = store, log

    def send(self, body: bytes) -> OtlpAnswer:
        decoded = self.decode(body)
        assert not decoded.dropped
        self.log.extend(decoded.observations)
        self.store.record_now(decoded.observations)
        return OtlpAnswer(OtlpOutcome.ACCEPTED)

    def close(self) -> None:
        pass


class Wire(Target):
    """A target that records into a store."""

    def __init__(self, store: Store) -> None:
        super().__init__("http://nowhere:4318")
        self.store = store
        self.log: list[Observation] = []

    def open(self, signal: str) -> Stored:
        return Stored(signal, self.store, self.log)


class Three:
    """One provider, followed in three ways: in process, forwarded, by its exported spans alone."""

    def __init__(self, spans: ForwardedSpans = ForwardedSpans.ALWAYS) -> None:
        self.followed, self.forwarded, self.final = (MemoryStore(RULES) for _ in range(3))
        self.wire = Wire(self.forwarded)
        forwarder = Forwarder(self.wire, spans=spans)
        self.feeds = [
            Feed(lambda batch: self.followed.record_now(batch), scan_interval=0.001),
            Feed(forwarder, scan_interval=0.001, tell_end=forwarder.tell_end, beat_every=0.001),
        ]
        forwarder.bind(self.feeds[1])
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        for feed in self.feeds:
            self.provider.add_span_processor(SdkSpanProcessor(feed))
            self.logger_provider.add_log_record_processor(SdkLogProcessor(feed))
        self.exported: list[Observation] = []
        self.provider.add_span_processor(SimpleSpanProcessor(Over(self.final, self.exported)))
        self.tracer = self.provider.get_tracer("an.agent", "1.0")

    def flush(self) -> None:
        assert self.provider.force_flush()

    def close(self) -> None:
        self.provider.shutdown()
        self.logger_provider.shutdown()
        for feed in self.feeds:
            assert not feed.losses.totals()


# The stock exporter leaves out what it cannot encode; the forwarder's tests cover that.
_texts = st.sampled_from(["", "one", "two", "Ünï ☃", "x" * 70, "a\0b"])
_values = st.one_of(_texts, st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.lists(_texts, max_size=3))
_KINDS: dict[str, dict[str, Any]] = {
    "task": {"agent.task.name": "job"},
    "named": {"agent.task.id": "job-1", "agent.task.name": "job"},
    "agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"},
    "call": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 700},
    "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"},
    "other": {"http.method": "GET"},
    "step": {"agent.step.name": "plan", "agent.step.index": 1},
}
_moves = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(sorted(_KINDS)), st.booleans()),
    st.tuples(st.just("close"), st.sampled_from(["", "ok", "error", "raise"])),
    st.tuples(
        st.just("event"), st.sampled_from(["agent.checkpoint", "agent.artifact", "other"]), _texts, st.integers(0, 2)
    ),
    st.tuples(
        st.just("ask"), st.sampled_from(["agent.approval.requested", "agent.approval.resolved"]), st.sampled_from("ab")
    ),
    st.tuples(st.just("set"), st.sampled_from(["agent.progress", "agent.action", "agent.status", "note"]), _values),
    st.tuples(st.just("flush")),
)


def play(run: Three, moves: list[Any]) -> None:
    """Perform the moves; a move without a span to work on does nothing."""
    stack: list[trace.Span] = []
    began = 1_790_000_000 * 10**9

    def open_one(kind: str, is_late: bool) -> None:
        above = trace.set_span_in_context(stack[-1]) if stack else None
        span = run.tracer.start_span(kind, above, attributes={} if is_late else _KINDS[kind])
        stack.append(span)
        if is_late:
            span.set_attributes(_KINDS[kind])

    def close_one(how: str) -> None:
        span = stack.pop()
        if how == "raise":
            with suppress(KeyError), trace.use_span(span, end_on_exit=True):
                raise KeyError("no such page")
            return
        if how:
            span.set_status(
                trace.StatusCode.OK if how == "ok" else trace.StatusCode.ERROR, None if how == "ok" else "it broke"
            )
        span.end()

    for move in [*moves, *[("close", "")] * len(moves)]:
        what, rest = move[0], move[1:]
        if what == "open" and len(stack) < 4:
            open_one(*rest)
        elif what == "flush":
            run.flush()
        elif not stack:
            continue
        elif what == "close":
            close_one(*rest)
        elif what == "event":
            name, text, at = rest
            said = {"agent.checkpoint.message": text, "agent.artifact.name": text, "agent.progress": at * 10.0}
            stack[-1].add_event(name, said, timestamp=began + at)  # several of one time: equals
        elif what == "ask":
            stack[-1].add_event(rest[0], {"agent.approval.id": rest[1], "agent.approval.question": "go?"})
        elif what == "set":
            stack[-1].set_attribute(rest[0], rest[1])


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(_moves, max_size=30))
@example(
    moves=[  # one trace reports what another has answered
        ("open", "other", False),
        ("ask", "agent.approval.resolved", "a"),
        ("ask", "agent.approval.requested", "a"),
        ("event", "agent.checkpoint", "one", 1),
        ("close", ""),
        ("open", "other", False),
        ("ask", "agent.approval.resolved", "a"),
        ("open", "tool", False),
        ("ask", "agent.approval.requested", "a"),
    ]
)
def test_any_run_comes_to_the_same_in_all_three_ways(moves: list[Any]) -> None:
    """Tasks and reported checkpoints, ids included, are the same in process, forwarded, and from exported
    spans alone.
    """
    run = Three()
    play(run, moves)
    run.flush()
    followed, forwarded, final = map(outcome, (run.followed, run.forwarded, run.final))
    run.close()
    assert forwarded == followed
    assert forwarded == final


@settings(max_examples=30)
@given(st.lists(_moves, max_size=30))
def test_live_records_and_the_applications_own_spans_come_to_the_same(moves: list[Any]) -> None:
    """An application's own exported spans and the live records are one run, whichever arrive first."""
    run = Three(ForwardedSpans.NEVER)
    play(run, moves)
    run.flush()
    run.close()
    live, ends = run.wire.log, run.exported
    assert {o.part for o in live} <= {Part.STARTED, Part.LOG}
    expected = outcome(run.final)
    for order in ([*live, *ends], [*ends, *live], [*reversed(live), *ends, *live]):
        assert outcome(recorded(order)) == expected


def recorded(observations: list[Observation]) -> Store:
    store = MemoryStore(RULES)
    for start in range(0, len(observations), 7):
        store.record_now(observations[start : start + 7])
    return store


RECORDED = [
    pytest.param(path, id=name)
    for name in recorded_runs.runs(recorded_runs.COMMITTED)
    if (path := recorded_runs.COMMITTED / name)
]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDED)
def test_recorded_runs_come_to_the_same_when_they_are_forwarded(path: Path) -> None:
    """Each recorded run, replayed live (starts, events) and with its ends, is one run in every form."""
    final = recorded_runs.observations(path)
    live = list(observed_live(final))
    encoder = Encoder()
    wire: list[Observation] = []
    for o in live:
        wire += decode_logs(encode_logs([encoder.record(o)]).SerializeToString()).observations
    assert len(wire) == len(live)
    expected = outcome(recorded(final))
    for observations in (live, wire):
        in_time = sorted([*observations, *final], key=lambda o: (o.at_ns, o.trace_id, o.span_id, -o.part))
        for order in (in_time, [*final, *observations], in_time[::-1]):
            assert outcome(recorded(order)) == expected


def observed_live(final: list[Observation]) -> Iterator[Observation]:
    """Yield the observations of a recorded run that the live processor would make before each span's end."""
    for number, o in enumerate(final):
        live = {"producer": "p1", "seq": number * 3 + 1}
        if o.part is Part.ENDED:
            # Some instrumentations set all attributes at the start, some none: a first scan, and one with
            # everything.
            known = {"at_ns": o.start_ns, "end_ns": 0, "status": Status.UNSET, "status_message": "", "exceptions": 0}
            start = msgspec.structs.replace(o, part=Part.STARTED, **known, **live)
            yield msgspec.structs.replace(start, attributes={k: v for k, v in o.attributes.items() if len(k) % 2})
            yield msgspec.structs.replace(start, at_ns=(o.start_ns + o.end_ns) // 2, seq=number * 3 + 2)
        elif o.part is Part.EVENT and not o.end_ns:  # an event stamped at the export was never reported live
            yield msgspec.structs.replace(o, **live)


_ids = st.binary(min_size=8, max_size=8).filter(any)
_traces = st.binary(min_size=16, max_size=16).filter(any)
_names = st.text(max_size=40)
_plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        _names,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=3)),
    max_leaves=6,
)
_attributes = st.dictionaries(st.text(min_size=1, max_size=20), _plain, max_size=6)
_origins = st.builds(Origin, resource=_attributes, scope=_names, scope_version=_names)
_moments = st.integers(1, MAX_NS)


@st.composite
def _observations(draw: st.DrawFn) -> Observation:
    """Return a live observation as the processor makes it: repaired."""
    part = draw(st.sampled_from([Part.STARTED, Part.EVENT, Part.LOG]))
    start = draw(_moments)
    common: dict[str, Any] = {
        "part": part,
        "trace_id": draw(_traces),
        "span_id": draw(_ids),
        "name": mend_text(draw(_names) or "x")[0],
        "attributes": mend(draw(_attributes))[0],
        "origin": draw(_origins),
        "producer": draw(st.uuids()).hex,
        "seq": draw(st.integers(1, 2**40)),
    }
    common["origin"] = origin_of(
        mend(common["origin"].resource)[0], common["origin"].scope, common["origin"].scope_version
    )
    if part is not Part.STARTED:
        o = Observation(**common, at_ns=start, ordinal=draw(st.integers(0, 3)) if part is Part.EVENT else 0)
        return o if part is Part.EVENT else with_log_index(o)
    return Observation(
        **common,
        parent_id=draw(st.one_of(st.just(b""), _ids)),
        kind=draw(st.integers(0, 5)),
        at_ns=draw(st.integers(start, MAX_NS)),
        start_ns=start,
        status=draw(st.sampled_from(Status)),
        status_message=mend_text(draw(_names))[0],
        links=tuple(draw(st.lists(st.tuples(_traces, _ids), max_size=3))),
    )


@pytest.mark.slow
@given(_observations())
def test_a_live_observation_comes_back_as_it_was(o: Observation) -> None:
    """Encoded by the stock exporter and decoded by the receiver, an observation is the same, identity included."""
    [back] = decode_logs(encode_logs([Encoder().record(o)]).SerializeToString()).observations
    if o.part is Part.EVENT:  # comes back in its log form
        assert back.part is Part.LOG
        back = msgspec.structs.replace(back, part=Part.EVENT, index=0)
    assert msgspec.structs.replace(back, severity=0) == o
    assert content_hash(back) == content_hash(o)


@given(_observations(), st.integers(0, 5), st.integers(0, 5))
def test_equal_events_are_two_and_duplicates_are_one(o: Observation, one: int, other: int) -> None:
    """Two equal events of one span are two on the wire, and a duplicate is recognized."""
    first, second = (msgspec.structs.replace(o, part=Part.EVENT, ordinal=n, seq=n) for n in (one, other))
    ids = [
        event_id(decode_logs(encode_logs([Encoder().record(e)]).SerializeToString()).observations[0])
        for e in (first, second)
    ]
    assert (ids[0] == ids[1]) == (one == other)


def test_a_cancelled_task_is_cancelled_at_the_gateway_too() -> None:
    """The forwarder sends that a cancellation ended a span, also if it sends its own spans."""
    run = Three(ForwardedSpans.AUTO)
    run.wire.endpoint = "http://collector:4318"
    with suppress(KeyboardInterrupt), run.tracer.start_as_current_span("job", attributes=_KINDS["task"]):
        raise KeyboardInterrupt
    run.flush()
    assert [t["status"] for t in outcome(run.forwarded)["tasks"]] == ["cancelled"]
    assert outcome(run.forwarded) == outcome(run.followed)
    run.close()


def test_log_events_are_forwarded_and_plain_lines_are_not() -> None:
    """An event that the agent logs is recorded at the gateway as in the process; a plain log line is not
    sent.
    """
    run = Three()
    logger = run.logger_provider.get_logger("an.agent")
    with run.tracer.start_as_current_span("job", attributes=_KINDS["task"]):
        logger.emit(logs.LogRecord(timestamp=5, body="just saying", context=get_current()))
        checkpoint = {"agent.progress": 30, "agent.checkpoint.message": "a third"}
        logger.emit(
            logs.LogRecord(timestamp=6, event_name="agent.checkpoint", attributes=checkpoint, context=get_current())
        )
    run.flush()
    texts = [c["text"] for c in outcome(run.forwarded)["checkpoints"] if c["kind"] == "checkpoint"]
    assert texts == ["a third"]
    assert {o.name for o in run.wire.log if o.part is Part.LOG} <= {"agent.checkpoint", "agent.heartbeat"}
    assert outcome(run.forwarded) == outcome(run.followed)
    run.close()
