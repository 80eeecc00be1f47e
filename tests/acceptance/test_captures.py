"""Replays of recorded runs of real frameworks: any order and encoding of the bodies gives the true result.

The recordings are the committed ones, or those in the directory `SPANPOST_CAPTURES`.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.receivers.recordings import read_recording, tell_signal
from spanpost.runtime import assembly, replay
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.tasks.json_form import report
from tests.tasks.recorded_runs import REPORTED_OTHERWISE, bodies, reported_tokens, shared, totals
from tests.tasks.recorded_runs import runs as runs_in

CAPTURES = shared()
RUNS = list(runs_in(CAPTURES))

# Expected statuses of each run, from its telemetry and its framework's conventions (one word for each task,
# in order of start). By the name of the run; SDK loops without a framework are one task for each call,
# judged by `LOOPS`.
BY_RUN = {
    "llmfail": "error",
    "maxturns": "error",
    "recursion": "error",
    "teamfail": "error",
    "toolfailhard": "error",
    # The resumed run continues the waiting task.
    "approval": "complete",
    "cancel": "cancelled",
    "maxsteps": "error",
    "interrupt": "complete",
}
#: In these only the last call failed.
LOOPS = ("anthropic-openinference", "anthropic-traceloop", "openai-v2", "openai-v2-latest")
EXCEPTIONS = {
    # The tool's exception left the run: the framework does not pass it to the model.
    "google-adk/toolfail": "error",
    "langgraph-openinference/toolfail": "error",
    "langgraph-traceloop/toolfail": "error",
    "pydantic-ai/toolfail": "error",
    "pydantic-ai-1.0.0/toolfail": "error",
    "pydantic-ai-v4/toolfail": "error",
    "langsmith/toolfail": "error",
    "genkit/toolfail": "error",
    "genkit-go/toolfail": "error",
    "eino/toolfail": "error",
    # The root never arrived: the process ended before its queue drained.
    "langgraph-langsmith-noflush/ok": "working",
    "langgraph-langsmith-noflush/toolfail": "working",
    # The resumed run was never reported.
    "openai-agents-openinference/approval": "waiting",
    # A guardrail stopped it: two of three instrumentations have a span of the turn that failed.
    "openai-agents-openinference/guardrail": "error",
    "openai-agents-otelv2/guardrail": "error",
    # The permission that it waits for was never given.
    "agentscope/approval": "waiting",
    # At a terminal: they wait for their next prompt.
    "codex-cli/conv": "waiting waiting waiting waiting",
    "codex-cli/approve": "waiting waiting",
    "codex-cli/deny": "waiting waiting",
    # The program ended before its sub-agent; its last spans were lost with the process.
    "codex-cli/subagent": "complete complete",
    "opencode/ok": "working",
    "adk-go/asked": "waiting",
    "adk-go-1/asked": "waiting",
    "adk-java/asked": "waiting",
    "genkit-go/asked": "waiting",
    "eino/asked": "waiting",
    # The resumed run is in another trace, and names neither the run nor the tool's call.
    "eino/approval": "waiting complete",
    "mastra/guardrail": "error",
    "mastra-bridge/guardrail": "error",
    "openai-agents-js/guardrail": "error",
    # They stop without an error, and without a word about it.
    "claude-agent-sdk-ts/maxsteps": "complete",
    "claude-agent-sdk-ts/cancel": "complete",
    "mastra/maxsteps": "complete",
    "mastra-bridge/maxsteps": "complete",
    "vercel-ai-7/maxsteps": "complete",
    "mcp-native/ok": "complete",
    "mcp-native/toolfail": "complete",
}
#: Parents of the tasks in runs with several agents.
TREES = {
    "agenttool": {("weather_expert", "triage_agent")},
    "claude-code/subagent": {("Sub-agent", "Claude Code")},
    "copilot-cli/subagent": {("explore", "Copilot")},
    "gemini-cli/subagent": {("generalist", "Gemini CLI")},
    "ag2/sub": {("weather_agent", "boss")},
    "pydantic-ai/handoff": {("weather_expert", "triage_agent")},
    "openai-agents-genai/handoff": {("triage_agent", "Weather desk"), ("weather_expert", "Weather desk")},
    "openai-agents-openinference/handoff": {("triage_agent", "Weather desk"), ("weather_expert", "Weather desk")},
    "openai-agents-otelv2/handoff": {("triage_agent", "Weather desk"), ("weather_expert", "Weather desk")},
    "langgraph-openinference/command": {("triage_agent", "weather_desk"), ("weather_expert", "weather_desk")},
    "langgraph-openinference/handoff": {("triage_agent", "weather_desk"), ("weather_expert", "weather_desk")},
    "langgraph-traceloop/handoff": {("triage_agent", "weather_desk"), ("weather_expert", "weather_desk")},
    "google-adk/handoff": {
        ("triage_agent", "triage_agent, weather_expert"),
        ("weather_expert", "triage_agent, weather_expert"),
    },
    "adk-go/handoff": {("weather_expert", "triage_agent")},
    "adk-go-1/handoff": {("weather_expert", "triage_agent")},
    "adk-java/handoff": {("weather_expert", "triage_agent")},
    "genkit-go/handoff": {("weather_expert", "triage_agent")},
    "adk-go/loop": {("researcher", "weather_loop")},
    "adk-go/sequential": {("researcher", "weather_desk"), ("writer", "weather_desk")},
    # The spans say so: the second agent's is below the first one's.
    "adk-java/loop": {("researcher", "weather_loop"), ("researcher", "researcher")},
    "adk-java/sequential": {("researcher", "weather_desk"), ("writer", "researcher")},
    "openai-agents-js/handoff": {("triage_agent", "Weather desk"), ("weather_expert", "Weather desk")},
    "langchain-js-openinference/handoff": {("triage_agent", "weather_desk"), ("weather_expert", "weather_desk")},
    "claude-agent-sdk-ts/subagent": {("Sub-agent", "Claude Code")},
    # The tool calls the model by itself: there is no other agent.
    "genkit/agenttool": set(),
    "strands/handoff": {
        ("triage_agent", "triage_agent, weather_expert"),
        ("weather_expert", "triage_agent, weather_expert"),
    },
    "strands/graph": {("researcher", "researcher, writer"), ("writer", "researcher, writer")},
    "crewai-openinference/two": {("Researcher", "two"), ("Writer", "two")},
    "ms-agent-framework/handoff": {("triage_agent", "desk"), ("weather_expert", "desk")},
    "ms-agent-framework/concurrent": {(f"{one}_expert", "Concurrent") for one in "abc"},
    "traceloop-sdk/workflow": {("weather_agent", "weather_desk"), ("writer", "weather_desk")},
    # Joined by the links of its messages alone.
    "semantic-kernel/sequential": {("writer", "researcher")},
    "autogen/handoff": {("weather_expert", "triage_agent")},
    "autogen-traceloopopenai/handoff": {("weather_expert", "triage_agent")},
}
#: Dialects and runs that do not report cached tokens.
NO_CACHE = {
    "smolagents",
    "openai-agents-otelv2",
    "openai-v2",
    "openai-v2-latest",
    "pydantic-ai-1.0.0",
    "spring-ai/stream",
    "eino",
    "genkit",
    "claude-agent-sdk-openinference",
}
#: Joined runs: how many runs the task has.
RESUMED = {
    "langgraph-openinference/approval",
    "langgraph-traceloop/approval",
    "openai-agents-genai/approval",
    "openai-agents-otelv2/approval",
    "strands/approval",
    "agno/approval",
    "genkit/approval",
    "ms-agent-framework/approval",
    "langsmith/approval",
    "langchain-js-openinference/approval",
    "langchain-js-openinference/interrupt",
    "adk-go/approval",
    "adk-go-1/approval",
    "adk-java/approval",
    "openai-agents-js/approval",
    "vercel-ai-7/approval",
}

#: Conversations of one agent in one service: one task, and how many turns it has.
CONVERSATIONS = {
    "adk-go/conv": 3,
    "adk-java/conv": 3,
    "claude-agent-sdk-openinference/conv": 3,
    "copilot-cli/resume": 2,
    "langchain-js-openinference/conv": 3,
    "langsmith-js/conv": 3,
    "mastra/conv": 3,
    "mastra-bridge/conv": 3,
    "spring-ai/conv": 3,
    "spring-ai/two": 2,
    "google-adk/conv": 5,
    "langgraph-openinference/conv": 5,
    "langgraph-traceloop/conv": 5,
    "openai-agents-genai/conv": 5,
    "pydantic-ai/conv": 6,
}

every_run = pytest.mark.parametrize("run", RUNS)


@pytest.fixture(autouse=True)
def recordings(clean_environment: Path) -> None:
    """Give every test here an environment of its own."""


def files_of(run: str) -> list[Path]:
    return bodies(CAPTURES / run)


def comparable(tasks: Any, checkpoints: Any) -> dict[str, Any]:
    """Return the whole public form, in a fixed order."""
    whole = report(sorted(tasks, key=lambda t: t.task_id), checkpoints, {})
    whole["checkpoints"].sort(key=lambda c: c["id"])
    return whole


def replayed(files: list[Path]) -> dict[str, Any]:
    result = replay.replay(files)
    assert not result.dropped
    return comparable(result.tasks, result.checkpoints)


@cache
def made_of(run: str) -> dict[str, Any]:
    """Return the replay's result for a run as it was recorded; not to be changed."""
    return replayed(files_of(run))


def outcome(batches: list[list[Observation]]) -> dict[str, Any]:
    """Return a store's result for batches in their order; reported checkpoints, without the inferred ones."""
    store = MemoryStore(assembly.rules_of(load()))
    for batch in batches:
        assert not store.record_now(batch).dropped
    for days in (1, 2, 3):
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))
    return comparable(
        store.tasks_now(TaskQuery(limit=10**9)),
        [c for c in store.checkpoints_now(limit=10**9) if c.kind in REPORTED_KINDS],
    )


def without_judged(whole: dict[str, Any]) -> dict[str, Any]:
    return {**whole, "checkpoints": [c for c in whole["checkpoints"] if c["kind"] in REPORTED_KINDS]}


def body_of(file: Path) -> bytes:
    body = file.read_bytes()
    return gzip.decompress(body) if file.suffix == ".gz" else body


def single_bodies(files: list[Path]) -> Iterator[bytes]:
    """Yield each span and log record as a separate body."""
    for file in files:
        body = body_of(file)
        signal = tell_signal(body)
        if signal == "traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        one = ExportTraceServiceRequest()
                        holder = one.resource_spans.add(resource=resource.resource, schema_url=resource.schema_url)
                        holder.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url, spans=[span])
                        yield one.SerializeToString()
        elif signal == "logs":
            logs = ExportLogsServiceRequest.FromString(body)
            for resource_logs in logs.resource_logs:
                for scope_logs in resource_logs.scope_logs:
                    for record in scope_logs.log_records:
                        lone = ExportLogsServiceRequest()
                        above = lone.resource_logs.add(resource=resource_logs.resource)
                        above.scope_logs.add(scope=scope_logs.scope, log_records=[record])
                        yield lone.SerializeToString()


def as_json(body: bytes) -> str | None:
    """Return a body as the Collector's file exporter writes it: ids in hex, one line."""
    signal = tell_signal(body)
    if signal == "metrics":
        return None
    request: Any = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    return json.dumps(_hex_ids(MessageToDict(request.FromString(body), use_integers_for_enums=True)))


def _hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: base64.b64decode(v).hex()
            if k in ("traceId", "spanId", "parentSpanId") and isinstance(v, str)
            else _hex_ids(v)
            for k, v in value.items()
        }
    return [_hex_ids(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
@every_run
def test_every_form_and_order_comes_to_the_same(run: str, tmp_path: Path) -> None:
    """Files in any order, repeated, one span a file, as JSON lines or gzip give identical output."""
    files, random = files_of(run), Random(run)
    expected = made_of(run)
    assert replayed([*reversed(files), *random.sample(files, len(files) // 2)]) == expected

    singles = []
    for number, body in enumerate(single_bodies(files)):
        singles.append(tmp_path / f"{number}.pb")
        singles[-1].write_bytes(body)
    random.shuffle(singles)
    assert replayed(singles) == expected

    lines = [line for file in files if (line := as_json(body_of(file))) is not None]
    random.shuffle(lines)
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    assert replayed([tmp_path / "lines.jsonl"]) == expected

    packed = []
    for file in files:
        packed.append(tmp_path / f"{file.stem}.packed.gz")
        packed[-1].write_bytes(gzip.compress(body_of(file)))
    assert replayed(packed) == expected


@pytest.mark.slow
@every_run
def test_spans_fed_one_at_a_time_come_to_the_same(run: str) -> None:
    """Observations in any order, each a batch of its own and some repeated, give the same tasks and checkpoints."""
    files = files_of(run)
    observations = [o for file in files for decoded in read_recording(file) for o in decoded.observations]
    expected = without_judged(made_of(run))
    for seed in range(2):
        random = Random(seed)
        mixed = [*observations, *random.sample(observations, len(observations) // 3)]
        random.shuffle(mixed)
        assert outcome([[o] for o in mixed]) == expected


@every_run
def test_statuses_are_what_the_run_was(run: str) -> None:
    """Each task of each run has the status that its telemetry supports, and no success looks failed."""
    dialect, _, name = run.partition("/")
    tasks = sorted(made_of(run)["tasks"], key=lambda t: t["started_at"])
    statuses = [t["status"] for t in tasks]
    if run in EXCEPTIONS:
        assert statuses == EXCEPTIONS[run].split()
    elif dialect in LOOPS and name == "llmfail":
        assert statuses[0] == "complete"
        assert set(statuses[1:]) == {"error"}
    elif name in BY_RUN:
        assert statuses == BY_RUN[name].split()
    else:
        assert set(statuses) <= {"complete"}
        assert statuses or dialect == "mcp-native"


@pytest.mark.slow
@every_run
def test_agents_are_below_their_callers(run: str) -> None:
    """In runs with several agents each child task names its parent; in all others there are no child tasks."""
    tasks = made_of(run)["tasks"]
    names = {t["task_id"]: t["name"] for t in tasks}
    found = {(t["name"], names[t["parent_task_id"]]) for t in tasks if t["parent_task_id"] is not None}
    assert found == TREES.get(run, TREES.get(run.partition("/")[2], set()))


@pytest.mark.slow
@every_run
def test_tokens_are_what_the_model_served(run: str) -> None:
    """A task's tokens equal those that the stub model served if the spans carry them, else they are null."""
    tasks = made_of(run)["tasks"]
    said = [_sum(t[field] for t in tasks) for field in ("input_tokens", "output_tokens", "cache_read_tokens")]
    dialect = run.partition("/")[0]
    assert tuple(said[:2]) == reported_tokens(CAPTURES, run)
    if said[0] is None:
        assert said[2] is None
    elif NO_CACHE.isdisjoint((dialect, run)) and run not in REPORTED_OTHERWISE:
        assert (said[2] or 0) == totals(CAPTURES / run)["cached_read"]


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@pytest.mark.slow
@every_run
def test_a_resumed_run_continues_the_task_that_waited(run: str) -> None:
    """Runs that go on after a person decided are runs of one task; nothing else is joined."""
    tasks = replay.replay(files_of(run)).tasks
    expected = CONVERSATIONS.get(run, 2 if run in RESUMED else 1)
    prompts = ("claude-code/", "claude-agent-sdk-ts/", "codex-cli/", "gemini-cli/", "qwen-code/")  # a run is a prompt
    if not run.startswith(prompts):
        assert {t.runs for t in tasks} <= {expected}


@pytest.mark.parametrize("run", [run for run in RUNS if run in RESUMED])
def test_a_tool_that_waited_counts_once(run: str) -> None:
    """A task has as many tool calls as the stub model asked for, though two runs may report the one that waited."""
    truth = json.loads((CAPTURES / run / "truth.json").read_text())
    asked = sum(len(call["tools"]) for call in truth["calls"] if call["tools"])
    assert [t["tool_calls"] for t in made_of(run)["tasks"]] == [asked]


@pytest.mark.slow
def test_the_command_prints_the_result_of_replay(tmp_path: Path) -> None:
    """``spanpost replay --json`` prints one object, the same for any order of files of several dialects."""
    for dialect in sorted({run.partition("/")[0] for run in RUNS})[::15]:
        run = next(run for run in RUNS if run.startswith(f"{dialect}/"))
        files = files_of(run)
        Random(dialect).shuffle(files)
        done = subprocess.run(
            [sys.executable, "-m", "spanpost", "replay", "--json", *map(str, files)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed = json.loads(done.stdout)
        assert list(printed) == ["tasks", "checkpoints", "dropped"]
        printed["tasks"].sort(key=lambda t: t["task_id"])
        printed["checkpoints"].sort(key=lambda c: c["id"])
        assert printed == replayed(files)
