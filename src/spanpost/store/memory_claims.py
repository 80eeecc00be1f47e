"""Deliveries are claimed and their outcomes stored, in memory: the same rules as `claims`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime, timedelta

from spanpost.model.deliveries import Delivery, RateLimit, RateLimits, SinkCall, unlimited
from spanpost.model.outcomes import GiveUp, Outcome, RetryAt
from spanpost.model.tasks import Task
from spanpost.routing import claiming, delivery_states, rate_limiting
from spanpost.routing.bucket_levels import BucketLevels
from spanpost.routing.claiming import Claimed, alert_of
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.launch_orders import blank_task
from spanpost.routing.message_owner import last, ordering_keys_of
from spanpost.routing.rate_limiting import Bucket, OpenCircuit
from spanpost.store.memory_delivery_rows import ordering_key_of
from spanpost.store.memory_outbox import Posting
from spanpost.store.memory_queue import CallKind, Head, is_urgent


class Claims(Posting):
    """Claims and outcomes of the dispatcher's deliveries."""

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """Lease the first due delivery of each ordering key whose rate limits allow its call, most urgent first."""
        out = self._claimed(sinks, limit, rate_limits)
        parked, self._parked = self._parked, []
        for entry in parked:
            self._redirect(entry)
        if parked and not out:
            out = self._claimed(sinks, limit, rate_limits)
        return out

    def _claimed(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits) -> list[Delivery]:
        now = self._clock()
        self._expire_leases(now)
        able: list[tuple[CallKind, Head, tuple[RateLimit, ...]]] = []
        for kind, first in self._waiting.firsts():
            if kind[0] in sinks and first[0] <= now:
                limits = rate_limits(*kind[:3])
                self._rate_limits.update((b.key, b) for b in limits)
                able.append((kind, first, limits))
        levels = BucketLevels(self._buckets, now)
        able = [(s, f, b) for s, f, b in able if levels.left(b, is_urgent=is_urgent(s)) > 0]
        able = [
            able[i] for i in rate_limiting.in_turn([(first[0], limits) for _, first, limits in able], self._buckets)
        ]
        best = [(kind[3], first[0], first[1], i) for i, (kind, first, _) in enumerate(able)]
        heapq.heapify(best)
        out: list[Delivery] = []
        while best and len(out) < limit:
            rank, _, number, i = heapq.heappop(best)
            kind, _, limits = able[i]
            drawn = rate_limiting.draw(self._buckets, limits, now, is_urgent=is_urgent(kind), lease=self.lease)
            if drawn is None:
                continue  # the other ordering keys of this kind have no call left either
            delivery = self._hand_out(self._deliveries[number], kind[2], tuple(b.key for b in limits), now)
            if delivery is not None:
                self._buckets.update(drawn)
                out.append(delivery)
            following = self._waiting.first(kind)
            if following is not None and following[0] <= now:
                heapq.heappush(best, (rank, following[0], following[1], i))
        return out

    def _expire_leases(self, now: datetime) -> None:
        for entry in list(self._sending.values()):
            if entry.lease_until is not None and entry.lease_until <= now:
                self._store(delivery_states.expire(entry))

    def _hand_out(self, entry: OutboxEntry, call: SinkCall, drawn: tuple[str, ...], now: datetime) -> Delivery | None:
        carrier, root = self._carrier(entry)
        task = carrier if entry.is_state else self._tables.task(entry.task_uid)
        has_moved = entry.is_state and carrier is None
        if has_moved:
            task = root or Task(uid=entry.task_uid, tenant=entry.tenant, task_id="")
        checkpoint = self._tables.checkpoints.get(entry.checkpoint_id) if entry.checkpoint_id is not None else None
        order = self._order(entry.checkpoint_id) if checkpoint is None else None
        if order is not None:
            task = task or blank_task(order)
        message_receipt = self._receipts.get(ordering_key_of(entry))
        match claiming.decide_claim(
            entry,
            has_subject=task is not None and (entry.is_state or checkpoint is not None or order is not None),
            is_carried=carrier is not None,
            is_bound=checkpoint is not None,
            has_message_receipt=message_receipt is not None,
        ):
            case Claimed.SKIP:
                self._store(delivery_states.skip(entry))
                return None
            case Claimed.GONE:
                self._store(delivery_states.set_aside(entry, delivery_states.NO_SUBJECT))
                return None
            case Claimed.WITHDRAWN:
                self._forget(entry)
                return None
            case Claimed.STRAY:
                self._store(delivery_states.set_aside(entry, delivery_states.NO_MESSAGE))
                self._parked.append(self._deliveries[entry.id])
                return None
        assert task is not None
        sent_before, entry = entry.sent_at, delivery_states.claim(entry, call, now, self.lease)
        self._store(entry)
        delivery = claiming.as_delivery(
            entry,
            sent_before=sent_before,
            task=self._heartbeats.shown(task),
            children=tuple(map(self._heartbeats.shown, self._tables.tasks.below(task.uid))),
            checkpoint=checkpoint,
            order=order,
            alert=self._tables.alerts.get(alert_id) if (alert_id := alert_of(task, checkpoint)) is not None else None,
            message_receipt=message_receipt,
            drawn=drawn,
        )
        if not has_moved:
            return delivery
        ordering_keys = ordering_keys_of(entry.sink, root, self._tables.rules.routes) if root is not None else ()
        successor_receipt = next(
            (self._receipts[entry.sink, x] for x in ordering_keys if (entry.sink, x) in self._receipts), None
        )
        return last(delivery, self._heartbeats.shown(root) if root is not None else None, successor_receipt)

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """Return the seconds until a delivery or a timer is due; None when nothing waits."""
        self._heartbeats.pulse()
        now = self._clock()
        waits = [x.lease_until for x in self._sending.values() if x.lease_until and (sinks is None or x.sink in sinks)]
        levels = BucketLevels(self._buckets, now)
        for kind, first in self._waiting.firsts():
            if sinks is None or kind[0] in sinks:
                waits.append(max(first[0], levels.open_at(rate_limits(*kind[:3]), is_urgent=is_urgent(kind))))
        if (timer := self._tables.timers.first()) is not None:
            waits.append(timer)
        return max(0.0, (min(waits) - now).total_seconds()) if waits else None

    async def finish(self, delivery: Delivery, outcome: Outcome) -> list[OpenCircuit]:
        """Store the outcome of a claimed delivery. Without effect on it if another process took the lease over."""
        now = self._clock()
        entry = self._deliveries.get(delivery.id)
        is_held = entry is not None and delivery_states.is_held(entry, delivery)
        is_repeat = entry is not None and delivery_states.is_same_claim(entry, delivery) and not is_held
        wait = delivery_states.wait_of(outcome, now)
        closed: list[OpenCircuit] = []
        is_paced = False
        if not is_repeat and (is_held or not rate_limiting.is_uncalled(outcome)):
            closed, is_paced = self._answer(delivery, outcome, wait, now)
        if entry is not None and is_held:
            entry = delivery_states.finish(
                entry, outcome, now, wait=wait, sent_before=delivery.sent_at, is_paced=is_paced
            )
            if entry.is_state and (receipt := delivery_states.kept_receipt(outcome)) is not None:
                self._receipts[ordering_key_of(entry)] = receipt
            self._store(entry)
        elif (
            entry is not None
            and entry.claimed_at != delivery.claimed_at
            and delivery_states.has_sent(delivery, outcome)
        ):
            self._store(delivery_states.report_late(entry))
        return closed

    def _answer(
        self, delivery: Delivery, outcome: Outcome, wait: timedelta, now: datetime
    ) -> tuple[list[OpenCircuit], bool]:
        """Apply an outcome to the buckets of the call.

        Return the circuits that opened, and whether the buckets hold the next attempt back.
        """
        concerned: dict[str, Bucket] = {}
        answer = outcome if isinstance(outcome, (RetryAt, GiveUp)) else None
        for key in rate_limiting.concerned(delivery.drawn, outcome):
            rate_limit = self._rate_limits.get(key) or RateLimit(key=key)
            bucket = self._buckets.get(key)
            if (
                bucket is None
                and answer is not None
                and (key in answer.closes or (answer.is_failure and rate_limit.is_breaker))
            ):
                bucket = rate_limiting.full(rate_limit, now)
            if bucket is not None:
                concerned[key] = bucket
        changed, closed = rate_limiting.after_outcome(
            concerned, self._rate_limits, outcome, now, claimed_at=delivery.claimed_at, wait=wait, jitter=self._jitter()
        )
        self._buckets.update(changed)
        return closed, rate_limiting.is_held((concerned | changed).values(), outcome)
