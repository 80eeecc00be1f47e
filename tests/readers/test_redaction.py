"""Secrets are redacted from observations before the fold, and nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.model.observations import Observation, Origin, Part, Status, content_hash, event_id, log_index
from spanpost.readers.identity import IDENTITY
from spanpost.readers.redaction import Redaction, RedactionRules, TenantRules
from spanpost.tasks import batches
from spanpost.text.rules import RedactionAction, RedactionRule
from tests.acceptance.test_captures import RUNS, files_of
from tests.tasks.recorded_runs import observations
from tests.text import realistic

KEY = b"k" * 32
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
PASSWORD = "correct-horse7!"
SPAN = Observation(
    part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, start_ns=10**18, end_ns=10**18 + 5, at_ns=10**18 + 5
)


def a_redaction(*, spares_questions: bool = False, **options: Any) -> Redaction:
    return Redaction(RedactionRules(**options), key=KEY, spares_questions=spares_questions)


def a_task(**attributes: Any) -> Observation:
    return msgspec.structs.replace(SPAN, name="run", attributes={c.TASK_ID: "t-1", c.TASK_NAME: "demo", **attributes})


def kept(o: Observation, redaction: Redaction | None = None, **options: Any) -> dict[str, Any]:
    """Return the kept attributes of an observation."""
    [placed] = batches.prepare([o], redaction=redaction or a_redaction(), **options)
    return placed.source.attributes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, PASSWORD)
            for name in (
                "db.password",
                "DB_PASS",
                "clientSecret",
                "agent.result.api_key",
                "http.request.header.authorization",
            )
        ),
        ("http.request.header.x-api-key", ["abc", "def456"]),
        ("db", {"user": "bob", "password": "plain"}),
        ("config", {"deep": [{"er": {"client_secret": "wordsonly"}}]}),
        ("env", [{"name": "DB_PASSWORD", "value": "wordsonly"}, {"name": "HOME", "value": "/root"}]),
        ("process.argv", ["psql", "--password", "wordsonly", "-h", "db"]),
        ("credentials", {"value": "wordsonly"}),
        ("note", f"used {TOKEN}"),
        ("notes", ["fine", f"used {TOKEN}"]),
        ("payload", json.dumps({"a": {"token": "abcdef123456"}})),
        ("keys", {TOKEN: 1}),
        (f"agent.result.{TOKEN}", "x"),
    ],
)
def test_secrets_are_taken_out_of_attributes(name, value):
    """No secret is kept in attributes: by name, in lists and maps, by paired fields, as argument, in names."""
    shown = json.dumps(kept(a_task(**{name: value})))
    assert "[redacted:" in shown
    for secret in (TOKEN, PASSWORD, "wordsonly", "plain", "def456", "abcdef123456"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 1200) for name in ("gen_ai.usage.input_tokens", "max_tokens", "password", "secret_count")),
        *(
            ("password", value)
            for value in (None, True, False, 0, 1.5, "", "None", "null", "true", "changeme", "****", "${DB_PASSWORD}")
        ),
        *(
            (name, "abc123def456ghi7")
            for name in ("token_type", "primary_key", "key", "author", "auth.method", "tokenizer", "gen_ai.token.type")
        ),
        *(
            (name, TOKEN)
            for name in (
                "session.id",
                "gen_ai.conversation.id",
                "gen_ai.response.id",
                "gen_ai.tool.call.id",
                "service.instance.id",
            )
        ),
        ("api_key", "[redacted:api-key:20:0123456789]"),
        ("image", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"),
    ],
)
def test_figures_ids_and_what_is_no_secret_stay(name, value):
    """Numbers stay numbers, placeholders are no secrets, and values used for lookups are not changed."""
    assert kept(a_task(**{name: value}))[name] == value


@pytest.mark.parametrize("run", RUNS or [pytest.param("", id="no recordings")])
def test_recorded_runs_are_read_and_kept_as_they_were(run):
    """In recorded runs of all dialects no figure, id, name or key is changed."""
    seen = observations(files_of(run)[0].parent)
    scanned, plain = batches.prepare(seen, redaction=a_redaction()), batches.prepare(seen)
    # Content that is not kept does not reach the fold: nothing else may differ.
    assert [msgspec.structs.replace(p, observation=SPAN) for p in scanned] == [
        msgspec.structs.replace(p, observation=SPAN) for p in plain
    ]


def test_ids_are_known_from_the_dialects():
    """An attribute that a dialect reads as an id is never altered, in any dialect."""
    assert {
        c.TASK_ID,
        c.APPROVAL_ID,
        c.ORDER_ID,
        "gen_ai.conversation.id",
        "session.id",
        "prompt.id",
        "gen_ai.response.id",
        "tool_use_id",
    } <= IDENTITY


def test_everything_else_of_an_observation_is_looked_at():
    """A secret in a span's name, message, resource, scope, in a body, or in its reading is removed."""
    span = msgspec.structs.replace(
        a_task(**{c.ACTION: f"using {TOKEN}"}),
        name=f"fetch {TOKEN}",
        status=Status.ERROR,
        status_message=f"401: {TOKEN}",
        origin=Origin(
            resource={"service.name": f"a {TOKEN}", "process.command_args": ["x", "--token", "abcdefgh1234"]},
            scope=f"s.{TOKEN}",
            scope_version=f"1+{TOKEN}",
        ),
    )
    record = msgspec.structs.replace(
        SPAN, part=Part.LOG, name=c.EVENT_CHECKPOINT, body={"message": f"have {TOKEN}"}, attributes={}
    )
    placed = batches.prepare([span, record], redaction=a_redaction(), keeps_content=True)
    shown = repr(placed)
    assert TOKEN not in shown
    assert "abcdefgh1234" not in shown
    assert placed[0].reading.action.startswith("using [redacted:github-token:40:")


def test_what_is_taken_of_content_that_is_not_kept_is_looked_at():
    """A checkpoint's text, read from a record's body that is not kept, holds no secret either."""
    record = msgspec.structs.replace(
        SPAN, part=Part.LOG, name=c.EVENT_CHECKPOINT, body=f"have {TOKEN}", attributes={c.TASK_ID: "t"}
    )
    [placed] = batches.prepare([record], redaction=a_redaction())
    assert placed.reading.message.startswith("have [redacted:github-token:40:")
    assert TOKEN not in repr(placed.source) + repr(placed.observation)


def test_a_repeat_is_known_again():
    """An observation has the same keys and content each time, in other processes and scanned before."""
    span = a_task(**{"db.password": PASSWORD, "note": TOKEN})
    record = msgspec.structs.replace(
        SPAN, part=Part.LOG, name=c.EVENT_CHECKPOINT, attributes={c.CHECKPOINT_MESSAGE: TOKEN}
    )
    record = msgspec.structs.replace(record, index=log_index(record))
    first, second = (batches.prepare([span, record], redaction=a_redaction()) for _ in range(2))
    assert first == second
    again = batches.prepare([p.source for p in first], redaction=a_redaction())
    assert [(p.event_id, p.content_hash) for p in again] == [(p.event_id, p.content_hash) for p in first]


def test_keys_do_not_reveal_a_secret():
    """Neither the content hash nor a record's index is made of the secret, so rows cannot test passwords."""
    record = msgspec.structs.replace(SPAN, part=Part.LOG, name=c.EVENT_CHECKPOINT, attributes={"password": PASSWORD})
    record = msgspec.structs.replace(record, index=log_index(record))
    [placed] = batches.prepare([record], redaction=a_redaction())
    assert placed.event_id != event_id(record)
    assert placed.content_hash != content_hash(record)
    other, third = (
        msgspec.structs.replace(record, attributes={"password": each}) for each in (PASSWORD + "2", PASSWORD + "3")
    )
    assert len({placed.event_id, *(p.event_id for p in batches.prepare([other, third], redaction=a_redaction()))}) == 3


def test_an_exception_is_one_whoever_took_the_secret_out():
    """A message scanned with the forwarder's own key is the same occurrence as the original one."""

    def failed(message: str) -> Observation:
        said = {c.EXCEPTION_TYPE: "E", c.EXCEPTION_MESSAGE: message}
        return msgspec.structs.replace(SPAN, part=Part.EVENT, name=c.EVENT_EXCEPTION, attributes=said)

    raw = failed(f"401 for {TOKEN}")
    scanned = Redaction(key=b"z" * 32).clean(raw)
    assert scanned != raw
    first, second = (batches.prepare([o], redaction=a_redaction())[0] for o in (raw, scanned))
    assert first.reading.occurrence == second.reading.occurrence
    assert first.occurrence == second.occurrence


def test_a_questions_mark_is_of_its_own_words():
    """Shown words hold no secret, while id and mark, by which the agent finds the answer, stay the original."""
    said = {c.APPROVAL_ID: "q1", c.APPROVAL_QUESTION: f"May I use {TOKEN}?", c.APPROVAL_DIGEST: "mark-of-the-agent"}
    asked = msgspec.structs.replace(SPAN, part=Part.EVENT, name=c.EVENT_APPROVAL_REQUESTED, attributes=said)
    [raw], [placed] = batches.prepare([asked]), batches.prepare([asked], redaction=a_redaction())
    assert placed.reading.approval.question.startswith("May I use [redacted:github-token:")
    plain = {"question": "", "detail": ""}
    assert msgspec.structs.replace(placed.reading.approval, **plain) == msgspec.structs.replace(
        raw.reading.approval, **plain
    )
    assert placed.reading.occurrence == raw.reading.occurrence
    assert TOKEN not in repr(placed)


def test_a_decision_that_telemetry_claims_is_looked_at():
    """A decision that an agent reports (words, person, reason) holds no secret; plain decisions are
    unchanged.
    """
    said = {c.APPROVAL_ID: "q1", c.APPROVAL_DECISION: f"use {TOKEN}", c.APPROVAL_BY: f"bot {TOKEN}"}
    event = msgspec.structs.replace(SPAN, part=Part.EVENT, name=c.EVENT_APPROVAL_RESOLVED, attributes=said)
    [placed] = batches.prepare([event], redaction=a_redaction())
    assert TOKEN not in repr(placed)
    assert placed.reading.approval.decision.startswith("use [redacted:github-token:")
    plain = msgspec.structs.replace(event, attributes={c.APPROVAL_ID: "q1", c.APPROVAL_DECISION: "approved"})
    assert batches.prepare([plain], redaction=a_redaction())[0].reading.approval.decision == "approved"


def test_questions_are_forwarded_in_their_own_words():
    """A forwarding process leaves a question's words to the gateway, which computes the mark."""
    said = {c.APPROVAL_ID: "q1", c.APPROVAL_QUESTION: f"May I use {TOKEN}?", "note": TOKEN}
    asked = msgspec.structs.replace(SPAN, part=Part.EVENT, name=c.EVENT_APPROVAL_REQUESTED, attributes=said)
    sent = a_redaction(spares_questions=True).clean(asked)
    assert sent.attributes[c.APPROVAL_QUESTION] == said[c.APPROVAL_QUESTION]
    assert TOKEN not in sent.attributes["note"]


def test_what_people_say_is_theirs():
    """An act that spanpost recorded itself is not changed: its words are a person's."""
    act = msgspec.structs.replace(
        SPAN, part=Part.INTERVENTION, name=c.EVENT_INTERVENTION, attributes={c.INTERVENTION_TEXT: TOKEN}
    )
    assert a_redaction().clean(act) is act


def test_a_tenant_may_keep_a_kind():
    """A kind that one tenant turned off is kept for that tenant only."""
    redaction = a_redaction(
        tenants={"acme": TenantRules(rules=(RedactionRule(action=RedactionAction.KEEP, kinds=("github-token",)),))}
    )
    span = a_task(note=TOKEN)
    assert kept(msgspec.structs.replace(span, tenant="acme"), redaction)["note"] == TOKEN
    assert kept(span, redaction)["note"] != TOKEN


def test_a_request_that_cannot_be_read_is_kept_without_its_secrets():
    """Secrets are redacted from unreadable JSON, text and bytes; JSON stays JSON."""
    body = a_redaction().body("t", json.dumps({"password": PASSWORD, "n": 1}).encode())
    assert json.loads(body)["n"] == 1
    assert PASSWORD.encode() not in body
    spoiled = b"\x0a\xff\x12" + TOKEN.encode() + b"\x00\x80 password=" + PASSWORD.encode()
    found = a_redaction().body("t", spoiled)
    assert TOKEN.encode() not in found
    assert PASSWORD.encode() not in found
    assert found.startswith(b"\x0a\xff\x12")


def test_names_that_become_the_same_stay_two():
    """Two names that differ in their secrets alone keep a value each, even without a key."""
    other = TOKEN[:-1] + "b"
    [placed] = batches.prepare([a_task(**{TOKEN: 1, other: 2})], redaction=Redaction())
    assert {1, 2} <= set(placed.source.attributes.values())
    assert TOKEN not in repr(placed)


CASES = list(realistic.all_cases(3))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.text(max_size=30),
        st.sampled_from([case.text for case in CASES]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.one_of(st.text(max_size=12), st.sampled_from(["password", "note", "headers", "env"])), VALUES, max_size=6
    )
)
def test_cleaning_twice_is_cleaning_once(attributes):
    """For any attributes nothing raises, cleaned ones stay as they are, and numbers stay numbers."""
    once = a_redaction().clean(msgspec.structs.replace(SPAN, attributes=attributes))
    assert a_redaction().clean(once) == once
    for before, after in zip(attributes.values(), once.attributes.values(), strict=False):
        if not isinstance(before, str | list | dict):
            assert before == after
