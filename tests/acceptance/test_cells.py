"""Two cells for real: a gateway and a database each, behind one gateway that only routes."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from spanpost.http.tenancy import FORWARDED_TENANT
from spanpost.http.tokens import hash_of
from tests.acceptance.asking_agent import AskingAgent
from tests.acceptance.gateway_process import Gateway, query, request, spans
from tests.acceptance.test_tenants import agent, span
from tests.conftest import fresh_database
from tests.errors import reason_of
from tests.eventually import eventually

#: Tokens of the tenants, by tenant; and its cell.
TENANTS = {"red": "a", "blue": "b"}
ROUTER = {"a": "spt_router_of_cell_a_0123456789abcdef", "b": "spt_router_of_cell_b_0123456789abcdef"}
#: A database that nobody runs: a routing gateway needs none.
NONE = "postgresql://nobody@127.0.0.1:1/none"

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]

#: Seconds below which a median says more about the machine than about a cell that fails: who waits for that one
#: waits for seconds.
LATE = 0.5


def token(tenant: str) -> str:
    return f"spt_{tenant}"


def cell_toml(cell: str) -> str:
    """The settings of a cell: it knows its router's token and its own API callers, and no tenant's token."""
    tenant = next(tenant for tenant, of in TENANTS.items() if of == cell)
    return f"""
[gateway]
router_tokens = ["{hash_of(ROUTER[cell])}"]
trusted_proxies = ["127.0.0.1"]
hosts = ["{cell}.agents.test"]

[[interactions.tokens]]
name = "{tenant}"
tenant = "{tenant}"
roles = ["viewer", "approver"]
sha256 = ["{hash_of("spt_api_" + tenant)}"]

[webhooks.providers.{cell}]
scheme = "github"
secret = "hush-hush-hush-hush"
"""


def router_toml(urls: dict[str, str], **tables: str) -> str:
    """The settings of the routing gateway: all tokens, and which tenant is in which cell."""
    tables = {"tenants": 'red = "a", blue = "b"'} | tables
    lines = ["[cells]", *(f"{name} = {{{content}}}" for name, content in tables.items() if name != "held")]
    lines += [f"held = {tables['held']}"] if "held" in tables else []
    lines += ["timeout = 3", 'hooks = {b = "b"}']
    for cell, url in urls.items():
        lines += [f"[cells.named.{cell}]", f'urls = ["{url}"]', f'token = "{ROUTER[cell]}"']
        lines += [f'public_url = "https://{cell}.agents.test"']
    for tenant in TENANTS:
        lines += ["[[gateway.tokens]]", f'tenant = "{tenant}"', f'sha256 = ["{hash_of(token(tenant))}"]']
        lines += ["[[interactions.tokens]]", f'name = "{tenant}"', f'tenant = "{tenant}"', 'roles = ["viewer"]']
        lines += [f'sha256 = ["{hash_of("spt_api_" + tenant)}"]']
    return "\n".join(lines)


class Fleet:
    """Two cells and their router."""

    def __init__(self, databases: dict[str, str], home: Path, stack: ExitStack) -> None:
        self.databases = databases
        self._stack = stack
        self._home = home
        self.cells = {cell: self.begin(cell) for cell in databases}
        self.urls = {cell: gateway.http for cell, gateway in self.cells.items()}
        (home / "router").mkdir()
        self.router = Gateway(NONE, home / "router", router_toml(self.urls))
        stack.callback(self.router.process.kill)
        self.router.ready()

    def begin(self, cell: str, port: str = "0") -> Gateway:
        """Start a cell's gateway."""
        (self._home / cell).mkdir(exist_ok=True)
        ports = ("--http-port", port, "--grpc-port", "-1")
        gateway = Gateway(self.databases[cell], self._home / cell, cell_toml(cell), *ports)
        self._stack.callback(gateway.process.kill)
        return gateway

    def send(self, tenant: str, number: int, url: str = "", **headers: str) -> tuple[int, Any]:
        """Send one span of a tenant; return status and body."""
        named = agent(**{"agent.task.id": f"job-{tenant}", "agent.task.name": f"{tenant}'s job"})
        made = span(number, "invoke_agent worker", named, time.time_ns() - 10**10)
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]}
        headers = {"authorization": f"Bearer {token(tenant)}"} | headers
        url = url or self.router.http
        return request(f"{url}/v1/traces", json.dumps(body).encode(), content_type="application/json", **headers)

    def rows(self) -> dict[str, list[str]]:
        """The tenants that each cell has audit rows of."""
        sql = "SELECT DISTINCT tenant FROM agent_events ORDER BY 1"
        return {cell: [row[0] for row in query(dsn, sql)] for cell, dsn in self.databases.items()}

    def route(self, **tables: str) -> None:
        """Give the router other tables, by SIGHUP."""
        before = len(self.router.lines)
        (self.router.home / "spanpost.toml").write_text(router_toml(self.urls, **tables))
        self.router.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("settings read again" in line for line in self.router.lines[before:]))


@pytest.fixture(scope="module")
def fleet(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        databases = {cell: stack.enter_context(fresh_database(server)) for cell in "ab"}
        yield Fleet(databases, tmp_path_factory.mktemp("cells"), stack)


def test_each_tenant_lives_in_its_cell_alone(fleet: Fleet) -> None:
    """Telemetry, questions, the API and webhooks reach the tenant's cell; no header, host or path reaches another."""
    for number, tenant in enumerate(TENANTS, 1):
        assert fleet.send(tenant, number)[0] == 200
    assert fleet.rows() == {"a": ["red"], "b": ["blue"]}

    # A host of the other cell, a tenant named by the client, proxy headers: the token alone decides.
    assert fleet.send("red", 3, host="b.agents.test")[0] == 200
    assert fleet.send("red", 4, x_forwarded_host="b.agents.test", x_forwarded_for="10.0.0.1")[0] == 200
    assert fleet.send("red", 5, **{FORWARDED_TENANT: "blue"})[0] == 401
    assert fleet.send("red", 6, authorization=f"Bearer {ROUTER['b']}", **{FORWARDED_TENANT: "blue"})[0] == 401
    assert fleet.send("nobody", 7)[0] == 401
    # At the cell itself: no tenant's token, no token of another cell's router, no name without the token.
    direct = fleet.urls["b"]
    for headers in (
        {},
        {FORWARDED_TENANT: "blue"},
        {"authorization": f"Bearer {ROUTER['a']}", FORWARDED_TENANT: "blue"},
        {"authorization": f"Bearer {ROUTER['b']}"},
    ):
        assert fleet.send("blue", 8, direct, **headers)[0] == 401
    assert fleet.rows() == {"a": ["red"], "b": ["blue"]}

    # The answers of the cells come back.
    asked = fleet.router.get("/control/v1/tasks/job-1?wait=0", authorization=f"Bearer {token('red')}")
    assert asked[0] == 404
    assert b"UNKNOWN" in asked[1].upper()
    for tenant in TENANTS:
        status, page = fleet.router.get("/api/tasks", authorization=f"Bearer spt_api_{tenant}")
        assert (status, {task["name"] for task in json.loads(page)["items"]}) == (200, {f"{tenant}'s job"})
    assert fleet.router.get("/api/tasks", authorization="Bearer spt_wrong")[0] == 401
    assert fleet.router.get("/api/tasks", authorization="Bearer spt_api_red", host="b.agents.test")[0] == 401
    hook = {"content_type": "application/json", "x_hub_signature_256": "sha256=" + "0" * 64}
    assert request(f"{fleet.router.http}/hooks/b", b"{}", **hook)[0] == 401  # the cell compares signatures
    assert request(f"{fleet.router.http}/hooks/a", b"{}", **hook)[0] == 404  # its cell is not named
    assert request(f"{fleet.router.http}/hooks/a", b"{}", **hook, host="a.agents.test")[0] == 401
    assert fleet.router.get("/", host="a.agents.test")[0] == 200
    assert fleet.router.get("/", host="127.0.0.1")[0] == 404


def test_a_decision_comes_back_through_the_router(fleet: Fleet) -> None:
    """A question goes in, a person decides by the API, and the waiting agent gets the answer, all at the router."""
    AskingAgent(fleet.router.http, token=token("red")).start().ask("Deploy?", "go-1")
    caller = {"authorization": "Bearer spt_api_red"}
    [asked] = eventually(lambda: json.loads(fleet.router.get("/api/approvals", **caller)[1])["items"])
    with ThreadPoolExecutor(1) as threads:
        path = "/control/v1/approvals/go-1?wait=50"
        waiting = threads.submit(fleet.router.get, path, authorization=f"Bearer {token('red')}")
        url = f"{fleet.router.http}/api/approvals/{asked['key']}/decision"
        decided = request(url, b'{"decision": "approve"}', content_type="application/json", **caller)
        assert decided[0] == 200, decided
        status, answer = waiting.result(60)
    assert (status, json.loads(answer)["decision"]) == (200, "approve"), answer
    other = fleet.router.get("/control/v1/approvals/go-1", authorization=f"Bearer {token('blue')}")
    assert other[0] == 404


def test_telemetry_over_grpc_reaches_its_cell(fleet: Fleet) -> None:
    """OpenTelemetry's own exporter sends to the router over gRPC, and the cell has the spans."""
    exporter = OTLPSpanExporter(fleet.router.grpc, headers={"authorization": f"Bearer {token('blue')}"}, insecure=True)
    assert exporter.export(spans(500, 10)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    sql = "SELECT count(*) FROM agent_events WHERE attributes->>'n' = '509'"
    assert [query(fleet.databases[cell], sql)[0][0] for cell in "ab"] == [0, 1]


def test_a_tenant_is_moved(fleet: Fleet) -> None:
    """Held, a tenant keeps its telemetry; moved, its next spans are in the other cell, and its rows stay."""
    assert fleet.send("red", 11)[0] == 200
    fleet.route(held='["red"]')
    assert fleet.send("red", 12)[0] == 503
    assert fleet.send("blue", 13)[0] == 200
    fleet.route(tenants='red = "b", blue = "b"')
    try:
        assert fleet.send("red", 14)[0] == 200
        assert fleet.rows() == {"a": ["red"], "b": ["blue", "red"]}
    finally:
        fleet.route()


def test_a_router_of_several_workers(fleet: Fleet, tmp_path: Path) -> None:
    """Two workers behind one port route as one, and their metrics add up."""
    router = Gateway(NONE, tmp_path, router_toml(fleet.urls), "--http-port", "0", "--grpc-port", "-1", "--workers", "2")
    try:
        router.ready()
        eventually(lambda: router.get("/health/ready")[0], (200).__eq__)
        for number, tenant in enumerate([*TENANTS] * 3, 30):
            assert fleet.send(tenant, number, router.http)[0] == 200
        page = urllib.request.urlopen(router.hear(r"metrics: (http\S+?)[,\s]")[1], timeout=30).read().decode()
        found = dict(re.findall(r'spanpost_cell_requests_total\{cell="(.)",outcome="2xx"\} (\S+)', page))
        assert {cell: float(count) for cell, count in found.items()} == {"a": 3.0, "b": 3.0}
    finally:
        router.end()


def test_a_cell_that_fails_does_not_slow_another(fleet: Fleet) -> None:
    """While cell a hangs, then is killed, its tenant gets 503 and cell b answers as fast as before; a comes back."""

    def median() -> float:
        took = []
        for number in range(20):
            began = time.monotonic()
            assert fleet.send("blue", 1000 + number)[0] == 200
            took.append(time.monotonic() - began)
        return sorted(took)[10]

    alone = median()
    fleet.cells["a"].process.send_signal(signal.SIGSTOP)
    is_over = threading.Event()

    def insist() -> set[int]:
        answers = set()
        while not is_over.is_set():
            answers.add(fleet.send("red", 21)[0])
        return answers

    with ThreadPoolExecutor(8) as threads:
        red = [threads.submit(insist) for _ in range(8)]
        beside = median()
        is_over.set()
        assert {answer for each in red for answer in each.result(60)} == {503}
    assert beside < max(3 * max(alone, median()), LATE)
    fleet.cells["a"].kill()
    status, body = fleet.send("red", 22)
    assert (status, reason_of(json.loads(body))) == (503, "cell_unavailable")
    assert median() < max(3 * max(alone, beside), LATE)
    assert fleet.router.get("/health/ready")[0] == 200
    fleet.cells["a"] = fleet.begin("a", fleet.urls["a"].rpartition(":")[2]).ready()
    eventually(lambda: fleet.send("red", 23)[0], (200).__eq__)
    assert fleet.rows()["a"] == ["red"]
