"""Attributes of an HTTP caller that authorization rules may match."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

from spanpost.interactions.api.callers import Caller
from spanpost.interactions.authorization import Ask, Failed, Found, Lookup, Person, PersonOf, Ruling
from spanpost.interactions.protocols import Answer, Asked, PersonMessage, Question, Resolver
from spanpost.model.acts import ContentKind, Operation
from spanpost.model.interventions import Actor
from spanpost.store.protocols import Acts
from spanpost.store.system_user import system_user

if TYPE_CHECKING:
    from spanpost.interactions.api.parts import ApiParts

log = logging.getLogger("spanpost.interactions")

#: Seconds for a resolver's answer, as for Slack.
_RESOLVER: Final = 1.5


class OnePerson:
    """Answers lookups about the caller only."""

    def __init__(self, caller: Caller, resolvers: Mapping[str, Resolver]) -> None:
        self._caller = caller
        self._resolvers = resolvers

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        """Return the result of a lookup."""
        match lookup:
            case PersonOf():
                return person_of(self._caller)
            case Ask():
                return await self._ask(lookup, question)
        return Failed("groups and channels are Slack's")

    async def _ask(self, lookup: Ask, question: tuple[str, Asked]) -> Found:
        resolver = self._resolvers.get(lookup.resolver)
        if resolver is None:
            return Failed("it is not here")
        action, asked = question
        caller = self._caller
        actor = Actor(
            provider=caller.provider, id=caller.id, team=caller.tenant, name=caller.name, email=lookup.person.email
        )
        try:
            async with asyncio.timeout(_RESOLVER):
                answer = await resolver(Question(action=action, actor=actor, task=asked.task, approval=asked.approval))
        except TimeoutError:
            return Failed("it took too long")
        except Exception:
            log.exception("resolver %s failed", lookup.resolver)
            return Failed("it failed")
        return answer if isinstance(answer, Answer) else Failed("it gave no answer")

    async def forget(self, ruling: Ruling, user: str) -> bool:
        """Forget nothing: there is no cache."""
        return False


def actor_of_caller(caller: Caller) -> Actor:
    """Return the caller as the actor of an act."""
    return Actor(
        provider=caller.provider, id=caller.id, team=caller.tenant, name=caller.name, email=caller.email[:320],
        credential=caller.credential, client=caller.client,
    )  # fmt: skip


async def note_reads(parts: ApiParts, caller: Caller, kind: ContentKind, tasks: Iterable[UUID]) -> None:
    """Log that a caller is about to read content of these tasks. Raises `StoreUnavailable`: show nothing."""
    await parts.read_log.note(actor_of_caller(caller), kind, caller.tenant, tasks)


async def note_session(acts: Acts, what: str, person: Caller | None) -> None:
    """Record that a person's session began or was ended. Raises `StoreUnavailable`."""
    if person is not None:
        by = actor_of_caller(person)
        await acts.note_operation(Operation(what, system_user(), "", person.tenant, person.provider, actor=by))


def person_of(caller: Caller) -> Person:
    """Return the caller as a person for the rules."""
    return Person(
        id=caller.id,
        provider=caller.provider,
        roles=caller.roles,
        team=caller.tenant,
        name=caller.name,
        email=caller.email,
    )
