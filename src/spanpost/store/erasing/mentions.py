"""Replace a person in rows that stay: acts of the person on other tasks, and mentions that were asked for.

State comes first, under the locks of its domains: what a recorder writes afterwards is computed from state that no
longer names the person. Each table is read once without locks; the rows that name the person are then locked, read
again and written, some hundred in a transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from spanpost.store.compression import compressed, decompressed
from spanpost.store.erasing import messages
from spanpost.store.erasing.author import SEALED_ANEW, Author
from spanpost.store.erasing.columns import SCANNED, TABLES, ErasedTable, Holds
from spanpost.store.erasing.selection import Trees, escaped, lowered
from spanpost.store.erasing.spellings import Spellings
from spanpost.store.locks import lock
from spanpost.store.rows import json_text
from spanpost.tasks.record_keys import domain_of

#: Rows of one transaction, and rows of state that are read at once.
AT_ONCE: Final = 500
_STATE_AT_ONCE: Final = 2_000
#: Tasks near the person, in which the person acted: by ids ($1), names that nobody else has ($2), the marker ($3)
#: that has replaced them already, and patterns of votes ($4).
_NEAR: Final = """
SELECT task_uid FROM human_interventions WHERE lower(actor_id) = ANY($1::text[]) OR lower(actor_email) = ANY($1::text[])
  OR lower(actor) = ANY($2::text[]) OR actor = $3
UNION SELECT task_uid FROM approvals WHERE lower(by_id) = ANY($1::text[]) OR lower(by) = ANY($2::text[]) OR by = $3
  OR votes::text ILIKE ANY($4::text[])
UNION SELECT task_uid FROM evaluations WHERE lower(by_id) = ANY($1::text[]) OR lower(by) = ANY($2::text[]) OR by = $3
UNION SELECT task_uid FROM standing_approvals WHERE lower(granted_by_id) = ANY($1::text[])
  OR lower(revoked_by_id) = ANY($1::text[]) OR lower(granted_by) = ANY($2::text[]) OR granted_by = $3
UNION SELECT t.uid FROM agent_tasks t JOIN alerts a ON a.tenant = t.tenant AND a.trace_id = t.trace_id
  WHERE lower(a.acknowledged_by) = ANY($2::text[]) OR a.acknowledged_by = $3 OR a.silence::text ILIKE ANY($4::text[])"""
_NEAR_TRACES: Final = "SELECT DISTINCT tenant, trace_id FROM audit_rows WHERE task_uid = ANY($1::uuid[])"
_STATE: Final = """
SELECT key, doc FROM task_state WHERE key > $1 AND ($3::timestamptz IS NULL OR touched_at >= $3)
ORDER BY key LIMIT $2"""
_LOCKED: Final = "SELECT key, doc FROM task_state WHERE key = ANY($1::bytea[])"
_SAVE: Final = "UPDATE task_state SET doc = $2 WHERE key = $1"
#: A standing approval of an erased person approves nothing any more.
_REVOKE: Final = """
UPDATE standing_approvals SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL AND granted_by = $1"""
_OF_SETS: Final = f"""
UPDATE audit_rows SET {SEALED_ANEW} WHERE set_id = ANY($1::bigint[])
RETURNING tenant, occurred_at, event_id, content_hash"""
_TYPES: Final = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"""


def _patterns(hints: Sequence[str], before: str, after: str) -> list[str]:
    return [f"{before}{escaped(hint)}{after}" for hint in hints]


async def find_near(connection: Any, spellings: Spellings) -> set[UUID]:
    """Return the tasks in which the person acted."""
    found = spellings.found
    rows = await connection.fetch(
        _NEAR, lowered(found.ids), lowered(found.names), spellings.marker, _patterns(spellings.quoted, '%"', '"%')
    )
    return {row[0] for row in rows} - {UUID(int=0)}


class _Table:
    """One table while it is searched: its columns, and the queries that read it."""

    def __init__(self, name: str, given: ErasedTable, types: dict[str, str]) -> None:
        self.name, self.given, self.types = name, given, types
        self.scanned = [column for column, holds in given.columns.items() if holds in SCANNED]
        self.bytes = [column for column, holds in given.columns.items() if holds in (Holds.PACKED, Holds.RAW)]
        self.people = [column for column, holds in given.columns.items() if holds is Holds.PERSON]
        keys = [f"{column} AS key_{i}" for i, column in enumerate(given.key)]
        parts = [*keys, *(f"{column}::text AS {column}" for column in self.scanned), *self.bytes]
        parts.append(f"{given.task or 'NULL::uuid'} AS its_task")
        parts.append("trace_id AS its_trace" if name == "audit_rows" else "NULL::bytea AS its_trace")
        self.tenant = "tenant" if "tenant" in given.columns else "''"
        self.select = f"SELECT {', '.join(parts)}, {self.tenant} AS its_tenant FROM {name}"
        text = "concat_ws(E'\\n', " + ", ".join(f"{column}::text" for column in self.scanned) + ")"
        where = [f"{text} ILIKE ANY($2::text[])"] if self.scanned else ["$2::text[] IS NULL"]
        where += [f"{column} ILIKE ANY($3::text[])" for column in self.people] or ["$3::text[] IS NULL"]
        where += [f"{given.task} = ANY($4::uuid[])"] if given.task else ["$4::uuid[] IS NULL"]
        # Bytes are searched here, not in the database.
        where += ["true"] if self.bytes else []
        only = f"($1::text IS NULL OR {self.tenant} IN ($1, ''))"
        is_new = "received_at >= $5" if name == "audit_rows" else "true"
        only = f"{only} AND ($5::timestamptz IS NULL OR {is_new})"
        self.find = f"{self.select} WHERE {only} AND ({' OR '.join(where)})"
        key_types = [types[column] for column in given.key]
        self.given_keys = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(key_types, 1))
        self.lock = (
            f"{self.select} WHERE ({', '.join(given.key)}) IN (SELECT * FROM unnest({self.given_keys})) FOR UPDATE"
        )
        self.where_key = " AND ".join(f"{column} = ${i}" for i, column in enumerate(given.key, 1))

    def key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(row[f"key_{i}"] for i in range(len(self.given.key)))


class Mentions:
    """Replaces a person in the rows of one erasure."""

    def __init__(
        self,
        connection: Any,
        spellings: Spellings,
        tenant: str | None,
        trees: Trees,
        author: Author,
        erasure: UUID,
        near: Collection[UUID] = (),
        recorded_since: datetime | None = None,
    ) -> None:
        self._connection = connection
        self._spellings = spellings
        self._tenant = tenant
        self._trees = trees
        self._author = author
        self._erasure = erasure
        #: Tasks in which the person acted, of archived acts too.
        self._near = set(near)
        #: Audit rows and state that were recorded before are clean.
        self._recorded_since = recorded_since
        self.done: Counter[str] = Counter()

    async def run(self, *, is_done: bool, step: Callable[[str], None] = lambda place: None) -> Counter[str]:
        """Replace the person, or count the rows that name them; call `step` before each place."""
        self._near |= await find_near(self._connection, self._spellings)
        step("task_state")
        await self._state(is_done=is_done)
        for name, given in TABLES.items():
            if name != "task_state" and any(holds in _SEARCHED for holds in given.columns.values()):
                step(name)
                types = dict(await self._connection.fetch(_TYPES, name))
                await self._table(_Table(name, given, types), is_done=is_done)
        if is_done:
            await self._connection.execute(_REVOKE, self._spellings.marker)
        return +self.done

    # --- state -------------------------------------------------------------------------------------------------------

    async def _state(self, *, is_done: bool) -> None:
        near = {uid.bytes for uid in self._near}
        near |= {domain_of(row[0], row[1]) for row in await self._connection.fetch(_NEAR_TRACES, list(self._near))}
        erased = {uid.bytes for uid in self._trees.uids} | {domain_of(*trace) for trace in self._trees.traces}
        after = b""
        while True:
            rows = await self._connection.fetch(_STATE, after, _STATE_AT_ONCE, self._recorded_since)
            named = [row["key"] for row in rows if row["key"][:16] not in erased and self._state_of(row, near)]
            if is_done and named:
                async with self._connection.transaction():
                    await lock(self._connection, {key[:16] for key in named})
                    for row in await self._connection.fetch(_LOCKED, named):
                        if (stored := self._state_of(row, near)) is not None:
                            await self._connection.execute(_SAVE, row["key"], stored)
            self.done["task_state"] += len(named)
            if len(rows) < _STATE_AT_ONCE:
                return
            after = rows[-1]["key"]

    def _state_of(self, row: Any, near: set[bytes]) -> bytes | None:
        key = row["key"]
        return self._packed(row["doc"], is_near=key[:16] in near, is_compressed=len(key) == 16)

    def _packed(self, stored: bytes, *, is_near: bool, is_compressed: bool = True) -> bytes | None:
        """Return a document without the person; None when it does not name them."""
        document = decompressed(stored)
        if not document or not self._spellings.may_hold(document, is_near=is_near):
            return None
        value = msgspec.msgpack.decode(document)
        changed = self._spellings.value(value, is_near=is_near)
        if changed is value:
            return None
        # A document that names the person by an id is near, whatever task it belongs to.
        encoded = msgspec.msgpack.encode(self._spellings.value(value, is_near=True))
        return compressed(encoded) if is_compressed else encoded

    # --- rows --------------------------------------------------------------------------------------------------------

    async def _table(self, table: _Table, *, is_done: bool) -> None:
        spelled = self._spellings
        # What is looked for anywhere is found as a whole value as well.
        quoted = [hint for hint in spelled.quoted if hint not in spelled.hints]
        patterns = _patterns(spelled.hints, "%", "%") + _patterns(quoted, '%"', '"%')
        whole = _patterns(spelled.quoted, "", "")
        named = []
        async with self._connection.transaction():
            arguments = (self._tenant, patterns, whole, list(self._near), self._recorded_since)
            async for row in self._connection.cursor(table.find, *arguments, prefetch=AT_ONCE):
                is_erased = row["its_task"] in self._trees.uids
                is_erased = is_erased or (row["its_tenant"], row["its_trace"]) in self._trees.traces
                if not is_erased and self._changes(table, row) is not None:
                    named.append(table.key_of(row))
        self.done[table.name] += len(named)
        if is_done:
            for start in range(0, len(named), AT_ONCE):
                await self._write(table, named[start : start + AT_ONCE])

    async def _write(self, table: _Table, keys: Sequence[tuple[Any, ...]]) -> None:
        async with self._connection.transaction():
            changed = []
            for row in await self._connection.fetch(table.lock, *map(list, zip(*keys, strict=True))):
                changes = self._changes(table, row)
                if changes is None:
                    continue
                changed.append(row)
                await self._change(table, table.key_of(row), changes)
            await self._follow(table.name, changed)

    async def _change(self, table: _Table, key: tuple[Any, ...], changes: dict[str, Any]) -> None:
        if not changes:
            await self._connection.execute(f"DELETE FROM {table.name} WHERE {table.where_key}", *key)
            return
        assigned = []
        for i, column in enumerate(changes, len(key) + 1):
            kind = table.types[column]
            assigned.append(f"{column} = ${i}" + ("::text::jsonb" if kind == "jsonb" else ""))
        if "written_in" in table.types:
            assigned.append(SEALED_ANEW)
        statement = f"UPDATE {table.name} SET {', '.join(assigned)} WHERE {table.where_key}"
        try:
            async with self._connection.transaction():
                await self._connection.execute(statement, *key, *changes.values())
        except asyncpg.UniqueViolationError:
            # Two spellings of the person were two keys, and are one marker now.
            await self._connection.execute(f"DELETE FROM {table.name} WHERE {table.where_key}", *key)

    def _changes(self, table: _Table, row: Any) -> dict[str, Any] | None:
        """Return the new values of a row's columns; None when it does not name the person, empty when it goes."""
        spelled = self._spellings
        texts = {column: row[column] for column in table.scanned if row[column]}
        is_theirs = any(spelled.is_whole(texts.get(column, "")) for column in table.people)
        is_near = is_theirs or row["its_task"] in self._near or any(map(spelled.is_strong, texts.values()))
        changes: dict[str, Any] = {}
        for column, text in texts.items():
            holds = table.given.columns[column]
            if holds is Holds.COMMENT and is_theirs:
                changes[column] = ""
            elif table.types[column] == "jsonb":
                value = msgspec.json.decode(text)
                if (new := spelled.value(value, is_near=is_near)) is not value:
                    changes[column] = json_text(new)
            elif (said := spelled.text(text, is_near=is_near, is_person=holds is Holds.PERSON)) != text:
                changes[column] = said
        for column in table.bytes:
            stored = row[column]
            if not stored:
                continue
            if table.given.columns[column] is Holds.RAW:
                if spelled.may_hold(decompressed(stored), is_near=is_near):
                    return {}
            elif (packed := self._packed(stored, is_near=is_near)) is not None:
                changes[column] = packed
        return changes or None

    async def _follow(self, name: str, rows: Sequence[Any]) -> None:
        """Report changed rows (`Author`), and have messages that showed them edited."""
        keys: Iterator[tuple[str, Any]] = ((row["its_tenant"], row) for row in rows)
        if name == "attribute_sets":
            found = await self._connection.fetch(_OF_SETS, [row["key_0"] for row in rows])
            keys = ((row["tenant"], row) for row in found)
        by_tenant: dict[str, list[Any]] = {}
        for tenant, row in keys:
            by_tenant.setdefault(tenant, []).append(row)
        for tenant, changed in by_tenant.items():
            if name == "audit_rows":
                await self._author.erased_rows(
                    self._connection, tenant, [(r["key_0"], r["key_1"], r["key_2"]) for r in changed]
                )
            elif name == "attribute_sets":
                await self._author.erased_rows(self._connection, tenant, [(r[1], r[2], r[3]) for r in changed])
            elif name == "human_interventions":
                await self._author.erased_acts(self._connection, tenant, [r["key_0"] for r in changed])
        if name in ("agent_checkpoints", "agent_tasks", "evaluations", "alerts"):
            uids = [row["its_task"] for row in rows if row["its_task"] is not None]
            self.done += await messages.show_anew(self._connection, uids, self._erasure)


#: What a table must hold to be searched.
_SEARCHED: Final = SCANNED | {Holds.PACKED, Holds.RAW}
