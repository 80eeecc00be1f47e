"""People acknowledge and silence alerts in Slack and by the API: a real Alertmanager, and a third-party Slack."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from spanpost.http.tokens import hash_of
from tests.acceptance.gateways import Gateway
from tests.acceptance.prometheus import run_alertmanager
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import ALICE, APP_TOKEN, BOB, BOT_TOKEN, CHANNEL, LocalSlack, run_local_slack

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "alertmanager", "local-slack"),
]
SENDER, ANN, BEN = "spt_sender", "spt_ann", "spt_ben"
LABELS = {"alertname": "DiskFull", "severity": "critical", "host": 'db "1" \\ ü'}
RULES = f"""
[[interactions.rules]]
actions = ["acknowledge", "silence", "unsilence"]
users = ["{ALICE}"]
roles = ["operator"]
"""


def call(url: str, body: Any = None, token: str = "", method: str | None = None) -> tuple[int, Any]:
    """Return status and parsed answer of a request."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            said = answer.read()
            return answer.status, json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


class Street:
    """Gateways, a Slack, an Alertmanager that can be stopped, and the database."""

    def __init__(self, gateways: Sequence[Gateway], slack: LocalSlack, directory: Path, port: int, dsn: str) -> None:
        self.gateways, self.slack, self.dsn = gateways, slack, dsn
        self._directory, self._port = directory, port
        self._running = ExitStack()

    def start_alertmanager(self) -> None:
        hook = {
            "url": f"{self.gateways[0].url}/alerts/alertmanager",
            "http_config": {"authorization": {"credentials": SENDER}},
        }
        config = {
            "route": {"receiver": "spanpost", "group_wait": "0s", "group_interval": "200ms"},
            "receivers": [{"name": "spanpost", "webhook_configs": [hook]}],
        }
        self._running.enter_context(run_alertmanager(self._directory, yaml.safe_dump(config), self._port))

    def stop_alertmanager(self) -> None:
        self._running.close()

    def alertmanager(self, path: str, body: Any = None) -> Any:
        return call(f"http://127.0.0.1:{self._port}/api/v2/{path}", body)[1]

    def fire(self, ends: bool = False) -> None:
        now = datetime.now(UTC)
        alert = {"labels": LABELS, "annotations": {"summary": "db1 is full"}, "startsAt": "2026-11-21T10:00:00Z"}
        over = {"endsAt": (now if ends else now + timedelta(hours=1)).isoformat()}
        self.alertmanager("alerts", [alert | over])

    def silences(self, state: str = "active") -> list[dict[str, Any]]:
        return [one for one in self.alertmanager("silences") if one["status"]["state"] == state]

    def state(self) -> str:
        """Return the state of the alert at Alertmanager."""
        [alert] = self.alertmanager("alerts")
        return str(alert["status"]["state"])

    async def message(self) -> dict[str, Any]:
        """Return the alert's message, when it has been posted."""

        async def posted() -> list[dict[str, Any]]:
            return [m for m in await self.slack.messages() if "ephemeral_to" not in m and "DiskFull" in str(m)]

        return (await eventually_async(posted))[0]

    async def press(self, label: str, user: str = ALICE) -> None:
        await self.slack.choose((await self.message())["ts"], label, user)

    async def shows(self, *texts: str, without: str = "") -> None:
        """Wait until the alert's message shows these texts."""

        def is_so(message: dict[str, Any]) -> bool:
            said = json.dumps(message, ensure_ascii=False)
            return all(text in said for text in texts) and not (without and without in said)

        await eventually_async(self.message, is_so)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def act(self, verb: str, body: dict[str, Any] | None = None, *, of: int = 0, token: str = ANN) -> Any:
        """Act on the alert by the API of a gateway."""
        url = f"{self.gateways[of].url}/api/alerts"
        [alert] = call(url, token=token)[1]["items"]
        return await asyncio.to_thread(call, f"{url}/{alert['id']}/{verb}", body or {}, token)


@asynccontextmanager
async def street(dsn: str, directory: Path, gateways: int = 1) -> AsyncIterator[Street]:
    (directory / "spanpost.toml").write_text(RULES)
    slack_port, port = free_port(), free_port()
    people = [{"name": n, "sha256": [hash_of(t)], "roles": ["operator"]} for n, t in (("Ann", ANN), ("Ben", BEN))]
    environment = {
        "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
        "SPANPOST_SLACK__CHANNEL": CHANNEL,
        "SPANPOST_SLACK__BASE_URL": f"http://127.0.0.1:{slack_port}/api/",
        "SPANPOST_INTERACTIONS__APP_TOKEN": APP_TOKEN,
        "SPANPOST_INTERACTIONS__TOKENS": json.dumps(people),
        "SPANPOST_GATEWAY__TOKENS": json.dumps([{"tenant": "default", "sha256": [hash_of(SENDER)]}]),
        "SPANPOST_ALERTS__ALERTMANAGERS": json.dumps([{"url": f"http://127.0.0.1:{port}", "timeout": 2}]),
    }
    async with AsyncExitStack() as stack:
        made = [Gateway(dsn, directory, **environment) for _ in range(gateways)]
        for gateway in made:
            stack.callback(gateway.stop)
        slack = LocalSlack(stack.enter_context(run_local_slack(directory, "", slack_port)))
        stack.push_async_callback(slack.close)
        there = Street(made, slack, directory, port, dsn)
        stack.callback(there.stop_alertmanager)
        there.start_alertmanager()
        await slack.connected()
        there.fire()
        await there.message()
        yield there


async def test_an_alert_is_acknowledged_silenced_and_unsilenced_in_slack(dsn: str, tmp_path: Path) -> None:
    """The buttons of an alert's message act: it shows who looks after it, Alertmanager holds the silence and
    suppresses the alert, and *Unsilence* ends it. Who is not allowed changes nothing. Each act is a row.
    """
    async with street(dsn, tmp_path) as there:
        await there.press("Acknowledge", BOB)
        assert "Not done" in (await there.slack.whispered(BOB))[0]
        await there.press("Acknowledge")
        await there.shows("acknowledged by alice", without='"Acknowledge"')
        await there.press("Silence…")
        await eventually_async(there.slack.dialogue)
        await there.slack.send_dialogue(
            choice={"choice": {"type": "radio_buttons", "selected_option": {"value": "4h"}}},
            comment={"text": {"type": "plain_text_input", "value": "disk is on order"}},
        )
        [silence] = await eventually_async(lambda: asyncio.to_thread(there.silences))
        matchers = {one["name"]: one["value"] for one in silence["matchers"] if one["isEqual"] and not one["isRegex"]}
        assert (matchers, silence["createdBy"]) == (LABELS, "alice")
        assert silence["comment"].startswith("disk is on order [spanpost ")
        until = datetime.fromisoformat(silence["endsAt"]) - datetime.now(UTC)
        assert timedelta(hours=3, minutes=58) < until < timedelta(hours=4, minutes=1)
        await there.shows("silenced by alice", silence["id"], "Unsilence")
        assert there.state() == "suppressed"
        await there.press("Unsilence")
        await there.shows("Silence…", without="silenced by")
        assert (there.silences(), there.state()) == ([], "active")
        there.fire(ends=True)
        await there.shows("Resolved", "acknowledged by alice", without="Silence…")
        acts = await there.rows(
            "SELECT verb, result, actor, comment FROM human_interventions WHERE verb <> 'start_gateway' ORDER BY number"
        )
        assert acts == [
            ("acknowledge", "refused", "bob", ""),
            ("acknowledge", "done", "alice", ""),
            ("silence", "done", "alice", "disk is on order"),
            ("unsilence", "done", "alice", ""),
        ]


async def test_an_alertmanager_that_is_down_can_be_asked_again(dsn: str, tmp_path: Path) -> None:
    """While Alertmanager is down a silence fails in clear words, in the answer and in the message; asked for
    again it is set, once, also where the answer was lost. Two people at two gateways set one silence.
    """
    async with street(dsn, tmp_path, gateways=2) as there:
        there.stop_alertmanager()
        status, said = await there.act("silence", {"for": "1h"})
        assert (status, said["message"]) == (502, "Alertmanager cannot be reached")
        await there.shows("not silenced, as Ann asked: Alertmanager cannot be reached", "Silence…")
        there.start_alertmanager()
        status, said = await there.act("silence", {"for": "1h"})
        assert (status, said["message"]) == (502, "Alertmanager has no alert with exactly these labels any more")
        there.fire()
        both = await asyncio.gather(
            there.act("silence", {"for": "1h", "comment": "mine"}),
            there.act("silence", {"for": "2h"}, of=1, token=BEN),
        )
        assert sorted(status for status, _ in both) == [200, 409]
        [silence] = there.silences()
        await there.shows(silence["id"])
        # The answer to a request was lost: the row says that it failed, and Alertmanager has the silence.
        await there.rows("""UPDATE alerts SET silence = silence || '{"state": "failed", "failure": "timeout"}'""")
        assert (await there.act("silence", {"for": "3h"}))[0] == 200
        assert len(there.silences()) == 1
        assert (await there.act("unsilence"))[0] == 200
        assert there.silences() == []
        assert (await there.act("unsilence"))[0] == 409
        log = "".join(gateway.log for gateway in there.gateways)
        assert "Traceback" not in log
