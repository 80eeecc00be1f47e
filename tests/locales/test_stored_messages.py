"""Messages stored beside their English text: who makes them, how they are read, how they are rendered."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.model.budgets import Spent
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.context import Forecast
from spanpost.model.interventions import Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.queries import TaskQuery
from spanpost.model.readings import Act, Approval, Failure, Reading
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.readers import sentences
from spanpost.readers.redaction import Redaction
from spanpost.readers.sessions import prompt
from spanpost.sinks import labels
from spanpost.sinks.console import render as terminal
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.store.memory import MemoryStore
from spanpost.tasks import budgets, checkpoints
from spanpost.tasks.absorb import AGENT_CONVERSATION
from spanpost.tasks.context import Window
from spanpost.tasks.context_checkpoints import forecast, use
from spanpost.tasks.context_limits import Limit, named
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import checkpoint_json
from spanpost.tasks.stall import StallRules, stalled
from spanpost.tasks.status import TaskVerdict
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.testing.observed import a_run, ended
from spanpost.testing.strategies import messages
from spanpost.text.locales import ENGLISH, KOREAN, LOCALES, Locale, english
from spanpost.text.wording import TEXT_CAP, message, packed, unpacked, worded
from tests.sinks.slack_limits import blocks_of, check, nodes
from tests.thorough import thorough

SPOKEN = SlackStyle(locale=KOREAN)
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
#: Text that breaks a template, a format, a line or markup if it is taken for one.
TRICKS = [
    "{name}", "{0}", "{", "}}", "{name.__class__}", "%s %(name)s %", "a\nb", "\x00", "<!channel>", "<@U1>",
    "*b* _i_ `c`", "[red]x[/]", "&lt;", "\u202e", "$x ${y}", "\\1 \\g<0>",
]  # fmt: skip
tricky = st.one_of(st.sampled_from(TRICKS), st.text(st.characters(), max_size=30))


def announced(**fields: Any) -> Checkpoint:
    """Return the checkpoint that `tell` makes of a reading."""
    kind = fields.pop("kind", Kind.CHECKPOINT)
    o = fields.pop(
        "o", Observation(part=Part.LOG, trace_id=b"t" * 16, span_id=b"s" * 8, tenant="default", name="x", at_ns=1)
    )
    return checkpoints.checkpoint_of(o, Reading(**fields), kind, a_checkpoint().id, a_task().uid, b"s" * 8)


def a_forecast(calls: int, low: int, high: int, seconds: float, soon: float, late: float) -> Forecast:
    predicted = Forecast(
        tokens=1, calls=calls, calls_low=low, calls_high=high, seconds=seconds, seconds_low=soon, seconds_high=late
    )
    return named(predicted, Limit(1, 850))


def a_spent(**fields: Any) -> Spent:
    known = {
        "budget": "월간",
        "tenant": "t",
        "scope": (),
        "began_at": NOON,
        "ends_at": NOON,
        "cost_usd": Decimal("1234.5"),
        "tokens": 77_000,
    }
    return Spent(**(known | fields))


FAILED = TaskVerdict(c.ERROR, "process gone", failure=("", "x", ""), reason=message("task.process_ended"))
#: The maker of each sentence, with its English and its Korean.
MADE: list[tuple[LocaleMessage | str, str, str]] = [
    (message("checkpoint.started", name="보고서"), "Started: 보고서", "시작: 보고서"),
    (message("checkpoint.resumed", name=message("checkpoint.task")), "Resumed: task", "재개: 작업"),
    (
        checkpoints.end(TaskVerdict(c.COMPLETE, "x", ended_ns=402 * 10**9), 10**9),
        "Complete in 6 min 41 s",
        "완료 (소요 시간 6분 41초)",
    ),
    (
        checkpoints.end(TaskVerdict(c.COMPLETE, "x", ended_ns=10**9 + 4 * 10**8), 10**9),
        "Complete in 0.4 s",
        "완료 (소요 시간 0.4초)",
    ),
    (checkpoints.end(TaskVerdict(c.COMPLETE, "x"), 10**9), "Complete", "완료"),
    (
        checkpoints.end(TaskVerdict(c.CANCELLED, "x", ended_ns=7201 * 10**9), 10**9),
        "Cancelled in 2 h 00 min",
        "취소됨 (소요 시간 2시간)",
    ),
    (checkpoints.end(TaskVerdict(c.ERROR, "x"), 0), "Failed", "실패"),
    (checkpoints.end(TaskVerdict(c.ERROR, "x", failure=("E", "no", "")), 0), "Failed: E: no", "실패: E: no"),
    (
        checkpoints.end(FAILED, 0),
        "Failed: The process ended with the task open.",
        "실패: 작업이 끝나기 전에 프로세스가 종료되었습니다.",
    ),
    (
        checkpoints.end(TaskVerdict(c.WAITING, BETWEEN_PROMPTS), 0),
        "Waiting for its next prompt",
        "다음 프롬프트 대기 중",
    ),
    (checkpoints.end(TaskVerdict(c.WAITING, "interrupt"), 0), "Waiting for a person", "사람의 응답 대기 중"),
    (message("checkpoint.percent_done", percent=40), "40 % done", "40% 완료"),
    (
        use(172_000, Window(200_000, "table"), AGENT_CONVERSATION),
        "Context 86 % full: 172,000 of 200,000 tokens (window: table)",
        "컨텍스트 86% 사용: 200,000 토큰 중 172,000 (윈도우: 모델 표)",
    ),
    (use(1_000, Window(2_000, "said"), "모델").values["source"], "said", "에이전트 보고"),  # type: ignore[list-item]
    (use(1_000, None, "모델"), "Context at 1,000 tokens (모델)", "컨텍스트 1,000 토큰 사용 (모델)"),
    (
        message("checkpoint.past", text=use(151_000, None, AGENT_CONVERSATION), limit=150_000),
        "Context at 151,000 tokens, past 150,000",
        "컨텍스트 151,000 토큰 사용, 한도 150,000 초과",
    ),
    (
        forecast(a_forecast(3, 2, 4, 40.0, 25.0, 70.0)),
        "Context: 85 % in about 3 calls, 40 s (2 to 4 calls, 25 s to 1 min 10 s)",
        "컨텍스트: 호출 약 3회(40초) 뒤 85% 도달 (호출 2~4회, 25초~1분 10초)",
    ),
    (
        forecast(a_forecast(1, 1, 1, 0.2, 0.1, 0.3)),
        "Context: 85 % in about 1 call",
        "컨텍스트: 호출 약 1회 뒤 85% 도달",
    ),
    (
        message("checkpoint.inferred", text=checkpoints.compaction(9_000, 1_000)),
        "Context compacted: 9,000 → 1,000 tokens (inferred from the drop)",
        "컨텍스트 압축됨: 9,000 → 1,000 토큰 (사용량 감소로 추정)",
    ),
    (
        checkpoints.compaction(9_000, None),
        "Context compacted: from 9,000 tokens",
        "컨텍스트 압축됨: 압축 전 9,000 토큰",
    ),
    (checkpoints.compaction(None, 1), "Context compacted: to 1 tokens", "컨텍스트 압축됨: 압축 후 1 토큰"),
    (checkpoints.compaction(None, None), "Context compacted", "컨텍스트 압축됨"),
    (
        budgets.in_words(a_spent(limit_usd=Decimal(2000), scope=(("agent", "작가"), ("topic", "배포")))),
        "Budget 월간 of 작가, 배포 is 61 % spent: $1,234.50 of $2,000.00",
        "예산 월간 (작가, 배포) 61% 사용: $2,000.00 중 $1,234.50",
    ),
    (
        budgets.in_words(a_spent(limit_usd=Decimal(2000), limit_tokens=100_000)),
        "Budget 월간 is 77 % spent: $1,234.50 of $2,000.00, 77,000 of 100,000 tokens",
        "예산 월간 77% 사용: $2,000.00 중 $1,234.50, 100,000 토큰 중 77,000",
    ),
    *(
        (
            sentences.asked(Act(verb=verb, by=by, text=text)) or "",
            f"{by or 'A person'} asked to {english}{tail}",
            f"{who} 님이 {korean} 요청함{tail}",
        )
        for verb, english, korean in (
            (Verb.CANCEL, "stop it", "중지를"),
            (Verb.PAUSE, "pause it", "일시 중지를"),
            (Verb.RESUME, "go on", "재개를"),
            (Verb.RETRY, "try it again", "재시도를"),
        )
        for by, who in (("", "확인되지 않은 사용자"), ("민아", "민아"))
        for text, tail in (("", ""), ("그만", ": 그만"))
    ),
    (prompt(1_234), "Prompt of 1,234 characters", "1,234자 프롬프트"),
    (prompt(None), "Prompt", "프롬프트"),
]


@pytest.mark.parametrize(("said", "text", "korean"), MADE)
def test_what_makers_say(said: LocaleMessage | str, text: str, korean: str) -> None:
    """Each maker names a message, whose English is stored and whose Korean has the same meaning."""
    assert isinstance(said, LocaleMessage)
    assert worded(said) == (text, said)
    assert KOREAN.translate(said, "other") == korean
    assert ENGLISH.translate(said, text) == text


DECIDED = Approval(id="a", decision="approve", by="민아", comment="좋아요")


@pytest.mark.parametrize(
    ("checkpoint", "text", "korean"),
    [
        (
            announced(kind=Kind.COMPACTION, compaction=(2_000, 1_000)),
            "Context compacted: 2,000 → 1,000 tokens",
            "컨텍스트 압축됨: 2,000 → 1,000 토큰",
        ),
        (
            announced(kind=Kind.APPROVAL_REQUESTED, approval=Approval(id="a")),
            "A decision is needed",
            "결정이 필요합니다",
        ),
        (announced(kind=Kind.APPROVAL_REQUESTED, approval=Approval(id="a", question="배포?")), "배포?", "배포?"),
        (
            announced(kind=Kind.APPROVAL_RESOLVED, approval=DECIDED),
            "approve by 민아: 좋아요",
            "approve (민아 님): 좋아요",
        ),
        (announced(kind=Kind.APPROVAL_RESOLVED, approval=Approval(id="a")), "resolved", "결정됨"),
        (
            announced(kind=Kind.APPROVAL_RESOLVED, approval=Approval(id="a", decision="expired", is_expired=True)),
            "Not decided in time",
            "기한 내에 결정되지 않음",
        ),
        (
            announced(kind=Kind.APPROVAL_RESOLVED, approval=Approval(id="a", decision="deny", is_expired=True)),
            "Not decided in time: deny",
            "기한 내에 결정되지 않음: deny",
        ),
        (announced(kind=Kind.ERROR, tool_name="grep", failure=Failure()), "failed", "실패"),
        (announced(kind=Kind.ERROR, failure=Failure(type="E", message="no")), "E: no", "E: no"),
        (announced(kind=Kind.BUDGET_WARNING), "A budget is nearly spent", "예산이 거의 소진되었습니다"),
        (announced(message="Complete in 5 s"), "Complete in 5 s", "Complete in 5 s"),
        (
            stalled(a_task(), NOON, StallRules(stall_after=timedelta(minutes=5))),
            "No activity for 5 min 00 s",
            "5분 동안 활동 없음",
        ),
    ],
)
def test_what_checkpoints_carry(checkpoint: Checkpoint, text: str, korean: str) -> None:
    """A checkpoint has English text and a message for other languages; an agent's own text has none."""
    assert checkpoint.text == text
    assert KOREAN.translate(checkpoint.message, checkpoint.text) == korean
    assert (checkpoint.message is None) == (text == korean)


def test_an_unanswered_question_is_a_message() -> None:
    """The reminder of an unanswered question is a message around the agent's question."""
    escalated = Observation(
        part=Part.LOG, trace_id=b"t" * 16, span_id=b"s" * 8, tenant="default", name=c.EVENT_APPROVAL_ESCALATED, at_ns=1
    )
    for question, text, korean in (
        ("배포?", "Not answered yet: 배포?", "아직 아무도 답하지 않았습니다: 배포?"),
        ("", "Not answered yet: A decision is needed", "아직 아무도 답하지 않았습니다: 결정이 필요합니다"),
    ):
        checkpoint = announced(o=escalated, kind=Kind.APPROVAL_REQUESTED, approval=Approval(id="a", question=question))
        assert (checkpoint.text, KOREAN.translate(checkpoint.message, "")) == (text, korean)


def test_a_budgets_record_carries_its_message() -> None:
    """The record of a passed share carries its message; an agent's own, or a broken one, is none."""
    said = budgets.in_words(a_spent(limit_tokens=100_000))
    record = Observation(
        part=Part.INTERVENTION, trace_id=b"t" * 16, span_id=b"s" * 8, tenant="default", name=c.EVENT_BUDGET, at_ns=1,
        attributes={c.BUDGET_MESSAGE: msgspec.json.encode(said).decode()},
    )  # fmt: skip
    assert sentences.message_of(record) == said
    for broken in ({}, {c.BUDGET_MESSAGE: "{"}, {c.BUDGET_MESSAGE: 7}, {c.BUDGET_MESSAGE: '{"key": 1}'}):
        assert sentences.message_of(msgspec.structs.replace(record, attributes=broken)) is None


def texts_of(said: LocaleMessage) -> list[str]:
    """Return the texts of a message and of those within it."""
    found: list[str] = []
    for value in said.values.values():
        for one in value if isinstance(value, list) else [value]:
            found += texts_of(one) if isinstance(one, LocaleMessage) else [one] if isinstance(one, str) else []
    return found


@pytest.mark.slow
@thorough(200)
@given(messages(tricky, depth=2), st.sampled_from(list(LOCALES.values())))
def test_words_of_agents_stand_in_a_message_as_they_are(said: LocaleMessage, locale: Locale) -> None:
    """Braces, percent signs, line feeds and markup in values are never read as a template."""
    try:
        shown = locale.tell(said)
    except (ValueError, OverflowError):  # an invalid duration
        assert locale.translate(said, "as stored") in ("as stored", None)
        return
    assert all(text in shown for text in texts_of(said))


@thorough(100)
@given(messages(tricky, depth=1), st.sampled_from(list(LOCALES.values())), st.sampled_from(Kind))
def test_a_message_is_escaped_wherever_its_text_is(said: LocaleMessage, locale: Locale, kind: Kind) -> None:
    """Values are literal text in Slack and without control characters in the terminal, in each language."""
    try:
        text, locale_message = worded(said)
    except (ValueError, OverflowError):
        text, locale_message = "a text", said
    checkpoint = a_checkpoint(kind=kind, text=text, message=locale_message)
    check(reply(a_task(), checkpoint, key="k", slack_style=SlackStyle(locale=locale)))
    assert "\x1b" not in labels.checkpoint_text(checkpoint, locale=locale)
    assert "\n" not in terminal.plain(terminal.CheckpointLine(checkpoint), "a task", locale=locale)


@thorough(100)
@given(messages(st.text(max_size=20), depth=2))
def test_messages_are_read_back_as_they_were_written(said: LocaleMessage) -> None:
    """A message survives JSON and MessagePack, and a fact survives its storage."""
    encoded = msgspec.json.encode(said)
    assume(b"null" not in encoded)  # no maker produces such a number
    assert msgspec.json.decode(encoded, type=LocaleMessage) == said
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=LocaleMessage)
    kept = unpacked(msgspec.msgpack.decode(msgspec.msgpack.encode(packed(said))))
    assert repr(whole) == repr(kept) == repr(said)


@pytest.mark.parametrize(
    "odd",
    [
        LocaleMessage("checkpoint.of_a_later_release", {"name": "x"}),
        LocaleMessage("checkpoint.started"),
        LocaleMessage("checkpoint.compacted_from", {"before": "many"}),
        LocaleMessage("checkpoint.stalled", {"time": "long"}),
        LocaleMessage("checkpoint.stalled", {"time": float("inf")}),
    ],
)
def test_what_a_catalogue_cannot_render_stays_english(odd: LocaleMessage) -> None:
    """A message of another release is shown by its stored English, never with an error."""
    assert KOREAN.translate(odd, "as it was stored") == "as it was stored"


def test_long_words_are_cut() -> None:
    """Text and values hold no more of an agent's words than a checkpoint may."""
    text, said = worded(message("checkpoint.started", name="x" * 10 * TEXT_CAP))
    assert len(text) == TEXT_CAP
    assert said is not None
    assert len(str(said.values["name"])) == TEXT_CAP


def test_a_language_of_ones_own() -> None:
    """A custom catalogue of a few phrases over the English ones renders stored messages."""
    german = Locale(
        "de",
        {
            **english.PHRASES,
            "checkpoint.complete_in": "Fertig nach {time:duration}",
            "duration.minutes": "{m} Min. {s} Sek.",
        },
    )
    said = message("checkpoint.complete_in", time=401)
    assert german.translate(said, "") == "Fertig nach 6 Min. 41 Sek."
    assert german.translate(message("checkpoint.resumed", name="x"), "") == "Resumed: x"


async def folded(*spans: Observation, **rules: Any) -> MemoryStore:
    store = MemoryStore(FoldRules(**rules))
    await store.record(spans)
    return store


async def test_a_run_is_rendered_in_korean() -> None:
    """From spans to Slack spanpost's text is Korean there, and English with key and values in rows and JSON."""
    run = a_run("보고서")
    store = await folded(*run, ended(trace=1, span=77, parent=1, name="tool", attributes={c.CHECKPOINT_MESSAGE: "x"}))
    by_kind = {one.kind: one for one in await store.reader.checkpoints()}
    [task] = [one for one in await store.tasks(TaskQuery()) if one.name == "보고서"]
    start, end = by_kind[Kind.START], by_kind[Kind.END]
    shown = [
        str(node["text"])
        for one in (start, end)
        for block in blocks_of(reply(task, one, key="k", slack_style=SPOKEN))
        for node in nodes(block)
        if isinstance(node.get("text"), str)
    ]
    assert any("시작: 보고서" in text for text in shown)
    assert any(re.search("완료 .소요 시간 .*초", text) for text in shown)
    assert not any(re.search("Started|Complete", text) for text in shown)
    made = checkpoint_json(start, task.task_id)
    assert (made["text"], made["message"], made["values"]) == (
        "Started: 보고서",
        "checkpoint.started",
        {"name": "보고서"},
    )
    assert checkpoint_json(end, task.task_id)["message"] == "checkpoint.complete_in"
    assert json.loads(json.dumps(made)) == made


async def test_no_secret_is_stored_in_a_message() -> None:
    """A secret removed from a text is absent from the message's values too, for every kind."""
    attributes = {
        c.TASK_NAME: f"run {TOKEN}",
        "gen_ai.operation.name": "invoke_agent",
        c.STEP_NAME: f"step {TOKEN}",
    }
    spans = [
        ended(trace=1, span=1, name="agent", attributes=attributes, status=Status.ERROR, status_message=f"401 {TOKEN}"),
        ended(
            trace=1, span=2, parent=1, name="execute_tool",
            attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": f"t {TOKEN}"}, status=Status.ERROR,
        ),
    ]  # fmt: skip
    for name, more in (
        (c.EVENT_APPROVAL_REQUESTED, {c.APPROVAL_QUESTION: f"use {TOKEN}?"}),
        (c.EVENT_APPROVAL_ESCALATED, {c.APPROVAL_QUESTION: f"use {TOKEN}?"}),
        (c.EVENT_APPROVAL_RESOLVED, {c.APPROVAL_DECISION: "yes", "agent.approval.comment": f"see {TOKEN}"}),
    ):
        record = ended(trace=1, span=1, name=name, attributes={c.APPROVAL_ID: "a-1", **more})
        spans.append(msgspec.structs.replace(record, part=Part.LOG))
    store = await folded(*spans, redaction=Redaction(key=b"k" * 32))
    checkpoints, tasks = await store.reader.checkpoints(), await store.tasks(TaskQuery())
    stored = msgspec.json.encode([one.message for one in checkpoints] + [one.messages for one in tasks], enc_hook=str)
    assert {one.message.key for one in checkpoints if one.message is not None} >= {
        "checkpoint.started",
        "checkpoint.failed_because",
    }
    assert b"[redacted:" in stored
    assert TOKEN.encode() not in stored
    assert TOKEN.encode() not in msgspec.json.encode([checkpoints, tasks], enc_hook=str)
