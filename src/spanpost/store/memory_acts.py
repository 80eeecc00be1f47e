"""Rows of acts, and of content that was read, in memory: the same as in PostgreSQL, the newest alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from spanpost.model.acts import NO_TASK, ActFilter, ActRow, ContentRead, Operation, ReadRow, summed
from spanpost.model.ids import named
from spanpost.model.interventions import ApprovalRow, Intervention, Verb, Verdict
from spanpost.model.queries import Page
from spanpost.store.memory_tables import MemoryTables
from spanpost.store.pages import page_of, uuid_of
from spanpost.store.system_user import system_user
from spanpost.tasks import interventions as judging
from spanpost.tasks.titles import title

#: Rows of each kind that are kept; the oldest are dropped.
KEPT: Final = 20_000


class MemoryActs:
    """The acts of a `MemoryStore`. See `Acts`."""

    def __init__(self, tables: MemoryTables, questions: dict[UUID, ApprovalRow]) -> None:
        self._tables = tables
        self._questions = questions
        self._rows: deque[tuple[ActRow, UUID | None]] = deque(maxlen=KEPT)
        self._reads: dict[tuple[Any, ...], ReadRow] = {}
        self._numbers = 0

    def keep(self, act: Intervention, verdict: Verdict, now: datetime, row: ApprovalRow | None) -> int:
        """Keep an act with its verdict, and the question as it stands; return its number."""
        return self._put(
            act.key,
            id=UUID(bytes=named(f"{act.tenant}\0act\0{act.idempotency_key}")),
            at=act.at,
            recorded_at=now,
            tenant=act.tenant,
            task_uid=verdict.task_uid,
            verb=str(act.verb),
            decision=judging.decision_of(act),
            comment=act.text,
            actor=judging.name_of(act.actor),
            actor_id=judging.id_of(act.actor),
            actor_email=act.actor.email,
            credential=act.actor.credential,
            client=act.actor.client,
            source=act.source or act.actor.provider,
            scope=str(act.scope) if act.verb is Verb.APPROVE else "",
            rule=verdict.rule,
            launcher=act.launcher,
            parameters=act.parameters,
            order_id=verdict.order_id,
            result=str(verdict.result),
            refusal=act.refusal,
            **_shown(row),
        )

    def keep_program_act(self, row: ApprovalRow, verb: str, now: datetime, comment: str = "") -> None:
        """Keep what a deadline, a chain or a withdrawal did to a question."""
        self._put(
            row.key,
            id=UUID(bytes=named(f"{row.tenant}\0{verb}\0{row.key}\0{row.requested_at.isoformat()}\0{comment}")),
            at=now,
            recorded_at=now,
            tenant=row.tenant,
            task_uid=row.task_uid,
            verb=verb,
            decision=row.decision,
            comment=comment or row.comment,
            actor=judging.SPANPOST,
            actor_id=judging.SPANPOST,
            source=row.source or judging.SPANPOST,
            result="done",
            **_shown(row),
        )

    async def note_operation(self, operation: Operation) -> None:
        """Keep an operation. See `Acts.note_operation`."""
        now, one, by = self._tables.clock(), operation, operation.by
        self._put(
            None, id=uuid4(), at=now, recorded_at=now, tenant=one.tenant, verb=one.verb, detail=one.detail,
            source=one.source, actor=judging.name_of(by), actor_id=judging.id_of(by), actor_email=by.email,
            credential=by.credential, client=by.client, result=one.result, refusal=one.refusal,
        )  # fmt: skip

    def _put(self, key: UUID | None, **fields: Any) -> int:
        self._numbers += 1
        self._rows.append((ActRow(number=self._numbers, os_user=system_user(), **fields), key))
        return self._numbers

    async def listed(self, asked: ActFilter, after: int | None, limit: int) -> Page[ActRow]:
        """Return a page of acts. See `Acts.listed`."""
        family = self._family(asked.task_uid) if asked.task_uid is not None else set()
        keys, orders, words = self._named_by(family)
        found = [
            self._named(row)
            for row, key in self._rows
            if (asked.tenant is None or row.tenant == asked.tenant)
            and (
                asked.task_uid is None
                or self._uid_now(row.task_uid) in family
                or key in keys
                or (row.order_id is not None and row.order_id in orders)
                or (row.result == "done" and (row.tenant, row.approval_id, row.mark) in words)
            )
            and _is_by(asked.person, row.actor_id, row.actor, row.actor_email)
            and (not asked.source or row.source == asked.source)
            and (not asked.verb or row.verb == asked.verb)
            and (asked.since is None or row.recorded_at >= asked.since)
            and (asked.until is None or row.recorded_at < asked.until)
            and (after is None or (row.number > after if asked.is_oldest_first else row.number < after))
        ]
        ordered = found if asked.is_oldest_first else found[::-1]
        return page_of(ordered, limit, lambda row: row.number)

    async def reads(self, asked: ActFilter, limit: int) -> list[ReadRow]:
        """Return who read content. See `Acts.reads`."""
        if asked.source or asked.verb:
            return []
        family = self._family(asked.task_uid) if asked.task_uid is not None else None
        found = [
            self._named(row)
            for row in self._reads.values()
            if (asked.tenant is None or row.tenant == asked.tenant)
            and (family is None or row.task_uid in family)
            and _is_by(asked.person, row.actor_id, row.actor)
            and (asked.since is None or row.last_at >= asked.since)
            and (asked.until is None or row.first_at < asked.until)
        ]
        return sorted(found, key=lambda row: (row.hour, row.last_at), reverse=True)[:limit]

    async def count_reads(self, reads: Sequence[ContentRead]) -> None:
        """Add reads to the rows of their hours. See `Acts.count_reads`."""
        for one, count, first in summed(reads):
            known = self._reads.pop(one.key, None)
            self._reads[one.key] = ReadRow(
                tenant=one.tenant, task_uid=None if one.task_uid == NO_TASK else one.task_uid, hour=one.hour,
                content=one.content, actor=one.actor, actor_id=one.actor_id, credential=one.credential,
                client=one.client, detail=one.detail, reads=count + (known.reads if known is not None else 0),
                first_at=min(first, known.first_at) if known is not None else first,
                last_at=max(one.at, known.last_at) if known is not None else one.at, os_user=system_user(),
            )  # fmt: skip
            if len(self._reads) > KEPT:
                del self._reads[next(iter(self._reads))]

    def _family(self, uid: UUID) -> set[UUID]:
        """Return a task, the topmost task above it, and all tasks below that one."""
        task = self._tables.task(uid)
        root = (task.root_uid or task.uid) if task is not None else uid
        return {uid, root, *(t.uid for t in self._tables.tasks.values() if t.root_uid == root)}

    def _named_by(self, family: set[UUID]) -> tuple[set[UUID | None], set[UUID | None], set[tuple[str, str, str]]]:
        """Return what an act on a family may name: keys of tasks and questions, orders, a question's words."""
        tasks = [task for uid in family if (task := self._tables.tasks.get(uid)) is not None]
        questions = [one for one in self._questions.values() if one.task_uid in family]
        keys: set[UUID | None] = {*family, *(one.key for one in questions)}
        orders = {uuid_of(task.order_id) for task in tasks if task.order_id}
        return keys, orders, {(one.tenant, one.approval_id, one.mark) for one in questions}

    def _uid_now(self, uid: UUID | None) -> UUID | None:
        task = self._tables.task(uid) if uid is not None else None
        return task.uid if task is not None else uid

    def _named(self, row: Any) -> Any:
        task = self._tables.task(row.task_uid) if row.task_uid is not None else None
        if task is None:
            return row
        return msgspec.structs.replace(row, task_uid=task.uid, task_id=task.task_id, task_name=title(task))


def _shown(row: ApprovalRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    names = "approval_id", "mark", "question", "detail", "options", "risk"
    return {name: getattr(row, name) for name in names}


def _is_by(person: str, id: str, *names: str) -> bool:
    return not person or person == id or person.lower() in (name.lower() for name in names)
