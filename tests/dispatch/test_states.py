"""The state machine of deliveries keeps its rules in any order of events, and the docs show the code's
table.
"""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spanpost.model.deliveries import Delivery, Mode, Receipt, SinkCall, Urgency
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.model.tasks import Task
from spanpost.routing import claiming, delivery_states
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.delivery_transitions import TRANSITIONS, DeliveryEvent, DeliveryState
from spanpost.routing.planned import ON_THE_WAY, Again, PlannedDelivery

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LEASE = timedelta(seconds=60)
POSTED = Receipt(ref={"ts": "1"})
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how-deliveries-travel.md"

_failures = st.one_of(
    st.builds(
        RetryAt,
        at=st.sampled_from([NOW, NOW + timedelta(hours=1)]),
        reason=st.just("timeout"),
        reconcile=st.booleans(),
        is_unsent=st.booleans(),
        has_looked=st.booleans(),
    ),
    st.builds(GiveUp, reason=st.sampled_from(["expired", delivery_states.UNVERIFIABLE]), reconcile=st.booleans()),
)
_sent: st.SearchStrategy[Outcome] = st.one_of(st.just(POSTED), st.just(Receipt(skipped="unchanged")), _failures)
_looked: st.SearchStrategy[Outcome] = st.one_of(st.just(Arrived(receipt=POSTED)), st.just(NotArrived()), _failures)


def delivery(
    number: int = 1, mode: Mode = Mode.CHECKPOINT, again: Again = Again.NEVER, urgency: Urgency = Urgency.NORMAL
) -> PlannedDelivery:
    """Return one of the deliveries of one ordering key."""
    key = "ordering_key" if mode is Mode.STATE else f"key{ON_THE_WAY}" if again is Again.NEWEST else "key"
    checkpoint = UUID(int=number) if mode is Mode.CHECKPOINT else None
    return PlannedDelivery(
        sink="slack",
        ordering_key="ordering_key",
        mode=mode,
        key=key,
        urgency=urgency,
        task_uid=UUID(int=9),
        checkpoint_id=checkpoint,
        again=again,
    )


def sent(entry: OutboxEntry, outcome: Outcome, call: SinkCall = SinkCall.POST) -> OutboxEntry:
    """Return a waiting entry after one call with this outcome."""
    return delivery_states.finish(delivery_states.claim(entry, call, NOW, LEASE), outcome, NOW)


class OneDelivery(RuleBasedStateMachine):
    """One delivery, its workers, and what the sink may show."""

    # A deletion (`Mode.ERASE`) may be repeated unseen: it is not put, and needs no look-up.
    @initialize(mode=st.sampled_from([Mode.CHECKPOINT, Mode.STATE]), again=st.sampled_from(Again))
    def begin(self, mode: Mode, again: Again) -> None:
        self.mode, self.again = mode, again if mode is Mode.CHECKPOINT else Again.NEVER
        self.numbers = itertools.count(2)
        self.now = NOW
        self.entry = delivery_states.begin(delivery(1, mode, self.again), NOW)
        self.is_ordering_key_shown = False
        #: A call may have shown it, and no lookup was made since.
        self.may_stand = False
        self.claims: list[tuple[Delivery, SinkCall]] = []

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def become(self, entry: OutboxEntry) -> None:
        assert entry.revision >= self.entry.revision
        assert entry.attempt in (0, self.entry.attempt - 1, self.entry.attempt, self.entry.attempt + 1)
        self.entry = entry

    @rule(urgency=st.sampled_from(Urgency), is_newer=st.booleans(), is_recorded_now=st.booleans())
    def put(self, urgency: Urgency, is_newer: bool, is_recorded_now: bool) -> None:
        given = delivery(next(self.numbers), self.mode, self.again, urgency)
        entry = delivery_states.put(self.entry, given, self.tick(), is_newer=is_newer, is_recorded_now=is_recorded_now)
        if entry is not self.entry and self.mode is Mode.STATE:
            assert entry.revision == self.entry.revision + 1
        self.become(entry)

    @precondition(lambda self: self.entry.state is DeliveryState.WAITING)
    @rule()
    def claim(self) -> None:
        call = claiming.call_of(self.entry, has_message_receipt=self.is_ordering_key_shown)
        assert call is SinkCall.RECONCILE or not self.may_stand, "sent again without a look"
        before = self.entry
        self.become(delivery_states.claim(before, call, self.tick(), LEASE))
        delivery = claiming.as_delivery(
            self.entry,
            sent_before=before.sent_at,
            task=Task(uid=before.task_uid, tenant="", task_id=""),
            children=(),
            checkpoint=None,
            order=None,
            alert=None,
            message_receipt=None,
            drawn=(),
        )
        self.claims.append((delivery, call))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Report a call's outcome as the worker that holds the lease, or as an earlier one."""
        delivery, call = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        outcome = data.draw(_looked if call is SinkCall.RECONCILE else _sent)
        if not delivery_states.is_held(self.entry, delivery):
            if not delivery_states.is_same_claim(self.entry, delivery) and delivery_states.has_sent(delivery, outcome):
                self.become(delivery_states.report_late(self.entry))
                self.may_stand = True
            return
        was_rechecked = self.entry.is_rechecked
        if isinstance(outcome, (Receipt, Arrived, NotArrived)):
            self.may_stand = was_rechecked
        elif outcome.reconcile and not (isinstance(outcome, RetryAt) and outcome.is_unsent):
            self.may_stand = True
        wait = delivery_states.wait_of(outcome, NOW)
        was_behind = self.entry.is_behind
        self.become(delivery_states.finish(self.entry, outcome, self.tick(), wait=wait, sent_before=delivery.sent_at))
        if self.mode is Mode.STATE and (receipt := delivery_states.kept_receipt(outcome)) is not None:
            self.is_ordering_key_shown = bool(receipt)
        assert self.entry.state is DeliveryState.WAITING or not was_behind, "something newer would never be sent"

    @precondition(lambda self: self.entry.state is DeliveryState.SENDING)
    @rule()
    def expire(self) -> None:
        self.become(delivery_states.expire(self.entry))
        self.may_stand = self.may_stand or any(
            c is not SinkCall.RECONCILE and delivery_states.is_same_claim(self.entry, d) for d, c in self.claims
        )

    @precondition(lambda self: self.entry.state is DeliveryState.DEAD)
    @rule()
    def revive(self) -> None:
        if self.entry.reason == delivery_states.UNVERIFIABLE:
            self.may_stand = False  # a person decided to send it without a lookup
        self.become(delivery_states.revive(self.entry, self.tick()))

    @precondition(lambda self: self.entry.state is DeliveryState.WAITING)
    @rule(
        event=st.sampled_from(
            [
                delivery_states.discard,
                delivery_states.skip,
                lambda entry: delivery_states.set_aside(entry, delivery_states.NO_SUBJECT),
            ]
        )
    )
    def close(self, event) -> None:
        self.become(event(self.entry))

    @precondition(lambda self: self.mode is Mode.STATE)
    @rule()
    def wake(self) -> None:
        self.become(delivery_states.wake(self.entry, self.tick()))

    @invariant()
    def a_lease_is_held_while_it_is_sent_and_at_no_other_time(self) -> None:
        is_leased = self.entry.lease_until is not None
        assert is_leased is (self.entry.state is DeliveryState.SENDING)
        assert not self.entry.is_rechecked or is_leased

    @invariant()
    def what_may_stand_is_looked_up(self) -> None:
        is_marked = self.entry.is_unsure or self.entry.is_rechecked or self.entry.state is DeliveryState.SENDING
        assert is_marked or not self.may_stand

    @invariant()
    def figures_make_sense(self) -> None:
        assert self.entry.attempt >= 0
        assert self.entry.claimed_revision <= self.entry.revision


TestOneDelivery = OneDelivery.TestCase


@given(st.sampled_from(TRANSITIONS), st.sampled_from(DeliveryState))
def test_an_event_that_the_table_does_not_have_is_refused(
    transition: delivery_states.Transition, state: DeliveryState
) -> None:
    """Each event is accepted in the states of its rows, leads to their results, and raises in every other
    state.
    """
    entry = msgspec.structs.replace(delivery_states.begin(delivery(mode=Mode.STATE), NOW), state=state)
    events = {
        DeliveryEvent.CLAIM: lambda e: delivery_states.claim(e, SinkCall.POST, NOW, LEASE),
        DeliveryEvent.RECEIPT: lambda e: delivery_states.finish(e, POSTED, NOW),
        DeliveryEvent.FOUND: lambda e: delivery_states.finish(e, Arrived(receipt=POSTED), NOW),
        DeliveryEvent.ABSENT: lambda e: delivery_states.finish(e, NotArrived(), NOW),
        DeliveryEvent.RETRY: lambda e: delivery_states.finish(e, RetryAt(at=NOW, reason="busy"), NOW),
        DeliveryEvent.GIVE_UP: lambda e: delivery_states.finish(e, GiveUp(reason="expired"), NOW),
        DeliveryEvent.EXPIRE: delivery_states.expire,
        DeliveryEvent.REPORT_LATE: delivery_states.report_late,
        DeliveryEvent.PUT_AGAIN: lambda e: delivery_states.put(e, delivery(mode=Mode.STATE), NOW),
        DeliveryEvent.SKIP: delivery_states.skip,
        DeliveryEvent.SET_ASIDE: lambda e: delivery_states.set_aside(e, ""),
        DeliveryEvent.DISCARD: delivery_states.discard,
        DeliveryEvent.REVIVE: lambda e: delivery_states.revive(e, NOW),
    }
    rows = [row for row in TRANSITIONS if row.event is transition.event and state in row.sources]
    if rows:
        assert events[transition.event](entry).state in rows[0].targets
    else:
        with pytest.raises(ValueError, match="which the table does not have"):
            events[transition.event](entry)


def test_the_docs_show_the_table() -> None:
    """The page on how deliveries travel has exactly the rows of `TRANSITIONS`, in their order."""
    rows = re.findall(r"^\| `([a-z ]+)` \| ([a-z, ]+) \| ([a-z, ]+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(t.event.value, ", ".join(t.sources), ", ".join(t.targets), t.when) for t in TRANSITIONS]


def test_a_newer_state_keeps_the_place_and_the_urgency_of_the_one_that_waits() -> None:
    """A newer state takes over the older one's time and failed attempts, and the higher urgency of both."""
    entry = sent(
        delivery_states.begin(delivery(mode=Mode.STATE, urgency=Urgency.END), NOW), RetryAt(at=NOW, reason="busy")
    )
    newer = delivery_states.put(entry, delivery(mode=Mode.STATE), NOW + LEASE)
    assert (newer.born_at, newer.urgency, newer.attempt, newer.revision) == (NOW, Urgency.END, 1, 1)


def test_what_is_put_while_a_delivery_is_given_up_gets_attempts_of_its_own() -> None:
    """The outcome of an older revision does not touch the newer one, which waits with attempts of its own."""
    claimed = delivery_states.claim(delivery_states.begin(delivery(mode=Mode.STATE), NOW), SinkCall.POST, NOW, LEASE)
    behind = delivery_states.put(claimed, delivery(mode=Mode.STATE), NOW)
    later = NOW + timedelta(days=2)
    after = delivery_states.finish(behind, GiveUp(reason="expired"), later)
    assert (after.state, after.attempt, after.born_at) == (DeliveryState.WAITING, 0, later)


def test_a_milestone_put_during_a_call_is_a_new_message() -> None:
    """Of milestones of which only the newest counts, a newer one is a new message, before or after a delivery."""
    claimed = delivery_states.claim(
        delivery_states.begin(delivery(1, again=Again.NEWEST), NOW), SinkCall.POST, NOW, LEASE
    )
    during = delivery_states.finish(
        delivery_states.put(claimed, delivery(2, again=Again.NEWEST), NOW, is_newer=True), POSTED, NOW
    )
    after = delivery_states.put(
        delivery_states.finish(claimed, POSTED, NOW), delivery(2, again=Again.NEWEST), NOW, is_newer=True
    )
    assert [claiming.call_of(e, has_message_receipt=True) for e in (during, after)] == [SinkCall.POST, SinkCall.POST]


def test_reasons_and_errors_are_cut_and_mended() -> None:
    """Four thousand characters of each are kept, without those that databases refuse."""
    after = sent(delivery_states.begin(delivery(), NOW), RetryAt(at=NOW, reason="r" * 5000, error="\0" + "e" * 5000))
    assert all(
        delivery_states.LONGEST - 20 < len(text) <= delivery_states.LONGEST for text in (after.reason, after.error)
    )
    assert "\0" not in after.error


def test_the_order_within_an_ordering_key() -> None:
    """The message goes first, then checkpoints by number, newest-only ones; an edit that shows no end goes last."""
    state, reply, way = (
        delivery_states.begin(x, NOW) for x in (delivery(mode=Mode.STATE), delivery(), delivery(again=Again.NEWEST))
    )  # fmt: skip
    entries = [msgspec.structs.replace(e, id=i) for i, e in enumerate((way, reply, reply, state))]
    for has_message_receipt, expected in ((False, [3, 1, 2, 0]), (True, [1, 2, 0, 3])):
        left, order = list(entries), []
        while (found := claiming.first(left, has_message_receipt=has_message_receipt)) is not None:
            left.remove(found)
            order.append(found.id)
        assert order == expected
