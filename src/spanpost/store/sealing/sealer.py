"""The sealer: gives rows that can no longer change their leaves, and signs checkpoints.

Recording does nothing for it. A row carries the number of the transaction that wrote it (`written_in`). All
transactions below the oldest running one have ended, so their rows are all visible and no more can come: those are
sealed, in bounded transactions. A long transaction on the server delays this, and the lag shows it.

A row that has a leaf never gets a second one, whatever its number says. After a dump was restored, transactions are
counted anew: the sealer notices the other server and looks through all rows once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.store.sealing import checkpoints, leaves, logs, tree
from spanpost.store.sealing.forgetting import LOCK, SOURCES, Source

#: Rows of one transaction.
CHUNK: Final = 5_000
#: Most transactions whose rows are looked for at once.
_FARTHEST: Final = 1 << 40
_LOCK: Final = f"SELECT pg_advisory_xact_lock({LOCK}, hashtext(current_schema()))"
_CLUSTER: Final = "SELECT system_identifier::text FROM pg_control_system()"
_STATE: Final = "SELECT cluster, sealed_before, rescan FROM seal_state"
_HORIZON: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, clock_timestamp() AS now"""
_BEGIN: Final = """
INSERT INTO seal_state (cluster, sealed_before, rescan, sealed_at, caught_up_at)
VALUES ($1, 0, NULL, clock_timestamp(), '-infinity') ON CONFLICT DO NOTHING"""
_MOVED: Final = """
UPDATE seal_state SET cluster = $1, sealed_before = $2, rescan = $3::text::jsonb, sealed_at = clock_timestamp(),
  caught_up_at = greatest(caught_up_at, $4)"""


def _unsealed(source: Source) -> str:
    at, id, hash = leaves.KEYS[source]
    hash = hash if hash.startswith("0") else f"e.{hash}"
    written = leaves.TIME.format(f"e.{leaves.WRITTEN_AT[source]}")
    table = leaves.FROM[source]
    keys = f"k.{at} = e.{at} AND k.{id} = e.{id}" + (f" AND k.content_hash = {hash}" if table == "agent_events" else "")
    return f"""
SELECT e.tenant, e.{at} AS row_at, e.{id} AS row_id, {hash} AS row_hash, k.salt, {written} AS written_at,
  {leaves.digest(source, "k.salt")} AS digest
FROM (
  SELECT r.*, gen_random_uuid() AS salt FROM {source} r WHERE {{where}} AND NOT EXISTS (
    SELECT FROM sealed_rows s WHERE s.row_id = r.{id} AND s.row_hash = {hash.replace("e.", "r.")}
      AND s.source = {SOURCES[source]})
  LIMIT {CHUNK}
) k JOIN {table} e ON {keys} ORDER BY k.written_in, 6, 3"""


_BETWEEN: Final = "r.written_in >= $1 AND r.written_in < $2"
_ALL: Final = "r.written_in IS NOT NULL AND $1::bigint IS NOT NULL AND $2::bigint IS NOT NULL"
_NOTES: Final = f"""
SELECT id, tenant, at, {leaves.NOTE} AS note FROM seal_notes n WHERE {{where}} AND NOT EXISTS (
  SELECT FROM sealed_rows s WHERE s.row_id = n.id AND s.row_hash = 0 AND s.source = {SOURCES["seal_notes"]})
ORDER BY written_in, at, id LIMIT {CHUNK}"""
_LOGS: Final = "SELECT tenant, origin, size FROM seal_logs WHERE tenant = ANY($1::text[]) FOR UPDATE"
_NEW_LOG: Final = "INSERT INTO seal_logs (tenant, origin, size) VALUES ($1, $2, 0)"
_SEALED: Final = """
INSERT INTO sealed_rows (leaf, row_at, row_hash, row_id, salt, source, tenant)
SELECT * FROM unnest($1::int8[], $2::timestamptz[], $3::int8[], $4::uuid[], $5::uuid[], $6::int2[], $7::text[])"""
_GREW: Final = "UPDATE seal_logs SET size = $2 WHERE tenant = $1"
_UNSIGNED: Final = """
SELECT l.tenant, l.origin, l.size, c.size, c.root, c.signed_at <= clock_timestamp() - $1::interval
FROM seal_logs l LEFT JOIN LATERAL (
  SELECT size, root, signed_at FROM seal_checkpoints c WHERE c.tenant = l.tenant ORDER BY size DESC LIMIT 1
) c ON true WHERE l.size > coalesce(c.size, 0)"""
_SIGN: Final = "INSERT INTO seal_checkpoints (tenant, size, root, note) VALUES ($1, $2, $3, $4)"
_NEW_KEY: Final = "INSERT INTO seal_keys (public_key) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
_OLD_KEYS: Final = "UPDATE seal_keys SET until = clock_timestamp() WHERE public_key <> $1 AND until IS NULL"
_NOTE_KEY: Final = """
INSERT INTO seal_notes (tenant, kind, actor, reason, rows, leaves)
SELECT tenant, 'key', 'spanpost', 'new key ' || $1, 0, '{}' FROM seal_logs"""


class Sealed(msgspec.Struct, frozen=True):
    """What one step has sealed."""

    rows: int
    #: More rows can be sealed at once.
    has_more: bool


class _Leaf(msgspec.Struct, frozen=True):
    """A new leaf, with its row."""

    tenant: str
    source: int
    row_at: datetime
    row_id: UUID
    row_hash: int
    salt: UUID
    body: bytes


class Sealer:
    """Seals the rows of one database. `origin`: the beginning of the names of its logs."""

    def __init__(
        self, connection: Any, origin: str, key: Ed25519PrivateKey, watch: Callable[[str], None] = lambda step: None
    ) -> None:
        self._connection = connection
        self._origin = origin
        self._key = key
        self._watch = watch
        self._step = 1024

    async def step(self) -> Sealed:
        """Seal some rows, in one transaction."""
        async with self._connection.transaction():
            await self._connection.execute(_LOCK)
            cluster, before, rescan = await self._state()
            found = await self._connection.fetchrow(_HORIZON)
            horizon, now = found["horizon"], found["now"]
            if rescan is not None:
                new = await self._read(_ALL, 0, 0)
                done = not new
                await self._append(new)
                await self._move(cluster, rescan["horizon"] if done else before, None if done else rescan, None)
                self._watch("sealed")
                return Sealed(len(new), True)
            until = min(horizon, before + self._step)
            new = await self._read(_BETWEEN, before, until)
            await self._append(new)
            is_full = len(new) >= CHUNK
            if is_full:
                self._step = max(1, self._step // 2)
            elif len(new) < CHUNK // 4:
                self._step = min(_FARTHEST, self._step * 4)
            await self._move(
                cluster, before if is_full else until, None, now if until == horizon and not is_full else None
            )
            self._watch("sealed")
        return Sealed(len(new), is_full or until < horizon)

    async def sign(self, every: timedelta = timedelta()) -> int:
        """Sign the logs that have grown, unless their last checkpoint is younger than `every`; return how many.

        Raises ValueError for a log that no longer begins with what was signed.
        """
        public = self._key.public_key().public_bytes_raw()
        signed = 0
        async with self._connection.transaction():
            await self._connection.execute(_LOCK)
            for tenant, origin, size, before, root, is_due in await self._connection.fetch(_UNSIGNED, every):
                if before is not None and not is_due:
                    continue
                read = await logs.reader(self._connection, tenant, [size, before or 0])
                if before is not None and tree.subtree_root(0, before, read) != root:
                    raise ValueError(
                        f"the log of tenant {tenant!r} no longer begins with what checkpoint {before} signed; nothing "
                        "more is signed. Run `spanpost audit verify`"
                    )
                found = checkpoints.SignedRoot(origin, size, tree.subtree_root(0, size, read))
                await self._connection.execute(_SIGN, tenant, size, found.root, checkpoints.signed(found, self._key))
                signed += 1
            if signed and await self._connection.fetchval(_NEW_KEY, public):
                await self._connection.execute(_OLD_KEYS, public)
                await self._connection.execute(_NOTE_KEY, public.hex())
            self._watch("signed")
        return signed

    async def _state(self) -> tuple[str, int, dict[str, int] | None]:
        cluster = await self._connection.fetchval(_CLUSTER)
        state = await self._connection.fetchrow(_STATE)
        if state is None:
            await self._connection.execute(_BEGIN, cluster)
            return cluster, 0, None
        if state["cluster"] != cluster:
            found = await self._connection.fetchrow(_HORIZON)
            return cluster, 0, {"horizon": found["horizon"]}
        return cluster, state["sealed_before"], msgspec.json.decode(state["rescan"]) if state["rescan"] else None

    async def _move(self, cluster: str, before: int, rescan: dict[str, int] | None, at: datetime | None) -> None:
        encoded = None if rescan is None else msgspec.json.encode(rescan).decode()
        await self._connection.execute(_MOVED, cluster, before, encoded, at)

    async def _read(self, where: str, begin: int, end: int) -> list[_Leaf]:
        found: list[_Leaf] = []
        for source in leaves.COLUMNS:
            for row in await self._connection.fetch(_unsealed(source).format(where=where), begin, end):
                body = leaves.leaf_of_row(source, row["written_at"], row["digest"])
                key = row["row_at"], row["row_id"], row["row_hash"]
                found.append(_Leaf(row["tenant"], SOURCES[source], *key, row["salt"], body))
        notes = _NOTES.format(where=where.replace("r.", "n."))
        for row in await self._connection.fetch(notes, begin, end):
            own = SOURCES["seal_notes"], row["at"], row["id"], 0, row["id"]
            found.append(_Leaf(row["tenant"], *own, leaves.leaf_of_note(row["note"])))
        return found

    async def _append(self, new: Sequence[_Leaf]) -> None:
        if not new:
            return
        by_tenant: defaultdict[str, list[_Leaf]] = defaultdict(list)
        for leaf in new:
            by_tenant[leaf.tenant].append(leaf)
        known = {row["tenant"]: row["size"] for row in await self._connection.fetch(_LOGS, list(by_tenant))}
        for tenant, own in by_tenant.items():
            if tenant not in known:
                await self._connection.execute(_NEW_LOG, tenant, checkpoints.origin_of(self._origin, tenant))
            size = known.get(tenant, 0)
            columns = (
                [size + at for at in range(len(own))],
                [leaf.row_at for leaf in own],
                [leaf.row_hash for leaf in own],
                [leaf.row_id for leaf in own],
                [leaf.salt for leaf in own],
                [leaf.source for leaf in own],
                [tenant] * len(own),
            )
            await self._connection.execute(_SEALED, *columns)
            await self._connection.execute(
                _GREW, tenant, await logs.append(self._connection, tenant, size, [leaf.body for leaf in own])
            )
