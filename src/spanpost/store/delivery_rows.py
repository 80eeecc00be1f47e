"""Rows of `deliveries` as entries of the state machine (`routing.delivery_states`): lock, insert, write.

Entries are sent as one JSON text: it is encoded in a tenth of the time that an array for each column takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from spanpost.model.deliveries import Mode, Receipt, Urgency
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.delivery_transitions import DeliveryState
from spanpost.store.rows import json_text

_decode_receipt = msgspec.json.Decoder(Receipt).decode

#: Columns that are never changed.
_FIXED = {"tenant": "text", "sink": "text", "mode": "text"}
#: Columns that the state machine writes.
_WRITTEN = {
    "address": "text", "ordering_key": "text", "key": "text", "urgency": "text", "rank": "int2", "task_uid": "uuid",
    "checkpoint_id": "uuid", "state": "text", "attempt": "int4", "born_at": "timestamptz",
    "not_before": "timestamptz", "owner": "uuid", "claimed_at": "timestamptz", "lease_until": "timestamptz",
    "revision": "int8", "claimed_revision": "int8", "sent_at": "timestamptz", "lookups": "int4", "unsure": "boolean",
    "recheck": "boolean", "receipt": "jsonb", "reason": "text", "error": "text", "finalized_at": "timestamptz",
}  # fmt: skip
#: Columns whose field has another name.
_FIELD = {"unsure": "is_unsure", "recheck": "is_rechecked"}
_READ = [name for name in ("id", *_FIXED, *_WRITTEN) if name not in ("rank", "receipt")]
#: The columns of `deliveries d` that `entry_of` reads.
COLUMNS = ", ".join(f"d.{name}" for name in _READ) + ", d.receipt::text AS receipt"
_NAMES = [_FIELD.get(name, name) for name in _READ]

_GIVEN = ", ".join(f"{_FIELD.get(name, name)} {kind}" for name, kind in {"id": "int8", **_FIXED, **_WRITTEN}.items())
_UPDATE = f"""
UPDATE deliveries SET {", ".join(f"{name} = g.{_FIELD.get(name, name)}" for name in _WRITTEN)}
FROM json_to_recordset($1::text::json) AS g({_GIVEN})
WHERE deliveries.id = ANY($2::bigint[]) AND deliveries.id = g.id"""
#: The tenant is that of the delivery's task or launch order.
_INSERT = f"""
INSERT INTO deliveries (tenant, sink, mode, {", ".join(_WRITTEN)})
SELECT coalesce((SELECT t.tenant FROM agent_tasks t WHERE t.uid = g.task_uid),
  (SELECT o.tenant FROM launch_orders o WHERE o.id = g.checkpoint_id), 'default'), g.sink, g.mode,
  {", ".join(f"g.{_FIELD.get(name, name)}" for name in _WRITTEN)}
FROM json_to_recordset($1::text::json) AS g({_GIVEN}) ORDER BY g.id
ON CONFLICT DO NOTHING RETURNING mode, sink, ordering_key, key"""
_THESE = f"SELECT {COLUMNS} FROM deliveries d WHERE d.id = ANY($1::bigint[]) ORDER BY d.id FOR UPDATE"
#: Checkpoints are unique by sink and key, states by sink and ordering key.
_KNOWN = f"""
SELECT {COLUMNS} FROM deliveries d WHERE d.id = ANY(ARRAY(
  SELECT n.id FROM unnest($1::text[], $2::text[]) AS g(sink, key)
  CROSS JOIN LATERAL (
    SELECT n.id FROM deliveries n WHERE n.sink = g.sink AND n.key = g.key AND n.mode = 'checkpoint' LIMIT 1
  ) AS n
  UNION ALL SELECT s.id FROM unnest($3::text[], $4::text[]) AS g(sink, ordering_key)
  CROSS JOIN LATERAL (
    SELECT s.id FROM deliveries s
    WHERE s.sink = g.sink AND s.ordering_key = g.ordering_key AND s.mode = 'state' LIMIT 1
  ) AS s
)) ORDER BY d.id FOR UPDATE"""


def entry_of(row: Any) -> OutboxEntry:
    """Return the entry of a row that was read by `COLUMNS`."""
    values = {field: row[name] for field, name in zip(_NAMES, _READ, strict=True)}
    values["mode"], values["urgency"] = Mode(values["mode"]), Urgency(values["urgency"])
    values["state"] = DeliveryState(values["state"])
    text = row["receipt"]
    return OutboxEntry(receipt=_decode_receipt(text) if text is not None else None, **values)


def identity(mode: str, sink: str, ordering_key: str, key: str) -> tuple[str, str, str]:
    """Return the unique key of a delivery."""
    return (mode, sink, ordering_key if mode == Mode.STATE else key)


async def lock(connection: Any, ids: Collection[int]) -> list[OutboxEntry]:
    """Lock deliveries until the transaction ends; return the existing ones.

    The caller has locked their ordering keys.
    """
    return [entry_of(row) for row in await connection.fetch(_THESE, list(ids))]


async def lock_known(connection: Any, wanted: Iterable[tuple[str, str, str]]) -> list[OutboxEntry]:
    """Lock and return the existing deliveries among these (`identity`)."""
    checkpoints = [(sink, rest) for mode, sink, rest in wanted if mode == Mode.CHECKPOINT]
    states = [(sink, rest) for mode, sink, rest in wanted if mode == Mode.STATE]
    columns = [[at[i] for at in found] for found in (checkpoints, states) for i in (0, 1)]
    return [entry_of(row) for row in await connection.fetch(_KNOWN, *columns)]


async def write(connection: Any, entries: Sequence[OutboxEntry]) -> None:
    """Write locked deliveries back in one statement."""
    if entries:
        await connection.execute(_UPDATE, _text(entries), [entry.id for entry in entries])


async def insert(connection: Any, entries: Sequence[OutboxEntry]) -> set[tuple[str, str, str]]:
    """Insert new deliveries with ids in their order.

    Return those inserted: another transaction may have been first.
    """
    if not entries:
        return set()
    numbered = [msgspec.structs.replace(entry, id=i) for i, entry in enumerate(entries)]
    return {identity(*row) for row in await connection.fetch(_INSERT, _text(numbered))}


def _text(entries: Sequence[OutboxEntry]) -> str:
    return "[" + ",".join([f'{json_text(entry)[:-1]},"rank":{entry.rank}}}' for entry in entries]) + "]"
