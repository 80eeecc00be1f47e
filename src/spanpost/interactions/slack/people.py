"""People in Slack: profiles and memberships, looked up when needed, cached for minutes, never guessed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from spanpost.interactions.acts import actor_of
from spanpost.interactions.authorization import Ask, Failed, Found, Lookup, MembersOf, Person, PersonOf, Ruling
from spanpost.interactions.protocols import Answer, Asked, PersonMessage, Question, Resolver
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.text.sanitise import line

#: Seconds after which a refusal's lookups are repeated, so that newly added people need not wait. Slack
#: allows 20 lookups of user groups a minute (Tier 2).
ANEW: Final = 20.0
#: Seconds until a failed lookup is repeated.
FAILED: Final = 5.0
#: Seconds for a resolver's answer.
RESOLVER_TIMEOUT: Final = 1.5
#: Members of a channel that are read at most, and of a page (Slack's limit).
MOST_MEMBERS: Final = 20_000
_PAGE: Final = 1_000
#: Cached people, groups and channels, at most.
_MOST: Final = 10_000


class SlackPeople:
    """The people of one workspace."""

    def __init__(
        self,
        web: Web,
        *,
        remember: float = 300.0,
        resolvers: Mapping[str, Resolver] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web = web
        self._remember = remember
        self._resolvers = dict(resolvers or {})
        self._clock = clock
        self._known: dict[Lookup, tuple[float, Found]] = {}
        self._asking: dict[Lookup, asyncio.Task[Found]] = {}

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        """Return the result of a lookup; `Failed` if there is none."""
        if isinstance(lookup, Ask):
            return await self._resolve(lookup, message, question)
        known = self._known.get(lookup)
        if known is not None:
            max_age = min(FAILED, self._remember) if isinstance(known[1], Failed) else self._remember
            if self._clock() - known[0] < max_age:
                return known[1]
        task = self._asking.get(lookup)
        if task is None:
            task = self._asking[lookup] = asyncio.create_task(self._ask(lookup, message))
            task.add_done_callback(lambda _: self._asking.pop(lookup, None))
        return await asyncio.shield(task)

    async def forget(self, ruling: Ruling, user: str) -> bool:
        """Forget the lookups behind a refusal that are old enough to be repeated."""
        lookups: list[Lookup] = [PersonOf(user)]
        lookups += [MembersOf(value, kind == "group") for kind, value in ruling.who if kind in ("group", "channel")]
        old = [lookup for lookup in lookups if lookup in self._known and self._clock() - self._known[lookup][0] > ANEW]
        for lookup in old:
            del self._known[lookup]
        return bool(old)

    async def _ask(self, lookup: PersonOf | MembersOf, message: PersonMessage) -> Found:
        found: Found
        try:
            found = await (self._person(lookup.id, message) if isinstance(lookup, PersonOf) else self._members(lookup))
        except Trouble as trouble:
            found = Failed(line(f"Slack answers {trouble}", 200))
        except Exception as error:  # an unexpected answer allows no one
            found = Failed(f"Slack's answer could not be read ({type(error).__name__})")
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[lookup] = (self._clock(), found)
        return found

    async def _person(self, user: str, message: PersonMessage) -> Person:
        response = await self._web.call("users.info", user=user)
        return person_of(response["user"], user, message.team)

    async def _members(self, lookup: MembersOf) -> frozenset[str]:
        if lookup.is_group:
            response = await self._web.call("usergroups.users.list", usergroup=lookup.id)
            return frozenset(str(user) for user in response["users"])
        members: set[str] = set()
        cursor = ""
        while True:
            response = await self._web.call("conversations.members", channel=lookup.id, limit=_PAGE, cursor=cursor)
            members.update(str(user) for user in response["members"])
            cursor = str((response.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return frozenset(members)
            if len(members) >= MOST_MEMBERS:
                raise Trouble(f"the channel has more than {MOST_MEMBERS} members")

    async def _resolve(self, lookup: Ask, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        resolver = self._resolvers.get(lookup.resolver)
        if resolver is None:
            return Failed("it is not installed")
        action, asked = question
        who = actor_of("slack", lookup.person, message)
        try:
            async with asyncio.timeout(RESOLVER_TIMEOUT):
                answer = await resolver(Question(action=action, actor=who, task=asked.task, approval=asked.approval))
        except TimeoutError:
            return Failed(f"no answer within {RESOLVER_TIMEOUT:g} s")
        except Exception as error:  # foreign code: an exception allows no one
            return Failed(type(error).__name__)
        return answer if isinstance(answer, Answer) else Failed("an answer of another kind")


def person_of(user: Any, asked_for: str, team: str) -> Person:
    """Read a user object of the Web API, as seen from a workspace.

    Raises for anything else, or another user.
    """
    if user["id"] != asked_for:
        raise ValueError("another user")
    profile = user.get("profile") or {}
    grid = user.get("enterprise_user") or {}
    teams = [str(user.get("team_id") or ""), *(str(one) for one in grid.get("teams") or ())]
    is_confirmed = user.get("is_email_confirmed", True) is True
    return Person(
        id=asked_for,
        # For a member of several workspaces of an organisation: the asking one.
        team=team if team in teams else teams[0],
        name=line(str(profile.get("display_name") or user.get("real_name") or user.get("name") or ""), 200),
        email=str(profile.get("email") or "").strip() if is_confirmed else "",
        is_bot=bool(user.get("is_bot") or user.get("is_workflow_bot") or asked_for == "USLACKBOT"),
        is_gone=bool(user.get("deleted")),
        is_guest=bool(user.get("is_restricted") or user.get("is_ultra_restricted")),
        is_stranger=bool(user.get("is_stranger")),
    )
