"""Rows of ordering keys: when each may be claimed, how urgent it is, and which call comes next.

`address` and `call` are hints for the choice of the next claim; the delivery itself decides what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from spanpost.model.deliveries import Receipt
from spanpost.routing import claiming
from spanpost.routing.delivery_states import LEAST, OVER, OutboxEntry
from spanpost.routing.planned import ON_THE_WAY
from spanpost.store import delivery_rows
from spanpost.store.rows import json_text

_GIVEN = "FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)"
_JOINED = f"{_GIVEN} JOIN ordering_keys l ON l.sink = g.sink AND l.ordering_key = g.ordering_key"
_IS_GIVEN = "ordering_keys.sink = g.sink AND ordering_keys.ordering_key = g.ordering_key"
_IS_WAITING = "d.sink = l.sink AND d.ordering_key = l.ordering_key AND d.state = 'waiting'"


def _place(receipt: str) -> str:
    """Return `claiming.place` of a delivery `d` as SQL.

    `receipt` is the SQL of its ordering key's receipt.
    """
    checkpoint, on_the_way, root, edit = (
        claiming.place(is_state=is_state, is_on_the_way=flag, has_message_receipt=flag, is_over=False)
        for is_state in (False, True)
        for flag in (False, True)
    )
    first_edit = claiming.place(is_state=True, is_on_the_way=False, has_message_receipt=True, is_over=True)
    over = ", ".join(f"'{urgency}'" for urgency in OVER)
    return f"""
  CASE WHEN d.mode = 'checkpoint' THEN CASE WHEN d.key LIKE '%{ON_THE_WAY}' THEN {on_the_way} ELSE {checkpoint} END
    WHEN {receipt} IS NULL THEN {root}
    WHEN d.urgency IN ({over}) THEN {first_edit} ELSE {edit} END"""


def _next(receipt: str) -> str:
    """Return a subquery: the waiting delivery of ordering key `l` that goes first."""
    return f"""
SELECT d.id, d.born_at, d.not_before, d.rank, d.mode, d.unsure, d.address,
  coalesce(d.receipt -> 'ref', '{{}}') <> '{{}}' AS has_receipt
FROM deliveries d WHERE {_IS_WAITING} ORDER BY {_place(receipt)}, d.id LIMIT 1"""


_FIRST = f"""
SELECT {delivery_rows.COLUMNS} {_JOINED}
CROSS JOIN LATERAL ({_next("l.receipt")}) AS head
JOIN deliveries d ON d.id = head.id
WHERE d.state = 'waiting' AND (d.not_before IS NULL OR d.not_before <= $3) FOR UPDATE OF d"""


def _update(lease: str, receipt: str, more: str = "") -> str:
    return f"""
UPDATE ordering_keys AS target SET {more}
  due_at = coalesce({lease}, head.not_before, head.born_at),
  rank = coalesce(head.most, {LEAST}), address = coalesce(head.address, l.address),
  call = CASE WHEN head.mode = 'erase' THEN 'delete' WHEN {lease} IS NOT NULL OR head.unsure THEN 'reconcile'
    WHEN CASE WHEN coalesce(head.mode, 'state') = 'state' THEN {receipt} IS NOT NULL ELSE head.has_receipt END
    THEN 'edit' ELSE 'post' END
{_JOINED}
LEFT JOIN LATERAL (
  SELECT first.*, (SELECT min(d.rank) FROM deliveries d WHERE {_IS_WAITING}) AS most
  FROM ({_next(receipt)}) AS first
) AS head ON true
WHERE target.sink = l.sink AND target.ordering_key = l.ordering_key"""


_REFRESH = _update("l.lease_until", "l.receipt")
_RECEIPT = "coalesce($3::text::jsonb, l.receipt)"
_END_LEASE = _update("NULL::timestamptz", _RECEIPT, f"lease_until = NULL, receipt = {_RECEIPT},")
_LEASE = f"""
UPDATE ordering_keys SET lease_until = $3, due_at = $3, rank = 0, call = 'reconcile' {_GIVEN} WHERE {_IS_GIVEN}"""
_FREE = f"UPDATE ordering_keys SET lease_until = NULL {_GIVEN} WHERE {_IS_GIVEN}"
_RECEIPTS = f"SELECT l.sink, l.ordering_key, l.receipt::text {_JOINED} WHERE l.receipt IS NOT NULL"


def columns(ordering_keys: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return ordering keys as two parameters: their sinks and their names."""
    ordering_keys = list(ordering_keys)
    return [sink for sink, _ in ordering_keys], [ordering_key for _, ordering_key in ordering_keys]


async def refresh(connection: Any, ordering_keys: Iterable[tuple[str, str]]) -> None:
    """Update when each may be claimed, how urgent it is, and which call comes next."""
    await connection.execute(_REFRESH, *columns(ordering_keys))


async def first(connection: Any, ordering_keys: Iterable[tuple[str, str]], now: datetime) -> list[OutboxEntry]:
    """Lock and return the first delivery of each ordering key, if it is due."""
    return [delivery_rows.entry_of(row) for row in await connection.fetch(_FIRST, *columns(ordering_keys), now)]


async def lease(connection: Any, ordering_keys: Iterable[tuple[str, str]], until: datetime) -> None:
    """Lease ordering keys. Each is due again when its lease ends; the next call then reconciles."""
    await connection.execute(_LEASE, *columns(ordering_keys), until)


async def free(connection: Any, ordering_keys: Iterable[tuple[str, str]]) -> None:
    """Remove leases that have expired."""
    await connection.execute(_FREE, *columns(ordering_keys))


async def end_lease(connection: Any, ordering_key: tuple[str, str], receipt: Receipt | None) -> None:
    """End a lease and refresh the ordering key. None: the receipt of its message stays."""
    await connection.execute(_END_LEASE, *columns([ordering_key]), json_text(receipt) if receipt is not None else None)


async def receipts(connection: Any, ordering_keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Receipt | None]:
    """Return the receipts of the messages that exist."""
    rows = await connection.fetch(_RECEIPTS, *columns(ordering_keys))
    return {(row["sink"], row["ordering_key"]): receipt_of(row["receipt"]) for row in rows}


def receipt_of(text: str | None) -> Receipt | None:
    """Decode a receipt; None for NULL."""
    return msgspec.json.decode(text, type=Receipt) if text is not None else None
