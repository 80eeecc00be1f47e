"""Rules of redaction: what they select, which of several wins, and what they never touch."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.model.alerts import Alert
from spanpost.model.observations import Observation, Origin, Part, Status, content_hash, event_id
from spanpost.readers.identity import IDENTITY
from spanpost.readers.redaction import Redaction, RedactionRules, TenantRules
from spanpost.runtime.kafka import cleaning
from spanpost.store.postgres import PostgresStore
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_alerts import an_alert
from spanpost.text.legible import Hidden, hidden
from spanpost.text.patterns import fault, literal_of
from spanpost.text.repair import mend
from spanpost.text.rules import RedactionAction, RedactionRule, TelemetryPart
from tests.text import realistic

KEY = b"k" * 32
MAIL = "ann.smith@example.com"
SPAN = Observation(
    part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, start_ns=10**18, end_ns=10**18 + 5, at_ns=10**18 + 5
)
A_MAIL = r"[a-z.]{1,40}@example\.com"


def rule(action: str, **selects: Any) -> RedactionRule:
    if "parts" in selects:
        selects["parts"] = tuple(map(TelemetryPart, selects["parts"]))
    return RedactionRule(action=RedactionAction(action), **selects)


def by(*rules: RedactionRule, key: bytes = KEY, spares_questions: bool = False, **tenants: Any) -> Redaction:
    return Redaction(RedactionRules(rules=rules, tenants=tenants), key=key, spares_questions=spares_questions)


def a_span(**attributes: Any) -> Observation:
    return msgspec.structs.replace(SPAN, name="run", attributes={c.TASK_ID: "t-1", **attributes})


def cleaned(redaction: Redaction, **attributes: Any) -> dict[str, Any]:
    return redaction.clean(a_span(**attributes)).attributes


def test_a_rule_hides_an_attribute_by_its_name():
    """`hash`, `redact` and `drop` act on the whole value, whatever its type; other attributes stay."""
    redaction = by(
        rule("hash", attributes=("user.email",), name="mail"),
        rule("redact", attributes=("user.a?e",)),
        rule("drop", attributes=("HTTP.request.header.*",)),
    )
    found = cleaned(redaction, **{"user.email": MAIL, "user.age": 41, "http.request.header.x": ["a"], "user.x": "y"})
    assert found.pop("user.email").startswith(f"[redacted:mail:{len(MAIL)}:")
    assert found == {c.TASK_ID: "t-1", "user.age": "[redacted:rule]", "user.x": "y"}


def test_a_path_names_what_is_within_a_map():
    """An attribute `user` that holds a map with `email` is selected as `user.email`, in lists too."""
    redaction = by(rule("drop", attributes=("user.email",)), rule("redact", attributes=("to.mail",)))
    found = cleaned(redaction, user={"email": MAIL, "id": 7}, to=[{"mail": MAIL}, {"mail": MAIL, "at": 1}])
    assert found["user"] == {"id": 7}
    assert found["to"] == [{"mail": "[redacted:rule]"}, {"mail": "[redacted:rule]", "at": 1}]


def test_a_pattern_hides_its_match_alone_and_drop_the_whole():
    """A match is replaced in its text; with `drop` the attribute that holds it is gone, of other texts a marker
    is left.
    """
    text = f"mail to {MAIL} now"
    assert cleaned(by(rule("redact", pattern=A_MAIL, name="mail")), note=text)["note"] == "mail to [redacted:mail] now"
    dropping = by(rule("drop", pattern=A_MAIL, name="mail"))
    assert "note" not in cleaned(dropping, note=text)
    assert cleaned(dropping, note={"to": text, "n": 1})["note"] == {"n": 1}
    assert dropping.clean(msgspec.structs.replace(SPAN, name=text)).name == "[redacted:mail]"


PARTS = {
    TelemetryPart.SPAN_NAME: msgspec.structs.replace(SPAN, name=MAIL),
    TelemetryPart.SPAN: msgspec.structs.replace(SPAN, attributes={"x": MAIL}),
    TelemetryPart.EVENT: msgspec.structs.replace(SPAN, part=Part.EVENT, name="e", attributes={"x": MAIL}),
    TelemetryPart.LOG: msgspec.structs.replace(SPAN, part=Part.LOG, body=MAIL),
    TelemetryPart.RESOURCE: msgspec.structs.replace(SPAN, origin=Origin(resource={"x": MAIL})),
    TelemetryPart.SCOPE: msgspec.structs.replace(SPAN, origin=Origin(scope=MAIL)),
    TelemetryPart.ERROR: msgspec.structs.replace(SPAN, status=Status.ERROR, status_message=MAIL),
}


@pytest.mark.parametrize("pattern", ["", A_MAIL])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("action", ["hash", "redact", "drop"])
def test_a_rule_for_a_part_touches_that_part_alone(part, action, pattern):
    """A rule with `parts`, with a pattern or without, hides the text there and in no other part."""
    redaction = by(rule(action, parts=(part,), pattern=pattern))
    for other, o in PARTS.items():
        assert (MAIL in repr(redaction.clean(o))) is (other is not part), other


def test_errors_are_a_part_wherever_they_stand():
    """The part `error` has the attributes of exceptions, in events and spans."""
    event = msgspec.structs.replace(
        SPAN, part=Part.EVENT, name="exception", attributes={"exception.message": MAIL, "other": MAIL}
    )
    found = by(rule("redact", parts=["error"])).clean(event)
    assert found.attributes == {"exception.message": "[redacted:rule]", "other": MAIL}


def test_a_live_span_has_its_name_and_message_in_their_parts():
    """The record of an interrupted span holds them as attributes; rules for `span_name` and `error` hide them there."""
    record = msgspec.structs.replace(
        SPAN, part=Part.LOG, name=c.EVENT_SPAN_INTERRUPTED, attributes={c.SPAN_NAME: MAIL, c.SPAN_STATUS_MESSAGE: MAIL}
    )
    found = by(rule("redact", parts=["span_name"], name="named"), rule("redact", parts=["error"])).clean(record)
    assert found.attributes == {c.SPAN_NAME: "[redacted:named]", c.SPAN_STATUS_MESSAGE: "[redacted:rule]"}


@pytest.mark.parametrize("action", ["hash", "redact", "drop"])
def test_bytes_are_searched_as_the_text_that_they_hold(action):
    """Receivers write bytes in base64, which hides no pattern and no secret; other bytes stay as they are."""
    redaction = by(rule(action, pattern=A_MAIL, name="mail"))
    given = {"a": f"to {MAIL}".encode(), "b": f"password={TOKEN}".encode(), "c": bytes(range(256))}
    found = cleaned(redaction, **mend(given)[0])
    assert found.get("a", "[redacted:mail").startswith(("to [redacted:mail", "[redacted:mail"))
    assert "[redacted:" in found["b"]
    assert found["c"] == mend(given)[0]["c"]


def test_a_text_that_was_cut_loses_its_digest_with_its_secret():
    """The digest of a long text that holds a secret would let a short one be guessed without the key."""
    [long] = mend({"x": f"password=hunter2!x {'word ' * 20_000}"})[0].values()
    assert "sha256" in long
    found = by().of("default").text(long)
    assert "sha256" not in found
    assert found.endswith("bytes]")
    assert by().of("default").text(found) == found


def test_a_topic_is_written_by_the_rules_of_the_moment():
    """What goes to Kafka passes the rules that a reload has set, with the words of questions left for the gateway."""
    store = PostgresStore("postgresql:///none", rules=FoldRules(redaction=by()))
    clean = cleaning(store)
    asked = {c.APPROVAL_QUESTION: f"Write to {MAIL}?", "note": MAIL}
    assert clean(a_span(**asked)).attributes["note"] == MAIL
    store.rules = FoldRules(redaction=by(rule("redact", pattern=A_MAIL)))
    found = clean(a_span(**asked)).attributes
    assert (found["note"], found[c.APPROVAL_QUESTION]) == ("[redacted:rule]", asked[c.APPROVAL_QUESTION])


def test_an_event_is_the_same_part_as_span_event_and_as_record():
    """The live form and the final form of one event are changed alike, so that they stay one occurrence."""
    redaction = by(rule("hash", parts=["event"]), rule("hash", pattern=A_MAIL))
    as_event = msgspec.structs.replace(SPAN, part=Part.EVENT, name=f"to {MAIL}", attributes={"x": MAIL})
    as_record = msgspec.structs.replace(as_event, part=Part.LOG)
    first, second = redaction.clean(as_event), redaction.clean(as_record)
    assert (first.name, first.attributes) == (second.name, second.attributes)
    assert MAIL not in repr(first)


TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_rules_the_order_of_actions_decides(order):
    """keep, drop, redact, hash, then the scan: wherever the rules stand, of the tenant or of all."""
    rules = [
        rule("hash", attributes=("*",)),
        rule("redact", attributes=("a.*",)),
        rule("drop", attributes=("a.b.*",)),
        rule("keep", attributes=("a.b.c",)),
    ][::order]
    given = {"x": "1x", "a.x": "2x", "a.b.x": "3x", "a.b.c": TOKEN}
    expected = {c.TASK_ID: "t-1", "a.x": "[redacted:rule]", "a.b.c": TOKEN}
    found = cleaned(by(*rules), **given)
    assert found.pop("x").startswith("[redacted:rule:2:")
    assert found == expected
    redaction = by(*rules[:2], default=TenantRules(rules=tuple(rules[2:])))
    assert set(cleaned(redaction, **given)) == {c.TASK_ID, "x", "a.x", "a.b.c"}


def test_keep_spares_a_secret_that_lies_whole_within_it():
    """A kept pattern or kind is an exception to the scan; a secret that begins in it and goes on is hidden whole."""
    whole = by(rule("keep", pattern="ghp_[A-Za-z0-9]{36}"))
    assert cleaned(whole, note=f"used {TOKEN}", db_password=TOKEN)["note"] == f"used {TOKEN}"
    assert cleaned(whole, db_password=TOKEN)["db_password"] == TOKEN
    half = by(rule("keep", pattern="ghp_[A-Za-z0-9]{20}"))
    assert TOKEN[24:] not in cleaned(half, note=f"used {TOKEN}")["note"]
    assert TOKEN[:10] not in cleaned(half, note=f"used {TOKEN}")["note"]
    kinds = by(rule("keep", kinds=("github-token",), attributes=("note",)))
    found = cleaned(kinds, note=TOKEN, other=TOKEN)
    assert found["note"] == TOKEN
    assert TOKEN not in found["other"]


def test_kinds_may_lose_their_hash_or_their_attribute():
    """`redact` for a kind leaves no hash, from which a short password could be guessed; `drop` takes the attribute."""
    redaction = by(rule("redact", kinds=("password",)), rule("drop", kinds=("github-token",)))
    found = cleaned(redaction, **{"db.password": "hunter2!", "line": "password=hunter2!", "note": f"with {TOKEN}"})
    assert found == {c.TASK_ID: "t-1", "db.password": "[redacted:password]", "line": "password=[redacted:password]"}


@pytest.mark.parametrize("action", ["hash", "redact", "drop"])
def test_no_rule_changes_what_identifies(action):
    """Names with `*`, patterns and parts leave identities alone, so that look-ups and joins go on."""
    given = {name: "acme-1234" for name in sorted(IDENTITY) if name != c.TASK_ID}
    redaction = by(
        rule(action, attributes=("*",)), rule(action, pattern="acme-[0-9]{4}"), rule(action, parts=["span", "event"])
    )
    assert cleaned(redaction, **given) == {c.TASK_ID: "t-1", **given}
    record = msgspec.structs.replace(a_span(**given), part=Part.LOG, name="e")
    assert redaction.clean(record).attributes == record.attributes


@pytest.mark.parametrize("keeps_content", [True, False])
@pytest.mark.parametrize("action", ["hash", "redact", "drop"])
def test_a_repeated_span_is_equal_on_another_replica(action, keeps_content):
    """Two processes with one key make the same identity and content of a span, event and record."""
    given = [
        a_span(**{"user.email": MAIL, "gen_ai.prompt": f"to {MAIL}", "note": MAIL, "deep": {"user": {"email": MAIL}}}),
        msgspec.structs.replace(SPAN, part=Part.EVENT, name="agent.checkpoint", attributes={"agent.checkpoint": MAIL}),
        msgspec.structs.replace(SPAN, part=Part.LOG, name="e", attributes={"user.email": MAIL}, body=MAIL, index=5),
    ]
    rules = (rule(action, attributes=("*user.email", "gen_ai.prompt")), rule(action, pattern=A_MAIL))

    def prepared() -> list[Any]:
        return batches.prepare(given, redaction=by(*rules), keeps_content=keeps_content)

    first, second = prepared(), prepared()
    assert [(p.event_id, p.content_hash, p.occurrence) for p in first] == [
        (p.event_id, p.content_hash, p.occurrence) for p in second
    ]
    assert MAIL not in repr([(p.source, p.reading) for p in first])
    # What was cleaned before, by a process that forwards, stays as it is.
    again = [by(*rules).clean(p.source) for p in first]
    assert [content_hash(o) for o in again] == [content_hash(p.source) for p in first]
    assert [event_id(o) for o in again] == [event_id(p.source) for p in first]


def test_content_that_is_not_kept_is_hidden_before_it_is_read():
    """A task's name that is read from a prompt does not hold what a rule takes away from the prompt."""
    prompt = {"agent.task.name": "work", "gen_ai.input.messages": f"write to {MAIL}"}
    [placed] = batches.prepare([a_span(**prompt)], redaction=by(rule("drop", attributes=("gen_ai.input.*",))))
    assert "gen_ai.input.messages" not in placed.source.attributes
    assert MAIL not in repr((placed.source, placed.reading, placed.observation))


@pytest.mark.parametrize("action", ["hash", "redact", "drop"])
def test_a_question_that_a_rule_hides_can_be_denied_alone(action):
    """Its words are gone and it is not whole, so that nobody approves it; its id and its mark stay."""
    asked = msgspec.structs.replace(
        SPAN,
        part=Part.EVENT,
        name=c.EVENT_APPROVAL_REQUESTED,
        attributes={c.APPROVAL_ID: "q1", c.APPROVAL_QUESTION: f"Write to {MAIL}?", c.APPROVAL_OPTIONS: ["yes", MAIL]},
    )
    [plain] = batches.prepare([asked])
    rules = rule(action, attributes=(c.APPROVAL_QUESTION, c.APPROVAL_OPTIONS))
    [placed] = batches.prepare([asked], redaction=by(rules))
    assert placed.reading.approval is not None
    assert plain.reading.approval is not None
    assert MAIL not in repr((placed.reading, placed.source))
    assert Hidden.SECRET in hidden(placed.reading.approval)
    assert (placed.reading.approval.id, placed.reading.approval.mark) == ("q1", plain.reading.approval.mark)
    forwarded = by(rules, spares_questions=True).clean_source(asked, keeps_content=False)
    assert forwarded.attributes == asked.attributes


def test_alerts_and_webhooks_are_parts():
    """Labels of an alert and parameters of a webhook are selected by their names."""
    redaction = by(rule("redact", attributes=("customer",)), rule("drop", parts=["alert"], attributes=("runbook",)))
    alert: Alert = msgspec.structs.replace(an_alert(), labels={"customer": MAIL, "runbook": "x", "severity": "page"})
    assert redaction.alert(alert).labels == {"customer": "[redacted:rule]", "severity": "page"}
    body = json.dumps({"customer": MAIL, "n": 1}).encode()
    assert redaction.body("default", body, TelemetryPart.WEBHOOK) == b'{"customer":"[redacted:rule]","n":1}'


def test_a_request_that_cannot_be_read_is_left_out_where_rules_need_it_read():
    """Rules for attributes cannot be applied to such bytes: only their size is kept. Patterns can."""
    assert MAIL.encode() not in by(rule("hash", attributes=("user.*",))).body("default", b"\x0a\x01" + MAIL.encode())
    found = by(rule("redact", pattern=A_MAIL)).body("default", b"\x0a\xff " + MAIL.encode())
    assert found == b"\x0a\xff [redacted:rule]"


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [(A_MAIL, "@example.com"), ("acme_[a-z]{3}", "acme_"), (r"a(?:bcd|e)xyz\.[0-9]{2}q", "xyz."), ("abcd?ef", "abc")],
)
def test_a_pattern_holds_plain_characters(pattern, literal):
    """Each match holds the literal, so that texts without it need no search."""
    assert literal_of(pattern) == literal
    assert fault(pattern) == ""


RULES = st.builds(
    lambda action, pattern, attributes, parts: rule(action, pattern=pattern, attributes=attributes, parts=parts),
    st.sampled_from(["hash", "redact", "drop", "keep"]),
    st.sampled_from(["", "acme[0-9a-c]{1,4}", "[^x]{0,5}acme", "sk-[A-Za-z0-9-]{3,60}", "red[^ ]{1,5}acted"]),
    st.sampled_from([(), ("a*",), ("note",), ("*.b",), ("a.b",)]),
    st.sampled_from([("span",), ("span", "span_name"), tuple(TelemetryPart)]),
)
CASES = [case.text for source in (realistic.by_form, realistic.by_name, realistic.by_place) for case in source(3)]
TEXTS = st.one_of(
    st.sampled_from(CASES),
    st.lists(
        st.sampled_from(["acme", "1", "a", " ", "x", "[redacted:rule]", "sk-", "password=", "\u200b"]), max_size=9
    ).map("".join),
    st.text(max_size=40),
)
VALUES = st.recursive(
    TEXTS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
)


@given(
    st.lists(RULES, max_size=4), st.dictionaries(st.sampled_from(["note", "a", "a.b", "db.password"]), VALUES), TEXTS
)
def test_redacting_twice_is_redacting_once(rules, attributes, name):
    """What was cleaned stays as it is, for any rules and values: a gateway behind a forwarder changes nothing."""
    once = by(*rules).clean(msgspec.structs.replace(SPAN, name=name, attributes=attributes))
    assert by(*rules).clean(once) == once


@given(
    TEXTS, st.sampled_from(CASES), st.sampled_from(["acme[0-9]{1,3}", "sk-[A-Za-z0-9]{3,20}", "password=[a-z]{1,9}"])
)
def test_keep_uncovers_only_what_it_selects(before, case, pattern):
    """Each secret that stays visible only by a kept pattern lies whole within one of its matches."""
    text = f"{before} {case}"
    plain, kept = by().of("x"), by(rule("keep", pattern=pattern)).of("x")
    shown, uncovered = plain.text(text), kept.text(text)
    if shown != uncovered:
        # Hidden again where the pattern matches, nothing else may be uncovered.
        matches = [text[begin:end] for begin, end in _matches(pattern, text)]
        assert matches
        for one in sorted(matches, key=len, reverse=True):
            uncovered = uncovered.replace(one, "")
            text = text.replace(one, "")
        assert all(word in shown or word in text for word in uncovered.split())


def _matches(pattern: str, text: str) -> list[tuple[int, int]]:
    from spanpost.text.patterns import bounded
    from spanpost.text.secrets import _ODD_RUN, _plain

    plain, places = _plain(text, _ODD_RUN)
    return [
        (begin, end) if places is None else (places[begin], places[end - 1] + 1)
        for begin, end in bounded(pattern).spans(plain)
    ]
