"""Letters are lent to sinks, and settled, in memory: the same rules as `claims`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime, timedelta

from spanpost.dispatch import claiming, states
from spanpost.dispatch.claiming import Claimed
from spanpost.dispatch.states import OutboxEntry
from spanpost.domain.deliveries import Budget, Call, Delivery
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold import paces
from spanpost.fold.carrying import lanes_of, last
from spanpost.fold.orders import blank_task
from spanpost.fold.paces import Bucket, Closed
from spanpost.ledger.base import Budgets, alert_of
from spanpost.ledger.memory_lanes import Head, Sort, is_urgent
from spanpost.ledger.memory_posting import Posting
from spanpost.ledger.memory_shelf import lane_of


class Claims(Posting):
    """What the pump does with letters."""

    def claim(self, sinks: Sequence[str], limit: int, budgets: Budgets) -> list[Delivery]:
        """Lease the first letter of each lane that is due and has its calls, most urgent lanes first."""
        out = self._claimed(sinks, limit, budgets)
        strays, self._strays = self._strays, []
        for entry in strays:
            self._lead_on(entry)
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
        for entry in list(self._sending.values()):
            if entry.lease_until is not None and entry.lease_until <= now:
                self._store(states.expire(entry))

    def _lend(self, entry: OutboxEntry, call: Call, drawn: tuple[str, ...], now: datetime) -> Delivery | None:
        carrier, root = self._carrier(entry)
        task = carrier if entry.is_state else self._knows.task(entry.task_uid)
        has_moved = entry.is_state and carrier is None
        if has_moved:
            task = root or Task(uid=entry.task_uid, tenant=entry.tenant, task_id="")
        checkpoint = self._knows.checkpoint(entry.checkpoint_id) if entry.checkpoint_id is not None else None
        order = self._order(entry.checkpoint_id) if checkpoint is None else None
        if order is not None:
            task = task or blank_task(order)
        lane_receipt = self._receipts.get(lane_of(entry))
        match claiming.decide_claim(
            entry,
            has_subject=task is not None and (entry.is_state or checkpoint is not None or order is not None),
            is_carried=carrier is not None,
            is_bound=checkpoint is not None,
            has_lane_receipt=lane_receipt is not None,
        ):
            case Claimed.SKIP:
                self._store(states.skip(entry))
                return None
            case Claimed.GONE:
                self._store(states.set_aside(entry, states.NO_SUBJECT))
                return None
            case Claimed.STRAY:
                self._store(states.set_aside(entry, states.NO_MESSAGE))
                self._strays.append(self._letters[entry.id])
                return None
        assert task is not None
        sent_before, entry = entry.sent_at, states.claim(entry, call, now, self._lease)
        self._store(entry)
        delivery = claiming.as_delivery(
            entry,
            sent_before=sent_before,
            task=self._knows.shown(task),
            children=self._knows.below(task),
            checkpoint=checkpoint,
            order=order,
            alert=self._knows.alert(about) if (about := alert_of(task, checkpoint)) is not None else None,
            lane_receipt=lane_receipt,
            drawn=drawn,
        )
        if not has_moved:
            return delivery
        lanes = lanes_of(entry.sink, root, self._knows.rules.routes) if root is not None else ()
        elsewhere = next((self._receipts[entry.sink, x] for x in lanes if (entry.sink, x) in self._receipts), None)
        return last(delivery, self._knows.shown(root) if root is not None else None, elsewhere)

    def due_in(self, sinks: Sequence[str] | None, budgets: Budgets) -> float | None:
        """Seconds until a letter may be claimed; None when nothing waits."""
        now = self._clock()
        waits = [x.lease_until for x in self._sending.values() if x.lease_until and (sinks is None or x.sink in sinks)]
        for sort, first in self._waiting.firsts():
            if sinks is None or sort[0] in sinks:
                opens = paces.all_open_at(self._buckets, budgets(*sort[:3]), now, is_urgent=is_urgent(sort))
                waits.append(max(first[0], opens))
        return max(0.0, (min(waits) - now).total_seconds()) if waits else None

    def settle(self, delivery: Delivery, outcome: Outcome) -> list[Closed]:
        """Say what became of a claimed letter. A lease that another took over settles nothing of it."""
        now = self._clock()
        entry = self._letters.get(delivery.id)
        is_held = entry is not None and states.is_held(entry, delivery)
        is_repeat = entry is not None and states.is_same_claim(entry, delivery) and not is_held
        wait = states.wait_of(outcome, now)
        closed: list[Closed] = []
        is_paced = False
        if not is_repeat and (is_held or not paces.is_uncalled(outcome)):
            closed, is_paced = self._answer(delivery, outcome, wait, now)
        if entry is not None and is_held:
            entry = states.settle(entry, outcome, now, wait=wait, sent_before=delivery.sent_at, is_paced=is_paced)
            if entry.is_state and (receipt := states.kept_receipt(outcome)) is not None:
                self._receipts[lane_of(entry)] = receipt
            self._store(entry)
        elif entry is not None and entry.claimed_at != delivery.claimed_at and states.has_sent(delivery, outcome):
            self._store(states.report_late(entry))
        return closed

    def _answer(self, delivery: Delivery, outcome: Outcome, wait: timedelta, now: datetime) -> tuple[list[Closed], bool]:
        """Bring what the far side answered to the buckets of the call; return what closed, and whether they pace the next try."""
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
            concerned, self._budgets, outcome, now, claimed_at=delivery.claimed_at, wait=wait, jitter=self._jitter()
        )
        self._buckets.update(changed)
        return closed, paces.is_held((concerned | changed).values(), outcome)
