"""What the fold made up in English is said anew: each of its makers, any figures, nothing of it lost."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import conventions as c
from spanpost.domain.checkpoints import Kind
from spanpost.domain.context import Forecast
from spanpost.domain.interventions import Verb
from spanpost.domain.readings import Act
from spanpost.domain.spend import Spent
from spanpost.fold import acts, moments, silence, spend, tell
from spanpost.fold.context import Window
from spanpost.fold.context_news import forecast_text, use_text
from spanpost.fold.limits import FIRST_CAP
from spanpost.fold.tasks import Verdict
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.tongues import ENGLISH, KOREAN
from spanpost.tongues.retold import retold, said_anew
from tests.thorough import thorough

tokens = st.integers(1, 10**8)
seconds = st.floats(0, 10**6)


def korean(kind: Kind, text: str, ref: str = "") -> str:
    """Say a checkpoint's text anew, and hold it: no English is left, and every figure that is no time is there."""
    checkpoint = a_checkpoint(kind=kind, text=text, ref=ref)
    assert retold(checkpoint, ENGLISH) == text
    said = retold(checkpoint, KOREAN)
    assert not re.search("[A-Za-z]", said), said
    assert re.search("[가-힣]", said), said
    return said


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d{1,3}(?:,\d{3})+", text))


@thorough(60)
@given(
    tokens,
    tokens,
    st.sampled_from(["given", "said", "observed", "table", "default"]),
    st.sampled_from(["", "모델-4"]),
    st.booleans(),
)
def test_a_filling_context(used: int, size: int, source: str, model: str, is_past: bool) -> None:
    """Share, tokens, window, how it is known, model and limit are said anew, whichever of them are known."""
    for window in (Window(size, source), None):
        text = f"Context {use_text(used, window, model)}" + (f", past {size:,}" if is_past else "")
        if window is not None and not model:
            text = text.replace("; )", ")")  # a model without a name is the agent's lane
        said = korean(Kind.CONTEXT_WARNING, text)
        assert figures(said) == figures(text)
        assert model in said


@thorough(60)
@given(
    st.integers(1, 1000),
    st.integers(0, 5),
    st.integers(0, 5),
    seconds,
    seconds,
    seconds,
    st.sampled_from(["85 %", "87.5 %", "150,000 tokens"]),
)
def test_a_forecast(calls: int, less: int, more: int, a: float, b: float, d: float, limit: str) -> None:
    """How many calls, how long, and both ranges are said anew."""
    told = Forecast(
        tokens=FIRST_CAP,
        limit=limit,
        calls=calls,
        calls_low=max(calls - less, 1),
        calls_high=calls + more,
        seconds=a,
        seconds_low=min(b, d),
        seconds_high=max(b, d),
    )
    said = korean(Kind.CONTEXT_FORECAST, f"Context: {forecast_text(told)}")
    assert f"{calls}회" in said
    assert ("~" in said) == ("(" in forecast_text(told))


@thorough(30)
@given(st.one_of(st.none(), tokens), st.one_of(st.none(), tokens), st.booleans())
def test_a_compaction(before: int | None, after: int | None, is_inferred: bool) -> None:
    """Tokens before and after, as far as they are known, and that it was inferred."""
    text = tell.compaction_text(before, after) + " (inferred from the drop)" * is_inferred
    assert figures(korean(Kind.COMPACTION, text)) == figures(text)


@thorough(30)
@given(st.sampled_from([c.COMPLETE, c.CANCELLED, c.ERROR]), st.integers(0, 10**15), st.booleans())
def test_an_end(status: str, took: int, is_session: bool) -> None:
    """How it ended and in what time."""
    started = 10**18
    verdict = Verdict(status, "session" if is_session else "x", ended_ns=started + took)
    korean(Kind.END, tell.end_text(verdict, "n", started))
    korean(Kind.END, tell.end_text(Verdict(c.WAITING, verdict.rule), "n", started))


def test_why_it_ended_is_the_agents_unless_its_process_is_gone() -> None:
    """What an agent failed of stands as it is; that its process is not heard of is said anew, wherever it stands."""
    end = a_checkpoint(kind=Kind.END, text="Failed: TypeError: no")
    assert retold(end, KOREAN) == "실패: TypeError: no"
    for gone in ("The process ended with the task open.", "Its process is not heard of any more."):
        korean(Kind.END, f"Failed: {gone}")
        assert not re.search("[A-Za-z]", said_anew(gone, KOREAN))


@thorough(30)
@given(st.integers(1, 10**6))
def test_silence(patience: int) -> None:
    """For how long nothing was heard."""
    korean(Kind.STALLED, silence.stalled(a_task(), NOON, silence.Patience(stall=timedelta(seconds=patience))).text)


@thorough(30)
@given(st.floats(0, 10**7))
def test_lengths_of_time_keep_their_length(length: float) -> None:
    """A time that is said anew is the same time, to the minute above an hour, to the second below, to a tenth below ten."""
    said = korean(Kind.END, f"Complete in {moments.duration(length)}")
    units = {"일": 86_400, "시간": 3_600, "분": 60, "초": 1}
    found = sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+(?:\.\d)?)(일|시간|분|초)", said))
    assert abs(found - length) <= (3_600 if length >= 86_400 else 60 if length >= 3_600 else 1 if length >= 10 else 0.06)


@thorough(30)
@given(
    st.sampled_from(["월간", "팀 of 예산 is 3"]),
    st.sampled_from([(), (("agent", "작가"), ("topic", "배포"))]),
    st.one_of(st.none(), st.decimals(1, 10**6, places=2)),
    st.one_of(st.none(), tokens),
)
def test_a_budget(name: str, scope: tuple[tuple[str, str], ...], usd: Decimal | None, most: int | None) -> None:
    """Its name, whom it is kept for, and both limits; the name is no part of the phrase, whatever it is."""
    spent = Spent(
        budget=name,
        tenant="t",
        scope=scope,
        began_at=NOON,
        ends_at=NOON,
        cost_usd=Decimal("1234.5"),
        tokens=77_000,
        limit_usd=usd,
        limit_tokens=most,
    )
    text = spend.in_words(spent)
    said = retold(a_checkpoint(kind=Kind.BUDGET_WARNING, text=text, ref=f"{name} 0.8"), KOREAN)
    assert figures(said) == figures(text)
    assert not re.search("[A-Za-z]", said.replace(name, ""))
    assert all(whom in said for _, whom in scope)


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
@pytest.mark.parametrize("who", ["", "민아"])
def test_what_somebody_asked_for(verb: str, who: str) -> None:
    """Who asked what of a task, and their words; an agent's checkpoint of the same words stands as it is."""
    text = acts.line(Act(verb=Verb(verb), by=who, text="stop that"))
    said = retold(a_checkpoint(kind=Kind.CHECKPOINT, text=text, ref=verb), KOREAN)
    assert said.endswith(": stop that")
    assert not re.search("[A-Za-z]", said.removesuffix(": stop that"))
    assert retold(a_checkpoint(kind=Kind.CHECKPOINT, text=text), KOREAN) == text


def test_what_somebody_asked_for_says_so_in_its_row() -> None:
    """The checkpoint of an act names its verb, by which it is known for ours."""
    from spanpost.domain.observations import Observation, Part
    from spanpost.domain.readings import Reading

    act = Act(verb=Verb.CANCEL, by="Mina")
    o = Observation(part=Part.INTERVENTION, trace_id=b"t" * 16, span_id=b"s" * 8, tenant="default", name="x", at_ns=1)
    told = tell.told(o, Reading(act=act, message=acts.line(act)), Kind.CHECKPOINT, a_checkpoint().id, a_task().uid, b"s" * 8)
    assert told.ref == "cancel"
    assert retold(told, KOREAN) == "Mina 님이 중지를 요청함"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.MILESTONE, "40 % done"),
        (Kind.APPROVAL_REQUESTED, "A decision is needed"),
        (Kind.APPROVAL_REQUESTED, "Nobody has answered: a decision is needed"),
        (Kind.APPROVAL_REQUESTED, "Nobody has answered: 배포할까요?"),
        (Kind.APPROVAL_RESOLVED, "Nobody decided in time"),
        (Kind.START, "Started: 보고서"),
        (Kind.START, "Resumed: 보고서"),
        (Kind.BUDGET_WARNING, "A budget is nearly spent"),
    ],
)
def test_other_shapes(kind: Kind, text: str) -> None:
    """Short phrases of ours, as the fold writes them."""
    korean(kind, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2 of 8 agents at work: 작가, 편집자", "에이전트 8개 중 2개 작업 중: 작가, 편집자"),
        ("an agent at work", "에이전트 1개 작업 중"),
        ("tool: grep", "도구: grep"),
        ("Prompt of 1,234 characters", "1,234자 프롬프트"),
        ("150,000 tokens", "토큰 150,000개"),
        ("85 %", "85%"),
    ],
)
def test_what_a_task_is_doing(text: str, said: str) -> None:
    """What was made up of its calls, agents and prompts, and limits, is said anew."""
    assert said_anew(text, KOREAN) == said
    assert said_anew(text, ENGLISH) == text


@thorough(60)
@given(
    st.sampled_from([kind for kind in Kind if kind is not Kind.APPROVAL_RESOLVED]),
    st.text(st.characters(blacklist_characters=":%"), max_size=60),
)
def test_what_agents_say_stands_as_it_is(kind: Kind, text: str) -> None:
    """A text that has no shape of ours is not touched, in any kind."""
    if text in ("Failed", "Complete", "Cancelled", "Context compacted", "A decision is needed"):
        return
    assert retold(a_checkpoint(kind=kind, text=text, at=datetime(2026, 1, 1, tzinfo=UTC)), KOREAN) == text
