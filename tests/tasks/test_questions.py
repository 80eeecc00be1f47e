"""Which question an agent gets the answer of, and which words a mark covers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.interactions.answers import answer_of
from spanpost.model.interventions import ApprovalRow, InterventionState
from spanpost.model.observations import Observation, Part, Repair
from spanpost.model.readings import Approval
from spanpost.readers import read
from spanpost.tasks.interventions import answers, is_whole
from spanpost.tasks.questions import answerable, question_of
from spanpost.text.repair import mend
from spanpost.text.sanitise import is_redacted
from tests.conftest import ROOT

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_row(n: int = 0, *, mark: str = "m", trace: str = "a", **fields: Any) -> ApprovalRow:
    """Return a question; `n` is how much later it was asked than the first."""
    given: dict[str, Any] = {"question": "Deploy?", "span": f"{trace}-1", "requested_at": NOON + timedelta(minutes=n)}
    return ApprovalRow(
        key=UUID(int=n), tenant="t", approval_id="x", mark=mark, task_uid=UUID(int=1), **(given | fields)
    )


DECIDED: dict[str, Any] = {"state": InterventionState.DECIDED, "decision": "approve", "by": "alice", "source": "slack"}
REPORTED: dict[str, Any] = {"state": InterventionState.DECIDED, "decision": "approve", "by": "the CEO"}


def test_without_a_mark_one_wording_is_answered_and_two_are_not() -> None:
    """A caller that names only an id gets the answer where one wording was asked; else the question is open."""
    one, other = a_row(**DECIDED), a_row(1, mark="n", trace="b", **DECIDED)
    assert question_of([one], mark="", trace="", is_all=True) == (one, "")
    row, why = question_of([other, one], mark="", trace="", is_all=True)
    assert row is not None
    answer = answer_of(row, why)
    assert (answer["state"], answer["decision"], answer["by"], answer["source"], answer["reported_decision"]) == (
        "open",
        "",
        "",
        "",
        None,
    )
    assert "several wordings" in answer["reason"]
    assert question_of([one], mark="", trace="", is_all=False)[1] != ""
    void = msgspec.structs.replace(other, state=InterventionState.VOID)
    assert question_of([void, one], mark="", trace="", is_all=True) == (one, "")


def test_of_equal_words_a_persons_decision_comes_first_and_then_what_is_open() -> None:
    """An expired or void question of another trace hides neither an answer nor an open question."""
    rows = [
        a_row(9, state=InterventionState.EXPIRED, decision="deny", source="spanpost"),
        a_row(8, state=InterventionState.VOID),
        a_row(7),
    ]
    assert question_of(rows, mark="m", trace="", is_all=True) == (rows[2], "")
    rows.append(a_row(1, **DECIDED))
    assert question_of(rows, mark="m", trace="", is_all=False) == (rows[3], "")


def test_a_trace_gets_the_answer_of_its_newest_question() -> None:
    """An agent that names its trace gets its newest question that is not void."""
    rows = [a_row(3, mark="n", state=InterventionState.VOID), a_row(2), a_row(1, mark="n", **DECIDED)]
    assert question_of(rows, mark="", trace="a", is_all=True) == (rows[1], "")
    assert question_of([], mark="", trace="a", is_all=True) == (None, "")


def test_a_question_that_ended_with_its_task_is_in_no_ones_way() -> None:
    """An answer by an id means the wording that is open, not one whose task ended without an answer."""
    over, still = a_row(1, mark="a", state=InterventionState.ENDED), a_row(mark="b")
    assert answerable([over, still]) == [still]
    assert answerable([over]) == [over]


def test_a_reported_decision_is_shown_as_reported() -> None:
    """A decision without a source is none: the question is open, and the reported decision stands beside it."""
    answer = answer_of(a_row(**REPORTED))
    assert (answer["state"], answer["decision"], answer["by"], answer["source"]) == ("open", "", "", "")
    assert answer["reported_decision"] == {"decision": "approve", "by": "the CEO", "comment": ""}


def test_a_question_with_a_hidden_part_can_be_denied_alone() -> None:
    """People are offered nothing else, and the waiting agent gets the reason."""
    hidden = a_row(detail="it is [redacted:key:20:ab12cd]", options=("yes", "no"))
    assert not is_whole(hidden)
    assert answers(hidden, None, NOON) == ("deny",)
    answer = answer_of(hidden)
    assert (answer["state"], answer["can_be_approved"]) == ("open", False)
    assert "hidden from people" in answer["reason"]
    assert "not all of it came" in answer_of(a_row(is_cut=True))["reason"]
    assert (answer_of(a_row())["can_be_approved"], answer_of(a_row())["reason"]) == (True, "")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("[redacted]", True),
        ("a [redacted:key:20:ab] b", True),
        ("[redacted:]", True),
        ("redacted", False),
        ("[redact]", False),
    ],
)
def test_placeholders_are_known(text: str, is_one: bool) -> None:
    """Both forms of a redaction placeholder are recognised."""
    assert is_redacted(text) == is_one


def test_ordinary_words_are_whole() -> None:
    """Writing of any kind can be approved: emoji, joiners of Persian, marks of Hebrew, several lines."""
    words = ("Deploy 🚀👩‍👩‍👧 now?", "می‌خواهم", "שלום\u200f!", "a\n\tb\r\nc", "é", "https://example.com/?a=b#c", "")
    assert all(is_whole(a_row(question=text)) for text in words)


# --- the mark -------------------------------------------------------------------------------------------------------


def asked(attributes: dict[str, Any], repairs: int = 0, body: Any = None) -> Approval:
    """Return a question as it is read."""
    observation = Observation(
        part=Part.LOG, trace_id=bytes(16), span_id=bytes(8), name=c.EVENT_APPROVAL_REQUESTED, attributes=attributes,
        repairs=repairs, body=body,
    )  # fmt: skip
    found = read(observation).approval
    assert found is not None
    return found


def said(question: str, detail: str, options: list[str], risk: str) -> dict[str, Any]:
    given = {c.APPROVAL_ID: "x", c.APPROVAL_QUESTION: question, c.APPROVAL_DETAIL: detail, c.APPROVAL_OPTIONS: options}
    return given | {c.APPROVAL_RISK: risk}


def test_the_documented_mark() -> None:
    """The page for writers of clients shows a question with its JSON and its mark, and both are what is computed."""
    page = (ROOT / "docs" / "reference" / "control.md").read_text()
    words = ["Deploy “v2”?", "line 1\nline 2\t<&>", ["yes", "später"], "high"]
    canonical = json.dumps(words, ensure_ascii=False, separators=(",", ":"))
    mark = c.question_mark("Deploy “v2”?", "line 1\nline 2\t<&>", [" yes", "", "später "], "high")
    assert mark == sha256(canonical.encode()).hexdigest()
    assert canonical in page
    assert mark in page


@given(st.text(), st.text(), st.lists(st.text(), max_size=5), st.text())
def test_both_sides_compute_the_same_mark(question: str, detail: str, options: list[str], risk: str) -> None:
    """The asker and the reader compute the same mark for any words, also with surrogates and NUL."""
    mark = c.question_mark(question, detail, options, risk)
    attributes, repairs = mend(said(question, detail, options, risk))
    found = asked(attributes | {c.APPROVAL_DIGEST: mark}, repairs)
    assert (found.mark, found.is_asked, found.is_altered, found.is_cut) == (mark, True, False, False)


@given(st.tuples(*[st.text(max_size=8)] * 3), st.tuples(*[st.text(max_size=8)] * 3))
def test_other_words_have_another_mark(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Words that move between question, detail and options change the mark."""
    marks = [c.question_mark(question, detail, [option], "") for question, detail, option in (one, other)]
    same = [tuple(c.question_text(text) for text in (*words[:2], words[2].strip())) for words in (one, other)]
    assert (marks[0] == marks[1]) == (same[0] == same[1])


@pytest.mark.parametrize("claimed", ["0" * 64, "x", "", 5, c.question_mark("Other?", "", (), "")])
def test_what_the_sender_says_is_the_mark_identifies_nothing(claimed: Any) -> None:
    """Only the words give the mark; a wrong claimed mark is flagged, and without one spanpost is not asked."""
    found = asked(said("Deploy?", "", [], "") | {c.APPROVAL_DIGEST: claimed})
    assert found.mark == c.question_mark("Deploy?", "", (), "")
    assert (found.is_altered, found.is_cut, found.is_asked) == (
        (True, True, True) if claimed != "" else (False, False, False)
    )


def test_what_a_receiver_cut_cannot_be_approved() -> None:
    """A question that is longer than the limit, or whose record was cut, is marked as cut."""
    assert not asked(said("q" * 8192, "d" * 8192, ["o" * 512] * 20, "r" * 512)).is_cut
    for words in (
        ("q" * 8193, "", [], ""),
        ("", "d" * 8193, [], ""),
        ("", "", ["o" * 513], ""),
        ("", "", [*map(str, range(21))], ""),
    ):
        assert asked(said(*words)).is_cut
    assert asked(said("q", "", [], "r" * 513)).is_cut
    assert asked(said("q", "", [], ""), Repair.TRUNCATED).is_cut
    assert asked({c.APPROVAL_ID: "x"}, body="From the body?").mark == c.question_mark("From the body?", "", (), "")


@pytest.mark.parametrize(
    "form",
    [
        {c.APPROVAL_DETAIL: {"command": "drop all"}},
        {c.APPROVAL_DETAIL: ["drop all"]},
        {c.APPROVAL_DETAIL: 5},
        {c.APPROVAL_OPTIONS: {"yes": "drop all"}},
        {c.APPROVAL_OPTIONS: ["yes", ["drop all"]]},
        {c.APPROVAL_RISK: {"a": "b"}},
        {c.APPROVAL_QUESTION: {"text": "Drop all?"}},
    ],
)
def test_a_question_in_an_unreadable_form_cannot_be_approved(form: dict[str, Any]) -> None:
    """A part that people would not be shown marks the question as cut."""
    assert asked(said("Deploy?", "", [], "") | form).is_cut
    assert asked({c.APPROVAL_ID: "x"}, body={"text": "Drop all?"}).is_cut
    assert not asked(
        {c.APPROVAL_ID: "x", c.APPROVAL_QUESTION: "q", c.APPROVAL_RISK: 3, c.APPROVAL_OPTIONS: [1, 2.5]}
    ).is_cut
