"""Slack users by the e-mail address of the person for whom a task runs, looked up once and remembered for a while.

Rules
- An address is looked up in the workspace of the message alone. Bots, deactivated accounts and people of other
  workspaces are no one.
- What was found is remembered for an hour, what was not for ten minutes. A failed lookup keeps what was known before.
- After a refusal or without an answer nothing is looked up for a minute, or as long as Slack asks for.
- A delivery waits `TIMEOUT` seconds at most, and goes on without a mention.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from spanpost.sinks.slack.calls import Response, SlackRequest, Talk

FIND: Final = "users.lookupByEmail"
#: Seconds that a delivery waits, and that an answer or a pause lasts.
TIMEOUT: Final = 1.5
FOUND, MISSING, PAUSE = 3600.0, 600.0, 60.0
#: Remembered addresses, at most.
MOST: Final = 2_000
_EMAIL: Final = re.compile(r"[^@\s<>,;\"]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z]{2,24}")
_USER: Final = re.compile(r"[UW][A-Z0-9]{2,30}")


def email_of(name: str | None, people: Mapping[str, str]) -> str:
    """Return the address of a person by the name in `agent.requested_by`, in lower case; empty: there is none."""
    said = (name or "").strip()
    address = people.get(said.casefold(), said).casefold()
    return address if _EMAIL.fullmatch(address) else ""


class KnownPeople:
    """The people of one workspace by address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: By address: until when it holds, and the user id (empty: no one has the address).
        self._known: dict[str, tuple[float, str]] = {}
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._not_before = float("-inf")

    async def user_of(self, email: str, ask: Callable[[str], Awaitable[Response]]) -> str:
        """Return the user id of an address; empty where it is not known. Raises nothing."""
        until, user = self._known.get(email, (float("-inf"), ""))
        now = self._clock()
        if now < until or now < self._not_before:
            return user
        if (task := self._asking.get(email)) is None:
            task = self._asking[email] = asyncio.create_task(self._ask(email, user, ask))
            task.add_done_callback(lambda _: self._asking.pop(email, None))
        try:
            return await asyncio.wait_for(asyncio.shield(task), TIMEOUT)
        except TimeoutError:
            self._not_before = max(self._not_before, self._clock() + PAUSE)
            return user

    async def _ask(self, email: str, before: str, ask: Callable[[str], Awaitable[Response]]) -> str:
        try:
            response = await ask(email)
        except Exception:  # no failure of a lookup may cost the delivery
            response = Response(status=0)
        now = self._clock()
        user = before
        if response.body.get("ok") is True:
            user = _user(response.body.get("user"))
        elif response.error == "users_not_found":
            user = ""
        else:
            self._not_before = now + max(response.retry_after or 0.0, PAUSE)
            return before
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[email] = now + (FOUND if user else MISSING), user
        return user


def lookup(email: str) -> Talk[Response]:
    """Ask Slack who has an address."""
    return (yield SlackRequest(method=FIND, arguments={"email": email}, is_optional=True))


def _user(said: Any) -> str:
    """Return the id of a user object that may be mentioned; empty for any other."""
    user = said if isinstance(said, dict) else {}
    id = user.get("id")
    if any(user.get(name) for name in ("deleted", "is_bot", "is_workflow_bot", "is_stranger")):
        return ""
    return id if isinstance(id, str) and _USER.fullmatch(id) else ""
