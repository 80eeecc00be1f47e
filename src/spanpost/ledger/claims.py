"""Letters under way: claimed as their budgets allow, settled by what became of them.

A claim is one transaction. It asks which sorts of call wait (sink, address, call, urgency: few, however many lanes), leaves out
those whose budgets are closed, locks the best lanes of the others, looks at the letter that each has first, locks the buckets and
draws in the order of urgency. A lane that gets nothing is left as it was. Locks, as everywhere: lanes, letters, buckets by key;
lanes that somebody else has are skipped.

What a lane says of its next letter (`address`, `call`) only chooses; what is drawn is decided by the letter itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt, Urgency
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold import paces
from spanpost.fold.carrying import carries, lanes_of, last
from spanpost.fold.mend import mend_text
from spanpost.fold.orders import blank_task
from spanpost.fold.paces import Closed
from spanpost.fold.routes import Routes
from spanpost.fold.silence import now_shown
from spanpost.ledger import alerts as alert_rows
from spanpost.ledger import buckets as bucket_rows
from spanpost.ledger import handovers, order_rows
from spanpost.ledger.base import Budgets, alert_of, has_sent, wait_of
from spanpost.ledger.rows import CHECKPOINT_COLUMNS, checkpoint_of, json_text, task_of

_NONE = UUID(int=0)
#: Ranks below this are urgent: approval, end, error.
URGENT = 3
#: More lanes of a sort than there are calls for are looked at, because others may have locked the first.
SPARE = 4

#: The sorts of call that wait, by leaps through the index `lanes_heads`, each with when its first is due.
_SORTS = """
WITH RECURSIVE sort AS (
  (SELECT sink, address, call, rank, due_at FROM lanes WHERE due_at IS NOT NULL ORDER BY sink, address, call, rank, due_at LIMIT 1)
  UNION ALL
  SELECT following.* FROM sort CROSS JOIN LATERAL (
    SELECT l.sink, l.address, l.call, l.rank, l.due_at FROM lanes l
    WHERE l.due_at IS NOT NULL AND (l.sink, l.address, l.call, l.rank) > (sort.sink, sort.address, sort.call, sort.rank)
    ORDER BY l.sink, l.address, l.call, l.rank, l.due_at LIMIT 1
  ) AS following
)
SELECT sink, address, call, rank, due_at, clock_timestamp() AS now FROM sort"""
_PICK = """
WITH best AS MATERIALIZED (
  SELECT found.sink, found.lane, found.rank, found.due_at
  FROM unnest($1::text[], $2::text[], $3::text[], $4::int2[], $5::int4[]) AS sort(sink, address, call, rank, most)
  CROSS JOIN LATERAL (
    SELECT l.sink, l.lane, l.rank, l.due_at FROM lanes l
    WHERE l.sink = sort.sink AND l.address = sort.address AND l.call = sort.call AND l.rank = sort.rank
      AND l.due_at <= $6 AND (l.lease_until IS NULL OR l.lease_until <= $6)
    ORDER BY l.due_at LIMIT sort.most
  ) AS found
  ORDER BY found.rank, found.due_at LIMIT $7 * 4
)
SELECT l.sink, l.lane, l.rank, l.address, l.call, l.receipt::text, l.lease_until IS NOT NULL AS is_lost
FROM best JOIN lanes l USING (sink, lane)
WHERE l.due_at <= $6 AND (l.lease_until IS NULL OR l.lease_until <= $6)
ORDER BY l.rank, l.due_at, l.sink, l.lane LIMIT $7 FOR UPDATE OF l SKIP LOCKED"""
_TAKE_OVER = """
UPDATE deliveries d SET state = 'waiting', unsure = true, recheck = false, owner = NULL, lease_until = NULL
FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
WHERE d.sink = g.sink AND d.lane = g.lane AND d.state = 'sending'"""
_FREE = """
UPDATE lanes SET lease_until = NULL FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
WHERE lanes.sink = g.sink AND lanes.lane = g.lane"""

_OF_LANE = """
SELECT d.id, d.born_at, d.not_before, d.rank, d.mode, d.unsure, d.address, d.sent_at,
  coalesce(d.receipt -> 'ref', '{}') <> '{}' AS has_receipt FROM deliveries d
WHERE d.sink = l.sink AND d.lane = l.lane AND d.state = 'waiting'
ORDER BY CASE WHEN d.mode = 'news' THEN CASE WHEN d.key LIKE '%|way' THEN 2 ELSE 1 END WHEN l.receipt IS NULL THEN 0 ELSE 3 END, d.id"""
#: The first letter of each lane that is due.
_FIRST = f"""
SELECT g.sink, g.lane, head.* FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane
CROSS JOIN LATERAL ({_OF_LANE} LIMIT 1) AS head
WHERE head.not_before IS NULL OR head.not_before <= $3"""
#: Brings the lanes named by $1, $2 up to date: when each may be claimed, how urgent it is, and which call comes next.
REFRESH = f"""
UPDATE lanes AS target SET
  due_at = coalesce(l.lease_until, head.not_before, head.born_at),
  rank = coalesce(head.most, 3), address = coalesce(head.address, l.address),
  call = CASE WHEN l.lease_until IS NOT NULL OR head.unsure THEN 'look'
    WHEN CASE WHEN coalesce(head.mode, 'state') = 'state' THEN l.receipt IS NOT NULL ELSE head.has_receipt END THEN 'edit'
    ELSE 'post' END
FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane
LEFT JOIN LATERAL (
  SELECT first.*, (SELECT min(d.rank) FROM deliveries d WHERE d.sink = l.sink AND d.lane = l.lane AND d.state = 'waiting') AS most
  FROM ({_OF_LANE} LIMIT 1) AS first
) AS head ON true
WHERE target.sink = l.sink AND target.lane = l.lane"""
_CLAIM = """
UPDATE deliveries AS claimed
SET state = 'sending', attempt = attempt + g.is_sent::int, owner = $3, claimed_at = $4, lease_until = $5, claimed_revision = revision,
  sent_at = CASE WHEN g.is_sent THEN $4 ELSE claimed.sent_at END, looks = CASE WHEN g.is_sent THEN 0 ELSE claimed.looks END
FROM unnest($1::bigint[], $2::boolean[]) AS g(id, is_sent)
WHERE claimed.id = g.id AND claimed.state = 'waiting'
RETURNING claimed.id, claimed.tenant, claimed.sink, claimed.address, claimed.lane, claimed.mode, claimed.key, claimed.urgency,
  claimed.task_uid, claimed.checkpoint_id, claimed.attempt, claimed.unsure, claimed.born_at, claimed.not_before,
  claimed.receipt::text, claimed.looks, claimed.revision"""
#: While it is under way a lane is due when its lease is over, to be looked up.
_LEASE = """
UPDATE lanes SET lease_until = $3, due_at = $3, call = 'look' FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
WHERE lanes.sink = g.sink AND lanes.lane = g.lane"""
_OF_NOTHING = """
UPDATE deliveries SET state = 'dead', error = $2, reason = 'gone', owner = NULL, lease_until = NULL WHERE id = ANY($1::bigint[])"""
#: Waits as before, until it is led on.
_UNTOUCHED = """
UPDATE deliveries SET state = 'waiting', attempt = attempt - 1, owner = NULL, lease_until = NULL WHERE id = ANY($1::bigint[])"""

#: Nothing was ever shown, and what would be shown goes on in another message.
_UNNEEDED = """
UPDATE deliveries SET state = 'delivered', error = '', reason = '', owner = NULL, lease_until = NULL
WHERE id = ANY($1::bigint[])"""
_RECEIPTS = """
SELECT l.sink, l.lane, l.receipt::text FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane WHERE l.receipt IS NOT NULL"""
_BELOW = "SELECT root_uid, doc, spanpost_phase(agent_tasks) FROM agent_tasks WHERE root_uid = ANY($1::uuid[]) AND uid <> root_uid ORDER BY started_at, uid"

#: Locks the lane, and tells whether a plain answer would change one of its buckets.
_OPEN = f"""
SELECT EXISTS (SELECT FROM buckets WHERE key = ANY($3::text[]) AND ({bucket_rows.TROUBLED}))
FROM lanes WHERE sink = $1 AND lane = $2 FOR UPDATE"""
_HELD = """
SELECT state, owner, attempt, claimed_at, revision > claimed_revision AS is_behind FROM deliveries WHERE id = $1 FOR UPDATE"""
_LEFT = "owner = NULL, lease_until = NULL, recheck = false, settled_at = clock_timestamp()"
_DELIVERED = f"""
UPDATE deliveries SET state = CASE WHEN $3 OR recheck THEN 'waiting' ELSE 'delivered' END,
  attempt = CASE WHEN $3 OR recheck THEN 0 ELSE attempt END, born_at = CASE WHEN $3 THEN clock_timestamp() ELSE born_at END,
  receipt = coalesce($2::text::jsonb, receipt), unsure = recheck, reason = '', error = '', not_before = NULL, {_LEFT}
WHERE id = $1"""
#: What a look found of a state may be old text: the newest is sent after it.
_SEEN = f"""
UPDATE deliveries SET state = 'waiting', attempt = 0, receipt = $2::text::jsonb, unsure = recheck, reason = '', error = '',
  not_before = NULL, {_LEFT}
WHERE id = $1"""
#: News that has a receipt was delivered, whatever a look cannot see; it was looked up once more on suspicion.
_ABSENT = f"""
UPDATE deliveries SET state = CASE WHEN mode = 'news' AND receipt IS NOT NULL AND NOT recheck THEN 'delivered' ELSE 'waiting' END,
  unsure = recheck, not_before = NULL, {_LEFT}
WHERE id = $1"""
_LATER = f"""
UPDATE deliveries SET state = 'waiting', not_before = clock_timestamp() + $2::interval, reason = $3, error = $4,
  unsure = unsure OR $5 OR recheck, looks = looks + $6, {_LEFT}
WHERE id = $1"""
_UNSENT = f"""
UPDATE deliveries SET state = 'waiting', not_before = clock_timestamp() + $2::interval, reason = $3, error = $4,
  unsure = unsure OR recheck, attempt = greatest(attempt - $6, 0), sent_at = $5, {_LEFT}
WHERE id = $1"""
#: Due now, that is after all that wait already: what it failed by is open, and lets one call through at a time.
_AT_ONCE = "UPDATE deliveries SET not_before = clock_timestamp() WHERE id = $1 AND state = 'waiting'"
_DEAD = f"""
UPDATE deliveries SET state = CASE WHEN recheck THEN 'waiting' ELSE 'dead' END, reason = $2, error = $3,
  unsure = unsure OR $4 OR recheck, not_before = NULL, {_LEFT}
WHERE id = $1"""
#: Somebody sent it after its lease was over: whoever has it now, it is looked up again.
_RECHECK = """
UPDATE deliveries SET recheck = state = 'sending', unsure = unsure OR state <> 'sending',
  not_before = CASE WHEN state = 'sending' THEN not_before END, state = CASE WHEN state = 'sending' THEN state ELSE 'waiting' END
WHERE id = $1"""
_LANE_RECEIPT = "UPDATE lanes SET receipt = $3::text::jsonb WHERE sink = $1 AND lane = $2"


async def claim(
    connection: Any, sinks: Sequence[str], limit: int, owner: UUID, lease: timedelta, budgets: Budgets, routes: Routes
) -> tuple[list[Delivery], list[int]]:
    """Lease the first letter of each lane that is due and has its calls, most urgent lanes first.

    Return with them the numbers of news that waits in a lane which is not its task's message, and never was one: it is to be led on
    (`handovers.look_at`), in a transaction of its own because that locks other lanes.
    """
    sorts = [sort for sort in await connection.fetch(_SORTS) if sort["sink"] in sinks and sort["due_at"] <= sort["now"]]
    if not sorts:
        return [], []
    now: datetime = sorts[0]["now"]
    limits = {at: budgets(*at) for at in {_at(sort) for sort in sorts}}
    known = await bucket_rows.read(connection, {b.key for found in limits.values() for b in found})
    left = [paces.all_left(known, limits[_at(sort)], now, is_urgent=sort["rank"] < URGENT) for sort in sorts]
    able = [(sort, count) for sort, count in zip(sorts, left, strict=True) if count > 0]
    in_turn = paces.in_turn([(sort["due_at"], limits[_at(sort)]) for sort, _ in able], known)
    chosen = [
        (sort["sink"], sort["address"], sort["call"], sort["rank"], min(count, limit) + SPARE)
        for sort, count in (able[i] for i in in_turn)
    ]
    if not chosen:
        return [], []
    picked = await connection.fetch(_PICK, *(list(column) for column in zip(*chosen, strict=True)), now, limit + SPARE)
    if not picked:
        return [], []
    lanes = {(row["sink"], row["lane"]): row for row in picked}
    lost = [at for at, row in lanes.items() if row["is_lost"]]
    if lost:
        await connection.execute(_TAKE_OVER, *lane_columns(lost))
        await connection.execute(_FREE, *lane_columns(lost))
    first = {(row["sink"], row["lane"]): row for row in await connection.fetch(_FIRST, *lane_columns(lanes), now)}
    calls = {
        at: (row["address"], paces.call_of(row["mode"], row["unsure"], lanes[at]["receipt"] is not None, row["has_receipt"]))
        for at, row in first.items()
    }
    wanted = {at: budgets(at[0], *call) for at, call in calls.items()}
    drawn, changed, now = await _draw(connection, {at: wanted[at] for at in lanes if at in wanted}, lanes, limit, lease, now)
    rows, until = [], now + lease
    if drawn:
        ids, is_sent = [first[at]["id"] for at in drawn], [calls[at][1] is not Call.LOOK for at in drawn]
        rows = await connection.fetch(_CLAIM, ids, is_sent, owner, now, until)
        await bucket_rows.write(connection, changed, {b.key: b for found in wanted.values() for b in found})
    receipts = {at: receipt_of(row["receipt"]) for at, row in lanes.items()}
    found, unneeded, strays = await _deliveries(connection, rows, receipts, list(drawn), routes)
    deliveries = [
        msgspec.structs.replace(d, claimed_at=now, sent_at=first[d.sink, d.lane]["sent_at"], drawn=drawn[d.sink, d.lane])
        for d in found
    ]
    gone = [row["id"] for row in rows if row["id"] not in {*(d.id for d in deliveries), *unneeded, *strays}]
    if gone:
        await connection.execute(_OF_NOTHING, gone, "what it told of is no more")
    if aside := [number for number, is_announced in strays.items() if not is_announced]:
        await connection.execute(_OF_NOTHING, aside, "the task that it tells of has no message yet")
    if led := [number for number, is_announced in strays.items() if is_announced]:
        await connection.execute(_UNTOUCHED, led)
    if unneeded:
        await connection.execute(_UNNEEDED, unneeded)
    leased = [(d.sink, d.lane) for d in deliveries]
    if leased:
        await connection.execute(_LEASE, *lane_columns(leased), until)
    hinted = {at: (row["address"], row["call"]) for at, row in lanes.items()}
    wrong = [at for at in lanes if at not in leased and (at in drawn or hinted[at] != calls.get(at))]
    if wrong or lost:
        await connection.execute(REFRESH, *lane_columns([*wrong, *(at for at in lost if at not in leased and at not in wrong)]))
    return deliveries, led


async def _draw(
    connection: Any,
    wanted: Mapping[tuple[str, str], tuple[Budget, ...]],
    lanes: Mapping[tuple[str, str], Any],
    limit: int,
    lease: timedelta,
    now: datetime,
) -> tuple[dict[tuple[str, str], tuple[str, ...]], dict[str, paces.Bucket], datetime]:
    """Draw for as many lanes as their budgets allow, in order; return the keys drawn by lane, and the buckets as changed."""
    budgets = {b.key: b for found in wanted.values() for b in found}
    buckets = await bucket_rows.read(connection, budgets)
    # Buckets that only count failures, and have none to count, are not locked: else all calls of a sink would queue there.
    held = {
        key: b for key, b in budgets.items() if b.rate is not None or (key in buckets and not paces.is_quiet(buckets[key], now))
    }
    if held:
        locked, now = await bucket_rows.lock(connection, held, buckets)
        buckets.update(locked)
    drawn: dict[tuple[str, str], tuple[str, ...]] = {}
    changed: dict[str, paces.Bucket] = {}
    for at, found in wanted.items():
        if len(drawn) >= limit:
            break
        new = paces.draw(buckets, found, now, is_urgent=lanes[at]["rank"] < URGENT, lease=lease)
        if new is not None:
            drawn[at] = tuple(b.key for b in found)
            buckets.update(new)
            changed.update(new)
    return drawn, changed, now


async def due_in(connection: Any, sinks: Sequence[str] | None, budgets: Budgets) -> float | None:
    """Seconds until a letter may be claimed or a timer falls due; None when nothing waits."""
    timer = await connection.fetchval("SELECT extract(epoch FROM min(at) - clock_timestamp())::float8 FROM timers")
    waits = [] if timer is None else [float(timer)]
    sorts = [sort for sort in await connection.fetch(_SORTS) if sinks is None or sort["sink"] in sinks]
    if sorts:
        limits = {at: budgets(*at) for at in {_at(sort) for sort in sorts}}
        known = await bucket_rows.read(connection, {b.key for found in limits.values() for b in found})
        for sort in sorts:
            now = sort["now"]
            opens = paces.all_open_at(known, limits[_at(sort)], now, is_urgent=sort["rank"] < URGENT)
            waits.append((max(sort["due_at"], opens) - now).total_seconds())
    return max(0.0, min(waits)) if waits else None


async def _deliveries(
    connection: Any,
    rows: Sequence[Any],
    receipts: Mapping[tuple[str, str], Receipt | None],
    order: Sequence[tuple[str, str]],
    routes: Routes,
) -> tuple[list[Delivery], list[int], dict[int, bool]]:
    """Return claimed letters as deliveries, and the numbers of those that need not be sent; others tell of nothing.

    Third, by number, news that waits where nothing was ever shown, and where nothing will be: whether its task is announced.
    """
    if not rows:
        return [], [], {}
    tasks, roots = await handovers.known(connection, {r["task_uid"] for r in rows})
    carried: dict[int, Task | None] = {}
    for r in rows:
        root = handovers.root_of(tasks.get(r["task_uid"]), roots)
        if r["mode"] == Mode.STATE:
            carried[r["id"]] = root if root is not None and carries(r["lane"], r["sink"], r["address"], root, routes) else None
    shown = {root.uid for root in carried.values() if root is not None} | {
        tasks[r["task_uid"]].uid for r in rows if r["task_uid"] in tasks
    }
    children: dict[UUID, list[Task]] = {}
    for root_uid, doc, phase in await connection.fetch(_BELOW, list(shown)):
        children.setdefault(root_uid, []).append(now_shown(task_of(doc), phase))
    told: dict[UUID, Checkpoint] = {}
    ids = [r["checkpoint_id"] for r in rows if r["checkpoint_id"] is not None]
    if ids:
        for row in await connection.fetch(f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints WHERE id = ANY($1::uuid[])", ids):
            told[row["id"]] = checkpoint_of(row)
    ordered = await order_rows.known(connection, {id for id in ids if id not in told})
    about = {r["id"]: alert_of(tasks.get(r["task_uid"]), told.get(r["checkpoint_id"])) for r in rows}
    alerts = await alert_rows.read(connection, sorted({id for id in about.values() if id is not None}))
    out: list[Delivery] = []
    unneeded: list[int] = []
    strays: dict[int, bool] = {}
    moved: dict[int, Task | None] = {}
    for r in sorted(rows, key=lambda r: order.index((r["sink"], r["lane"]))):
        task, checkpoint, receipt = tasks.get(r["task_uid"]), told.get(r["checkpoint_id"]), receipts[r["sink"], r["lane"]]
        if r["mode"] == Mode.STATE:
            root, task = handovers.root_of(task, roots), carried[r["id"]]
            if task is None:
                if receipt is None and not r["unsure"]:
                    unneeded.append(r["id"])
                    continue
                moved[r["id"]], task = root, root or Task(uid=r["task_uid"], tenant=r["tenant"], task_id="")
        asked = ordered.get(r["checkpoint_id"])
        if asked is not None:
            task = task or blank_task(asked)
        if task is None or (r["mode"] == Mode.NEWS and checkpoint is None and asked is None):
            continue
        if checkpoint is not None and receipt is None and r["receipt"] is None and not r["unsure"]:
            root = handovers.root_of(task, roots) or task
            if not carries(r["lane"], r["sink"], r["address"], root, routes):
                strays[r["id"]] = root.is_announced
                continue
        out.append(
            Delivery(
                id=r["id"],
                tenant=r["tenant"],
                sink=r["sink"],
                address=r["address"],
                lane=r["lane"],
                mode=Mode(r["mode"]),
                key=r["key"],
                urgency=Urgency(r["urgency"]),
                task=task,
                children=tuple(children.get(task.uid, ())),
                checkpoint=checkpoint,
                order=asked,
                alert=alerts.get(about[r["id"]] or _NONE),
                attempt=r["attempt"],
                is_unknown=r["unsure"],
                # Other news is shown anew where what it tells of has changed, and was told once.
                count=r["revision"] + 1 if checkpoint is not None and checkpoint.kind is Kind.ERROR else 1,
                born_at=r["born_at"],
                not_before=r["not_before"],
                lane_receipt=receipt,
                receipt=receipt_of(r["receipt"]),
                looks=r["looks"],
            )
        )
    return (await _moved(connection, out, moved, routes) if moved else out), unneeded, strays


async def _moved(
    connection: Any, deliveries: Sequence[Delivery], moved: Mapping[int, Task | None], routes: Routes
) -> list[Delivery]:
    """Make the letters of messages that ended their ends."""
    asked = {d.id: list(lanes_of(d.sink, root, routes)) for d in deliveries if (root := moved.get(d.id)) is not None}
    lanes = sorted({(d.sink, lane) for d in deliveries for lane in asked.get(d.id, ())})
    rows = await connection.fetch(_RECEIPTS, *lane_columns(lanes)) if lanes else []
    stands = {(row["sink"], row["lane"]): receipt_of(row["receipt"]) for row in rows}
    out = []
    for d in deliveries:
        if d.id in moved:
            elsewhere = next((stands[d.sink, lane] for lane in asked.get(d.id, ()) if (d.sink, lane) in stands), None)
            d = last(d, moved[d.id], elsewhere)
        out.append(d)
    return out


async def settle(
    connection: Any, delivery: Delivery, outcome: Outcome, owner: UUID, budgets: Mapping[str, Budget], jitter: float
) -> tuple[bool, list[Closed]]:
    """Write down what became of a claimed letter; return whether its lease held, and the budgets that closed.

    A lease that was lost to another settles nothing of the letter. When it was sent nevertheless it is looked up once more.
    """
    lane = ([delivery.sink], [delivery.lane])
    is_troubled = await connection.fetchval(_OPEN, delivery.sink, delivery.lane, list(delivery.drawn))
    row = await connection.fetchrow(_HELD, delivery.id)
    is_same = row is not None and (row["claimed_at"], row["attempt"]) == (delivery.claimed_at, delivery.attempt)
    is_held = row is not None and is_same and row["owner"] == owner and row["state"] == "sending"
    if is_held:
        await _write(connection, delivery, outcome, is_behind=row["is_behind"])
        await connection.execute(_FREE, *lane)
    elif row is not None and row["claimed_at"] != delivery.claimed_at and has_sent(delivery, outcome):
        await connection.execute(_RECHECK, delivery.id)
    closed: list[Closed] = []
    # Settled before: its answer was lost on the way to us, and is not counted twice.
    is_repeat = is_same and not is_held
    if not is_repeat and (is_troubled or not paces.is_plain(outcome)) and (is_held or not paces.is_uncalled(outcome)):
        closed, is_paced = await _answer(connection, delivery, outcome, budgets, jitter)
        if is_held and is_paced:
            await connection.execute(_AT_ONCE, delivery.id)
    await connection.execute(REFRESH, *lane)
    return is_held, closed


async def _answer(
    connection: Any, delivery: Delivery, outcome: Outcome, budgets: Mapping[str, Budget], jitter: float
) -> tuple[list[Closed], bool]:
    """Bring what the far side answered to the buckets of the call; return what closed, and whether they pace the next try."""
    concerned = {key: budgets.get(key) or Budget(key=key) for key in paces.concerned(delivery.drawn, outcome)}
    known = await bucket_rows.read(connection, concerned)
    said = outcome if isinstance(outcome, (RetryAt, GiveUp)) else None
    made = {key for key, b in concerned.items() if said is not None and (key in said.closes or (said.is_failure and b.is_breaker))}
    concerned = {key: b for key, b in concerned.items() if key in known or key in made}
    locked, now = await bucket_rows.lock(connection, concerned, known)
    changed, closed = paces.settled(
        locked, concerned, outcome, now, claimed_at=delivery.claimed_at, wait=wait_of(outcome, datetime.now(UTC)), jitter=jitter
    )
    await bucket_rows.write(connection, changed, concerned)
    return closed, paces.is_held((locked | changed).values(), outcome)


async def _write(connection: Any, delivery: Delivery, outcome: Outcome, *, is_behind: bool) -> None:
    is_state = delivery.mode is Mode.STATE
    match outcome:
        case Receipt():
            is_kept = bool(outcome.ref) or not outcome.skipped
            receipt = json_text(outcome) if is_kept else None
            await connection.execute(_DELIVERED, delivery.id, receipt, is_behind)
            if is_kept and is_state:
                await connection.execute(_LANE_RECEIPT, delivery.sink, delivery.lane, receipt)
        case Found():
            receipt = json_text(outcome.receipt)
            if not is_state and delivery.receipt is not None:
                await connection.execute(_SEEN, delivery.id, receipt)
            elif is_state:
                await connection.execute(_SEEN, delivery.id, receipt)
                await connection.execute(_LANE_RECEIPT, delivery.sink, delivery.lane, receipt)
            else:
                await connection.execute(_DELIVERED, delivery.id, receipt, is_behind)
        case Absent():
            await connection.execute(_ABSENT, delivery.id)
        case RetryAt():
            said = delivery.id, wait_of(outcome, datetime.now(UTC)), _clean(outcome.reason), _clean(outcome.error or outcome.reason)
            if outcome.is_unsent:
                await connection.execute(_UNSENT, *said, delivery.sent_at, int(not delivery.is_unknown))
            else:
                await connection.execute(_LATER, *said, outcome.reconcile, int(outcome.has_looked))
        case GiveUp():
            said_of = _clean(outcome.reason), _clean(outcome.error or outcome.reason)
            await connection.execute(_DEAD, delivery.id, *said_of, outcome.reconcile)


def lane_columns(lanes: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return lanes as two parameters: their sinks, their names."""
    lanes = list(lanes)
    return [sink for sink, _ in lanes], [lane for _, lane in lanes]


def receipt_of(text: str | None) -> Receipt | None:
    """Return a receipt as it was written."""
    return msgspec.json.decode(text, type=Receipt) if text is not None else None


def _at(sort: Any) -> tuple[str, str, Call]:
    return sort["sink"], sort["address"], Call(sort["call"])


def _clean(text: str) -> str:
    return mend_text(text, 4000)[0]
