"""Access tokens of the command line at two real gateways on one database, without a restart."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from spanpost import cli
from spanpost.store.embedded_roles import READER
from spanpost.store.postgres import PostgresStore
from spanpost.testing.postgres import as_role
from tests.conftest import WRITER, Database
from tests.eventually import eventually
from tests.interactions.api.served import Served

pytestmark = pytest.mark.acceptance

Run = Callable[..., Any]


@pytest.fixture
def gateways(dsn: str, clean_environment: Path) -> Iterator[list[Served]]:
    """Two gateways with a gateway's rights, which require tokens."""
    gateway = {"http_port": 0, "grpc_port": -1, "require_token": True}
    with (
        Served(as_role(dsn, WRITER), gateway=gateway, interactions=None) as one,
        Served(as_role(dsn, WRITER), gateway=gateway, interactions=None) as two,
    ):
        yield [one, two]


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``spanpost token ...`` as the role that owns the tables; return its JSON, or its exit code and error."""

    def run(*words: str, url: str = dsn) -> Any:
        monkeypatch.setattr(sys, "argv", ["spanpost", "token", *words, "--json", "--database-url", url])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return json.loads(out) if not end.value.code else (end.value.code, err)

    return run


def status(served: Served, token: str, path: str) -> int:
    client = served.client(token)
    if path == "/v1/traces":
        return client.post(path, json={"resourceSpans": []}).status_code
    return client.get(path).status_code


def soon(gateways: list[Served], token: str, path: str, expected: int) -> None:
    for served in gateways:
        eventually(lambda served=served: status(served, token, path) == expected)


@pytest.mark.proves("revoked")
def test_made_used_rotated_and_revoked_without_a_restart(gateways: list[Served], run: Run) -> None:
    """A new token is known to every gateway in seconds, does what its scopes say, is listed with its last use,
    and is refused everywhere once it is rotated without an overlap, or revoked.
    """
    sender = run("new", "--name", "ci", "--tenant", "default")["token"]
    viewer = run("new", "--name", "wall", "--scope", "viewer", "--expires", "90d")
    watch = run("new", "--name", "prometheus", "--scope", "metrics")
    assert watch["tenant"] is None
    soon(gateways, sender, "/v1/traces", 200)
    soon(gateways, viewer["token"], "/api/tasks", 200)
    soon(gateways, watch["token"], "/metrics", 200)
    assert [status(gateways[0], sender, path) for path in ("/api/tasks", "/metrics")] == [403, 403]
    assert status(gateways[0], viewer["token"], "/v1/traces") == 403
    assert status(gateways[0], watch["token"], "/v1/traces") == 403

    newer = run("rotate", "ci", "--overlap", "1h")["token"]
    soon(gateways, newer, "/v1/traces", 200)
    assert status(gateways[0], sender, "/v1/traces") == 200
    newest = run("rotate", "ci", "--overlap", "0")["token"]
    soon(gateways, newest, "/v1/traces", 200)
    soon(gateways, sender, "/v1/traces", 401)
    soon(gateways, newer, "/v1/traces", 401)

    assert run("revoke", "ci") == {"revoked": 1}
    soon(gateways, newest, "/v1/traces", 401)
    eventually(lambda: {one["name"]: one["used_at"] is not None for one in run("list")["tokens"]}["wall"])
    everything = json.dumps(run("list", "--all"))
    assert not any(text in everything for text in (sender, newest, viewer["token"], "digest"))
    assert [one["name"] for one in run("list")["tokens"]] == ["prometheus", "wall"]


def test_a_single_action_is_all_that_its_token_may(gateways: list[Served], run: Run) -> None:
    """A token with `act:deny` denies a question, and may neither approve it nor cancel a task."""
    token = run("new", "--name", "stop", "--scope", "act:deny")["token"]
    sender = run("new", "--name", "agent")["token"]
    soon(gateways, sender, "/v1/traces", 200)
    from spanpost.testing.exercise_people import asking, at_work

    served = gateways[0]
    served.record(at_work("asks", trace=1), asking("one", trace=1))
    client = served.client(token)
    path = "/api/approvals/one/decision"
    assert client.post(path, json={"decision": "approve"}).status_code == 403
    assert client.post(f"/api/tasks/{1:032x}/cancel", json={}).status_code == 403
    assert client.post(path, json={"decision": "deny"}).json()["by"] == "stop"


@pytest.mark.proves("revoked")
def test_a_revoked_token_ends_its_stream_and_its_wait(gateways: list[Served], run: Run, database: Database) -> None:
    """An open stream and a waiting agent end when their token is revoked, long before they would by themselves."""
    viewer = run("new", "--name", "wall", "--scope", "viewer")["token"]
    agent = run("new", "--name", "agent")["token"]
    soon(gateways, agent, "/v1/traces", 200)
    served = gateways[1]
    from spanpost.testing.exercise_people import asking, at_work

    served.record(at_work("asks", trace=2), asking("two", trace=2))
    ends: dict[str, Any] = {}

    def follow() -> None:
        with served.client(viewer).stream("GET", "/api/events") as answer:
            ends["began"] = answer.status_code
            ends["stream"] = "".join(answer.iter_text())[-40:]

    def wait() -> None:
        ends["wait"] = served.client(agent).get("/control/v1/approvals/two?wait=50").status_code

    threads = [threading.Thread(target=each, daemon=True) for each in (follow, wait)]
    for each in threads:
        each.start()
    eventually(lambda: ends.get("began") == 200)
    eventually(lambda: database.fetch("SELECT key FROM approvals WHERE is_asked"))
    run("revoke", "wall")
    run("revoke", "agent")
    for each in threads:
        each.join(60)
    assert ends["stream"].endswith(": the stream ends, come back\n\n")
    assert ends["wait"] == 401


def test_tokens_that_end_soon_are_reported(
    dsn: str, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`spanpost check` and the metric name tokens whose newest token ends soon; a rotated name has a newer one."""
    run("new", "--name", "soon", "--expires", "10d")
    run("new", "--name", "rotated", "--expires", "90d")
    run("rotate", "rotated", "--overlap", "1h")
    run("new", "--name", "late", "--expires", "90d")
    run("new", "--name", "revoked", "--expires", "1d")
    run("revoke", "revoked")
    monkeypatch.setattr(sys, "argv", ["spanpost", "check", "--json", "--database-url", dsn])
    with pytest.raises(SystemExit):
        cli.main()
    said = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["name"] == "tokens"]
    assert [(one["ok"], one["finding"].split(":")[0], one["next_step"]) for one in said] == [
        (True, "soon ends", "spanpost token rotate soon")
    ]

    async def fleet() -> dict[str, int] | None:
        store = PostgresStore(dsn)
        await store.open()
        try:
            found = await store.fleet()
            return None if found is None else found.ending_tokens
        finally:
            await store.close()

    assert asyncio.run(fleet()) == {"default": 1}


def test_roles_of_the_database(dsn: str, gateways: list[Served], run: Run) -> None:
    """A gateway's role makes and revokes no token, a reader sees none, and a hash is refused as a token."""
    made = run("new", "--name", "ci")["token"]
    code, error = run("new", "--name", "mine", url=as_role(dsn, WRITER))
    assert (code, "the role that made the tables" in error) == (2, True)
    assert run("revoke", "ci", url=as_role(dsn, WRITER))[0] == 2
    code, error = run("new", "--name", "ci")
    assert (code, "rotate" in error) == (2, True)

    async def read() -> str:
        connection = await asyncpg.connect(as_role(dsn, READER))
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT name FROM access_tokens")
        finally:
            await connection.close()
        connection = await asyncpg.connect(dsn)
        try:
            return str((await connection.fetchval("SELECT digest FROM access_tokens")).hex())
        finally:
            await connection.close()

    digest = asyncio.run(read())
    soon(gateways, made, "/v1/traces", 200)
    for text in (digest, f"spt_{digest}"):
        assert (
            httpx.post(
                f"{gateways[0].url}/v1/traces", json={"resourceSpans": []}, headers={"authorization": f"Bearer {text}"}
            ).status_code
            == 401
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new", "--name", "x", "--scope", "admin"), "no such scope"),
        (("new", "--name", "x", "--scope", "send", "--scope", "metrics"), "belongs to no tenant"),
        (("new", "--scope", "send"), "--name"),
        (("new", "--name", "a\x1b[31m"), "printable"),
        (("revoke", "unknown"), "no valid token"),
        (("rotate", "unknown"), "no valid token"),
    ],
)
def test_refused_requests_for_tokens(run: Run, clean_environment: Path, words: tuple[str, ...], said: str) -> None:
    """A token that cannot be is refused with exit code 2 and a sentence."""
    code, error = run(*words)
    assert (code, said in error) == (2, True)
