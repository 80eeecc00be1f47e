"""Two tenants of one gateway that use the same ids on purpose do not affect each other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.tokens import hash_of
from tests.acceptance.gateway_process import Gateway, query, request
from tests.conftest import ROOT
from tests.faults.posted import Slack, environment, final_states, settings

TOKENS = {"red": "spt_red", "blue": "spt_blue"}
TRACE, OTHER = "5b8efff798038103d269b633813fc60c", "5b8efff798038103d269b633813fc60d"

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

TOML = "\n".join(
    [
        *(
            f'[[gateway.tokens]]\ntenant = "{tenant}"\nsha256 = ["{hash_of(token)}"]'
            for tenant, token in TOKENS.items()
        ),
        *(f'[[routes]]\nsink = "slack"\naddress = "#{tenant}"\ntenant = "{tenant}"' for tenant in TOKENS),
    ]
)


@pytest.fixture
def slack(tmp_path: Path) -> Iterator[Slack]:
    slack = Slack(tmp_path / "slack.json", "--channel", "#red", "--channel", "#blue")
    yield slack
    slack.close()


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": k, "value": {"intValue": v} if isinstance(v, int) else {"stringValue": v}} for k, v in values.items()
    ]


def span(
    number: int, name: str, values: dict[str, Any], now: int, *, parent: int = 0, end: int = 9, trace: str = TRACE
) -> Any:
    made = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "name": name,
        "startTimeUnixNano": str(now + number * 10**6),
        "endTimeUnixNano": str(now + end * 10**9) if end else "0",
        "attributes": attributes(values),
        "status": {"code": 1 if end else 0},
    }
    return made | ({"parentSpanId": f"{parent:016x}"} if parent else {})


def agent(**values: Any) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "worker",
        "gen_ai.conversation.id": "talk-1",
    } | values


def call(tokens: int) -> dict[str, Any]:
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.conversation.id": "talk-1"}
    return said | {"gen_ai.response.id": "resp-1", "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 1}


def send(gateway: Gateway, tenant: str, *spans: Any) -> None:
    """Send each span in a separate request, with the tenant's token."""
    for one in spans:
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}).encode()
        answer = request(
            f"{gateway.http}/v1/traces", body, content_type="application/json", authorization=f"Bearer {TOKENS[tenant]}"
        )
        assert answer[0] == 200, answer


def spanpost(dsn: str, *arguments: str, **more: str) -> Any:
    """Run a command; return its output as JSON."""
    command = [sys.executable, "-c", "from spanpost.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(
        command, env=environment(DATABASE_URL=dsn, **more), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.proves("nothing-crosses", "tenant-attacks")
def test_the_same_ids_of_two_tenants_never_meet(
    dsn: str, slack: Slack, tmp_path: Path, needs: Callable[[str], str]
) -> None:
    """With equal ids of every kind, rows, tasks, figures, endings, messages and pruning stay per tenant."""
    now = time.time_ns() - 20 * 10**9
    gateway = Gateway(dsn, tmp_path, TOML, **settings(slack.url)).ready()
    try:
        task = {"agent.task.id": "job-1", "agent.repo": "r"}
        # Red is working, and waits for a person.
        send(
            gateway,
            "red",
            span(1, "invoke_agent worker", agent(**task, **{"agent.task.name": "Red's job"}), now, end=0),
        )
        send(gateway, "red", span(2, "chat gpt-4o", call(100), now, parent=1))
        # Blue ends a task with the same id in the same trace, as parent and child of red's spans, and names red's
        # task as its own parent.
        send(gateway, "blue", span(1, "invoke_agent worker", agent(**task, **{"agent.task.name": "Blue's job"}), now))
        send(gateway, "blue", span(2, "chat gpt-4o", call(7), now, parent=1))
        send(
            gateway,
            "blue",
            span(3, "chat gpt-4o", call(9000), now, parent=1) | {"links": [{"traceId": TRACE, "spanId": f"{1:016x}"}]},
        )
        send(
            gateway,
            "blue",
            span(
                4,
                "invoke_agent thief",
                agent(**{"agent.task.id": "job-2", "agent.task.parent_id": "job-1"}),
                now,
                trace=OTHER,
            ),
        )
        send(
            gateway,
            "red",
            span(
                5,
                "execute_tool grep",
                {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"},
                now,
                parent=1,
            ),
        )

        tasks = {
            (row[0], row[1]): tuple(row[2:])
            for row in query(
                dsn, "SELECT tenant, task_id, name, status, input_tokens, llm_calls, tool_calls FROM agent_tasks"
            )
        }
        assert tasks == {
            ("red", "job-1"): ("Red's job", "working", 100, 1, 1),
            ("blue", "job-1"): ("Blue's job", "complete", 9000, 1, 0),  # of two copies of one call one counts
            ("blue", "job-2"): ("worker", "complete", None, 0, 0),
        }
        rows = query(dsn, "SELECT tenant, count(*), count(DISTINCT task_uid) FROM agent_events GROUP BY 1 ORDER BY 1")
        assert rows == [("blue", 4, 2), ("red", 3, 1)]
        parents = query(dsn, "SELECT t.tenant, p.tenant FROM agent_tasks t JOIN agent_tasks p ON p.uid = t.parent_uid")
        assert all(own == of_parent for own, of_parent in parents)

        # Unreadable bodies are quarantined for each, though they are equal.
        for token in TOKENS.values():
            broken = request(
                f"{gateway.http}/v1/traces", b"{]", content_type="application/json", authorization=f"Bearer {token}"
            )
            assert broken[0] == 400
        assert query(dsn, "SELECT tenant, attempts FROM quarantine ORDER BY 1") == [("blue", 1), ("red", 1)]

        # A tenant's token is no operator's.
        for page in ("/metrics", "/health/detailed"):
            assert gateway.get(page, authorization=f"Bearer {TOKENS['red']}")[0] == 401

        asked = spanpost(dsn, "tasks", "--tenant", "red")["tasks"]
        assert [(t["name"], t["task_id"]) for t in asked] == [("Red's job", "job-1")]
        asked = spanpost(dsn, "tasks", "--id", "job-1", "--tenant", "blue")["tasks"]
        assert [t["name"] for t in asked] == ["Blue's job"]

        deliveries = asyncio.run(final_states(dsn, 60))
        assert set(deliveries) == {"delivered"}
    finally:
        gateway.end()
    posted = slack.end()
    names = {channel: name for name, channel in posted.get("names", {}).items()}
    texts = {
        names.get(key, key): " ".join(json.dumps(m) for m in found)
        for key, found in posted["channels"].items()
        if found
    }
    assert len(texts) == 2
    [of_red] = [text for text in texts.values() if "Red's job" in text]
    [of_blue] = [text for text in texts.values() if "Blue's job" in text]
    assert "Blue" not in of_red
    assert "job-2" not in of_red
    assert "Red" not in of_blue

    # Blue's tasks are over and old, red's is not: only blue's are archived.
    query(dsn, "UPDATE agent_tasks SET updated_at = updated_at - interval '300 days' WHERE tenant = 'blue'")
    query(
        dsn,
        "UPDATE audit_rows SET occurred_at = occurred_at - interval '300 days', received_at = received_at - "
        "interval '300 days'",
    )
    query(dsn, "UPDATE task_state SET touched_at = touched_at - interval '300 days'")
    directory = str(tmp_path / "archive")
    archived = spanpost(dsn, "archive", "run", SPANPOST_RETENTION__DIRECTORY=directory)["months"]
    assert {(month["tenant"], month["source"], month["rows"]) for month in archived} == {("blue", "audit_rows_rest", 4)}
    assert query(dsn, "SELECT tenant, count(*) FROM agent_events GROUP BY 1") == [("red", 3)]
