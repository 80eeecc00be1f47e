"""The features of a running deployment, each tried from outside by `walk`.

A deployment is started with `settings` beside its own, a local-slack and a receiver of webhooks. Each feature has one
function here; its first line says what a person has when it works.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import randbits, token_hex
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from standardwebhooks import Webhook

from spanpost.http.tokens import hash_of
from spanpost.testing.http import HttpReceiver
from tests.acceptance.asking_agent import AskingAgent, WaitingAgent
from tests.acceptance.gateway_process import request
from tests.conftest import ROOT
from tests.eventually import LIMIT, eventually_async
from tests.interactions.api.assistant import ask, with_session
from tests.interactions.local_slack import ALICE, APP_TOKEN, BOT_TOKEN, CHANNEL, LocalSlack, run_local_slack

#: Results of walked deployments, for docs/reference/deployments.md.
RECORDED = ROOT / "tests" / "acceptance" / "deployments"
#: The API's token, the key of webhooks that are sent, and the key of those that are received.
READER, SENT, RECEIVED = "spt_walk-reader", "whsec_" + b64encode(b"the key of a walk, of 32 bytes!!").decode(), "w" * 32


def settings(slack: LocalSlack, webhooks: HttpReceiver) -> dict[str, str]:
    """Return the variables with which a deployment is walked."""
    decides = {"actions": ["decide"], "users": [ALICE]}
    reads = {"name": "walk", "sha256": [hash_of(READER)], "roles": ["viewer"]}
    provider = {"scheme": "github", "secret": RECEIVED, "does": [{"task": "{task}", "text": "{text}", "by": "walker"}]}
    return {
        "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
        "SPANPOST_SLACK__CHANNEL": CHANNEL,
        "SPANPOST_SLACK__BASE_URL": slack.api,
        "SPANPOST_INTERACTIONS__APP_TOKEN": APP_TOKEN,
        "SPANPOST_INTERACTIONS__RULES": json.dumps([decides]),
        "SPANPOST_INTERACTIONS__TOKENS": json.dumps([reads]),
        "SPANPOST_WEBHOOK__URL": webhooks.url,
        "SPANPOST_WEBHOOK__SECRET": SENT,
        "SPANPOST_WEBHOOKS__PROVIDERS": json.dumps({"walk": provider}),
    }


@asynccontextmanager
async def surroundings(directory: Path) -> AsyncIterator[tuple[LocalSlack, HttpReceiver]]:
    """Run a Slack and a receiver of webhooks on this machine."""
    async with HttpReceiver() as webhooks:
        with run_local_slack(directory) as url:
            slack = LocalSlack(url)
            try:
                yield slack, webhooks
            finally:
                await slack.close()


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Addresses of a running deployment, and the tokens of its clients."""

    #: The gateway's HTTP address: board, API, control, health, incoming webhooks.
    gateway: str
    #: The database, as a role that may read.
    dsn: str
    slack: LocalSlack
    webhooks: HttpReceiver
    #: `spanpost` as that deployment has it.
    command: Sequence[str] = (sys.executable, "-m", "spanpost")
    #: Where agents send OTLP: the gateway, or a Collector in front of it. Over HTTP, the gateway's unless given.
    otlp_http: str = ""
    otlp_grpc: str
    #: The page of metrics, the gateway's unless given.
    metrics: str = ""
    #: An Alertmanager that sends to the gateway; without one the gateway is sent its webhook.
    alertmanager: str = ""
    #: The tenant's token, and an operator's, if the gateway requires them.
    token: str = ""
    operator: str = ""
    #: A token of the API.
    reader: str = READER

    def __post_init__(self) -> None:
        object.__setattr__(self, "otlp_http", self.otlp_http or self.gateway)
        object.__setattr__(self, "metrics", self.metrics or f"{self.gateway}/metrics")


@dataclass(frozen=True)
class Walk:
    """One walk: its names are its own, so that a deployment can be walked again."""

    to: Deployment
    id: str = field(default_factory=lambda: token_hex(4))

    def name(self, of: str) -> str:
        return f"Walk {self.id} {of}"

    @property
    def done(self) -> str:
        """The task that `otlp_over_http` sends; other features look for it."""
        return self.name("by HTTP")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.to.token}"} if self.to.token else {}

    def spans(self, of: str) -> list[ReadableSpan]:
        """Return a finished task with one model call, whose price is published."""
        now, trace, resource = time.time_ns(), randbits(128), Resource.create({"service.name": "walk"})
        chat = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100,
        }  # fmt: skip
        root = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": self.agent,
            "agent.task.name": self.name(of),
        }
        ids = (randbits(64), randbits(64))
        return [
            ReadableSpan(
                name=str(attributes["gen_ai.operation.name"]),
                context=SpanContext(trace, id, False, TraceFlags(1)),
                parent=SpanContext(trace, ids[0], False, TraceFlags(1)) if id != ids[0] else None,
                resource=resource,
                instrumentation_scope=InstrumentationScope("walk"),
                attributes=attributes,
                start_time=now - 10**9,
                end_time=now,
            )
            for id, attributes in ((ids[1], chat), (ids[0], root))
        ]

    @property
    def agent(self) -> str:
        return f"walker-{self.id}"

    async def send(self, exporter: Any, of: str) -> None:
        """Export a task, until the deployment acknowledges it."""
        try:
            assert await asyncio.to_thread(exporter.export, self.spans(of)) is SpanExportResult.SUCCESS, "not accepted"
        finally:
            exporter.shutdown()

    async def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.to.dsn, statement_cache_size=0)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    async def task(self, name: str, column: str = "status") -> Any:
        """Wait for the row of a task; return a column of it."""
        sql = f"SELECT {column} FROM agent_tasks WHERE name = $1 AND {column} IS NOT NULL"
        return (await eventually_async(lambda: self.rows(sql, name), bool, LIMIT))[0][0]

    async def get(self, url: str, token: str = "", **headers: str) -> tuple[int, bytes]:
        given = headers | ({"authorization": f"Bearer {token}"} if token else {})
        status, body = await asyncio.to_thread(request, url, None, **given)
        return status, bytes(body)

    async def page(self, url: str, token: str = "") -> str:
        status, body = await self.get(url, token)
        assert status == 200, f"{url}: {status} {body[:200]!r}"
        return body.decode()

    async def post(self, url: str, body: Any, **headers: str) -> tuple[int, bytes]:
        """Send JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        status, said = await asyncio.to_thread(request, url, sent, **headers)
        return status, bytes(said)


async def otlp_over_http(walk: Walk) -> None:
    """Agents send OTLP over HTTP."""
    await walk.send(HttpExporter(f"{walk.to.otlp_http}/v1/traces", headers=walk.headers), "by HTTP")
    assert await walk.task(walk.done) == "complete"


async def otlp_over_grpc(walk: Walk) -> None:
    """Agents send OTLP over gRPC."""
    address = walk.to.otlp_grpc
    plain = not address.startswith("https")
    await walk.send(GrpcExporter(address, insecure=plain, headers=tuple(walk.headers.items())), "by gRPC")
    assert await walk.task(walk.name("by gRPC")) == "complete"


async def audit_rows(walk: Walk) -> None:
    """Each task, span and checkpoint is a row in PostgreSQL."""
    uid = await walk.task(walk.done, "uid")
    for table, least in (("agent_events", 2), ("agent_checkpoints", 1)):
        sql = f"SELECT count(*) FROM {table} WHERE task_uid = $1"
        await eventually_async(
            lambda sql=sql: walk.rows(sql, uid), lambda rows, least=least: rows[0][0] >= least, LIMIT
        )


async def prices(walk: Walk) -> None:
    """A model call has a cost in dollars, by published prices."""

    async def cost() -> Any:
        # While the prices are loaded, calls are recorded without one: another call is sent.
        await walk.send(HttpExporter(f"{walk.to.otlp_http}/v1/traces", headers=walk.headers), of := token_hex(4))
        await walk.task(walk.name(of))
        return (await walk.rows("SELECT cost_usd FROM agent_tasks WHERE name = $1", walk.name(of)))[0][0]

    found = await eventually_async(cost, lambda found: found is not None, LIMIT)
    assert float(found) == 0.0035, f"$ {found}"


async def slack_messages(walk: Walk) -> None:
    """A task is a message in Slack."""
    await walk.to.slack.shows(walk.done, LIMIT)


async def slack_buttons(walk: Walk) -> None:
    """A click in Slack is the answer that an agent waits for."""
    with TemporaryDirectory() as directory:
        agent = WaitingAgent(walk.to.otlp_http, Path(directory), walk.to.gateway, walk.to.token)

        async def answered() -> bool:
            # A click before the gateway has connected to Slack has no effect: a person clicks again.
            if agent.process.poll() is None:
                with suppress(AssertionError):
                    await walk.to.slack.choose(question, "Approve")
            return agent.process.poll() is not None

        try:
            question = await walk.to.slack.question("Shall I deploy?", LIMIT)
            await eventually_async(answered, bool, LIMIT)
            assert (said := await asyncio.to_thread(agent.goes_on)) == "approve alice", said
        finally:
            agent.kill()


async def board(walk: Walk) -> None:
    """The board is served, with its scripts and styles."""
    page = await walk.page(f"{walk.to.gateway}/")
    named = re.findall(r'(?:href|src)="(/board/static/[^"]+)"', page)
    assert named, "it names no files"
    for path in named:
        await walk.page(walk.to.gateway + path)


async def api(walk: Walk) -> None:
    """The HTTP API shows a task, to a token alone."""
    await walk.task(walk.done)
    url = f"{walk.to.gateway}/api/tasks?q={walk.done.replace(' ', '+')}"
    [task] = json.loads(await walk.page(url, walk.to.reader))["items"]
    assert (task["name"], task["status"]) == (walk.done, "complete")
    assert (await walk.get(url))[0] == 401


async def mcp(walk: Walk) -> None:
    """An assistant reads a task by the Model Context Protocol."""
    uid = await walk.task(walk.done, "uid")
    shown = await with_session(
        walk.to.command, walk.to.gateway, walk.to.reader, lambda session: ask(session, "task", id=str(uid))
    )
    assert shown["status"] == "complete", shown


async def webhooks_out(walk: Walk) -> None:
    """A task is posted as a signed webhook."""

    def posted() -> list[Any]:
        return [one for one in walk.to.webhooks.posted if walk.done in one.body.decode()]

    for one in await eventually_async(posted, bool, LIMIT):
        Webhook(SENT).verify(one.body, one.headers)


async def webhooks_in(walk: Walk) -> None:
    """Another program's signed webhook is a message to a task."""
    agent = AskingAgent(walk.to.otlp_http, walk.name("hooked"), walk.to.token).start()
    uid = await walk.task(walk.name("hooked"), "uid")
    body = json.dumps({"task": agent.trace[:8], "text": walk.id}).encode()
    signature = "sha256=" + hmac.new(RECEIVED.encode(), body, hashlib.sha256).hexdigest()
    status, said = await walk.post(f"{walk.to.gateway}/hooks/walk", body, x_hub_signature_256=signature)
    assert status == 202, f"{status} {said[:200]!r}"
    sql = "SELECT verb, result FROM human_interventions WHERE task_uid = $1"
    await eventually_async(lambda: walk.rows(sql, uid), lambda rows: rows == [("message", "done")], LIMIT)


async def metrics(walk: Walk) -> None:
    """A task is counted in Prometheus metrics."""

    async def counted() -> bool:
        page = await walk.page(walk.to.metrics, walk.to.operator)
        return f'agent="{walk.agent}"' in page

    await eventually_async(counted, bool, LIMIT)


async def health(walk: Walk) -> None:
    """Pages for restarts and for load balancers answer."""
    for path in ("live", "ready"):
        await eventually_async(
            lambda path=path: walk.get(f"{walk.to.gateway}/health/{path}"), lambda answer: answer[0] == 200, LIMIT
        )


async def alerts(walk: Walk) -> None:
    """An alert is a message in Slack."""
    now, name = datetime.now(UTC).isoformat(), f"Walk{walk.id}"
    alert = {
        "labels": {"alertname": name, "severity": "critical"},
        "annotations": {"summary": "a walk"},
        "startsAt": now,
    }
    if walk.to.alertmanager:
        status, said = await walk.post(f"{walk.to.alertmanager}/api/v2/alerts", [alert])
    else:
        fired = alert | {"status": "firing", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": walk.id}
        body = {"version": "4", "receiver": "spanpost", "status": "firing", "alerts": [fired]}
        status, said = await walk.post(f"{walk.to.gateway}/alerts/alertmanager", body, **walk.headers)
    assert status == 200, f"{status} {said[:200]!r}"
    await walk.to.slack.shows(name, LIMIT)


#: The features by name, in the order of the page.
FEATURES: dict[str, Callable[[Walk], Awaitable[None]]] = {
    "OTLP over HTTP": otlp_over_http,
    "OTLP over gRPC": otlp_over_grpc,
    "audit rows": audit_rows,
    "published prices": prices,
    "messages in Slack": slack_messages,
    "buttons in Slack": slack_buttons,
    "board": board,
    "HTTP API": api,
    "MCP": mcp,
    "signed webhooks": webhooks_out,
    "incoming webhooks": webhooks_in,
    "metrics": metrics,
    "alerts": alerts,
    "health": health,
}


async def walk(deployment: Deployment) -> dict[str, str]:
    """Try every feature; return "yes" or the reason by feature."""
    this = Walk(deployment)

    async def attempt(feature: Callable[[Walk], Awaitable[None]]) -> str:
        try:
            await feature(this)
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
        return "yes"

    return dict(zip(FEATURES, await asyncio.gather(*map(attempt, FEATURES.values())), strict=True))


def record(deployment: str, how: str, results: dict[str, str]) -> None:
    """Keep a deployment's results for the page, if SPANPOST_RECORD_DEPLOYMENTS is set.

    `how` is one sentence: what was real in the walk. `results` may have features beyond `FEATURES`.
    """
    if os.environ.get("SPANPOST_RECORD_DEPLOYMENTS"):
        RECORDED.mkdir(exist_ok=True)
        written = json.dumps({"how": how, "features": results}, indent=2, ensure_ascii=False)
        (RECORDED / f"{deployment}.json").write_text(written + "\n")
