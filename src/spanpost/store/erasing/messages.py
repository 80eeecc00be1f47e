"""Messages about what is erased: withdrawn from the outbox, deleted in Slack.

A delivery that was sent leaves a receipt. It becomes a delivery of the mode `erase`, which the dispatcher takes to the
sink in its turn, within the sink's rate limits: the sink deletes the message. Rows of these deliveries name no task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.routing import delivery_states
from spanpost.store import delivery_rows, ordering_key_rows, takeovers

#: Sinks that can delete a message, and the fields of a receipt that name it.
DELETING: Final = {"slack": ("channel", "ts"), "grafana": ("id",)}
_LOCK: Final = """
SELECT l.sink, l.ordering_key FROM ordering_keys l
WHERE (l.sink, l.ordering_key) IN (SELECT d.sink, d.ordering_key FROM deliveries d WHERE d.task_uid = ANY($1::uuid[]))
ORDER BY l.sink, l.ordering_key FOR UPDATE"""
#: What is being sent at this moment stays: its receipt says which message to delete.
_TAKE: Final = """
DELETE FROM deliveries WHERE task_uid = ANY($1::uuid[]) AND mode <> 'erase'
  AND (state <> 'sending' OR lease_until < clock_timestamp())
RETURNING sink, ordering_key, address, tenant, mode, unsure, receipt::text AS receipt"""
_LEFT: Final = "SELECT EXISTS (SELECT FROM deliveries WHERE task_uid = ANY($1::uuid[]) AND mode <> 'erase')"
_RECEIPTS: Final = """
SELECT l.sink, l.ordering_key, l.address, l.receipt::text AS receipt
FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
JOIN ordering_keys l ON l.sink = g.sink AND l.ordering_key = g.ordering_key WHERE l.receipt IS NOT NULL"""
_DROP_KEYS: Final = """
DELETE FROM ordering_keys l USING unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
WHERE l.sink = g.sink AND l.ordering_key = g.ordering_key
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.sink = l.sink AND d.ordering_key = l.ordering_key)"""
_PUT: Final = """
INSERT INTO deliveries (tenant, sink, address, ordering_key, mode, key, task_uid, urgency, rank, born_at, receipt)
SELECT g.tenant, g.sink, g.address, g.ordering_key, 'erase', g.key, $2, 'normal', 3, clock_timestamp(), g.receipt
FROM json_to_recordset($1::text::json)
  AS g(i int, tenant text, sink text, address text, ordering_key text, key text, receipt jsonb) ORDER BY g.i
ON CONFLICT DO NOTHING"""
_PUT_KEYS: Final = """
INSERT INTO ordering_keys (sink, ordering_key, address, due_at, call)
SELECT sink, ordering_key, address, clock_timestamp(), 'delete' FROM json_to_recordset($1::text::json)
  AS g(sink text, ordering_key text, address text)
ON CONFLICT DO NOTHING"""
#: Messages of tasks whose rows have changed: the root message, and replies, which show the newest state as well.
_SHOWN: Final = """
SELECT d.id, d.sink, d.ordering_key, d.address, d.tenant, d.mode, d.receipt::text AS receipt,
  d.receipt #>> '{ref,ended}' AS ended
FROM deliveries d WHERE d.mode <> 'erase' AND d.receipt IS NOT NULL AND d.task_uid IN (SELECT unnest($1::uuid[])
  UNION SELECT coalesce(t.root_uid, t.uid) FROM agent_tasks t WHERE t.uid = ANY($1::uuid[]))"""
_PROGRESS: Final = """
SELECT state, count(*)::int AS count, array_agg(DISTINCT reason) FILTER (WHERE reason <> '') AS reasons
FROM deliveries WHERE mode = 'erase' AND task_uid = $1 GROUP BY state"""
_SENT: Final = """
SELECT sink, count(*)::int AS count FROM deliveries
WHERE task_uid = ANY($1::uuid[]) AND receipt IS NOT NULL AND mode <> 'erase' GROUP BY sink"""
_FINISH: Final = """
DELETE FROM deliveries WHERE mode = 'erase' AND task_uid = $1 AND state = 'delivered'
RETURNING sink, ordering_key"""

#: The words of `progress` for what a sink cannot take back.
CANNOT: Final = "messages that {sink} keeps"
UNSURE: Final = "messages that may exist without a receipt"


async def withdraw(connection: Any, uids: set[UUID], erasure: UUID) -> tuple[Counter[str], bool]:
    """Delete the deliveries of tasks, and put in their place the deletion of the messages that they made.

    Return what was done, and whether no delivery is left.
    """
    given = list(uids)
    held = [(row[0], row[1]) for row in await connection.fetch(_LOCK, given)]
    taken = await connection.fetch(_TAKE, given)
    done = Counter({"deliveries": len(taken)})
    is_whole = not await connection.fetchval(_LEFT, given)
    columns = ordering_key_rows.columns(held)
    tenants = {(row["sink"], row["ordering_key"]): row["tenant"] for row in taken}
    roots = await connection.fetch(_RECEIPTS, *columns) if is_whole else []
    posted = [(row, row["tenant"], row["mode"] == "state") for row in taken if row["receipt"] is not None]
    posted += [(row, tenants.get((row["sink"], row["ordering_key"]), ""), True) for row in roots]
    done += await put(connection, posted, erasure)
    done[UNSURE] = sum(row["unsure"] and row["receipt"] is None for row in taken)
    if is_whole:
        done["ordering_keys"] = int((await connection.execute(_DROP_KEYS, *columns)).rpartition(" ")[2])
    else:
        await ordering_key_rows.refresh(connection, held)
    return +done, is_whole


async def put(connection: Any, posted: Iterable[tuple[Any, str, bool]], erasure: UUID) -> Counter[str]:
    """Put the deletion of posted messages into the outbox: rows with receipts, their tenant, whether it is a root."""
    done: Counter[str] = Counter()
    replies, roots = dict[str, Any](), dict[str, Any]()
    for row, tenant, is_root in posted:
        ref = msgspec.json.decode(row["receipt"]).get("ref") or {}
        if row["sink"] not in DELETING:
            done[CANNOT.format(sink=row["sink"])] += 1
            continue
        named = {field: str(ref.get(field, "")) for field in DELETING[row["sink"]]}
        if not all(named.values()) or ref.get("ended") == "deleted":
            continue
        where = {"sink": row["sink"], "address": row["address"], "tenant": tenant}
        receipt = {"ref": named | ({"is_root": True} if is_root else {})}
        key = "|".join(("erase", row["sink"], *named.values()))
        thread = f"{row['sink']}|erase|{row['ordering_key']}"
        (roots if is_root else replies)[key] = where | {"key": key, "ordering_key": thread, "receipt": receipt}
    # Replies first: Slack keeps the replies of a message that is deleted.
    wanted = [one for key, one in replies.items() if key not in roots] + list(roots.values())
    if wanted:
        text = msgspec.json.encode([{"i": i, **one} for i, one in enumerate(wanted)]).decode()
        await connection.execute(_PUT_KEYS, text)
        await connection.execute(_PUT, text, erasure)
        await ordering_key_rows.refresh(connection, {(one["sink"], one["ordering_key"]) for one in wanted})
    done["messages to delete"] = len(wanted)
    return +done


async def show_anew(connection: Any, uids: Iterable[UUID], erasure: UUID) -> Counter[str]:
    """Have the messages of tasks edited, because their rows have changed; deleted where they take no more edits."""
    rows = await connection.fetch(_SHOWN, list(set(uids)))
    if not rows:
        return Counter()
    await takeovers.lock(connection, [(row["sink"], row["ordering_key"]) for row in rows])
    entries = await delivery_rows.lock(connection, [row["id"] for row in rows if row["ended"] is None])
    now = await connection.fetchval("SELECT clock_timestamp()")
    await delivery_rows.write(connection, [delivery_states.wake(entry, now) for entry in entries])
    await ordering_key_rows.refresh(connection, sorted({(entry.sink, entry.ordering_key) for entry in entries}))
    closed = [(row, row["tenant"], row["mode"] == "state") for row in rows if row["ended"] == "closed"]
    return await put(connection, closed, erasure)


async def progress(connection: Any, erasure: UUID) -> dict[str, tuple[int, list[str]]]:
    """Return how many messages wait, were deleted or were refused, with the sinks' reasons."""
    rows = await connection.fetch(_PROGRESS, erasure)
    return {row["state"]: (row["count"], list(row["reasons"] or ())) for row in rows}


async def finish(connection: Any, erasure: UUID) -> int:
    """Delete the rows of messages that are deleted; return how many."""
    gone = [(row[0], row[1]) for row in await connection.fetch(_FINISH, erasure)]
    await connection.execute(_DROP_KEYS, *ordering_key_rows.columns(set(gone)))
    return len(gone)


async def counted(connection: Any, uids: set[UUID]) -> Counter[str]:
    """Return how many messages would be deleted, or stay because their sink cannot delete them."""
    found: Counter[str] = Counter()
    for row in await connection.fetch(_SENT, list(uids)):
        found["messages to delete" if row["sink"] in DELETING else CANNOT.format(sink=row["sink"])] = row["count"]
    return found
