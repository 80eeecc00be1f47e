"""The fake Slack on a port of this machine, with its faults and its limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from spanpost.testing.fake_slack.channels import Message
from spanpost.testing.fake_slack.faults import Fault, Faults
from spanpost.testing.fake_slack.rules import SlackError
from spanpost.testing.fake_slack.tiers import TIERS, Tiers
from spanpost.testing.fake_slack.workspace import Workspace

TOKEN = "xoxb-fake-000000000000-spanpost"


@dataclass(frozen=True)
class FakeRequest:
    """A call as it arrived, without blocks, and its outcome.

    The outcome is ``ok``, Slack's error, or the name of the fault.
    """

    method: str
    arguments: dict[str, Any]
    became: str
    at: float


class FakeSlack:
    """Slack's Web API, behaving: ``async with FakeSlack() as slack: ... slack.url, slack.token``.

    There is a channel ``#agents`` with our app in it. `limits` are calls a minute by method (`True`: Slack's
    own tiers); `faults` are dealt to calls; `clock_ahead` shifts its clock. What people do (delete, archive,
    revoke) are its methods and those of `workspace`.
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        limits: Mapping[str, float] | bool = False,
        retry_after: int = 1,
        clock_ahead: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        #: Seconds by which its clock is ahead of this machine's.
        self.ahead = clock_ahead
        self.clock: Callable[[], float] = lambda: time.time() + self.ahead
        self.workspace = Workspace(self.clock)
        self.workspace.add_token(TOKEN)
        self.workspace.add_channel("agents")
        self.token = TOKEN
        self.faults = faults or Faults()
        self.tiers = Tiers(TIERS if limits is True else limits or None, self.clock)
        self.retry_after = retry_after
        self.asked: list[FakeRequest] = []
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._ends = asyncio.Event()

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> FakeSlack:
        app = web.Application(client_max_size=2**20)
        app.router.add_post("/_control", self._control)
        app.router.add_get("/_control", self._state)
        app.router.add_route("*", "/api/{method}", self._serve)
        app.router.add_post("/upload/{file}", self._upload)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.workspace.uploads = f"http://{self._host}:{self._port}/upload/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self._ends.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The value of `base_url`."""
        return f"http://{self._host}:{self._port}/api/"

    # --- what people see ---------------------------------------------------------------------------------------------

    def messages(self, channel: str = "#agents") -> list[Message]:
        """Return the messages of a channel, oldest first, without replies."""
        return [m for m in self.workspace.channel(channel).top() if m.get("subtype") != "tombstone"]

    def thread(self, ts: str, channel: str = "#agents") -> list[Message]:
        """Return the replies below a message, oldest first."""
        return self.workspace.channel(channel).replies(ts)

    def calls(self, method: str) -> list[FakeRequest]:
        """Return the calls of a method, in order."""
        return [asked for asked in self.asked if asked.method == method]

    def state(self) -> dict[str, Any]:
        """Return the whole state, for another process."""
        return {
            "channels": {c.name: c.all() for c in self.workspace.channels.values()},
            "early": [asdict(early) for early in self.tiers.early],
            "whispers": self.workspace.whispers,
            "faults": dict(self.faults.dealt),
            "calls": [{"method": a.method, "became": a.became, "at": a.at} for a in self.asked],
        }

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all."""
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(json.dumps(self.state()), encoding="utf-8")
        beside.replace(path)

    # --- what people do ----------------------------------------------------------------------------------------------

    def delete(self, ts: str, channel: str = "#agents") -> None:
        """Delete a message, as a person does."""
        self.workspace.remove(channel, ts)

    def archive(self, channel: str = "#agents", *, archived: bool = True) -> None:
        """Archive a channel, or bring it back."""
        self.workspace.channel(channel).is_archived = archived

    def kick(self, channel: str = "#agents", user: str = "U0SPANPOST") -> None:
        """Remove our app from a channel."""
        self.workspace.channel(channel).members.discard(user)

    def invite(self, channel: str = "#agents", user: str = "U0SPANPOST") -> None:
        """Invite our app to a channel."""
        self.workspace.channel(channel).members.add(user)

    def refuse(self, error: str = "token_revoked") -> None:
        """Revoke our token, or refuse it with another error; empty: accept it again."""
        self.workspace.tokens[self.token].refused = error

    def remove_scope(self, scope: str) -> None:
        """Take a scope from our token."""
        self.workspace.tokens[self.token].scopes.discard(scope)

    def add_scope(self, scope: str) -> None:
        """Give our token a scope."""
        self.workspace.tokens[self.token].scopes.add(scope)

    # --- the wire ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        given = await _arguments(request)
        if given is None:
            return self._answer({"ok": False, "error": "invalid_form_data"})
        fault = self.faults.next(method)
        stall_rules = self.tiers.refuse(method, str(given.get("channel", "")))
        if stall_rules is None and fault is Fault.THROTTLE:
            stall_rules = self.tiers.close(method, self.retry_after)
        if stall_rules is not None:
            self._note(method, given, "ratelimited")
            return self._answer(
                {"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(stall_rules)}
            )
        if fault is not None and not fault.is_after:
            self._note(method, given, fault.value)
            return await self._break(request, fault, {})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or given.get("token")
        headers = {}
        try:
            answer, caller = self.workspace.call(method, given, token)
            headers["X-OAuth-Scopes"] = ",".join(sorted(caller.scopes)) if caller else ""
        except SlackError as error:
            answer = {"ok": False, "error": error.code} | error.more
        became = "ok" if answer["ok"] else answer["error"]
        self._note(method, given, f"{became}, {fault.value}" if fault is not None else became)
        return self._answer(answer, headers=headers) if fault is None else await self._break(request, fault, answer)

    async def _upload(self, request: web.Request) -> web.Response:
        """Accept a file's content, once, if it has the announced length. The address alone authorizes it."""
        file = self.workspace.files.get(request.match_info["file"])
        content = await request.read()
        if file is None or "content" in file or len(content) != file["length"]:
            return web.Response(status=400, text="no such upload")
        file["content"] = content.decode("utf-8", "replace")
        return web.Response(text=f"OK - {len(content)}")

    async def _break(self, request: web.Request, fault: Fault, answer: dict[str, Any]) -> web.StreamResponse:
        match fault:
            case Fault.RESET_BEFORE | Fault.RESET_AFTER:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            case Fault.HANG_BEFORE | Fault.HANG_AFTER:
                await self._ends.wait()
                return web.Response()
            case Fault.INTERNAL_BEFORE | Fault.INTERNAL_AFTER:
                return self._answer({"ok": False, "error": "internal_error"})
            case Fault.TORN_AFTER:
                return web.Response(text=json.dumps(answer)[:-5], content_type="application/json")
            case Fault.HTML_AFTER:
                return web.Response(text="<html>Welcome to the airport's network</html>", content_type="text/html")
            case Fault.LIST_AFTER:
                return web.json_response([answer])
            case _:
                return web.Response(status=500, text="oops", content_type="text/html")

    def _answer(
        self, body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        return web.json_response(
            body, status=status, headers={"Date": formatdate(self.clock(), usegmt=True), **(headers or {})}
        )

    def _note(self, method: str, given: Mapping[str, Any], became: str) -> None:
        # Blocks are in the messages, too, and are most of the bytes.
        arguments = {key: value for key, value in given.items() if key not in ("blocks", "attachments")}
        self.asked.append(FakeRequest(method, arguments, became, self.clock()))

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _control(self, request: web.Request) -> web.Response:
        """Act as a person, for another process: ``{"do": "archive", "channel": "#agents"}``."""
        command = await request.json()
        do = command.pop("do", "")
        if do == "clear_faults":
            self.faults.clear()
        elif do == "odds":
            self.faults.odds = {
                kind: {Fault(name): share for name, share in each.items()} for kind, each in command["odds"].items()
            }
        elif do == "set":
            for name, value in command.items():
                setattr(self.workspace, name, type(getattr(self.workspace, name) or value)(value))
        elif do == "buttons":
            return web.json_response({"ok": True, "buttons": self.workspace.buttons()})
        elif do in ("delete", "archive", "kick", "invite", "refuse", "remove_scope", "add_scope"):
            getattr(self, do)(**command)
        else:
            return web.json_response({"ok": False, "error": f"nobody does {do!r}"}, status=400)
        return web.json_response({"ok": True})


async def _arguments(request: web.Request) -> dict[str, Any] | None:
    given: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        try:
            body = await request.json()
        except ValueError:
            return None
        if not isinstance(body, dict):
            return None
        given |= body
    elif request.method == "POST":
        given |= {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    return given
