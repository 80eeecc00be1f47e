"""Letters are lent to sinks, and settled, in memory: the same rules as `claims`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime

from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold import paces
from spanpost.fold.carrying import lanes_of, last
from spanpost.fold.orders import blank_task
from spanpost.fold.paces import Bucket, Closed
from spanpost.ledger.base import Budgets, alert_of, has_sent, wait_of
from spanpost.ledger.memory_lanes import Head, Sort, is_urgent
from spanpost.ledger.memory_posting import Posting
from spanpost.ledger.memory_shelf import Kept


class Claims(Posting):
    """What the pump does with letters."""

    def claim(self, sinks: Sequence[str], limit: int, budgets: Budgets) -> list[Delivery]:
        """Lease the first letter of each lane that is due and has its calls, most urgent lanes first."""
        out = self._claimed(sinks, limit, budgets)
        strays, self._strays = self._strays, []
        for row in strays:
            self._lead_on(row)
        if strays and not out:
            out = self._claimed(sinks, limit, budgets)
        return out

    def _claimed(self, sinks: Sequence[str], limit: int, budgets: Budgets) -> list[Delivery]:
        now = self._clock()
        self._take_over(now)
        able: list[tuple[Sort, Head, tuple[Budget, ...]]] = []
        for sort, first in self._waiting.firsts():
            if sort[0] in sinks and first[0] <= now:
                limits = budgets(*sort[:3])
                self._budgets.update((b.key, b) for b in limits)
                able.append((sort, first, limits))
        able = [(s, f, b) for s, f, b in able if paces.all_left(self._buckets, b, now, is_urgent=is_urgent(s)) > 0]
        able = [able[i] for i in paces.in_turn([(first[0], limits) for _, first, limits in able], self._buckets)]
        best = [(sort[3], first[0], first[1], i) for i, (sort, first, _) in enumerate(able)]
        heapq.heapify(best)
        out: list[Delivery] = []
        while best and len(out) < limit:
            rank, _, number, i = heapq.heappop(best)
            sort, _, limits = able[i]
            drawn = paces.draw(self._buckets, limits, now, is_urgent=is_urgent(sort), lease=self._lease)
            if drawn is None:
                continue  # nor may the others of its sort
            delivery = self._lend(self._letters[number], sort[2], tuple(b.key for b in limits), now)
            if delivery is not None:
                self._buckets.update(drawn)
                out.append(delivery)
            following = self._waiting.first(sort)
            if following is not None and following[0] <= now:
                heapq.heappush(best, (rank, following[0], following[1], i))
        return out

    def _take_over(self, now: datetime) -> None:
        for row in list(self._sending.values()):
            if row.lease_until is not None and row.lease_until <= now:
                row.is_unknown, row.recheck = True, False
                self._set(row, "waiting")

    def _lend(self, row: Kept, call: Call, drawn: tuple[str, ...], now: datetime) -> Delivery | None:
        letter = row.letter
        task, root = self._carrier(letter) if row.is_state else (self._knows.task(letter.task_uid), None)
        has_moved = row.is_state and task is None
        if has_moved:
            if row.lane not in self._receipts and not row.is_unknown:
                self._set(row, "delivered")  # nothing was ever shown, and what would be shown goes on in another message
                return None
            task = root or Task(uid=letter.task_uid, tenant=row.tenant, task_id="")
        checkpoint = self._knows.checkpoint(letter.checkpoint_id) if letter.checkpoint_id is not None else None
        order = self._order(letter) if checkpoint is None else None
        if order is not None:
            task = task or blank_task(order)
        if task is None or (letter.mode is Mode.NEWS and checkpoint is None and order is None):
            self._set_aside(row, "what it told of is no more")
            return None
        if checkpoint is not None and self._is_stray(row):
            self._set_aside(row, "the task that it tells of has no message yet")
            self._strays.append(row)
            return None
        sent_before = row.sent_at
        row.lease_until, row.claimed_at = now + self._lease, now
        row.sent_revision = row.revision
        if call is not Call.LOOK:
            row.attempt, row.sent_at, row.looks = row.attempt + 1, now, 0
        self._set(row, "sending")
        delivery = Delivery(
            id=row.id,
            tenant=row.tenant,
            sink=letter.sink,
            address=letter.address,
            lane=letter.lane,
            mode=letter.mode,
            key=letter.key,
            urgency=letter.urgency,
            task=self._knows.shown(task),
            children=self._knows.below(task),
            checkpoint=checkpoint,
            order=order,
            alert=self._knows.alert(about) if (about := alert_of(task, checkpoint)) is not None else None,
            attempt=row.attempt,
            born_at=row.born_at,
            not_before=row.not_before,
            lane_receipt=self._receipts.get(row.lane),
            receipt=row.receipt,
            is_unknown=row.is_unknown,
            count=row.count,
            claimed_at=now,
            sent_at=sent_before,
            looks=row.looks,
            drawn=drawn,
        )
        if not has_moved:
            return delivery
        lanes = lanes_of(letter.sink, root, self._knows.rules.routes) if root is not None else ()
        elsewhere = next((self._receipts[letter.sink, x] for x in lanes if (letter.sink, x) in self._receipts), None)
        return last(delivery, self._knows.shown(root) if root is not None else None, elsewhere)

    def _is_stray(self, row: Kept) -> bool:
        """Tell whether news waits where nothing was ever shown, and where nothing will be: its task's message is another, or none yet."""
        return row.is_untold and row.lane not in self._receipts and self._carrier(row.letter)[0] is None

    def _set_aside(self, row: Kept, error: str) -> None:
        """Give up news of nothing, until there is something that it tells of."""
        row.reason, row.error = "gone", error
        self._set(row, "dead")

    def due_in(self, sinks: Sequence[str] | None, budgets: Budgets) -> float | None:
        """Seconds until a letter may be claimed; None when nothing waits."""
        now = self._clock()
        waits = [row.lease_until for row in self._sending.values() if row.lease_until and (sinks is None or row.lane[0] in sinks)]
        for sort, first in self._waiting.firsts():
            if sinks is None or sort[0] in sinks:
                opens = paces.all_open_at(self._buckets, budgets(*sort[:3]), now, is_urgent=is_urgent(sort))
                waits.append(max(first[0], opens))
        return max(0.0, (min(waits) - now).total_seconds()) if waits else None

    def settle(self, delivery: Delivery, outcome: Outcome) -> list[Closed]:
        """Say what became of a claimed letter. A lease that another took over settles nothing of it."""
        row = self._letters.get(delivery.id)
        is_same = row is not None and (row.claimed_at, row.attempt) == (delivery.claimed_at, delivery.attempt)
        is_held = row is not None and is_same and row.state == "sending"
        if row is not None and is_held:
            self._write(row, delivery, outcome)
        elif row is not None and row.claimed_at != delivery.claimed_at and has_sent(delivery, outcome):
            if row.state == "sending":
                row.recheck = True
            else:
                row.is_unknown, row.not_before = True, None
                self._set(row, "waiting")
        if (is_same and not is_held) or (paces.is_uncalled(outcome) and not is_held):
            return []
        now = self._clock()
        concerned: dict[str, Bucket] = {}
        said = outcome if isinstance(outcome, (RetryAt, GiveUp)) else None
        for key in paces.concerned(delivery.drawn, outcome):
            budget = self._budgets.get(key) or Budget(key=key)
            bucket = self._buckets.get(key)
            if bucket is None and said is not None and (key in said.closes or (said.is_failure and budget.is_breaker)):
                bucket = paces.full(budget, now)
            if bucket is not None:
                concerned[key] = bucket
        changed, closed = paces.settled(
            concerned,
            self._budgets,
            outcome,
            now,
            claimed_at=delivery.claimed_at,
            wait=wait_of(outcome, now),
            jitter=self._jitter(),
        )
        self._buckets.update(changed)
        if row is not None and is_held and paces.is_held((concerned | changed).values(), outcome):
            # Due now, that is after all that wait already: what it failed by is open, and lets one call through at a time.
            row.not_before = now
            self._place(row.lane)
        return closed

    def _write(self, row: Kept, delivery: Delivery, outcome: Outcome) -> None:
        row.lease_until = None
        is_rechecked, row.recheck = row.recheck, False
        was_unknown, row.is_unknown = row.is_unknown, is_rechecked
        state = "waiting"
        match outcome:
            case Receipt():
                if outcome.ref or not outcome.skipped:
                    self._keep(row, outcome)
                row.reason, row.error, row.not_before = "", "", None
                if row.revision > row.sent_revision:
                    row.attempt, row.born_at = 0, self._clock()
                elif is_rechecked:
                    row.attempt = 0
                else:
                    state = "delivered"
            case Found():
                self._keep(row, outcome.receipt)
                row.reason, row.error, row.not_before = "", "", None
                # What a look found of what is edited may be old text: the newest is sent after it.
                if row.is_state or is_rechecked or delivery.receipt is not None or row.revision > row.sent_revision:
                    row.attempt = 0
                else:
                    state = "delivered"
            case Absent():
                row.not_before = None
                # News that has a receipt was delivered, whatever a look cannot see.
                if not row.is_state and row.receipt is not None and not is_rechecked:
                    state = "delivered"
            case RetryAt():
                row.not_before, row.reason, row.error = outcome.at, outcome.reason, outcome.error or outcome.reason
                row.is_unknown = was_unknown or outcome.reconcile or is_rechecked
                row.looks += outcome.has_looked
                if outcome.is_unsent:
                    row.attempt, row.sent_at = max(row.attempt - (not delivery.is_unknown), 0), delivery.sent_at
            case GiveUp():
                row.not_before, row.reason, row.error = None, outcome.reason, outcome.error or outcome.reason
                row.is_unknown = was_unknown or outcome.reconcile or is_rechecked
                if not is_rechecked:
                    state = "dead"
        self._set(row, state)

    def _keep(self, row: Kept, receipt: Receipt) -> None:
        row.receipt = receipt
        if row.is_state:
            self._receipts[row.lane] = receipt
