"""The examples of docs/how-to/live-over-the-wire.md, each run by its own runtime against a receiver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.model.observations import Part
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.testing.gateway import RunningGateway
from tests.conftest import find
from tests.docs.test_code_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "live-over-the-wire.md"
#: Replaces the OpenTelemetry SDK, which is not installed here: a span as processors receive it.
SPAN = """
class Span {
  constructor(name, parent, attributes) {
    this.name = name; this.kind = 0; this.attributes = attributes; this.events = [];
    this.startTime = [1_790_000_000, 123_456_789];
    this.resource = { attributes: { "service.name": "node" } };
    this.instrumentationScope = { name: "an.agent" };
    this.parentSpanContext = parent?.spanContext();
    this.ids = {
      traceId: parent?.ids.traceId ?? "0af7651916cd43dd8448eb211c80319c",
      spanId: parent ? "b7ad6b7169203331" : "00f067aa0ba902b7",
    };
  }
  spanContext() { return this.ids; }
  addEvent(name, attributes) { this.events.push({ name, attributes, time: [1_790_000_001, 5] }); return this; }
}
const live = new LiveSpanProcessor();
const task = new Span("task", null, { "agent.task.name": "Mow the lawn", "n": 2, "ok": true, "list": ["a", "b"] });
live.onStart(task);
const tool = { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "mow" };
const child = new Span("execute_tool mow", task, tool);
live.onStart(child);
child.addEvent("agent.checkpoint", { "agent.checkpoint.message": "Half of it", "agent.progress": 50 });
await live.forceFlush();
live.onEnd(child); live.onEnd(task);
live.beat(1);
await live.shutdown();
"""


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with RunningGateway() as gateway:
        yield gateway


def code_of(language: str, holds: str = "") -> str:
    """Return the one block of the page in that language that holds these words."""
    [code] = [code for found, _, code in blocks(PAGE.read_text()) if found == language and holds in code]
    return code


def run(
    command: list[str], directory: Path, gateway: RunningGateway, *, seconds: float = 110, **environment: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    kept |= {"PYTHONPATH": str(ROOT / "src"), "LIVE_ENDPOINT": gateway.url, "HOME": str(directory), **environment}
    done = subprocess.run(command, cwd=directory, env=kept, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout + done.stderr


def recorded(gateway: RunningGateway) -> tuple[dict[str, Any], list[str]]:
    """Return the one recorded task, and the texts of its checkpoints."""
    store = MemoryStore(FoldRules())
    for o in gateway.observations:
        store.record_now([o])
    whole = report(store.tasks_now(TaskQuery()), store.checkpoints_now(), {})
    [task] = whole["tasks"]
    return task, [f"{c['kind']}: {c['text']}" for c in whole["checkpoints"]]


def bash(code: str, gateway: RunningGateway) -> list[str]:
    return [find("bash"), "-euo", "pipefail", "-c", code.replace("http://localhost:4318", gateway.url)]


@pytest.mark.slow
def test_python(gateway: RunningGateway, tmp_path: Path) -> None:
    """The two lines make a process forward."""
    code = code_of("python").replace("http://localhost:4318", gateway.url)
    code += "from spanpost.agent import agent_task\n"
    code += "with agent_task('Rake the leaves') as task: task.checkpoint('Half of them')\n"
    run([sys.executable, "-c", code], tmp_path, gateway)
    task, texts = recorded(gateway)
    assert (task["name"], task["status"]) == ("Rake the leaves", "complete")
    assert "checkpoint: Half of them" in texts
    assert gateway.of(Part.LOG, "agent.checkpoint")


@pytest.mark.slow
def test_shell(gateway: RunningGateway, tmp_path: Path) -> None:
    """The script is followed from its start to its end."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    launcher = tmp_path / "spanpost"  # as the installed command
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spanpost "$@"\n')
    launcher.chmod(0o755)
    run(bash(code_of("bash", "emit start"), gateway), tmp_path, gateway, PATH=f"{tmp_path}{os.pathsep}{path}")
    task, texts = recorded(gateway)
    assert (task["name"], task["status"], task["progress"]) == ("Nightly build", "complete", 100.0)
    assert [a["name"] for a in task["artifacts"]] == ["report"]
    assert texts[0] == "start: Started: Nightly build"


@pytest.mark.needs("curl", "bash")
def test_curl(gateway: RunningGateway, tmp_path: Path) -> None:
    """Three requests by hand are a task that is followed live."""
    run(bash(code_of("bash", "curl --fail"), gateway), tmp_path, gateway)
    task, texts = recorded(gateway)
    assert (task["name"], task["status"], task["progress"]) == ("Water the plants", "complete", 100.0)
    assert texts[:2] == ["start: Started: Water the plants", "checkpoint: Half of them"]
    assert [o.part.name for o in gateway.observations] == ["STARTED", "LOG", "ENDED"]


@pytest.mark.slow
@pytest.mark.needs("node")
def test_typescript(gateway: RunningGateway, tmp_path: Path) -> None:
    """The processor sends starts, events with their own time, and its process."""
    file = tmp_path / "live.mjs"
    file.write_text(code_of("typescript") + SPAN)
    run([find("node"), str(file)], tmp_path, gateway)
    task, texts = recorded(gateway)
    assert (task["name"], task["status"]) == ("Mow the lawn", "working")
    assert "checkpoint: Half of it" in texts
    parent, child = gateway.of(Part.STARTED)
    assert (child.parent_id, child.kind, child.start_ns) == (parent.span_id, 1, 1_790_000_000_123_456_789)
    assert parent.attributes == {"agent.task.name": "Mow the lawn", "n": 2.0, "ok": True, "list": ["a", "b"]}
    assert (parent.origin.scope, parent.origin.resource) == ("an.agent", {"service.name": "node"})
    [event] = gateway.of(Part.LOG, "agent.checkpoint")
    assert event.at_ns == 1_790_000_001_000_000_005
    [beat] = gateway.of(Part.LOG, "agent.heartbeat")
    assert beat.attributes["agent.open_roots"] == [f"{parent.trace_id.hex()}-{parent.span_id.hex()}"]
    seqs = [o.seq for o in gateway.observations]
    assert seqs == sorted(set(seqs))
    assert len({o.producer for o in gateway.observations}) == 1


@pytest.mark.slow
@pytest.mark.needs("typescript")
def test_typescript_compiles(tmp_path: Path) -> None:
    """The same code is TypeScript: a strict compiler takes it, and a program that uses it as a span processor."""
    (tmp_path / "live.ts").write_text(code_of("typescript"))
    (tmp_path / "use.ts").write_text(
        'import { LiveSpanProcessor } from "./live.js";\n'
        "type Processor = { onStart(span: object, context: object): void; onEnd(span: object): void;\n"
        "  forceFlush(): Promise<void>; shutdown(): Promise<void> };\n"
        "export const processors: Processor[] = [new LiveSpanProcessor()];\n"
    )
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    done = subprocess.run(
        [find("node"), find("typescript"), *options, "use.ts"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.needs("go")
@pytest.mark.timeout(400)
def test_go(gateway: RunningGateway, tmp_path: Path) -> None:
    """The program, built from the standard library alone, is a task that is followed live."""
    (tmp_path / "live.go").write_text(code_of("go"))
    cache = {
        "GOCACHE": os.environ.get("GOCACHE") or str(Path.home() / ".cache" / "go-build"),
        "GOPROXY": "off",
        "GO111MODULE": "off",
    }
    # On a fresh machine Go builds its network library first: a minute on two idle cores, several on busy ones.
    run([find("go"), "run", "live.go"], tmp_path, gateway, seconds=390, **cache)
    task, texts = recorded(gateway)
    assert (task["name"], task["status"], task["progress"]) == ("Prune the roses", "complete", 100.0)
    assert "checkpoint: Three are done" in texts
    assert gateway.of(Part.LOG, "agent.heartbeat")
