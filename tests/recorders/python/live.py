"""Runs a Python framework live: ``python -m tests.recorders.python.live FRAMEWORK [SCENARIO ...]``.

``FRAMEWORK.py`` beside this file runs one scenario of its last argument. Its first lines list its packages (PEP 723);
their newest versions are installed into an environment of its own below ``LIVE_VENVS`` (``--update`` does so again),
with the spanpost of this tree. A stub takes the place of the model; spanpost is attached, with a fresh database
and a preview of Slack's messages. For each scenario it prints what the program said, each post (``+``), reply in the
thread (``>``) and edit (``~``) in order, then the tasks' rows, and what the stub served.

``--captures DIRECTORY`` keeps the telemetry, as ``record.py`` does. After you looked at scenarios, ``--seen right``
notes them with version and date in ``tests/captures/live.json``, and ``--seen silent`` those whose truth is not on the
wire: reference/dialects.md shows it.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from contextlib import closing
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import asyncpg

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))

import record  # noqa: E402

from spanpost.model.tasks import Task  # noqa: E402
from spanpost.sinks.slack.preview import PREVIEWED  # noqa: E402
from spanpost.store.heartbeats import shown  # noqa: E402
from tests.conftest import fresh_database, made_server  # noqa: E402

SEEN = ROOT / "tests" / "captures" / "live.json"
VENVS = Path(os.environ.get("LIVE_VENVS", Path(tempfile.gettempdir()) / "spanpost-live"))
#: What every program needs beside its own packages.
ALWAYS = ("-e", f"{ROOT}[embedded,slack,console,cost]", "opentelemetry-exporter-otlp-proto-http")

W = 'tool:get_weather:{"city": "Oslo"}'
B = 'tool:get_weather:{"city": "Bergen"}'
T = "text:It rains in Oslo."
D = 'tool:delete_file:{"path": "/tmp/x"}'
#: What the model answers in each scenario; a program's own table ANSWERS goes before. With "turns:" first, an answer
#: depends on how many tools have answered in the conversation, not on the calls before.
ANSWERS = {
    "ok": [W, B, T],
    "stream": [W, T],
    "toolfail": ['tool:book_flight:{"city": "Oslo"}', "text:The flight is not booked."],
    "err400": [W, "error:400"],
    "err500": [W, "error:500"],
    "timeout": [W, "hang:"],
    "cancel": [W, "hang:"],
    "tooltimeout": ['tool:wait_for_fax:{"number": "99"}', T],
    "parallel": ["turns:", W, T],
    "threads": ["turns:", W, T],
    "waiting": ['tools:wait_for_fax:{"number": "4"}|wait_for_fax:{"number": "9"}', "text:Both have arrived."],
    "handoff": ["tool:transfer_to_weather_expert:{}", W, T],
    "agenttool": ['tool:ask_expert:{"question": "Weather in Oslo?"}', W, T, "text:Rain, says the expert."],
    "maxsteps": [W, B, W, B, W, B],
    "approval": [D, "text:Deleted."],
    "deny": [D, "text:Not deleted."],
    "structured": [W, 'text:{"city": "Oslo", "sky": "rain"}'],
    "direct": [W],
    "conv": [W, T, B, "text:It rains in Bergen.", "text:You are welcome."],
}


TURNING = threading.Lock()
#: A tool's answer in a request to the model.
ANSWERED = '"role": "tool"|"function_call_output"|"tool_result"|"functionResponse"'


class Server(ThreadingHTTPServer):
    """A server that keeps silent about callers who left."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


class Stub(record.Recorder):
    """The stub of ``record.py``, a little slower, that can answer by the turn of a conversation."""

    def answer(self, api: str, model: str, asked: Any) -> Any:
        """Take the answer that belongs to the conversation."""
        time.sleep(0.15)
        if self.script[0] == "turns:":
            with TURNING:
                self.taken = 1 + len(
                    re.findall(r'"role": "tool"|"function_call_output"|"tool_result"', json.dumps(asked))
                )
                return super().answer(api, model, asked)
        return super().answer(api, model, asked)


def block_of(program: Path) -> dict[str, Any]:
    """Return what a program's first lines say (PEP 723): dependencies, and whose scenarios it runs."""
    found = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", program.read_text())
    assert found, f"{program}: no block '# /// script' with its dependencies"
    return tomllib.loads("".join(line.removeprefix("#").removeprefix(" ") for line in found[1].splitlines(True)))


def answers_of(program: Path) -> dict[str, list[str]]:
    """Return the model's answers by scenario: the program's literal ANSWERS before the common ones."""
    for node in ast.parse(program.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ANSWERS":
            return {**ANSWERS, **ast.literal_eval(node.value)}
    return ANSWERS


def installed(framework: str, packages: list[str], is_update: bool) -> Path:
    """Return an environment with the program's packages, newest versions."""
    venv = VENVS / framework
    mark = venv / "packages.txt"
    if is_update or not mark.exists() or mark.read_text() != "\n".join(packages):
        base = os.environ.get("LIVE_PYTHON", sys.executable)
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", base, venv], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", venv / "bin/python", *ALWAYS, *packages], check=True)
        mark.write_text("\n".join(packages))
    return venv


def versions_of(venv: Path, packages: list[str]) -> dict[str, str]:
    """Return the installed version of each of the packages."""
    out = subprocess.run(
        ["uv", "pip", "list", "-q", "--format", "json", "--python", venv / "bin/python"],
        check=True,
        capture_output=True,
    ).stdout
    known = {each["name"]: each["version"] for each in json.loads(out)}
    return {name: known[name] for name in (re.split(r"[\[<>=~! ]", package)[0] for package in packages)}


def shown_calls(preview: Path) -> list[str]:
    """Return a line for each of Slack's calls, in order, with a letter for each message."""
    lines: list[str] = []
    names: dict[str, str] = {}
    posted = 0
    for line in preview.read_text().splitlines() if preview.exists() else ():
        call = json.loads(line)
        given = call["arguments"]
        text = given.get("text") or call["method"]
        if "upload" in call["method"].lower():
            continue
        if call["method"] != "chat.postMessage":
            lines.append(f"  {names.get(str(given.get('ts')), ' ')} ~ {text}")
            continue
        posted += 1  # as the preview makes up the time stamps of its posts
        if "thread_ts" in given:
            lines.append(f"  {names.get(given['thread_ts'], '?')} > {text}")
        else:
            which = names[f"{PREVIEWED}{posted:06d}"] = ascii_lowercase[len(names) % 26]
            lines.append(f"  {which} + {text}")
    return lines


async def rows(database: str) -> list[Task]:
    """Return the tasks in the database."""
    connection = await asyncpg.connect(database)
    try:
        found = await connection.fetch("SELECT doc, spanpost_phase(t) FROM agent_tasks t ORDER BY started_at")
        return [shown(doc, phase) for doc, phase in found]
    finally:
        await connection.close()


class Program:
    """A program whose packages are imported, so that each scenario starts at once."""

    def __init__(self, framework: str, venv: Path) -> None:
        self.framework = framework
        self._process = subprocess.Popen(
            [venv / "bin/python", "-P", "-m", "tests.recorders.python.warm", _path(framework)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, scenario: str, environment: dict[str, str], directory: Path) -> tuple[int, str]:
        """Run a scenario; return its exit status and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        output = directory / "output"
        self._process.stdin.write(json.dumps([scenario, environment, str(directory), str(output)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), output.read_text()

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def _path(framework: str) -> Path:
    return HERE / f"{framework.replace('-', '_')}.py"


def run(program: Program, scenario: str, answers: list[str], database: str, captures: Path | None) -> None:
    """Run one scenario and print what was seen."""
    name = f"{program.framework}/{scenario}"
    with tempfile.TemporaryDirectory() as keep:
        stub = Stub(name, answers, (captures or Path(keep)) / name)
        server = Server(("127.0.0.1", 0), record._handler(stub))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        preview = Path(keep) / "slack.jsonl"
        environment = {
            **record.addresses(f"http://127.0.0.1:{server.server_port}"),
            "DATABASE_URL": database,
            "SPANPOST_SLACK__PREVIEW_FILE": str(preview),
            "SPANPOST_SLACK__EDITS_PER_MINUTE": "60000",
            "SPANPOST_SLACK__POSTS_PER_MINUTE": "60000",
            "SPANPOST_SLACK__POSTS_PER_CHANNEL_PER_MINUTE": "60000",
            "SPANPOST_CONSOLE__ENABLED": "false",
            "OTEL_SERVICE_NAME": "weather",
        }
        clock = time.monotonic()
        status, output = program.run(scenario, environment, Path(keep))
        server.shutdown()
        lines = [f"\n## {name}: exit {status}, {time.monotonic() - clock:.1f} s"]
        lines += [f"  | {line[:400]}" for line in output[-4000:].splitlines()]
        lines += shown_calls(preview)
        lines += [f"  = {_row(task)}" for task in asyncio.run(rows(database))]
        if captures:
            stub.finish()
        good = [call for call in stub.calls if call["error"] is None]
        lines.append(
            f"  served: {len(good)} of {len(stub.calls)} calls, {sum(c['input_total'] for c in good)} in, "
            f"{sum(c['output'] for c in good)} out, {sum(c['cached_read'] for c in good)} cached, "
            f"{sum(len(c['tools']) for c in good)} tools asked"
        )
        print("\n".join(lines), flush=True)


def _row(task: Task) -> str:
    parent = f" below {task.parent_task_id[-6:]}" if task.parent_task_id else ""
    reason = f" ({task.end_reason})" if task.end_reason else ""
    return (
        f"{task.task_id[-6:]}{parent} {task.name!r} {task.status}{reason}: {task.runs} runs, {task.llm_calls} calls, "
        f"{task.tool_calls} tools ({task.tool_errors} failed), {task.input_tokens} in, {task.output_tokens} out, "
        f"{task.cache_read_tokens} cached"
    )


def note(framework: str, versions: dict[str, str], scenarios: list[str], is_right: bool) -> None:
    """Write down what was seen of a framework at its versions; other versions' scenarios are forgotten."""
    known = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    entry = known.get(framework, {})
    if entry.get("versions") != versions:
        entry = {"versions": versions, "scenarios": [], "not_on_the_wire": []}
    right, silent = set(entry["scenarios"]), set(entry["not_on_the_wire"])
    entry["seen"] = f"{datetime.now(UTC):%Y-%m-%d}"
    entry["scenarios"] = sorted(right | set(scenarios) if is_right else right - set(scenarios))
    entry["not_on_the_wire"] = sorted(silent - set(scenarios) if is_right else silent | set(scenarios))
    known[framework] = entry
    SEEN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Run the scenarios that are named, or all that the program knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framework")
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--seen", choices=["right", "silent"])
    parser.add_argument("--update", action="store_true")
    given = parser.parse_intermixed_args()
    program = _path(given.framework)
    block = block_of(program)
    scenes = HERE / f"{block['same-as']}.py" if "same-as" in block else program
    answers, packages = answers_of(scenes), block["dependencies"]
    venv = installed(given.framework, packages, given.update)
    versions = versions_of(venv, packages)
    scenarios = given.scenarios or [name for name in answers if f'"{name}":' in scenes.read_text()]
    if given.seen:
        note(given.framework, versions, scenarios, given.seen == "right")
        return 0
    print(given.framework, versions)
    with made_server(None) as server, closing(Program(given.framework, venv)) as running:
        for scenario in scenarios:
            with fresh_database(server) as database:
                run(running, scenario, answers[scenario], database, given.captures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
