"""`spanpost slack`, and the findings of `spanpost check` on installations: everything but the tokens."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spanpost.cli import main
from spanpost.cli.examination import examine
from spanpost.encryption import is_key, new_key
from spanpost.model.installations import Installed
from spanpost.runtime.workspaces import Workspaces, workspaces_of
from spanpost.settings import load
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.store.system_user import system_user
from tests.conftest import Database

pytestmark = pytest.mark.acceptance

OLD, NEW = new_key(), new_key()
ACME = {"preview_file": "/dev/null", "workspaces": {"acme": {"team": "T0222BBBB", "tenant": "acme"}}}
OAUTH = {"client_id": "1.2", "client_secret": "client-secret", "public_url": "https://agents.example.com"}


def test_installations_are_listed_reencrypted_and_removed(
    dsn: str,
    database: Database,
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The list shows no token, encryption with a new key frees the old one, and a removed token is gone; each change
    has a row with its author.
    """
    settings = load(database={"url": dsn}, slack=ACME, slack_oauth=OAUTH | {"key": OLD})

    def ask(work: Callable[[Workspaces], Awaitable[Any]]) -> Any:
        async def asked() -> Any:
            store = PostgresStore(dsn)
            await store.open()
            try:
                found = workspaces_of(settings, store)
                assert found is not None
                return await work(found)
            finally:
                await store.close()

        return asyncio.run(asked())

    asyncio.run(schema.upgrade(dsn))
    given = Installed(client="1.2", team="T0222BBBB", team_name="Acme \x1b[31m", by="UALICE", scopes=("chat:write",))
    ask(lambda workspaces: workspaces.install(given, {"token": "xoxb-the-token"}))
    for name, value in {
        "CLIENT_ID": "1.2",
        "CLIENT_SECRET": "client-secret",
        "PUBLIC_URL": OAUTH["public_url"],
    }.items():
        monkeypatch.setenv(f"SPANPOST_SLACK_OAUTH__{name}", value)
    config = '[slack]\npreview_file = "/dev/null"\n[slack.workspaces.acme]\nteam = "T0222BBBB"\ntenant = "acme"\n'
    (clean_environment / "spanpost.toml").write_text(config)
    monkeypatch.setenv("SPANPOST_DATABASE__URL", dsn)
    monkeypatch.setenv("SPANPOST_SLACK_OAUTH__KEY", NEW)
    monkeypatch.setenv("SPANPOST_SLACK_OAUTH__OLD_KEYS", json.dumps([OLD]))

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["spanpost", "slack", *words])
        with pytest.raises(SystemExit) as left:
            main()
        config = capsys.readouterr()
        assert ((left.value.code or 0), "xoxb" in config.out + config.err) == (code, False), config
        return config.out

    [shown] = json.loads(run("installations", "--json"))["installations"]
    assert (shown["workspace"], shown["team"], shown["tenant"], shown["state"]) == (
        "acme",
        "T0222BBBB",
        "acme",
        "installed",
    )
    assert "acme" in run("installations")
    assert json.loads(run("reencrypt", "--json")) == {"reencrypted": 1}

    def looked(key: str) -> dict[str, bool]:
        oauth = OAUTH | {"key": key}
        return {
            f.finding: f.ok
            for f in examine(load(database={"url": dsn}, slack=ACME, slack_oauth=oauth))
            if f.name == "slack_oauth"
        }

    assert any(
        "installed by UALICE, of tenant acme; without the scopes" in config and ok for config, ok in looked(NEW).items()
    )
    assert any("another key" in config and not ok for config, ok in looked(OLD).items())
    assert "removed" in run("remove", "acme")
    assert run("remove", "acme", code=2) == ""
    assert json.loads(run("installations", "--json"))["installations"][0]["state"] == "removed"
    acts = database.fetch("SELECT verb, result, actor_id, tenant, via FROM human_interventions ORDER BY number")
    assert acts == [
        ("install_slack_app", "done", "slack:T0222BBBB:UALICE", "acme", "slack"),
        ("reencrypt_slack_tokens", "started", f"cli:{system_user()}", "", "cli"),
        ("reencrypt_slack_tokens", "done", f"cli:{system_user()}", "", "cli"),
        ("remove_slack_app", "done", f"cli:{system_user()}", "acme", "cli"),
    ]
    assert any("removed (by hand); its deliveries wait" in config for config in looked(NEW))
    assert is_key(run("key").strip())
