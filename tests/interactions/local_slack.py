"""`local-slack`, a third-party Slack, as a process: people press buttons, send dialogues and write in
threads.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import find
from tests.eventually import LIMIT, eventually_async, free_port, until_listening

TEAM, APP, BOT = "T01ACME", "A01SPAN", "U0SPANPOST"
BOT_TOKEN, APP_TOKEN, SECRET = "xoxb-local-1", "xapp-1-A01SPAN-1-x", "a-signing-secret"
NEXT_APP_TOKEN = "xapp-1-A01SPAN-2-y"
ALICE, BOB = "U01ALICE", "U02BOB"
CHANNEL, OTHER = "C01AGENTS", "C02OTHER"


class LocalSlack:
    """The process, and people in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api = f"{url}/api/"
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def _control(self, path: str, **fields: Any) -> dict[str, Any]:
        async with self._session.post(f"{self.url}/_control/{path}", json=fields) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 200, body
            return body

    async def reset(self) -> None:
        """Forget all messages."""
        await self._control("reset")

    async def post(
        self, channel: str = CHANNEL, *, thread: str = "", blocks: list[dict[str, Any]] | None = None
    ) -> str:
        """Post as the app; return the message's timestamp."""
        fields = {"channel": channel, "text": "a task", "blocks": blocks or []} | (
            {"thread_ts": thread} if thread else {}
        )
        async with self._session.post(
            f"{self.api}chat.postMessage", json=fields, headers={"authorization": f"Bearer {BOT_TOKEN}"}
        ) as answer:
            return str((await answer.json())["ts"])

    async def press(
        self, ts: str, action_id: str, value: str, user: str = ALICE, *, channel: str = CHANNEL, **more: Any
    ) -> None:
        """Press a button; return when the app has answered (or five seconds went by)."""
        action = {"type": "button", "action_id": action_id, "block_id": "b", "value": value} | more
        await self._control("interact", channel=channel, messageTs=ts, user=user, action=action)

    async def choose(self, ts: str, label: str, user: str = ALICE) -> None:
        """Press the button that a message shows now under that label; or the menu's entry."""
        message = next(m for m in await self.messages() if m["ts"] == ts)
        blocks = [*message["blocks"], *(block for one in message.get("attachments", ()) for block in one["blocks"])]
        for block in blocks:
            for element in block.get("elements", ()):
                if element.get("type") == "button" and element["text"]["text"] == label:
                    await self.press(ts, element["action_id"], element["value"], user, block_id=block["block_id"])
                    return
                for option in element.get("options", ()):
                    if option["text"]["text"] == label:
                        chosen = {"type": element["type"], "selected_option": option}
                        await self.press(ts, element["action_id"], "", user, block_id=block["block_id"], **chosen)
                        return
        raise AssertionError(f"no {label} in {blocks}")

    async def question(self, text: str, limit: float = LIMIT) -> str:
        """Wait for the thread's message with that question and buttons; return its timestamp."""

        async def posted() -> list[str]:
            shown = [m for m in await self.messages() if m.get("thread_ts") and "ephemeral_to" not in m]
            return [m["ts"] for m in shown if text in str(m.get("blocks")) and "spanpost:" in str(m.get("blocks"))]

        return str((await eventually_async(posted, bool, limit))[0])

    async def shows(self, text: str, limit: float = LIMIT) -> None:
        """Wait until a message contains the text."""
        await eventually_async(
            self.messages, lambda messages: any(text in str(m) for m in messages if "ephemeral_to" not in m), limit
        )

    async def say(self, text: str, thread: str = "", user: str = ALICE, channel: str = CHANNEL) -> None:
        """Write a message, in a thread."""
        await self._control(
            "message", channel=channel, user=user, text=text, **({"thread_ts": thread} if thread else {})
        )

    async def send_dialogue(self, user: str = ALICE, **values: Any) -> None:
        """Fill the open dialogue in and send it off."""
        async with self._session.ws_connect(f"{self.url}/ui") as ui:
            await ui.receive()
            await ui.send_json({"t": "view_submit", "user": user, "values": values})
            await asyncio.sleep(0)
            # The next message on this connection is the app's answer.
            async with asyncio.timeout(60):
                while json.loads((await ui.receive()).data).get("t") not in ("view", "view_errors"):
                    pass

    async def command(self, text: str, user: str = ALICE, channel: str = CHANNEL, name: str = "/agents") -> None:
        """Send a slash command off."""
        fields = {"t": "slash_command", "appId": APP, "channel": channel, "user": user, "command": name, "text": text}
        async with self._session.ws_connect(f"{self.url}/ui") as ui:
            await ui.receive()
            await ui.send_json(fields)

    async def state(self) -> dict[str, Any]:
        """Return the whole state, as the page sees it."""
        async with self._session.ws_connect(f"{self.url}/ui") as ui:
            message: dict[str, Any] = json.loads((await ui.receive()).data)
        found: dict[str, Any] = message.get("state", message)
        return found

    async def dialogue(self) -> dict[str, Any] | None:
        """Return the open dialogue."""
        stack = (await self.state())["modalStack"]
        return stack[-1] if stack else None

    async def messages(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        async with self._session.get(f"{self.url}/_control/messages/{channel}") as answer:
            found: list[dict[str, Any]] = (await answer.json())["messages"]
            return found

    async def whispers(self, user: str = ALICE, channel: str = CHANNEL) -> list[str]:
        """Return the ephemeral messages to that person."""
        return [m["text"] for m in await self.messages(channel) if m.get("ephemeral_to") == user]

    async def whispered(self, user: str = ALICE, count: int = 1) -> list[str]:
        """Wait until a person has so many ephemeral messages."""
        return await eventually_async(lambda: self.whispers(user), lambda texts: len(texts) >= count)

    async def connected(self, count: int = 1) -> None:
        """Wait until so many processes have connected."""

        async def log() -> list[Any]:
            async with self._session.get(f"{self.url}/_control/log") as answer:
                return [one for one in (await answer.json())["log"] if "hello" in one["summary"]]

        await eventually_async(log, lambda seen: len(seen) >= count)


def local_slack_command(directory: Path, port: int, request_url: str = "") -> list[str]:
    """Write its configuration; return the command. With a `request_url` it sends signed requests there, else it uses
    Socket Mode.
    """
    app = {
        "appId": APP,
        "botUserId": BOT,
        "botName": "spanpost",
        "botToken": BOT_TOKEN,
        "appToken": APP_TOKEN,
        "signingSecret": SECRET,
    }
    app |= {"mode": "events", "requestUrl": request_url} if request_url else {"mode": "socket"}
    people = [
        {"id": ALICE, "name": "alice", "email": "alice@acme.example"},
        {"id": BOB, "name": "bob", "email": "bob@acme.example"},
    ]
    people.append({"id": "U03ROBOT", "name": "robot", "is_bot": True})
    members = [ALICE, BOT]
    config = {
        "workspace": {"name": "Acme", "domain": "acme", "teamId": TEAM},
        "apps": [app],
        "users": people,
        "channels": [
            {"id": CHANNEL, "name": "agents", "members": members},
            {"id": OTHER, "name": "other", "members": members},
        ],
    }
    written = directory / "slack.json"
    written.write_text(json.dumps(config))
    return [find("local-slack"), "--config", str(written), "--port", str(port), "--base-host", "127.0.0.1"]


@contextmanager
def run_local_slack(directory: Path, request_url: str = "", port: int = 0) -> Iterator[str]:
    """Run it, as `local_slack_command` says. Yield its address."""
    port = port or free_port()
    command = local_slack_command(directory, port, request_url)
    with (directory / "slack.log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        try:
            until_listening(process, port, directory / "slack.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)
