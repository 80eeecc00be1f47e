"""The letters: put, listed, revived, buried; `claims` hands them out.

A *lane* is the unit of order. Its row is locked by whoever puts, claims or settles one of its letters, always before the
letters themselves, and lanes in the order of their keys; a claim skips lanes that somebody else has. While a letter is under
way its lane is leased, on the database's clock; a lease that ran out is taken over, and its letter is then marked unsure.

Within a lane the state goes first until it was delivered once (news needs a message to hang below), then news in the order
in which it was put (what is only on the way after the rest), then the state. A lane has one row of state: a newer one counts its revision up, and what is newer than
what was claimed is sent after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from spanpost.domain.deliveries import Mode, Urgency
from spanpost.fold.letters import Again, Letter
from spanpost.ledger import handovers
from spanpost.ledger.base import DeliveryRow
from spanpost.ledger.claims import REFRESH, lane_columns
from spanpost.ledger.handovers import Handover

RANK = {Urgency.APPROVAL: 0, Urgency.END: 1, Urgency.ERROR: 2, Urgency.NORMAL: 3}
_ROW = "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::uuid[], $8::uuid[])"
_GIVEN = f"FROM {_ROW} WITH ORDINALITY AS g(sink, address, lane, key, urgency, rank, task_uid, checkpoint_id, i)"
_TENANT = """coalesce((SELECT t.tenant FROM agent_tasks t WHERE t.uid = g.task_uid),
  (SELECT o.tenant FROM launch_orders o WHERE o.id = g.checkpoint_id), 'default')"""

#: A lane under way stays as it is: who settles it looks what comes next. Without a receipt, or for news, the next call is a post.
_LANES = """
INSERT INTO lanes AS known (sink, lane, due_at, rank, address, call)
SELECT g.sink, g.lane, now(), g.rank, g.address, CASE WHEN g.has_news OR l.receipt IS NULL THEN 'post' ELSE 'edit' END
FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[], $5::boolean[]) WITH ORDINALITY AS g(sink, lane, rank, address, has_news, i)
LEFT JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane ORDER BY g.i
ON CONFLICT (sink, lane) DO UPDATE
SET due_at = CASE WHEN known.lease_until IS NULL THEN least(known.due_at, excluded.due_at) ELSE known.lease_until END,
    rank = CASE WHEN known.due_at IS NULL THEN excluded.rank ELSE least(known.rank, excluded.rank) END,
    address = excluded.address,
    call = CASE WHEN known.lease_until IS NOT NULL THEN 'look' WHEN known.due_at IS NULL OR excluded.call = 'post' THEN excluded.call
      ELSE known.call END"""
#: What was taken back before it was sent, and is told after all, is put anew.
_NEWS = f"""
INSERT INTO deliveries AS known (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, checkpoint_id, born_at)
SELECT {_TENANT}, sink, address, lane, 'news', key, urgency, rank, task_uid, checkpoint_id, clock_timestamp() {_GIVEN} ORDER BY i
ON CONFLICT (sink, key) WHERE mode = 'news' DO UPDATE
SET state = 'waiting', address = excluded.address, lane = excluded.lane, task_uid = excluded.task_uid, attempt = 0, reason = '',
  error = '', born_at = excluded.born_at, not_before = NULL
WHERE known.state = 'dead' AND known.reason = 'gone'"""
_IS_NEWER = """coalesce(
  (SELECT (new.at, new.id) > (old.at, old.id) FROM agent_checkpoints new, agent_checkpoints old
   WHERE new.id = excluded.checkpoint_id AND old.id = known.checkpoint_id),
  EXISTS (SELECT FROM agent_checkpoints new WHERE new.id = excluded.checkpoint_id))"""
#: One letter that is told again where it stands: $1 to $8 as above, singly; $9 whether the newer checkpoint of the two is shown,
#: $10 whether it is told beside what was told (`Again.NEWEST`). How often it was told stands in `revision`: told once, it is 0.
#: What came late counts too, where this very transaction recorded it: told once more it would not.
_AGAIN = f"""
INSERT INTO deliveries AS known (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, checkpoint_id, born_at)
SELECT {_TENANT}, sink, address, lane, 'news', key, urgency, rank, task_uid, checkpoint_id, clock_timestamp()
FROM (SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::int2, $7::uuid, $8::uuid)
  AS g(sink, address, lane, key, urgency, rank, task_uid, checkpoint_id)
ON CONFLICT (sink, key) WHERE mode = 'news' DO UPDATE
SET revision = known.revision + 1,
    task_uid = CASE WHEN $9 AND NOT {_IS_NEWER} THEN known.task_uid ELSE excluded.task_uid END,
    checkpoint_id = CASE WHEN $9 AND NOT {_IS_NEWER} THEN known.checkpoint_id ELSE excluded.checkpoint_id END,
    urgency = CASE WHEN known.state NOT IN ('delivered', 'dead') THEN known.urgency WHEN $9 AND NOT $10 THEN 'normal'
      ELSE excluded.urgency END,
    rank = CASE WHEN known.state NOT IN ('delivered', 'dead') THEN known.rank WHEN $9 AND NOT $10 THEN 3::int2 ELSE excluded.rank END,
    receipt = CASE WHEN $10 AND known.state IN ('delivered', 'dead') THEN NULL ELSE known.receipt END,
    state = CASE WHEN known.state = 'sending' THEN 'sending' ELSE 'waiting' END,
    attempt = CASE WHEN known.state IN ('delivered', 'dead') THEN 0 ELSE known.attempt END,
    born_at = CASE WHEN known.state IN ('delivered', 'dead') THEN excluded.born_at ELSE known.born_at END,
    not_before = CASE WHEN known.state IN ('delivered', 'dead') THEN NULL ELSE known.not_before END,
    error = CASE WHEN known.state IN ('delivered', 'dead') THEN '' ELSE known.error END
WHERE NOT $9 OR {_IS_NEWER} OR (NOT $10 AND known.checkpoint_id <> excluded.checkpoint_id AND EXISTS (
  SELECT FROM agent_checkpoints late WHERE late.id = excluded.checkpoint_id AND late.recorded_at = now()))
RETURNING sink, lane"""
#: What was told before its message ended is told again there: its lane, which is no longer its task's.
_TOLD_IN = """
SELECT d.sink, d.lane FROM unnest($1::text[], $2::text[]) AS g(sink, key)
JOIN deliveries d ON d.sink = g.sink AND d.key = g.key AND d.mode = 'news'"""
_KNOWN = (
    "SELECT l.sink, l.lane FROM unnest($1::text[], $2::text[]) AS g(sink, lane) JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane"
)
_COUNT = "UPDATE deliveries SET revision = revision + $3 WHERE sink = $1 AND key = $2 AND mode = 'news'"
_STATE = f"""
INSERT INTO deliveries AS known (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, checkpoint_id, born_at)
SELECT {_TENANT}, sink, address, lane, 'state', key, urgency, rank, task_uid, checkpoint_id, clock_timestamp() {_GIVEN} ORDER BY i
ON CONFLICT (sink, lane) WHERE mode = 'state' DO UPDATE
SET revision = known.revision + 1, address = excluded.address, key = excluded.key, task_uid = excluded.task_uid,
    urgency = CASE WHEN known.state = 'waiting' AND known.rank < excluded.rank THEN known.urgency ELSE excluded.urgency END,
    rank = CASE WHEN known.state = 'waiting' THEN least(known.rank, excluded.rank) ELSE excluded.rank END,
    state = CASE WHEN known.state = 'sending' THEN 'sending' ELSE 'waiting' END,
    attempt = CASE WHEN known.state IN ('delivered', 'dead') THEN 0 ELSE known.attempt END,
    born_at = CASE WHEN known.state IN ('delivered', 'dead') THEN excluded.born_at ELSE known.born_at END,
    not_before = CASE WHEN known.state IN ('delivered', 'dead') THEN NULL ELSE known.not_before END,
    error = CASE WHEN known.state IN ('delivered', 'dead') THEN '' ELSE known.error END
RETURNING sink, born_at < statement_timestamp() AS is_coalesced"""

#: What may stand there already stays: told after all, it is looked up, or changed where it stands.
_WITHDRAW = """
DELETE FROM deliveries WHERE checkpoint_id = ANY($1::uuid[]) AND state = 'waiting' AND receipt IS NULL AND NOT unsure"""
_LIST = """
SELECT d.id, d.sink, d.address, d.lane, d.mode, d.state, coalesce(t.task_id, '') AS task_id,
  coalesce(c.kind, CASE d.mode WHEN 'news' THEN 'order' ELSE 'state' END) AS kind,
  d.attempt, d.born_at, d.not_before, d.reason, d.error
FROM deliveries d
LEFT JOIN task_redirects r ON r.uid = d.task_uid
LEFT JOIN agent_tasks t ON t.uid = coalesce(r.merged_into, d.task_uid)
LEFT JOIN agent_checkpoints c ON c.id = d.checkpoint_id
WHERE ($1::text IS NULL OR d.state = $1) AND ($2::text IS NULL OR d.sink = $2)
ORDER BY d.id LIMIT $3"""


async def put(
    connection: Any, letters: Sequence[Letter], retracted: Sequence[UUID], handover: Handover | None = None
) -> tuple[int, dict[str, int]]:
    """Put letters into their lanes; return how many there were, and of how many states a newer one took the place, by sink.

    News that was taken back and not yet sent is withdrawn. With a handover lanes are woken, and news leaves them.
    """
    letters = await _without_quiet(connection, letters)
    counts: list[tuple[str, str, int]] = []
    changed = [x for x in letters if x.again is Again.CHANGED]
    concerned: list[tuple[str, str]] = [*handover.lanes, *handover.left] if handover is not None else []
    if changed:
        told_in = await connection.fetch(_TOLD_IN, [x.sink for x in changed], [x.key for x in changed])
        concerned += [(row[0], row[1]) for row in told_in]
    if concerned:
        led = [x for _, _, found in handover.news for x in found] if handover is not None else []
        await handovers.lock(connection, [*concerned, *((x.sink, x.lane) for x in [*letters, *led])])
    if handover is not None:
        led, counts = await handovers.take(connection, handover)
        letters = [*led, *letters]
    newest: dict[tuple[str, str], Letter] = {}
    repeated = [x for x in letters if x.again is not Again.NEVER]
    for letter in letters:
        at = (letter.sink, letter.lane if letter.mode is Mode.STATE else "\0" + letter.key)
        before = newest.get(at)
        if before is not None and RANK[before.urgency] < RANK[letter.urgency]:
            letter = msgspec.structs.replace(letter, urgency=before.urgency)
        newest[at] = letter
    lanes: dict[tuple[str, str], tuple[int, str, bool]] = {}
    for letter in newest.values():
        lane, is_news = (letter.sink, letter.lane), letter.mode is Mode.NEWS
        rank, _, has_news = lanes.get(lane, (3, "", False))
        lanes[lane] = min(rank, RANK[letter.urgency]), letter.address, has_news or is_news
    if lanes:
        ordered = sorted(lanes)
        ranks, addresses, have_news = zip(*(lanes[lane] for lane in ordered), strict=True)
        await connection.execute(_LANES, *lane_columns(ordered), list(ranks), list(addresses), list(have_news))
    if retracted:  # before the same is told after all, perhaps in another lane
        await connection.execute(_WITHDRAW, list(retracted))
    once = [x for x in newest.values() if x.again is Again.NEVER]
    news, states = ([x for x in once if x.mode is mode] for mode in (Mode.NEWS, Mode.STATE))
    count = _affected(await connection.execute(_NEWS, *_columns(news))) if news else 0
    written = await connection.fetch(_STATE, *_columns(states)) if states else []
    for x in repeated:
        row = x.sink, x.address, x.lane, x.key, x.urgency.value, RANK[x.urgency], x.task_uid, x.checkpoint_id
        told = await connection.fetch(_AGAIN, *row, x.again is not Again.CHANGED, x.again is Again.NEWEST)
        count += len(told)
        concerned += [(at[0], at[1]) for at in told]
    for counted in counts:
        await connection.execute(_COUNT, *counted)
    concerned += [(x.sink, x.lane) for x in repeated]
    if concerned:
        # Which call comes next, and when, goes by what the letter was before.
        await connection.execute(REFRESH, *lane_columns(sorted(set(concerned))))
    return count + len(written), dict(Counter(row[0] for row in written if row[1]))


async def _without_quiet(connection: Any, letters: Sequence[Letter]) -> Sequence[Letter]:
    """Return letters without those states that would begin a message."""
    quiet = sorted({(x.sink, x.lane) for x in letters if x.is_quiet})
    if not quiet:
        return letters
    known = {(row[0], row[1]) for row in await connection.fetch(_KNOWN, *lane_columns(quiet))}
    return [x for x in letters if not x.is_quiet or (x.sink, x.lane) in known]


def _columns(letters: Sequence[Letter]) -> list[list[Any]]:
    return [
        [x.sink for x in letters], [x.address for x in letters], [x.lane for x in letters], [x.key for x in letters],
        [x.urgency.value for x in letters], [RANK[x.urgency] for x in letters], [x.task_uid for x in letters],
        [x.checkpoint_id for x in letters],
    ]  # fmt: skip


async def listed(connection: Any, state: str | None, sink: str | None, limit: int) -> list[DeliveryRow]:
    """List letters, oldest first."""
    return [DeliveryRow(**dict(row)) for row in await connection.fetch(_LIST, state, sink, limit)]


async def revive(connection: Any, ids: Sequence[int] | None, sink: str | None) -> int:
    """Set dead letters waiting again."""
    rows = await connection.fetch(
        "UPDATE deliveries SET state = 'waiting', attempt = 0, not_before = NULL, born_at = clock_timestamp(),"
        # What nobody could look up is sent without another look: that is what the person decided.
        " unsure = unsure AND reason <> 'unverifiable'"
        " WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR sink = $2) RETURNING sink, lane",
        list(ids) if ids is not None else None,
        sink,
    )
    return await _changed(connection, rows)


async def give_up(connection: Any, ids: Sequence[int]) -> int:
    """Bury waiting letters by hand."""
    rows = await connection.fetch(
        "UPDATE deliveries SET state = 'dead', error = 'buried by hand', reason = 'buried'"
        " WHERE state = 'waiting' AND id = ANY($1::bigint[]) RETURNING sink, lane",
        list(ids),
    )
    return await _changed(connection, rows)


async def _changed(connection: Any, rows: Iterable[Any]) -> int:
    lanes = [(row[0], row[1]) for row in rows]
    await connection.execute(REFRESH, *lane_columns(sorted(set(lanes))))
    return len(lanes)


def _affected(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
