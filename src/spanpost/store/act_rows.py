"""Rows of acts, and of content that was read, in PostgreSQL: found by task, person, source and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.acts import NO_TASK, ActFilter, ActRow, ContentRead, Operation, ReadRow, summed
from spanpost.model.queries import Page
from spanpost.store import intervention_rows
from spanpost.store.pages import page_of, uuid_of
from spanpost.store.rows import tidy
from spanpost.store.system_user import system_user
from spanpost.store.transactions import Transact

#: Most tasks of a family that are looked through.
FAMILY: Final = 10_000
_COLUMNS: Final = (
    "number", "id", "at", "recorded_at", "tenant", "task_uid", "decision", "comment", "actor", "actor_id",
    "actor_email", "credential", "client", "os_user", "database_role", "scope", "rule", "launcher", "order_id",
    "result", "refusal", "approval_id", "mark", "question", "detail", "risk",
)  # fmt: skip
_SELECT: Final = f"""
SELECT {", ".join(f"i.{name}" for name in _COLUMNS)}, coalesce(nullif(i.verb, ''), i.action) AS verb, i.via AS source,
  i.parameters::text AS parameters, i.options::text AS options, coalesce(t.task_id, '') AS task_id,
  coalesce(t.title, '') AS task_name
FROM human_interventions i LEFT JOIN agent_tasks t ON t.uid = i.task_uid"""
_FAMILY: Final = """
WITH named AS (
  SELECT t.uid, coalesce(t.root_uid, t.uid) AS root FROM agent_tasks t WHERE t.uid = $1
  UNION ALL
  SELECT t.uid, coalesce(t.root_uid, t.uid) FROM task_redirects r JOIN agent_tasks t ON t.uid = r.merged_into
  WHERE r.uid = $1 LIMIT 1
)
SELECT t.uid, t.order_id FROM agent_tasks t
WHERE t.root_uid IN (SELECT root FROM named) OR t.uid IN (SELECT root FROM named) OR t.uid = $1
ORDER BY t.uid LIMIT $2"""
#: Acts on these tasks and on their questions; the orders that started them; decisions on the same words elsewhere,
#: which count here; and acts of other tenants, which name the key alone.
_OF_FAMILY: Final = """(
  i.task_uid = ANY({tasks}::uuid[]) OR i.order_id = ANY({orders}::uuid[]) OR i.key = ANY({tasks}::uuid[])
  OR i.key IN (SELECT a.key FROM approvals a WHERE a.task_uid = ANY({tasks}::uuid[]))
  OR (i.result = 'done' AND i.approval_id <> '' AND (i.tenant, i.approval_id, i.mark) IN (
    SELECT a.tenant, a.approval_id, a.mark FROM approvals a WHERE a.task_uid = ANY({tasks}::uuid[]))))"""
_READS: Final = """
SELECT r.tenant, r.task_uid, r.hour, r.content, r.actor, r.actor_id, r.credential, r.client, r.detail, r.reads,
  r.first_at, r.last_at, r.os_user, r.database_role, coalesce(t.task_id, '') AS task_id,
  coalesce(t.title, '') AS task_name
FROM content_reads r LEFT JOIN agent_tasks t ON t.uid = r.task_uid
WHERE ($1::text IS NULL OR r.tenant = $1) AND ($2::uuid[] IS NULL OR r.task_uid = ANY($2))
  AND ($3 = '' OR r.actor_id = $3 OR lower(r.actor) = lower($3))
  AND ($4::timestamptz IS NULL OR r.last_at >= $4) AND ($5::timestamptz IS NULL OR r.first_at < $5)
ORDER BY r.hour DESC, r.last_at DESC, r.tenant, r.task_uid, r.content, r.actor_id LIMIT $6"""
_COUNT: Final = """
INSERT INTO content_reads (id, tenant, task_uid, hour, content, actor_id, credential, client, actor, detail, reads,
  first_at, last_at, os_user)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (id) DO UPDATE SET
  reads = content_reads.reads + excluded.reads, detail = excluded.detail, actor = excluded.actor,
  first_at = least(content_reads.first_at, excluded.first_at), os_user = excluded.os_user,
  last_at = greatest(content_reads.last_at, excluded.last_at)"""


class PostgresActs:
    """The acts of a `PostgresStore`. See `Acts`."""

    def __init__(self, run: Transact, key: Callable[[], bytes]) -> None:
        self._run = run
        #: The key of hashes, once the store is open.
        self._key = key

    async def listed(self, asked: ActFilter, after: int | None, limit: int) -> Page[ActRow]:
        """Return a page of acts. See `Acts.listed`."""

        async def read(connection: Any) -> list[ActRow]:
            family = await _family(connection, asked.task_uid) if asked.task_uid is not None else None
            where, values = _conditions(asked, family, after)
            order = "" if asked.is_oldest_first else "DESC"
            query = f"{_SELECT} WHERE {where} ORDER BY i.number {order} LIMIT ${len(values) + 1}"
            return [_act_of(row) for row in await connection.fetch(query, *values, limit + 1)]

        return page_of(await self._run(read), limit, lambda row: row.number)

    async def reads(self, asked: ActFilter, limit: int) -> list[ReadRow]:
        """Return who read content. See `Acts.reads`."""
        if asked.source or asked.verb:
            return []

        async def read(connection: Any) -> list[ReadRow]:
            tasks = (await _family(connection, asked.task_uid))[0] if asked.task_uid is not None else None
            given = asked.tenant, tasks, asked.person, asked.since, asked.until, limit
            return [_read_of(row) for row in await connection.fetch(_READS, *given)]

        return await self._run(read)

    async def count_reads(self, reads: Sequence[ContentRead]) -> None:
        """Add reads to the rows of their hours. See `Acts.count_reads`."""
        key = self._key()
        rows = [_counted(key, tidy(one), count, first) for one, count, first in summed(reads)]
        # In one order in every process: none waits for another that waits for it.
        await self._run(lambda c: c.executemany(_COUNT, sorted(rows, key=lambda row: row[0])))

    async def note_operation(self, operation: Operation) -> None:
        """Record an operation. See `Acts.note_operation`."""
        await self._run(lambda c: intervention_rows.note_operation(c, operation))


def _counted(key: bytes, one: ContentRead, count: int, first: Any) -> tuple[Any, ...]:
    text = "\0".join(map(str, one.key)).encode()
    return (
        UUID(bytes=blake2b(text, key=key[:64], digest_size=16).digest()),
        *one.key,
        one.actor,
        one.detail,
        count,
        first,
        one.at,
        system_user(),
    )


async def _family(connection: Any, uid: UUID) -> tuple[list[UUID], list[UUID]]:
    """Return the tasks of a family, and the orders that started them."""
    rows = await connection.fetch(_FAMILY, uid, FAMILY)
    orders = [found for row in rows if row["order_id"] and (found := uuid_of(row["order_id"])) is not None]
    return [row["uid"] for row in rows] or [uid], orders


def _conditions(
    asked: ActFilter, family: tuple[list[UUID], list[UUID]] | None, after: int | None
) -> tuple[str, list[Any]]:
    where, values = ["true"], []

    def take(condition: str, *given: Any) -> None:
        names = []
        for value in given:
            values.append(value)
            names.append(f"${len(values)}")
        where.append(condition.format(*names))

    if asked.tenant is not None:
        take("i.tenant = {0}", asked.tenant)
    if family is not None:
        tasks, orders = family
        take(_OF_FAMILY.replace("{tasks}", "{0}").replace("{orders}", "{1}"), tasks, orders)
    if asked.person:
        take("(i.actor_id = {0} OR lower(i.actor) = lower({0}) OR lower(i.actor_email) = lower({0}))", asked.person)
    if asked.source:
        take("i.via = {0}", asked.source)
    if asked.verb:
        take("i.verb = {0}", asked.verb)
    if asked.since is not None:
        take("i.recorded_at >= {0}", asked.since)
    if asked.until is not None:
        take("i.recorded_at < {0}", asked.until)
    if after is not None:
        take("i.number > {0}" if asked.is_oldest_first else "i.number < {0}", after)
    return " AND ".join(where), values


def _act_of(row: Any) -> ActRow:
    values = dict(row)
    values["task_uid"] = None if values["task_uid"] == NO_TASK else values["task_uid"]
    values["parameters"] = msgspec.json.decode(values["parameters"], type=dict[str, str])
    values["options"] = msgspec.json.decode(values["options"], type=tuple[str, ...])
    return ActRow(**values)


def _read_of(row: Any) -> ReadRow:
    values = dict(row)
    return ReadRow(**values | {"task_uid": None if values["task_uid"] == NO_TASK else values["task_uid"]})
