"""Names of models and their windows; when a context warning is reported."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from spanpost.tasks.conclusions import NO_CALL, Conclusion, Judged
from spanpost.tasks.context import ContextRules, Window, canonical_model, model_names, window_of
from spanpost.tasks.conversations import ModelCall as ModelCall
from spanpost.tasks.conversations import judge
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.forecast import DROP
from spanpost.tasks.records import Conversation

WARN_AT = (0.7, 0.85)
#: No forecasts: tests of them are in test_forecast.py.
RULES = FoldRules(context=ContextRules(warn_at=WARN_AT, ahead_calls=0, ahead=timedelta(0)))

SAME = [
    ("gpt-4o", "gpt-4o"),
    ("openai/gpt-4o", "gpt-4o"),
    ("openai:gpt-4o", "gpt-4o"),
    ("openrouter/openai/gpt-4o:free", "gpt-4o"),
    ("azure/eu/gpt-4o-2024-08-06", "gpt-4o"),
    (" GPT-4o-2024-11-20 ", "gpt-4o"),
    ("gpt-4-0613", "gpt-4"),
    ("gpt-4-32k-0613", "gpt-4-32k"),
    ("azure/gpt-35-turbo-16k-0613", "gpt-3.5-turbo-16k"),
    ("gpt-4-1106-preview", "gpt-4-turbo"),
    ("gpt-5-chat-latest", "gpt-5-chat"),
    ("o1-preview-2024-09-12", "o1-preview"),
    ("claude-sonnet-4-5", "claude-sonnet-4-5"),
    ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
    ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
    ("claude-opus-4-6@default", "claude-opus-4-6"),
    ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
    ("databricks-claude-sonnet-4-5", "claude-sonnet-4-5"),
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
    ("bedrock/us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
    ("arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
    ("eu.anthropic.claude-opus-4-7", "claude-opus-4-7"),
    ("anthropic.claude-sonnet-5", "claude-sonnet-5"),
    ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
    ("anthropic.claude-v2:1", "claude-v2:1"),
    ("claude-sonnet-4-5-20250929[1m]", "claude-sonnet-4-5[1m]"),
    ("models/gemini-2.5-flash", "gemini-2.5-flash"),
    ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
    ("google-gla:gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
    ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
    ("gemini-1.5-pro-002", "gemini-1.5-pro"),
    ("mistral:mistral-large-latest", "mistral-large"),
    ("mistral-large@2407", "mistral-large"),
    ("command-r-plus-08-2024", "command-r-plus"),
    ("amazon.nova-pro-v1:0", "nova-pro"),
    ("us.deepseek.r1-v1:0", "deepseek-r1"),
    ("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
    ("llama3:latest", "llama3"),
    ("ollama/llama3:8b", "llama3:8b"),
]

#: Names of different models.
DISTINCT = [
    "gpt-4", "gpt-4-32k", "gpt-4-turbo", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano",
    "gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-5", "gpt-5-mini", "gpt-5-pro", "gpt-5.1", "o1", "o1-mini",
    "o1-preview", "o1-pro", "o3", "o3-mini", "gpt-oss-20b", "gpt-oss-120b", "claude-3-haiku", "claude-3-5-haiku",
    "claude-3-5-sonnet", "claude-sonnet-4", "claude-sonnet-4-5", "claude-sonnet-4-5[1m]", "claude-opus-4",
    "claude-opus-4-1", "claude-opus-4-6", "claude-v2", "claude-v2:1", "gemini-2.5-pro", "gemini-2.5-flash",
    "gemini-2.5-flash-lite", "llama3", "llama3:8b", "llama3:70b", "mistral:7b", "mistral:instruct", "deepseek-v2",
    "deepseek-v3", "deepseek-v3.1", "deepseek-r1", "davinci-002", "babbage-002", "moonshot-v1-8k",
    "moonshot-v1-32k", "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct", "ft:gpt-4o:acme::a",
    "ft:gpt-4o:acme::b",
]  # fmt: skip

SERVED_BY = ["", "openai/", "azure/eu/", "openrouter/vendor/", "models/", "publishers/google/models/", "litellm:"]
DATED = ["", "-2024-08-06", "-20250929", "@20250929", "-0613", "-2407", "-08-2024"]
SUFFIXED = ["", "-latest", "-preview", ":free", ":beta"]


@pytest.mark.parametrize(("name", "canonical"), SAME)
def test_a_model_goes_by_one_name(name: str, canonical: str) -> None:
    """A service, a date and a suffix in a name do not make another model."""
    assert canonical_model(name) == canonical


def test_distinct_models_stay_distinct() -> None:
    """Models that differ in size, version or window have different canonical names."""
    names = [canonical_model(name) for name in DISTINCT]
    assert len(set(names)) == len(DISTINCT), sorted(name for name in names if names.count(name) > 1)


@given(st.sampled_from(DISTINCT), st.sampled_from(SERVED_BY), st.sampled_from(DATED), st.sampled_from(SUFFIXED))
def test_a_model_is_found_under_any_spelling(model: str, service: str, date: str, suffix: str) -> None:
    """A name with any service before it, and any date and suffix behind it, gives its model and no other."""
    is_dressable = not model.startswith("ft:") and not model.endswith("]") and model != "o1"
    dress = f"{service}{model}{date}{suffix}" if is_dressable else f"{service}{model}"
    assert canonical_model(dress) == canonical_model(model)
    assert window_of(dress, {canonical_model(m): i for i, m in enumerate(DISTINCT, 1)}) == DISTINCT.index(model) + 1


PIECES = [
    "openai", "gpt-4", "claude", "us.", "anthropic.", "deepseek.", "/", ":", "@", "-", " ", "[1m]", ":0:200k",
    "-v1:0", "-latest", "-preview", "-0613", "-2024-08-06", "gpt-35-", "4.5", "ft:", "databricks-", "gemini-1",
    "-002", "İ", "\x00",
]  # fmt: skip


@example("[1m]")
@example("x:0:1k-0:0")
@example("x[1m]" * 60)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_a_canonical_name_is_its_own(model: str) -> None:
    """The canonical name of a canonical name is itself; only an empty text has an empty one."""
    name = canonical_model(model)
    assert canonical_model(name) == name
    assert bool(name) == bool(model.strip())
    assert model_names(model)[-1] == name
    assert window_of(model, {name: 7}) == (7 if model else None)


def test_a_longer_name_wins_over_a_shorter() -> None:
    """A date that has a window of its own is looked up before the model without its date."""
    table = {"qwen-plus": 129_024, "qwen-plus-2025-07-28": 997_952}
    assert window_of("dashscope/qwen-plus-2025-07-28", table) == 997_952
    assert window_of("qwen-plus-2025-01-25", table) == 129_024
    assert window_of("qwen-plus-latest", table) == 129_024


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("claude-sonnet-4-5-20250929[1m]", 1_000_000),
        ("anthropic.claude-3-sonnet-20240229-v1:0:28k", 28_000),
        ("some-unknown-model[400k]", 400_000),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", 128_000),
        ("llama3:8b-instruct-q4_K_M", 8_192),
        ("llama3:70b-instruct-q4_K_M", None),
        ("llama3:8b-128k", None),
        ("my-own-model", None),
        ("", None),
        (None, None),
    ],
)
def test_a_name_may_imply_its_window(model: str | None, window: int | None) -> None:
    """A size in the name is read; tuned and quantised weights have the window of their base; others are unknown."""
    assert (
        window_of(model, {"claude-sonnet-4-5": 200_000, "gpt-4o-mini": 128_000, "llama3:8b": 8_192, "llama3": 5})
        == window
    )


# Calls of one conversation, as (tokens used, conversation); time is their order.

Call = tuple[int, str]


def reported_by(calls: list[tuple[int, Call]], window: int | None = 1000) -> list[list[Judged]]:
    """Return what each call of a conversation reports. A call is its time and itself; equal times are repeats."""
    conversation, known = Conversation(), None if window is None else Window(window, "table")
    return [
        [
            replace(one, since=NO_CALL, confirmed=NO_CALL)
            for one in judge(
                conversation, ModelCall(at, at.to_bytes(4, "big"), at, used, conversation_id), known, RULES
            )
        ]
        for at, (used, conversation_id) in calls
    ]


def in_order(*used: int) -> list[list[Judged]]:
    return reported_by([(at, (tokens, "")) for at, tokens in enumerate(used, 1)])


def warning(threshold: int, climb: int, used: int) -> Judged:
    return Judged(Conclusion.WARNING, climb, used, Window(1000, "table"), threshold)


def compaction(climb: int, before: int, after: int) -> Judged:
    return Judged(Conclusion.COMPACTION, climb, after, Window(1000, "table"), before=before)


def test_a_threshold_is_reported_once_per_climb() -> None:
    """The call that reaches a threshold warns; later calls do not, also when use falls a little and rises again."""
    assert in_order(699, 700, 720, 690, 710, 850, 840, 990) == [
        [], [warning(700, 0, 700)], [], [], [], [warning(850, 0, 850)], [], []
    ]  # fmt: skip


def test_one_call_may_pass_two_thresholds() -> None:
    """A call that jumps over both thresholds gives one warning, of the higher; the lower is not reported later."""
    assert in_order(100, 900, 950) == [[], [warning(850, 0, 900)], []]


def test_a_confirmed_compaction_arms_again() -> None:
    """A drop of 30 % that the next call confirms is reported once; the next climb warns anew, with its own number."""
    assert in_order(750, 525, 500, 760) == [
        [warning(700, 0, 750)],
        [],
        [compaction(1, 750, 525)],
        [warning(700, 1, 760)],
    ]


def test_an_unconfirmed_drop_is_no_compaction() -> None:
    """One small call between two large ones is no compaction, and neither is a drop of less than 30 %."""
    assert in_order(750, 100, 760, 100, 770) == [[warning(700, 0, 750)], [], [], [], []]
    assert in_order(750, 526, 500, 760) == [[warning(700, 0, 750)], [], [], []]


def test_an_older_call_reports_nothing() -> None:
    """A call older than the newest, or a repeat of it, reports nothing and changes nothing."""
    assert reported_by([(5, (100, "")), (4, (900, "")), (5, (900, "")), (6, (710, ""))]) == [
        [],
        [],
        [],
        [warning(700, 0, 710)],
    ]


def test_a_new_conversation_arms_again() -> None:
    """Another conversation is another climb; a call that does not say which one belongs to the last."""
    calls = [(1, (750, "a")), (2, (760, "")), (3, (770, "b")), (4, (780, "b")), (5, (790, "a"))]
    assert reported_by(calls) == [[warning(700, 0, 750)], [], [warning(700, 1, 770)], [], [warning(700, 2, 790)]]


def test_a_new_conversation_is_no_compaction() -> None:
    """A new conversation that starts small is no compaction of the former one; its first call may warn at once."""
    assert reported_by([(1, (950, "a")), (2, (100, "b")), (3, (120, "b"))])[1:] == [[], []]
    assert reported_by([(1, (4000, "a")), (2, (720, "b"))])[1] == [warning(700, 1, 720)]


def test_without_a_window_nothing_is_warned_of() -> None:
    """An unknown window is never guessed; a compaction is still reported."""
    calls = [(at, (used, "")) for at, used in enumerate((900, 100, 110), 1)]
    assert reported_by(calls, window=None) == [[], [], [Judged(Conclusion.COMPACTION, 1, 100, before=900)]]


# Against an oracle that sees the whole history at once

used = st.one_of(st.integers(0, 1200), st.sampled_from([0, 490, 500, 699, 700, 849, 850, 1000]))
calls = st.lists(st.tuples(used, st.sampled_from(["", "", "a", "b"])), max_size=25)


def oracle(history: list[Call]) -> list[Judged]:
    """Return what a whole history, in order of time, should report: cut it into climbs, then look at each."""
    conversations: list[list[int]] = []
    current = ""
    for tokens, conversation_id in history:
        if not conversations or (conversation_id and current and conversation_id != current):
            conversations.append([])
        conversations[-1].append(tokens)
        current = conversation_id or current
    out: list[Judged] = []
    climb = 0
    for talk in conversations:
        drops = dropping(talk)
        confirmed = {i + 1 for i in drops if i + 1 < len(talk) and talk[i + 1] <= talk[i - 1] * DROP}
        starts = sorted({0, *confirmed})
        for start, end in pairwise([*starts, len(talk)]):
            if start:
                out.append(compaction(climb, talk[start - 2], talk[start - 1]))
            highest: dict[int, int] = {}  # the highest threshold that each call is the first to reach
            for threshold in sorted(round(share * 1000) for share in WARN_AT):
                reached = [i for i, t in enumerate(talk) if start <= i < end and i not in drops and t >= threshold]
                highest |= {reached[0]: threshold} if reached else {}
            out += [warning(threshold, climb, talk[i]) for i, threshold in highest.items()]
            climb += 1
    return out


def dropping(talk: list[int]) -> set[int]:
    """Return which calls of a conversation fell by 30 % or more; the one that confirms a fall is not itself one."""
    drops: set[int] = set()
    for i in range(1, len(talk)):
        is_confirming = i - 1 in drops and talk[i] <= talk[i - 2] * DROP
        if talk[i - 1] and talk[i] <= talk[i - 1] * DROP and not is_confirming:
            drops.add(i)
    return drops


def flat(judged: list[list[Judged]]) -> list[Judged]:
    return list(chain.from_iterable(judged))


def by_content(judged: list[Judged]) -> list[tuple[int, int, int, int]]:
    return sorted((j.climb, j.limit, j.used, j.before) for j in judged)


@given(calls, st.data())
def test_in_order_exactly_what_the_whole_history_says(history: list[Call], data: st.DataObject) -> None:
    """Calls in order of time, also repeated later, report exactly the oracle's set."""
    sent = list(enumerate(history, 1))
    for at in data.draw(st.lists(st.integers(1, len(history)), max_size=6)) if history else []:
        first = sent.index((at, history[at - 1]))
        sent.insert(data.draw(st.integers(first + 1, len(sent))), (at, history[at - 1]))
    assert by_content(flat(reported_by(sent))) == by_content(oracle(history))


@pytest.mark.proves("judged-once", "random-orders")
@given(calls, st.data())
def test_no_order_reports_one_twice(history: list[Call], data: st.DataObject) -> None:
    """In any order, with any repeats, each (threshold, climb) is reported once, and only by the newest call so far."""
    sent = data.draw(st.lists(st.sampled_from(list(enumerate(history, 1))), max_size=40)) if history else []
    judged = reported_by(sent)
    ids = [(j.limit, j.climb) for j in flat(judged)]
    assert len(set(ids)) == len(ids)
    newest = 0
    for (at, _), js in zip(sent, judged, strict=True):
        assert at > newest or not js
        newest = max(newest, at)
    kept = [call for i, call in enumerate(sent) if call[0] > max((at for at, _ in sent[:i]), default=0)]
    assert flat(judged) == flat(reported_by(kept))
