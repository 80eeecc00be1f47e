"""Claims of docs/how-to/follow-claude-code.md about each signal, checked with recorded sessions and the
declarations.
"""

from __future__ import annotations

import json
import re

from spanpost.readers.claude_code import CLAUDE_CODE_CLI
from spanpost.runtime import replay
from tests.docs.test_code_blocks import ROOT, blocks
from tests.tasks.recorded_runs import COMMITTED

PAGE = (ROOT / "docs" / "how-to" / "follow-claude-code.md").read_text()


def row(name: str) -> list[str]:
    """Return the cells of a row in the table of signals: for records, traces, data points."""
    [found] = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in found.split(" | ")]


def test_the_table_of_signals_is_what_replay_makes_of_them() -> None:
    """Each yes and no of the table is the result of a recorded session's signal alone."""
    for at, signal in enumerate(("logs", "traces", "metrics")):
        files = sorted((COMMITTED / "claude-code" / "conv").glob(f"*-{signal}.pb"))
        [task] = replay.replay(files).tasks
        assert (task.input_tokens is not None and task.cache_read_tokens is not None) is (
            row("tokens, cache separately")[at] == "yes"
        )
        assert (task.llm_calls > 0 and task.tool_calls > 0) is (row("model calls and tool calls")[at] == "each")
        assert (len(task.steps) == 3) is (row("prompts as steps")[at] == "yes")
        [failed] = replay.replay(sorted((COMMITTED / "claude-code" / "llmfail").glob(f"*-{signal}.pb"))).tasks
        assert (failed.error is not None) is (row("why it failed")[at] == "yes")
        [allowed] = replay.replay(sorted((COMMITTED / "claude-code" / "approve").glob(f"*-{signal}.pb"))).tasks
        assert bool(allowed.approvals) is (row("who allowed or refused a tool")[at] == "yes")
    [records] = replay.replay(sorted((COMMITTED / "claude-code" / "conv").glob("*-logs.pb"))).tasks
    assert (records.cost_usd is not None, row("cost as Claude Code computes it")) == (True, ["yes", "no", "yes"])


def test_the_metrics_that_are_read_are_named() -> None:
    """The page names the metrics that the declaration reads, and no others as read."""
    [sentence] = re.findall(r"spanpost reads the metrics (.*?)\. It accepts", PAGE, re.DOTALL)
    named = {
        name if name.startswith("claude") else f"claude_code{name}" for name in re.findall(r"`([\w.]+)`", sentence)
    }
    assert named == set(CLAUDE_CODE_CLI.meters)


def test_the_settings_are_json() -> None:
    """The managed settings are valid JSON."""
    [settings] = [code for language, _, code in blocks(PAGE) if language == "json"]
    assert json.loads(settings)["env"]["CLAUDE_CODE_ENABLE_TELEMETRY"] == "1"
