"""The subject of an act: the task or question of a key, of a message, or of an id that an agent gave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from uuid import UUID

from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.model.interventions import ApprovalRow
from spanpost.model.queries import ApprovalQuery
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.store.protocols import Interventions, Reader
from spanpost.tasks.approvals import approval_of
from spanpost.tasks.questions import answerable

#: Maximum number of ancestors of a task.
_ABOVE: Final = 16
#: Questions read for one id.
_MOST: Final = 50


async def subject_of(reader: Reader, interventions: Interventions, key: UUID, message: PersonMessage) -> Asked | None:
    """Return the subject of a key, and whether that message shows it; None for an unknown key."""
    row, shown = await asyncio.gather(interventions.approval(key), _shown(reader, message))
    task = await reader.find(row.task_uid if row is not None else key)
    if task is None:
        return None
    approval = approval_of(row) if row is not None else None
    # A delivery may have no receipt yet: it was just shown, or the process that posted it was killed.
    # But a button in a message of this app was put there by spanpost.
    is_there = message.is_ours
    if shown is not None:
        is_there = shown.tenant == task.tenant and shown.uid in (task.root_uid, task.uid)
    return Asked(key=key, task=task, approval=approval, is_shown_there=is_there, above=await _above(reader, task))


async def standing_of(reader: Reader, interventions: Interventions, id: UUID, message: PersonMessage) -> Asked | None:
    """Return a standing approval as the subject of an act, with the task in which it was granted.

    A task that is gone is described by what the standing approval keeps of it. None for an unknown id.
    """
    standing = await interventions.standing_approval(id)
    if standing is None:
        return None
    task = await reader.find(standing.task_uid) or Task(
        uid=standing.task_uid,
        tenant=standing.tenant,
        task_id="",
        agent_name=standing.agent,
        repo=standing.repo,
        service=standing.service,
        environment=standing.environment,
    )
    approval = Approval(id="", risk=standing.risk, tool=standing.tool)
    above = await _above(reader, task)
    shown = await _shown(reader, message)
    is_there = message.is_ours or (shown is not None and shown.uid in (task.root_uid, task.uid))
    return Asked(key=id, task=task, approval=approval, standing=standing, is_shown_there=is_there, above=above)


async def task_of_message(reader: Reader, message: PersonMessage) -> Asked | None:
    """Return the task of a message; None for a message of another sender."""
    shown = await _shown(reader, message)
    if shown is None:
        return None
    return Asked(key=shown.uid, task=shown, is_shown_there=True, above=await _above(reader, shown))


async def places(reader: Reader, uids: Iterable[UUID]) -> dict[UUID, PersonMessage]:
    """Return the Slack messages of these tasks, where they are known."""
    refs = await reader.shown_at("slack", uids)
    found = {uid: (str(ref.get("channel") or ""), str(ref.get("ts") or "")) for uid, ref in refs.items()}
    return {uid: PersonMessage(channel=channel, ts=ts) for uid, (channel, ts) in found.items() if channel and ts}


async def questions_named(interventions: Interventions, tenant: str, ref: str) -> list[ApprovalRow]:
    """Return a tenant's question by its key; or by the agent's id all that an answer may mean.

    Each wording is a question of its own.
    """
    with suppress(ValueError):
        row = await interventions.approval(UUID(ref))
        if row is not None and row.tenant == tenant:
            return [row]
    return answerable(await interventions.approvals(ApprovalQuery(tenant=tenant, approval_id=ref, limit=_MOST)))


async def _shown(reader: Reader, message: PersonMessage) -> Task | None:
    if not message.ts:  # acts over HTTP have no message
        return None
    return await reader.shown_in("slack", {"channel": message.channel, "ts": message.ts})


async def _above(reader: Reader, task: Task) -> tuple[Task, ...]:
    """Return the ancestors of a task, the nearest first."""
    found: list[Task] = []
    while task.parent_uid is not None and len(found) < _ABOVE:
        parent = await reader.find(task.parent_uid)
        if parent is None or parent.uid == task.uid or parent in found:
            break
        found.append(parent)
        task = parent
    return tuple(found)
