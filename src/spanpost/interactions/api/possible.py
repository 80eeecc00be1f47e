"""Possible acts of a caller, by the same rules as the acts themselves. Nothing is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from spanpost.interactions.acts import Interactions
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.parts import ApiParts
from spanpost.interactions.api.people import OnePerson
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.subjects import subject_of
from spanpost.model.interventions import Verb
from spanpost.model.queries import TaskQuestion
from spanpost.model.tasks import Task
from spanpost.tasks.approvals import approval_of
from spanpost.tasks.interventions import answers, possible

#: Entries of a list that are judged at once.
_AT_ONCE = 8


def interactions_of(parts: ApiParts, caller: Caller) -> Interactions:
    """Return the interactions that take a caller's acts."""
    return Interactions(
        parts.reader,
        parts.interventions,
        OnePerson(caller, parts.resolvers),
        parts.rules,
        take=parts.take,
        source=caller.provider,
        tenant=caller.tenant,
        is_bound=True,
        launches=parts.launches,
        watch=parts.watch,
        alerts=parts.alerts,
        credential=caller.credential,
        client=caller.client,
    )


def place_of(caller: Caller) -> PersonMessage:
    """Return the place of an act over HTTP: no message."""
    return PersonMessage(team=caller.tenant, channel="", ts="", is_ours=True)


async def acts_on(parts: ApiParts, caller: Caller, task: Task) -> list[str]:
    """Return the acts on a task that its state and the rules allow the caller."""
    verbs = [verb for verb in possible(task) if verb is not Verb.RETRY or parts.launches.retrier(task)]
    return await _granted(parts, caller, await _asked(parts, caller, task), verbs)


async def answers_to(parts: ApiParts, caller: Caller, questions: Iterable[TaskQuestion]) -> list[list[str]]:
    """Return the caller's acts on each question; none for a question that is not open."""
    few, now = asyncio.Semaphore(_AT_ONCE), datetime.now(UTC)

    async def one(question: TaskQuestion) -> list[str]:
        row, task = question.row, question.task
        verbs = answers(row, task, now)
        if task is None or not verbs:
            return []
        async with few:
            asked = await _asked(parts, caller, task)
            about = Asked(key=row.key, task=task, approval=approval_of(row), is_shown_there=True, above=asked.above)
            return await _granted(parts, caller, about, verbs)

    return await asyncio.gather(*map(one, questions))


async def launchers_of(parts: ApiParts, caller: Caller) -> list[str]:
    """Return the launchers that the caller may start."""
    interactions, place = interactions_of(parts, caller), place_of(caller)
    known = sorted(parts.launches.launchers)
    rulings = await asyncio.gather(*(interactions.may_start(launcher, caller.id, place) for launcher in known))
    return [launcher for launcher, ruling in zip(known, rulings, strict=True) if ruling.is_granted]


async def _asked(parts: ApiParts, caller: Caller, task: Task) -> Asked:
    """Return a task as rules see it, with the tasks above it."""
    found = None
    if task.parent_uid is not None:
        found = await subject_of(parts.reader, parts.interventions, task.uid, place_of(caller))
    return found or Asked(key=task.uid, task=task, is_shown_there=True)


async def _granted(parts: ApiParts, caller: Caller, asked: Asked, verbs: Sequence[Verb]) -> list[str]:
    interactions, place = interactions_of(parts, caller), place_of(caller)
    rulings = await asyncio.gather(*(interactions.rule(verb, asked, caller.id, place) for verb in verbs))
    return [str(verb) for verb, ruling in zip(verbs, rulings, strict=True) if ruling.is_granted]
