"""The endpoint of permission hooks over a store in memory, without a network; its clients may hang up."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from spanpost.http.routing import HttpRouter
from spanpost.http.tokens import SenderTokens, hash_of
from spanpost.interactions.answers import Answers
from spanpost.interactions.hooks.http import HooksEndpoint
from spanpost.interactions.hooks.rules import HookRules
from spanpost.interactions.waiting import Waiters
from spanpost.model.interventions import ApprovalRow, Verb, Verdict
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_people import an_act

ALLOW = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": {"behavior": "allow"}}}
PROMPT: dict[str, Any] = {
    "session_id": "s1",
    "prompt_id": "p1",
    "cwd": "/home/me/shop",
    "hook_event_name": "PermissionRequest",
    "tool_name": "Bash",
    "tool_input": {"command": "touch made.txt", "description": "Makes a file"},
}


def denied(message: str) -> dict[str, Any]:
    decision = {"behavior": "deny", "message": message}
    return {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}


class HookCall:
    """A request that is under way."""

    def __init__(self, app: HttpRouter, path: str, body: bytes, query: bytes, token: str) -> None:
        self._gone, self._body, self._sent = asyncio.Event(), body, list[Any]()
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": query,
            "headers": [(b"authorization", f"Bearer {token}".encode())], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self.done = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None  # type: ignore[assignment]
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._sent.append(message)

    async def answer(self) -> tuple[int, Any]:
        """Return status and body."""
        await self.done
        return self._sent[0]["status"], json.loads(self._sent[1]["body"] or b"{}")

    async def hang_up(self) -> None:
        """Close the connection."""
        self._gone.set()
        await self.done


#: The token of each tenant.
TOKENS = [(tenant, hash_of(f"{tenant}-x")) for tenant in ("default", "acme")]


class Station:
    """A store, the endpoint, and people."""

    def __init__(self, most: int = 100, rules: FoldRules | None = None, **hooks: Any) -> None:
        self.at = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self.store = MemoryStore(rules or FoldRules(), clock=lambda: self.at)
        self.published = asyncio.Event()
        self.answers = Answers(
            self.store.reader, self.store.interventions, self.store.budgets, record=self.store.record
        )
        self.waiters = Waiters(most)
        self.endpoint = HooksEndpoint(
            self.answers, self.store.reader, self.store.interventions, SenderTokens("default", TOKENS), self.waiters,
            HookRules(**hooks), key=lambda: self.store.hash_key, take=self._take, now=lambda: self.at,
        )  # fmt: skip
        self.app = HttpRouter(self.endpoint.routes)
        self.recorded: list[Recorded] = []

    def _take(self, recorded: Recorded) -> None:
        self.recorded.append(recorded)
        self.published.set()

    def call(
        self,
        event: dict[str, Any] | bytes | None = None,
        program: str = "claude-code",
        *,
        tenant: str = "default",
        query: str = "",
        **more: Any,
    ) -> HookCall:
        """Begin a request."""
        given = event if event is not None else PROMPT
        body = given if isinstance(given, bytes) else json.dumps({**given, **more}).encode()
        return HookCall(self.app, f"/control/v1/hooks/{program}", body, query.encode(), f"{tenant}-x")

    async def open(self, count: int = 1) -> list[ApprovalRow]:
        """Wait until so many questions are open; return them, the newest first."""
        while True:
            found = await self.store.interventions.approvals(ApprovalQuery(state="open"))
            if len(found) >= count:
                return found
            await asyncio.sleep(0)

    async def waiting(self, count: int) -> None:
        """Wait until so many requests wait."""
        while len(self.waiters) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # nothing announces a place

    async def questions(self) -> list[ApprovalRow]:
        return await self.store.interventions.approvals(ApprovalQuery(limit=5000))

    async def decide(self, verb: Verb = Verb.APPROVE, text: str = "", **fields: Any) -> Verdict:
        """Decide the one open question."""
        [row] = await self.open()
        return await self.store.interventions.intervene(an_act(verb, row.key, text=text, **fields))

    async def closed(self) -> None:
        """Wait for the withdrawals that are under way."""
        await self.endpoint.close(5.0)

    async def tasks(self) -> list[Task]:
        return await self.store.tasks(TaskQuery(limit=100))

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and fold what is due."""
        self.at += timedelta(seconds=seconds)
        for _ in range(3):
            await self.store.elapse()
