"""Secrets that are replaced while a gateway runs: Slack's tokens and signing secrets, webhooks, the database."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.observed import started
from tests.conftest import WRITER
from tests.eventually import eventually, eventually_async
from tests.interactions.api.served import Served

NEXT = "xoxb-fake-000000000000-next"
ONE, TWO = "one-one-one-one-one", "two-two-two-two-two"
OK = {200, 202}


class Rotating:
    """A gateway whose secrets are files, and the Slack that it posts to."""

    def __init__(self, slack: FakeSlack, home: Path) -> None:
        self.slack, self.home = slack, home
        self.secrets = home / "secrets"
        self.secrets.mkdir()
        self.gateway: Gateway | None = None
        self._traces = 0

    def say(self, **secrets: str) -> None:
        for name, value in secrets.items():
            (self.secrets / f"SPANPOST_{name}").write_text(f"{value}\n")

    def read(self) -> Any:
        return load(
            database={"data_dir": self.home / "data"},
            gateway={"http_port": 0, "grpc_port": -1},
            slack={"base_url": self.slack.url, "posts_per_minute": 6000, "posts_per_channel_per_minute": 6000},
        )

    async def start(self) -> None:
        self.gateway = Gateway(self.read(), self.read)
        await asyncio.to_thread(self.gateway.start)

    async def reload(self) -> bool:
        assert self.gateway is not None
        return await asyncio.to_thread(self.gateway.reload)

    async def task(self) -> str:
        """Start a task; return its name."""
        assert self.gateway is not None
        self._traces += 1
        name = f"task-{self._traces}"
        said = {"agent.task.name": name, "gen_ai.operation.name": "invoke_agent"}
        pipeline = self.gateway.pipeline
        batch = [started(trace=self._traces, span=1, name="agent", attributes=said)]
        await asyncio.to_thread(lambda: pipeline.ask(pipeline.record(batch)))
        return name

    def posted(self) -> list[str]:
        """Return the names of the posted tasks, sorted."""
        return sorted(re.findall(r"task-\d+", " ".join(message["text"] for message in self.slack.messages())))


@pytest.fixture
async def rotating(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rotating]:
    async with FakeSlack() as slack:
        made = Rotating(slack, clean_environment)
        monkeypatch.setenv("SPANPOST_SECRETS", str(made.secrets))
        made.say(SLACK__TOKEN=slack.token)
        await made.start()
        try:
            yield made
        finally:
            assert made.gateway is not None
            await asyncio.to_thread(made.gateway.stop)


async def test_a_bot_token_is_replaced_while_messages_are_posted(rotating: Rotating) -> None:
    """While both tokens are valid the gateway changes over between two posts: each task is posted once."""
    slack, names = rotating.slack, []
    slack.workspace.add_token(NEXT)
    for number in range(30):
        names.append(await rotating.task())
        if number == 15:
            rotating.say(SLACK__TOKEN=NEXT)
            assert await rotating.reload()
        if number == 25:
            await eventually_async(rotating.posted, lambda found: len(found) == 26)
            slack.refuse()  # the old token
    assert await eventually_async(rotating.posted, lambda found: len(found) >= 30) == sorted(names)
    assert all(call.became == "ok" for call in slack.calls("chat.postMessage"))


async def test_messages_wait_for_the_next_token_and_are_posted_at_the_reload(rotating: Rotating) -> None:
    """A token that was revoked too early holds the messages back; the reload releases them at once, each once."""
    slack = rotating.slack
    slack.workspace.add_token(NEXT)
    slack.refuse()
    names = [await rotating.task() for _ in range(5)]
    await eventually_async(lambda: [c for c in slack.calls("chat.postMessage") if c.became == "token_revoked"])
    rotating.say(SLACK__TOKEN=NEXT)
    assert await rotating.reload()
    assert await eventually_async(rotating.posted, lambda found: len(found) >= 5) == sorted(names)


def signed_for_slack(secret: str) -> tuple[bytes, dict[str, str]]:
    """Return an event as Slack sends it."""
    body = json.dumps({"type": "url_verification", "challenge": secrets.token_hex(8)}).encode()
    at = str(int(time.time()))
    signature = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    return body, {"x-slack-request-timestamp": at, "x-slack-signature": f"v0={signature}"}


def signed_as_github(secret: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"id": secrets.token_hex(8)}).encode()
    return body, {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


@pytest.mark.slow
def test_signing_secrets_are_replaced_without_a_refused_request(clean_environment: Path) -> None:
    """During a rotation the old and the new secret are valid, for Slack's events and for webhooks; then the new
    one alone.
    """

    def settings(secret: str, old: str | None) -> dict[str, Any]:
        hook = {"scheme": "github", "secret": secret, "old_secret": old}
        return {
            "slack": {"token": "xoxb-1", "base_url": "http://127.0.0.1:9/api/"},
            "interactions": {"signing_secret": secret, "old_signing_secret": old},
            "webhooks": {"providers": {"own": hook}},
        }

    def answers(served: Served, secret: str) -> set[int]:
        found = set()
        for path, sign in (("/slack/events", signed_for_slack), ("/hooks/own", signed_as_github)):
            body, headers = sign(secret)
            found.add(
                served.client(**headers, **{"content-type": "application/json"}).post(path, content=body).status_code
            )
        return found

    with Served(None, **settings(ONE, None)) as served:
        assert (answers(served, ONE), answers(served, TWO)) == (OK, {401})
        assert served.reload(**settings(TWO, ONE))
        assert (answers(served, ONE), answers(served, TWO)) == (OK, OK)
        assert served.reload(**settings(TWO, None))
        assert (answers(served, ONE), answers(served, TWO)) == ({401}, OK)


def with_login(dsn: str, user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@{dsn.rpartition('@')[2]}"


@pytest.mark.slow
def test_the_database_password_and_user_are_replaced(dsn: str, clean_environment: Path) -> None:
    """A gateway goes on with a new password, then with a new user, and keeps no connection of the old one; a login that
    the database refuses changes nothing, nor does another database.
    """
    one, two = (f"rotated_{secrets.token_hex(4)}" for _ in range(2))

    def run(*statements: str) -> list[Any]:
        async def work() -> list[Any]:
            connection = await asyncpg.connect(dsn)
            try:
                return [await connection.fetchval(statement) for statement in statements]
            finally:
                await connection.close()

        return asyncio.run(work())

    def records(served: Served) -> None:
        served.task(secrets.token_hex(4))

    run(*(f"CREATE ROLE {name} LOGIN PASSWORD 'first' IN ROLE {WRITER}" for name in (one, two)))
    connections = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{one}'"
    try:
        with Served(with_login(dsn, one, "first")) as served:

            def reload(url: str) -> bool:
                return served.reload(database={**served._given["database"], "url": url})

            records(served)
            run(f"ALTER ROLE {one} PASSWORD 'second'")
            records(served)
            assert not reload(with_login(dsn, one, "third"))
            assert reload(with_login(dsn, one, "second"))
            records(served)
            assert not reload(with_login(dsn, one, "second").replace("@/", "@/another_"))
            assert reload(with_login(dsn, two, "first"))
            run(f"ALTER ROLE {one} NOLOGIN")
            eventually(lambda: (records(served), run(connections) == [0])[1])
            assert not reload(with_login(dsn, one, "second"))
            records(served)
    finally:
        run(*(f"DROP ROLE {name}" for name in (one, two)))
