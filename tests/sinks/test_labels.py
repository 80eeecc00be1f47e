"""Labels: how figures are written for people."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Failure
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.semconv import STATUSES
from spanpost.sinks import labels
from spanpost.tasks import failures
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.text import figures


@pytest.mark.parametrize(
    "why",
    [
        "no answer",
        "TimeoutError: no answer",
        "TimeoutError('no answer')",
        'TimeoutError("no answer")',
        "no answer\nat 7",
    ],
)
def test_a_failure_says_its_type_once(why):
    """An exception's text that repeats its type, as some frameworks report it, is shown without it."""
    failed = a_task(status="error", error=Failure(type="TimeoutError", message=why))
    assert labels.failure_parts(failed) == ("TimeoutError", "no answer")
    assert labels.failure_line(failed) == "TimeoutError: no answer"
    bare = a_task(status="error", error=Failure(type="TimeoutError", message="TimeoutError('"))
    assert labels.failure_parts(bare)[0] == "TimeoutError"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("__main__.DeployFailed", "DeployFailed"),
        ("__main__.main.<locals>._Refused", "_Refused"),
        ("pydantic_ai.exceptions.ModelHTTPError", "ModelHTTPError"),
        ("java.net.ConnectException", "ConnectException"),
        ("App\\Faults\\Declined", "Declined"),
        ("Net::ReadTimeout", "ReadTimeout"),
        ("__main__.deploy_failed", "deploy_failed"),
        # No class name: as it was sent.
        *((kept, kept) for kept in ("ValueError", "rate_limit.exceeded", "*url.Error", "500", "socket.timeout", "")),
        ("package." * 40 + "Deep", "Deep"),
    ],
)
def test_a_class_is_shown_without_its_module(sent, name):
    """People see an exception's class alone, once; the row keeps the type as it was sent."""
    failed = a_task(status="error", error=Failure(type=sent, message="canary at 12 %"))
    assert labels.failure_parts(failed) == (name, "canary at 12 %")
    for whole in (f"{sent}: canary at 12 %", f"{name}: canary at 12 %"):
        said = failures.failure_line(Failure(type=sent, message=whole if sent else "canary at 12 %"))
        assert said == (f"{name}: canary at 12 %" if name else "canary at 12 %")
    assert failed.error == Failure(type=sent, message="canary at 12 %")


@pytest.mark.parametrize(
    ("n", "said"),
    [
        *((0, "0"), (999, "999"), (1_000, "1k"), (12_440, "12.4k"), (99_960, "100k"), (188_000, "188k")),
        *((999_600, "1M"), (2_500_000, "2.5M"), (10**10, "10G"), (10**13, "10T")),
    ],
)
def test_tokens_are_written_short(n, said):
    """Token counts are short, and never round up into four digits."""
    assert figures.count(n) == said


@pytest.mark.parametrize(
    ("usd", "said"),
    [("0", "$0.00"), ("0.0041", "$0.0041"), ("0.00001", "<$0.0001"), ("0.41", "$0.41"), ("1234.5", "$1,234.50")],
)
def test_money_keeps_what_matters(usd, said):
    """Below a cent more digits are shown, because a price of zero is not a small price."""
    assert figures.money(Decimal(usd)) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s"), (42, "42 s"), (187, "3 min 07 s"), (7500, "2 h 05 min"), (356_400, "4 d 03 h")]
)
def test_durations_have_two_units(seconds, said):
    """A duration is written in its two largest units."""
    assert labels.elapsed(timedelta(seconds=seconds)) == said


def test_a_session_between_prompts_waits_for_nobody():
    """Who answered and was asked nothing more is idle: grey, with another sign than a question has."""
    asks, rests = a_task(status="waiting"), a_task(status="waiting", rule=BETWEEN_PROMPTS)
    assert labels.task_label(asks) == labels.StatusLabel("✋", "waiting for a person", "yellow")
    assert labels.task_label(rests) == labels.StatusLabel("💬", "waiting for its next prompt", "grey")
    assert [(one.waits_for_person, one.shown_status) for one in (asks, rests)] == [
        (True, "waiting"), (False, "between_prompts"),
    ]  # fmt: skip
    for said, sign in (("prompt", "💬"), ("person", "✋")):
        end = a_checkpoint(kind=Kind.END, status="waiting", message=LocaleMessage(f"checkpoint.waiting_for_{said}"))
        assert labels.checkpoint_label(end).emoji == sign


def test_every_status_has_emoji_word_and_colour():
    """Every status has an emoji and a word beside its colour."""
    lookups = [labels.status_label(status) for status in STATUSES]
    assert all(label.emoji != "❔" and label.word and label.colour for label in lookups)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, None),
        ({"progress": 60.0}, 60.0),
        ({"progress": 250.0}, 100.0),
        ({"progress": float("nan")}, None),
        ({"step_index": 2, "step_count": 5}, 20.0),
        ({"step_index": 9, "step_count": 5}, None),
        ({"status": "complete", "progress": 80.0}, 100.0),
        ({"status": "error", "progress": 80.0}, 80.0),
        ({"status": "complete"}, None),
    ],
)
def test_progress_is_what_was_said(fields, shown):
    """Progress is reported, or follows from the current step (which is not done); it is never invented."""
    assert labels.percent(a_task(**fields)) == shown


def test_unknown_figures_are_left_out():
    """An unknown figure is never written as 0."""
    task = a_task(input_tokens=None, output_tokens=None, cost_usd=None, started_at=None)
    assert labels.figures(task) == []


def test_partial_failure_is_said():
    """A good end with failed sub-agents says how many failed."""
    assert (
        labels.task_label(a_task(status="complete", child_count=8, child_failed=2)).word
        == "complete, 2 of 8 agents failed"
    )


def test_elapsed_ends_with_the_run():
    """A running task is measured to now, an ended one to its end."""
    now = NOON + timedelta(hours=1)
    assert labels.age(a_task(), now) == timedelta(hours=1)
    assert labels.age(a_task(status="complete", ended_at=NOON + timedelta(seconds=9)), now) == timedelta(seconds=9)
