"""The quick reference: one page, of which all that can be is taken from the program."""

from __future__ import annotations

import typer

from spanpost.cli.program import program
from spanpost.cli.sections import SECTIONS
from spanpost.semconv import FINAL_STATUSES, STATUSES
from spanpost.settings import variable
from spanpost.sinks.labels import status_label
from spanpost.text.locales import ENGLISH

#: What each status means.
_MEANING = {
    "starting": "began; has done nothing yet",
    "working": "calls models and tools",
    "waiting": "asks a person, and waits for the answer",
    "paused": "a person paused it",
    "stalled": "has done nothing for `stall.stall_after`",
    "context_warning": "a model's context window is nearly full",
    "error": "failed",
    "complete": "ended well; ⚠️ *partly* if a sub-agent failed",
    "cancelled": "a person, or its program, stopped it",
}
#: What one sets on the first day: section, setting, what for.
_FIRST = (
    ("slack", "token", "posts to Slack (`xoxb-...`)"),
    ("slack", "channel", "the channel of all tasks"),
    ("slack", "verbosity", "`live`, `milestones`, `final` or `mute`"),
    ("slack", "preview_file", "writes messages to a file, without a token"),
    ("interactions", "app_token", "buttons and `/agents` by Socket Mode (`xapp-...`)"),
    ("interactions", "rules", "who may decide and act"),
    ("api", "public_url", "address of the board, linked from messages"),
    ("gateway", "tokens", "who may send telemetry from other machines"),
    ("forward", "endpoint", "an agent sends to a gateway, and keeps no database"),
    ("intake", "capture_content", "keeps prompts, completions and tool arguments"),
    ("context", "warn_at", "shares of a context window at which to warn"),
    ("stall", "stall_after", "when a silent task is stalled"),
    ("budgets", "", "limits of spending"),
    ("log", "level", "`DEBUG` has a line for each request"),
)
_FORMS = ("show", "cancel", "pause", "resume", "retry", "message", "mute", "unmute", "dismiss", "rate", "start", "help")
_CODE = """```python
import spanpost
from spanpost.agent import agent_task

spanpost.attach()  # or no code: opentelemetry-instrument python agent.py

with agent_task("Fix the till", agent="fixer", repo="acme/shop") as task:
    task.checkpoint("Found the cause", progress=40)
    task.artifact("https://github.com/acme/shop/pull/7", kind="pr")
```"""
_GESTURES = (
    ("Approve, Deny, an option", "answers a question; the first answer stands"),
    ("Stop; Pause, Mute, Show more (menu)", "acts on the task"),
    ("Retry", "starts a failed task again, where a launcher can"),
    ("a reply in the thread", "is a message to the agent"),
    ("👍 👎 in a finished task's message", "rates the work"),
    ("Acknowledge, Silence", "on an alert"),
)


def quick_page() -> str:
    """Return the quick reference."""
    commands = typer.main.get_command(program)
    listed = getattr(commands, "commands")  # noqa: B009
    sections = [
        f"| {title if name == names[0] else ''} | `{name}` | {listed[name].get_short_help_str(200).rstrip('.')} |"
        for title, names in SECTIONS.items()
        for name in names
    ]
    statuses = [
        f"| {status_label(one).emoji} | `{one}` | {_MEANING[one]} | {'yes' if one in FINAL_STATUSES else ''} |"
        for one in STATUSES
    ]
    settings = [f"| `{variable(section, name)}` | {what} |" for section, name, what in _FIRST if name]
    settings += [f"| `SPANPOST_{section.upper()}` | {what} |" for section, name, what in _FIRST if not name]
    slack = [f"| {press} | {what} |" for press, what in _GESTURES]
    slack += [
        f"| `/agents {ENGLISH.say(f'command.form_{word}')}` | {ENGLISH.say(f'command.help_{word}')} |".replace(
            "|down", "\\|down"
        )
        for word in _FORMS
    ]
    parts = [
        "# Quick reference",
        "*Made from the program by `make reference`.*",
        _CODE,
        "## Statuses\n\n| | status | meaning | final |\n|---|---|---|---|\n" + "\n".join(statuses),
        "## Commands\n\n| | `spanpost ...` | |\n|---|---|---|\n" + "\n".join(sections),
        "Every command has `--help`; those that list have `--json`. Exit 0: done. 1: a problem was found. 2: a mistake "
        "in the command or the settings. [All of them](cli.md).",
        "## Settings of the first day\n\n| variable | |\n|---|---|\n| `DATABASE_URL` | your PostgreSQL; without it, an "
        "embedded one |\n" + "\n".join(settings),
        '`spanpost.toml` has the same names: `[slack]`, `channel = "#agents"`. [All of them](settings.md).',
        "## In Slack\n\n| | |\n|---|---|\n" + "\n".join(slack),
        "## Addresses\n\n| | |\n|---|---|\n"
        "| `http://localhost:4318` | OTLP over HTTP, board (`/`), API (`/api`), `/health/ready`, `/metrics` |\n"
        "| `localhost:4317` | OTLP over gRPC |\n"
        "| `http://localhost:9464/metrics` | Prometheus metrics of a process without a gateway, with `[metrics]` |",
        "## When something is wrong\n\n| you see | do |\n|---|---|\n"
        "| anything unclear | `spanpost check`: settings, database, Slack, ports, each with the next step |\n"
        "| no task appears | `spanpost check`; agents' spans have `gen_ai.*` or `agent.*` [names](conventions.md) |\n"
        "| a task, but no message | `spanpost deliveries list --state dead`; is the app a member of the channel? |\n"
        "| buttons do nothing | read the refusal, which only you see; correct `interactions.rules` |\n"
        "| 🐢 *stalled* | [its runbook](../runbooks/task-stalled.md) |\n"
        "| PostgreSQL is down | [its runbook](../runbooks/database-down.md): senders keep what they sent |",
    ]
    return "\n\n".join(parts) + "\n"
