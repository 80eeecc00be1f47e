"""The console: Slack's content in a terminal, a log or a pipe."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import select
import subprocess
import sys
import textwrap
import unicodedata
from datetime import UTC, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Receipt
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.routing.message_owner import last
from spanpost.sinks.console import render
from spanpost.sinks.console.sink import ConsoleForm, ConsoleSink
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost.testing.strategies import checkpoints, tasks
from tests.thorough import thorough


def drawn(renderable, width=100, **console) -> str:
    out = io.StringIO()
    Console(file=out, width=width, height=50, markup=False, emoji=False, highlight=False, **console).print(renderable)
    return out.getvalue()


def a_busy_task():
    return a_task(
        progress=60.0,
        step_name="Fetch data",
        step_index=2,
        step_count=5,
        action="reading 12 pages",
        context_used_tokens=144_000,
        context_window_tokens=200_000,
        context_window_source="table",
        tool_calls=7,
        tool_errors=1,
        artifacts=(Artifact(name="outline.md", uri="https://files.example.com/outline.md", kind="file"),),
    )


def test_a_card_says_it_all():
    """A card shows status, name, agent, progress, step, action, context, tokens, cost, time and checkpoints."""
    child = a_task("c", name="Check sources", status="complete")
    lines = [
        render.CheckpointLine(a_checkpoint(text="Fetched 12 pages")),
        render.CheckpointLine(a_checkpoint(text="checked"), "Check sources"),
    ]
    text = drawn(
        render.card(a_busy_task(), (child, a_task("d", name="Collect")), lines, now=NOON + timedelta(seconds=134))
    )
    head, *rows = text.splitlines()
    # The width of an emoji changes with the version of rich.
    assert head.split() == [
        "┃",
        "⚙️",
        "Quarterly",
        "report",
        "reporter",
        *["1", "of", "2", "agents", "at", "work", "·", "step", "2", "of", "5", "·", "60", "%", "2", "min", "14", "s"],
    ]
    assert rows == [
        "┃ ████████████░░░░░░░░  60 %   2/5 Fetch data",
        "┃ ▸ reading 12 pages",
        "┃ context ▰▰▰▰▰▰▰▱▱▱ 72 % of 200k (table)   55.2k in · 3.8k out   $0.12   7 tool calls, 1 failed",
        "┃ ├ ✅ Check sources  complete",
        "┃ └ ⚙️ Collect  working  2 min 14 s",
        "┃ 📎 outline.md  file  https://files.example.com/outline.md",
        "  │ 12:00:30 📍 Fetched 12 pages",
        "  ╰ 12:00:30 📍 Check sources  checked",
    ]


def test_a_card_counts_the_agents_as_slack_does():
    """Line 1 names first what needs a person: it is the one of the Slack message, and is not repeated below."""
    children = (a_task("a", status="waiting"), a_task("b", status="error"), a_task("c"), a_task("d", status="complete"))
    assert drawn(render.card(a_task(), children)).count("1 of 4 agents waits · 1 failed · 1 at work") == 1
    asking = a_task(approvals=(Approval(id="a", question="Go?"),))
    assert "┃ 1 of 4 agents waits · 1 failed · 1 at work" in drawn(render.card(asking, children))


def test_a_card_says_line_1_and_2_as_slack_does():
    """At the end line 1 has time and cost and line 2 the answer; a failure has its type once; a sub-agent's question
    stands on the card.
    """
    ended = a_task(
        status="complete", ended_at=NOON + timedelta(seconds=61), cost_usd=Decimal("0.42"), answer="It rains."
    )
    text = drawn(render.card(ended))
    assert text.count("1 min 01 s · $0.42") == text.count("It rains.") == text.count("$0.42") == 1
    failed = a_task(status="error", error=Failure(type="ValueError", message="ValueError: bad input"))
    assert drawn(render.card(failed)).count("ValueError") == 1
    assert "✋ Which region?" in drawn(render.card(a_task(child_question="Which region?")))


def test_a_failed_card_shows_the_end_of_its_log():
    """A failure shows its type, its message and the last lines, with secrets redacted."""
    error = Failure(
        type="TimeoutError",
        message="no answer with xoxb-123456789012-abcdefghijkl",
        log_tail="\n".join(f"l{i}" for i in range(30)),
    )
    text = drawn(render.card(a_task(status="error", error=error)))
    assert "TimeoutError: no answer with [redacted:slack-token]" in text
    assert "│ l29" in text
    assert "│ l23" not in text


def test_an_open_question_stands_on_the_card():
    """A waiting task shows the question, the options and the risk."""
    asked = Approval(id="a", question="Publish?", options=("approve", "deny"), risk="medium")
    assert "✋ Publish?  risk medium  [approve]  [deny]" in drawn(
        render.card(a_task(status="waiting", approvals=(asked,)))
    )


def test_markup_is_literal():
    """Rich markup in a text is shown literally."""
    assert "[bold red]x[/] [/nonsense]" in drawn(render.card(a_task(name="[bold red]x[/] [/nonsense]")))


@pytest.mark.slow
@thorough(80)
@given(tasks, st.lists(tasks, max_size=3), st.lists(checkpoints, max_size=3), st.integers(20, 120))
def test_any_task_is_drawn_and_steers_nothing(task, children, lines, width):
    """Any text in any field at any width draws without exceptions, control characters or long lines."""
    text = drawn(render.card(task, children, [render.CheckpointLine(c, "who") for c in lines]), width=width)
    assert not [ch for ch in text if ch != "\n" and ch != "\u200d" and unicodedata.category(ch) in ("Cc", "Cf", "Cs")]
    assert max(cell_len(row) for row in text.splitlines()) <= width


@pytest.mark.slow
@thorough(60)
@given(tasks, checkpoints)
def test_any_checkpoint_is_one_plain_line_and_one_json_line(task, checkpoint):
    """A checkpoint's line has no line feed; its JSON is ASCII and can be read back."""
    assert "\n" not in render.plain(render.CheckpointLine(checkpoint), task.name)
    said = json.dumps(render.record(a_delivery(task, checkpoint)), allow_nan=True)
    assert said.isascii()
    assert json.loads(said)["checkpoint"]["id"] == str(checkpoint.id)


async def _delivered(form: ConsoleForm) -> str:
    out = io.StringIO()
    sink = ConsoleSink(form=form, file=out, zone=UTC, clock=lambda: NOON)
    root = a_task()
    child = a_task("c", root_uid=root.uid, name="Check sources")
    ended = a_task(status="complete", progress=100.0, ended_at=NOON + timedelta(seconds=60))
    ordering_key = f"console||{root.uid}"
    for d in (
        a_delivery(root),
        a_delivery(root, a_checkpoint(root, "1")),
        a_delivery(child, a_checkpoint(child, "2", text="checked"), ordering_key=ordering_key),
        a_delivery(ended),
        a_delivery(ended, a_checkpoint(ended, "3", kind=Kind.END, status="complete", text="written")),
        a_delivery(ended, a_checkpoint(ended, "3", kind=Kind.END, status="complete", text="written")),
    ):
        await sink.deliver(d)
    await sink.close()
    return out.getvalue()


async def test_plain_lines_name_the_task_and_end_with_one_card():
    """Without a terminal each checkpoint is a line once, and the ended task's card is printed once."""
    lines = (await _delivered(ConsoleForm.PLAIN)).splitlines()
    assert lines[:3] == [
        "12:00:30 [Quarterly report] 📍 Fetched 12 pages",
        "12:00:30 [Quarterly report › Check sources] 📍 checked",
        "12:00:30 [Quarterly report] ✅ written",
    ]
    assert sum("████████████████████ 100 %" in x for x in lines) == 1


async def test_json_lines_are_one_object_each():
    """The JSON form writes each delivery as one object and nothing else."""
    records = [json.loads(x) for x in (await _delivered(ConsoleForm.JSON)).splitlines()]
    assert [(r["mode"], r["task"]["status"]) for r in records] == [
        ("state", "working"),
        ("checkpoint", "working"),
        ("checkpoint", "working"),
        ("state", "complete"),
        ("checkpoint", "complete"),
        ("checkpoint", "complete"),
    ]


async def test_an_unfinished_card_is_printed_at_close():
    """A card of a running task is printed when the app closes."""
    out = io.StringIO()
    sink = ConsoleSink(form=ConsoleForm.PLAIN, file=out, zone=UTC, clock=lambda: NOON)
    await sink.deliver(a_delivery(a_busy_task()))
    assert out.getvalue() == ""
    await sink.close()
    assert "60 %" in out.getvalue()


async def test_a_resumed_task_gets_a_new_card():
    """A resumed task whose next run ends is printed again."""
    out = io.StringIO()
    sink = ConsoleSink(form=ConsoleForm.PLAIN, file=out, zone=UTC, clock=lambda: NOON)
    for run in (1, 2):
        task = a_task(status="complete", runs=run, progress=100.0)
        await sink.deliver(a_delivery(task))
        await sink.deliver(a_delivery(task, a_checkpoint(task, f"end{run}", kind=Kind.END)))
    await sink.close()
    assert out.getvalue().count("100 %") == 2


async def test_a_long_lived_console_forgets_ended_cards():
    """Memory does not grow with the number of tasks that have ended."""
    sink = ConsoleSink(form=ConsoleForm.JSON, file=io.StringIO())
    for i in range(ConsoleSink.KEPT * 2):
        task = a_task(f"t{i}", status="complete")
        await sink.deliver(a_delivery(task))
        await sink.deliver(a_delivery(task, a_checkpoint(task, kind=Kind.END)))
    assert len(sink._cards) <= ConsoleSink.KEPT + 1


@pytest.mark.slow
def test_live_in_a_real_terminal():
    """On a pseudo-terminal cards are edited in place, printed once at their end, and the cursor returns."""
    program = textwrap.dedent("""
        import asyncio
        from spanpost.sinks.console.sink import ConsoleForm, ConsoleSink
        from spanpost.model.checkpoints import Kind
        from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task
        async def main():
            sink = ConsoleSink()
            assert sink.form is ConsoleForm.LIVE
            for p in (10.0, 50.0):
                await sink.deliver(a_delivery(a_task(progress=p)))
            await asyncio.to_thread(input)  # until the test has seen it
            done = a_task(status="complete", progress=100.0)
            await sink.deliver(a_delivery(done))
            await sink.deliver(a_delivery(done, a_checkpoint(done, kind=Kind.END, status="complete", text="written")))
            await sink.close()
        asyncio.run(main())
    """)
    master, slave = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=slave, stderr=subprocess.PIPE, env=env
    )
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 30)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:  # the child closed its end
            break
        shown += part
        if child.stdin and not child.stdin.closed and b" 50 %" in shown:
            child.stdin.write(b"\n")
            child.stdin.close()
    assert child.wait(60) == 0, child.stderr.read()
    text = shown.decode()
    assert " 10 %" in text
    assert " 50 %" in text
    assert text.count("100 %") >= 1
    assert text.rindex("written") < text.rindex("\x1b[?25h")  # the cursor comes back last
    os.close(master)


@pytest.mark.parametrize("form", [ConsoleForm.LIVE, ConsoleForm.PLAIN])
def test_what_ended_elsewhere_is_not_shown_again(form):
    """The last edit of a task shown by another process's terminal prints nothing; its checkpoints are
    printed.
    """
    out = io.StringIO()
    sink = ConsoleSink(form=form, console=Console(file=out, width=100))
    task = a_task(name="Old work", status="complete")
    asyncio.run(sink.deliver(a_delivery(task)))
    asyncio.run(sink.close())
    assert "Old work" not in out.getvalue()


async def test_a_card_that_goes_on_in_another_is_printed_once_more_as_ended():
    """A task that was merged into another is printed once more as ended, and no more after that."""
    out = io.StringIO()
    sink = ConsoleSink(form=ConsoleForm.PLAIN, file=out, zone=UTC, clock=lambda: NOON)
    successor, left = a_task("heir", name="the job"), a_task("left")
    shown = a_delivery(left, ordering_key=f"console||{left.uid}")
    await sink.deliver(shown)
    await sink.deliver(
        last(
            msgspec.structs.replace(shown, message_receipt=Receipt(ref={"ordering_key": shown.ordering_key})),
            successor,
            None,
        )
    )
    await sink.close()
    assert out.getvalue().count("went on in another message") == 1


def test_a_card_of_a_team_has_its_sums():
    """The card of a task without calls of its own shows the tokens and the cost of the tasks below it."""
    root = a_task(input_tokens=None, output_tokens=None, cost_usd=None)
    child = a_task(uid=UUID(int=7), input_tokens=1_500, output_tokens=332, cost_usd=Decimal("0.25"))
    said = drawn(render.card(root, children=(child,)))
    assert "1.5k" in said
    assert "$0.25" in said
