"""Two cells for real: a gateway and a database each, behind one gateway that only routes."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.tokens import FORWARDED_TENANT, hash_of
from tests.acceptance.gateway_process import Gateway, query, request
from tests.acceptance.test_tenants import agent, span
from tests.conftest import fresh_database
from tests.eventually import eventually

#: Tokens of the tenants, by tenant; and its cell.
TENANTS = {"red": "a", "blue": "b"}
ROUTER = {"a": "spt_router_of_cell_a_0123456789abcdef", "b": "spt_router_of_cell_b_0123456789abcdef"}
#: A database that nobody runs: a routing gateway needs none.
NONE = "postgresql://nobody@127.0.0.1:1/none"

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


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
roles = ["viewer"]
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

    def __init__(self, databases: dict[str, str], home: Path) -> None:
        self.databases = databases
        self.cells: dict[str, Gateway] = {}
        for cell, dsn in databases.items():
            (home / cell).mkdir()
            self.cells[cell] = Gateway(dsn, home / cell, cell_toml(cell))
        self.urls = {cell: gateway.ready().http for cell, gateway in self.cells.items()}
        (home / "router").mkdir()
        self.router = Gateway(NONE, home / "router", router_toml(self.urls)).ready()

    def send(self, tenant: str, number: int, url: str = "", **headers: str) -> tuple[int, Any]:
        """Send one span of a tenant; return status and body."""
        now = time.time_ns() - 10**10
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [span(number, "invoke_agent worker", agent(), now)]}]}]}
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

    def end(self) -> None:
        for gateway in (self.router, *self.cells.values()):
            gateway.process.send_signal(signal.SIGCONT)
            gateway.kill()


@pytest.fixture
def fleet(server: str, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        databases = {cell: stack.enter_context(fresh_database(server)) for cell in "ab"}
        fleet = Fleet(databases, tmp_path)
        stack.callback(fleet.end)
        yield fleet


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
        assert (status, {task["tenant"] for task in json.loads(page)["tasks"]}) == (200, {tenant}), page
    assert fleet.router.get("/api/tasks", authorization="Bearer spt_wrong")[0] == 401
    assert fleet.router.get("/api/tasks", authorization="Bearer spt_api_red", host="b.agents.test")[0] == 401
    hook = {"content_type": "application/json", "x_hub_signature_256": "sha256=" + "0" * 64}
    assert request(f"{fleet.router.http}/hooks/b", b"{}", **hook)[0] == 401  # the cell compares signatures
    assert request(f"{fleet.router.http}/hooks/a", b"{}", **hook)[0] == 404  # its cell is not named
    assert request(f"{fleet.router.http}/hooks/a", b"{}", **hook, host="a.agents.test")[0] == 401
    assert fleet.router.get("/", host="a.agents.test")[0] == 200
    assert fleet.router.get("/", host="127.0.0.1")[0] == 404
