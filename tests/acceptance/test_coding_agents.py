"""Genuine coding agents ask, and people answer in Slack: Claude Code and Codex CLI, a gateway and PostgreSQL.

The model is a stub, Slack is a third-party emulator, and everything else is what people run. `SPANPOST_TEST_HOOKS=60`
runs every case, that many timed rounds, and a tenth of them with a gateway killed at each point.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.coding_agents import COMMAND, ClaudeCode, Codex, CodingAgent
from tests.acceptance.stub_models import run_stub_models
from tests.acceptance.test_answers_from_slack import RULES, Street, street
from tests.eventually import eventually_async

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "local-slack", "claude-code", "codex", "tmux"),
]

ROUNDS = int(os.environ.get("SPANPOST_TEST_HOOKS") or "0")
thorough = pytest.mark.skipif(not ROUNDS, reason="set SPANPOST_TEST_HOOKS to a number of rounds")
BEFORE_RECORD, BEFORE_CLICK, AFTER_COMMIT = "before the record", "before the click", "after the click was committed"
AT_ONCE = f"{RULES}\n[hooks]\nask_after = 0\n"


@asynccontextmanager
async def station(
    make: type[CodingAgent], dsn: str, directory: Path, *, is_followed: bool = False, gateways: int = 1
) -> AsyncIterator[tuple[Street, CodingAgent]]:
    """Run a gateway, a Slack and an agent whose hook asks there."""
    with run_stub_models(COMMAND) as stub:
        async with street(dsn, directory, rules=AT_ONCE, gateways=gateways) as on:
            telemetry = on.gateway.url if is_followed else ""
            yield on, await asyncio.to_thread(make, directory / "agent", on.gateway.url, stub, telemetry=telemetry)


async def states(on: Street) -> list[tuple[Any, ...]]:
    return await on.rows("SELECT state, decision, by FROM approvals ORDER BY requested_at")


async def test_claude_code_at_a_terminal_is_answered_in_slack(dsn: str, tmp_path: Path) -> None:
    """Claude Code shows its prompt; a click in Slack closes it, and the command runs."""
    async with station(ClaudeCode, dsn, tmp_path) as (on, agent):
        with agent.at_terminal("make the file") as terminal:
            reply = await on.asks("Claude Code asks to use Bash in shop")
            await asyncio.to_thread(terminal.shows, agent.prompts)
            await on.press(reply, "Allow once")
            await asyncio.to_thread(terminal.shows, agent.done)
        assert agent.made.exists()
        assert await states(on) == [("decided", "approve", "alice")]


@thorough
async def test_the_person_at_the_terminal_is_first(dsn: str, tmp_path: Path) -> None:
    """The answer at the terminal counts: the question in Slack closes by itself and says how it was settled."""
    async with station(ClaudeCode, dsn, tmp_path, is_followed=True) as (on, agent):
        with agent.at_terminal("make the file") as terminal:
            await on.asks("Claude Code asks to use Bash in shop")
            await asyncio.to_thread(terminal.answers, agent.prompts, "Enter")
            await asyncio.to_thread(terminal.shows, agent.done)
            await on.shows("Settled where the agent runs")
            await on.shows("accept by a person")
        assert await states(on) == [("withdrawn", "withdrawn", "")]


@thorough
async def test_claude_code_without_a_terminal_is_denied_in_slack(dsn: str, tmp_path: Path) -> None:
    """A run without a terminal waits for Slack; a refusal reaches the model, and the run ends well."""
    async with station(ClaudeCode, dsn, tmp_path) as (on, agent):
        run = await asyncio.to_thread(agent.run, "make the file", "-p")
        await on.press(await on.asks("Claude Code asks to use Bash in shop"), "Deny")
        await on.slack.send_dialogue(comment={"text": {"value": "not on a Friday"}})
        said, _ = await asyncio.to_thread(run.communicate, timeout=90)
        assert (run.returncode, agent.made.exists()) == (0, False), said
        assert "denied by alice: not on a Friday" in agent.stub.results[0]


async def test_codex_at_a_terminal_is_answered_in_slack(dsn: str, tmp_path: Path) -> None:
    """Codex waits for its hook; a click in Slack lets the command run without a prompt."""
    async with station(Codex, dsn, tmp_path) as (on, agent):
        with agent.at_terminal("make the file") as terminal:
            await on.press(await on.asks("Codex asks to use Bash in shop"), "Allow once")
            await asyncio.to_thread(terminal.shows, agent.done)
        assert agent.made.exists()


@pytest.mark.parametrize("make", [ClaudeCode, pytest.param(Codex, marks=thorough)])
async def test_a_killed_gateway_leaves_the_prompt(make: type[CodingAgent], dsn: str, tmp_path: Path) -> None:
    """With the gateway killed while people are asked, the agent's own prompt stands, and nothing was allowed."""
    async with station(make, dsn, tmp_path) as (on, agent):
        with agent.at_terminal("make the file") as terminal:
            await on.asks("asks to use Bash in shop")
            on.gateway.kill()
            await asyncio.to_thread(terminal.shows, agent.prompts)
            assert not agent.made.exists()
            await asyncio.to_thread(terminal.answers, agent.prompts, "Enter")
            await asyncio.to_thread(terminal.shows, agent.done)
        assert [state for state, _, _ in await states(on)] == ["open"]
        assert await on.acts() == []


class Questions:
    """The questions that Slack showed."""

    def __init__(self, on: Street) -> None:
        self._on, self._seen = on, set[str]()

    async def next(self) -> str:
        """Wait for a question that was not shown before; return its message."""

        async def new() -> list[str]:
            messages = [m for m in await self._on.slack.messages() if m.get("thread_ts")]
            return [m["ts"] for m in messages if "spanpost:" in str(m.get("blocks")) and m["ts"] not in self._seen]

        [ts] = await eventually_async(new)
        self._seen.add(ts)
        return ts


@thorough
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_at_terminal", [False, True], ids=["without a terminal", "at a terminal"])
async def test_rounds_are_timed(is_at_terminal: bool, dsn: str, tmp_path: Path) -> None:
    """Each round is asked, clicked and runs once. It prints how long the question and the answer took."""
    asked, went_on = list[float](), list[float]()
    rounds = max(ROUNDS // 10, 1) if is_at_terminal else ROUNDS
    async with station(ClaudeCode, dsn, tmp_path) as (on, agent):
        questions = Questions(on)
        for _ in range(rounds):
            if is_at_terminal:
                with agent.at_terminal("make the file") as terminal:
                    shown = await _answered(on, questions)
                    await asyncio.to_thread(terminal.shows, agent.done)
            else:
                run = await asyncio.to_thread(agent.run, "make the file", "-p")
                shown = await _answered(on, questions)
                said, _ = await asyncio.to_thread(run.communicate, timeout=90)
                assert run.returncode == 0, said
            agent.made.unlink()
            asked.append(shown - agent.stub.asked_at)
            went_on.append(agent.stub.reported_at - shown)
        assert await states(on) == [("decided", "approve", "alice")] * rounds
    for what, took in (("command to question in Slack", asked), ("click to result of the command", went_on)):
        worst = sorted(took)[-(-99 * len(took) // 100) - 1]
        print(f"{rounds} rounds, {what}: median {statistics.median(took):.2f} s, 99th percentile {worst:.2f} s")
    print(f"load {os.getloadavg()[0]:.1f}")


async def _answered(on: Street, questions: Questions) -> float:
    """Click on the next question; return the time at which it was shown."""
    ts = await questions.next()
    shown = time.monotonic()
    await on.press(ts, "Allow once")
    return shown


@thorough
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("point", [BEFORE_RECORD, BEFORE_CLICK, AFTER_COMMIT])
async def test_a_gateway_killed_at(point: str, dsn: str, tmp_path: Path) -> None:
    """The agent's own prompt stands, or its run is refused: nothing runs, although a click may have been committed."""
    gateways, state = (2, "decided") if point == AFTER_COMMIT else (1, "open")
    rounds = max(ROUNDS // 10, 1)
    async with station(ClaudeCode, dsn, tmp_path, gateways=gateways) as (on, agent):
        questions = Questions(on)
        for n in range(rounds):
            async with _killed(point, on, questions, dsn):
                run = await asyncio.to_thread(agent.run, "make the file", "-p")
            said, _ = await asyncio.to_thread(run.communicate, timeout=90)
            assert not agent.made.exists(), said
            assert len(agent.stub.results) == n + 1  # the refusal
            on.gateway.start()
            await on.slack.connected(gateways + n + 1)
        async with _killed(point, on, questions, dsn):
            terminal = agent.at_terminal("make the file")
            screen = await asyncio.to_thread(terminal.__enter__)
        try:
            await asyncio.to_thread(screen.shows, agent.prompts)
            assert not agent.made.exists()
        finally:
            screen.close()
        left = [] if point == BEFORE_RECORD else [state] * (rounds + 1)
        assert [row[0] for row in await states(on)] == left


@asynccontextmanager
async def _killed(point: str, on: Street, questions: Questions, dsn: str) -> AsyncIterator[None]:
    """Start an agent within; the gateway of its hook is killed at that point."""
    holder = await asyncpg.connect(dsn)
    hold = holder.transaction()
    await hold.start()
    try:
        if point == BEFORE_RECORD:
            await holder.execute("LOCK TABLE approvals IN SHARE MODE")  # it can be read, and not written
        yield
        if point == BEFORE_RECORD:
            waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            await eventually_async(lambda: on.rows(waits), lambda rows: len(rows) > 0)
        else:
            ts = await questions.next()
            await on.rest()
        if point == AFTER_COMMIT:
            on.gateway.process.send_signal(signal.SIGSTOP)  # the other gateway takes the click
            await on.press(ts, "Allow once")
            await eventually_async(lambda: states(on), lambda rows: all(row[0] == "decided" for row in rows))
        on.gateway.kill()
    finally:
        await hold.rollback()
        await holder.close()
