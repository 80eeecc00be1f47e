"""Realistic secrets are sent in each place for a text, and searched in each place that a person can read."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.receivers.decode import decode_traces
from spanpost.runtime import assembly, local_token
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from tests.acceptance.gateway_process import ROOT, Gateway, query, request
from tests.eventually import eventually
from tests.text.realistic import FORMS, Case, all_cases

SEED = 11
#: One of each form, name and place.
CASES = list({case.what: case for case in all_cases(SEED)}.values())
LATELY = time.time_ns() - 60 * 10**9


def request_of(case: Case, number: int, now: int = LATELY) -> dict[str, Any]:
    """Return a task whose span has a secret in its names, attributes, events, message, resource and scope."""
    said = {
        "agent.task.id": f"t-{number}",
        "agent.task.name": f"demo {case.text}",
        "agent.action": case.text,
        "agent.result.note": case.text,
        "custom.note": case.text,
        "exception.message": case.text,
    }
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in said.items()]
    attributes += [
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": case.text}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "inner", "value": {"stringValue": case.text}}]}}},
        {"key": "db.password", "value": {"stringValue": case.secret}},
    ]
    if case.what in FORMS:  # a name has no name before it
        attributes.append({"key": f"agent.result.{case.secret[:200]}", "value": {"stringValue": "x"}})
    events = [
        ("agent.checkpoint", {"agent.checkpoint.message": case.text}),
        ("agent.artifact", {"agent.artifact.name": case.text, "agent.artifact.uri": case.text}),
        ("agent.error", {"exception.type": "E", "exception.message": case.text, "agent.error.log_tail": case.text}),
        (
            "agent.approval.requested",
            {
                "agent.approval.id": f"q-{number}",
                "agent.approval.question": case.text,
                "agent.approval.detail": case.text,
            },
        ),
    ]
    span = {
        "traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "name": case.text[:200],
        "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 10**9),
        "attributes": attributes, "status": {"code": 2, "message": case.text},
        "events": [
            {"name": name, "timeUnixNano": str(now + i),
             "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in values.items()]}
            for i, (name, values) in enumerate(events)
        ],
    }  # fmt: skip
    resource = {"attributes": [{"key": "process.command_line", "value": {"stringValue": case.text}}]}
    return {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [{"scope": {"name": f"s {case.text[:200]}"}, "spans": [span]}]}
        ]
    }


def leaked(text: str) -> list[str]:
    """Return the secrets in a text, literally or as JSON writes them."""
    return [case.what for case in CASES if case.secret in text or json.dumps(case.secret)[1:-1] in text]


@pytest.mark.proves("redacted")
@pytest.mark.slow
def test_memory_holds_none() -> None:
    """Tasks, checkpoints, messages and records of a process without a database hold no secret."""
    store = MemoryStore(assembly.rules_of(load(database={"embedded": False}, console={})))
    for number, case in enumerate(CASES):
        store.record_now(decode_traces(json.dumps(request_of(case, number)).encode(), is_json=True).observations)
    shown = repr(
        (
            store._tables.__dict__,
            store._tables.tasks.__dict__,
            store._tables.records.by_key,
            store.outbox.__dict__,
            store.interventions.__dict__,
        )
    )
    assert len(store._tables.checkpoints) > len(CASES)
    assert leaked(shown) == []


@pytest.fixture
def gateway(dsn: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with a Slack preview."""
    toml = (
        f"[slack]\nchannel = '#x'\ndry_run = true\npreview_file = '{tmp_path / 'slack.jsonl'}'\n[log]\n"
        "level = 'DEBUG'\n"
    )
    gateway = Gateway(dsn, tmp_path, toml)
    try:
        yield gateway.ready()
    finally:
        gateway.kill()


def rows(dsn: str) -> str:
    """Return every row of every table as text; bytes too, as far as they are text."""
    shown = []
    for (table,) in query(dsn, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"):
        for (row,) in query(dsn, f"SELECT t FROM {table} t"):
            shown.append(" ".join(v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in row))
    return "\n".join(shown)


@pytest.mark.proves("redacted")
@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.needs("postgres")
def test_no_readable_place_holds_a_secret(gateway: Gateway) -> None:
    """No table, API page, command, message, log line or metric contains a secret."""
    json_type = {"content-type": "application/json"}
    for number, case in enumerate(CASES):
        assert (
            request(gateway.http + "/v1/traces", json.dumps(request_of(case, number)).encode(), **json_type)[0] == 200
        )
    spoiled = random.Random(SEED).sample(CASES, 5)
    for case in spoiled:  # quarantined for a person to inspect
        assert request(gateway.http + "/v1/traces", f"{case.text}\n{{".encode(), **json_type)[0] == 400
    eventually(
        lambda: (
            query(gateway.dsn, "SELECT count(DISTINCT task_uid) FROM deliveries WHERE state = 'delivered'")[0][0] >= 20
        )
    )
    looked = {
        "rows": rows(gateway.dsn),
        "slack": (gateway.home / "slack.jsonl").read_text(),
        "log": "\n".join(gateway.lines),
    }
    looked["metrics"] = str(gateway.get("/metrics")[1])
    here = {"authorization": f"Bearer {local_token.found(gateway.home / 'data')}"}
    pages = [f"/api/tasks/t-{i}{what}" for i in range(0, len(CASES), 5) for what in ("", "/timeline", "/message")]
    for path in ("/api/tasks?limit=200", "/api/approvals?limit=200", *pages):
        status, page = gateway.get(path, **here)
        assert status == 200
        looked[path] = str(page)
    for command in (
        ["tasks"],
        ["tasks", "--json"],
        ["approvals", "--json"],
        ["db", "query", "SELECT * FROM agent_checkpoints"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "spanpost", *command, "--database-url", gateway.dsn],
            cwd=gateway.home, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "4000"},
        )  # fmt: skip
        looked[" ".join(command)] = done.stdout + done.stderr
    assert {where: found for where, text in looked.items() if (found := leaked(text))} == {}
    assert "[redacted:github-token:40:" in looked["rows"]
    assert "[redacted:" in looked["slack"]
    assert 'spanpost_redactions_total{kind="github-token"}' in looked["metrics"]
    assert len(query(gateway.dsn, "SELECT 1 FROM agent_tasks")) == len(CASES)
