"""The state machine of deliveries keeps its rules whatever happens, and the docs show the table that the code has."""

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

from spanpost.dispatch import claiming, states
from spanpost.dispatch.states import TRANSITIONS, DeliveryEvent, DeliveryState, OutboxEntry
from spanpost.domain.deliveries import Call, Delivery, Mode, Receipt, Urgency
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold.letters import ON_THE_WAY, Again, Letter

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LEASE = timedelta(seconds=60)
POSTED = Receipt(ref={"ts": "1"})
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how-letters-travel.md"

_failures = st.one_of(
    st.builds(
        RetryAt,
        at=st.sampled_from([NOW, NOW + timedelta(hours=1)]),
        reason=st.just("timeout"),
        reconcile=st.booleans(),
        is_unsent=st.booleans(),
        has_looked=st.booleans(),
    ),
    st.builds(GiveUp, reason=st.sampled_from(["expired", states.UNVERIFIABLE]), reconcile=st.booleans()),
)
_sent: st.SearchStrategy[Outcome] = st.one_of(st.just(POSTED), st.just(Receipt(skipped="unchanged")), _failures)
_looked: st.SearchStrategy[Outcome] = st.one_of(st.just(Found(receipt=POSTED)), st.just(Absent()), _failures)


def letter(number: int = 1, mode: Mode = Mode.NEWS, again: Again = Again.NEVER, urgency: Urgency = Urgency.NORMAL) -> Letter:
    """Return one of the letters of one key."""
    key = "lane" if mode is Mode.STATE else f"key{ON_THE_WAY}" if again is Again.NEWEST else "key"
    checkpoint = UUID(int=number) if mode is Mode.NEWS else None
    return Letter(
        sink="slack", lane="lane", mode=mode, key=key, urgency=urgency, task_uid=UUID(int=9), checkpoint_id=checkpoint, again=again
    )


def sent(entry: OutboxEntry, outcome: Outcome, call: Call = Call.POST) -> OutboxEntry:
    """Return a waiting entry after one call with this outcome."""
    return states.settle(states.claim(entry, call, NOW, LEASE), outcome, NOW)


class OneDelivery(RuleBasedStateMachine):
    """One delivery, the workers that carry it, and what the far side may show."""

    @initialize(mode=st.sampled_from(Mode), again=st.sampled_from(Again))
    def begin(self, mode: Mode, again: Again) -> None:
        self.mode, self.again = mode, again if mode is Mode.NEWS else Again.NEVER
        self.numbers = itertools.count(2)
        self.now = NOW
        self.entry = states.begin(letter(1, mode, self.again), NOW)
        self.is_lane_shown = False
        #: A call may have shown it, and no look was made since.
        self.may_stand = False
        self.claims: list[tuple[Delivery, Call]] = []

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def become(self, entry: OutboxEntry) -> None:
        assert entry.revision >= self.entry.revision
        assert entry.attempt in (0, self.entry.attempt - 1, self.entry.attempt, self.entry.attempt + 1)
        self.entry = entry

    @rule(urgency=st.sampled_from(Urgency), is_newer=st.booleans(), is_recorded_now=st.booleans())
    def put(self, urgency: Urgency, is_newer: bool, is_recorded_now: bool) -> None:
        given = letter(next(self.numbers), self.mode, self.again, urgency)
        entry = states.put(self.entry, given, self.tick(), is_newer=is_newer, is_recorded_now=is_recorded_now)
        if entry is not self.entry and self.mode is Mode.STATE:
            assert entry.revision == self.entry.revision + 1
        self.become(entry)

    @precondition(lambda self: self.entry.state is DeliveryState.WAITING)
    @rule()
    def claim(self) -> None:
        call = claiming.call_of(self.entry, has_lane_receipt=self.is_lane_shown)
        assert call is Call.LOOK or not self.may_stand, "sent again without a look"
        before = self.entry
        self.become(states.claim(before, call, self.tick(), LEASE))
        delivery = claiming.as_delivery(
            self.entry,
            sent_before=before.sent_at,
            task=Task(uid=before.task_uid, tenant="", task_id=""),
            children=(),
            checkpoint=None,
            order=None,
            alert=None,
            lane_receipt=None,
            drawn=(),
        )
        self.claims.append((delivery, call))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A worker, the one that holds the lease or an earlier one, says what became of its call."""
        delivery, call = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        outcome = data.draw(_looked if call is Call.LOOK else _sent)
        if not states.is_held(self.entry, delivery):
            if not states.is_same_claim(self.entry, delivery) and states.has_sent(delivery, outcome):
                self.become(states.report_late(self.entry))
                self.may_stand = True
            return
        was_rechecked = self.entry.is_rechecked
        if isinstance(outcome, (Receipt, Found, Absent)):
            self.may_stand = was_rechecked
        elif outcome.reconcile and not (isinstance(outcome, RetryAt) and outcome.is_unsent):
            self.may_stand = True
        wait = states.wait_of(outcome, NOW)
        was_behind = self.entry.is_behind
        self.become(states.settle(self.entry, outcome, self.tick(), wait=wait, sent_before=delivery.sent_at))
        if self.mode is Mode.STATE and (receipt := states.kept_receipt(outcome)) is not None:
            self.is_lane_shown = bool(receipt)
        assert self.entry.state is DeliveryState.WAITING or not was_behind, "something newer would never be sent"

    @precondition(lambda self: self.entry.state is DeliveryState.SENDING)
    @rule()
    def expire(self) -> None:
        self.become(states.expire(self.entry))
        self.may_stand = self.may_stand or any(c is not Call.LOOK and states.is_same_claim(self.entry, d) for d, c in self.claims)

    @precondition(lambda self: self.entry.state is DeliveryState.DEAD)
    @rule()
    def revive(self) -> None:
        if self.entry.reason == states.UNVERIFIABLE:
            self.may_stand = False  # a person decided to send it without a look
        self.become(states.revive(self.entry, self.tick()))

    @precondition(lambda self: self.entry.state is DeliveryState.WAITING)
    @rule(event=st.sampled_from([states.discard, states.skip, lambda entry: states.set_aside(entry, states.NO_SUBJECT)]))
    def close(self, event) -> None:
        self.become(event(self.entry))

    @precondition(lambda self: self.mode is Mode.STATE)
    @rule()
    def wake(self) -> None:
        self.become(states.wake(self.entry, self.tick()))

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
def test_an_event_that_the_table_does_not_have_is_refused(transition: states.Transition, state: DeliveryState) -> None:
    """Each event is taken in the states of its rows, leads where they say, and raises in every other state."""
    entry = msgspec.structs.replace(states.begin(letter(mode=Mode.STATE), NOW), state=state)
    events = {
        DeliveryEvent.CLAIM: lambda e: states.claim(e, Call.POST, NOW, LEASE),
        DeliveryEvent.RECEIPT: lambda e: states.settle(e, POSTED, NOW),
        DeliveryEvent.FOUND: lambda e: states.settle(e, Found(receipt=POSTED), NOW),
        DeliveryEvent.ABSENT: lambda e: states.settle(e, Absent(), NOW),
        DeliveryEvent.RETRY: lambda e: states.settle(e, RetryAt(at=NOW, reason="busy"), NOW),
        DeliveryEvent.GIVE_UP: lambda e: states.settle(e, GiveUp(reason="expired"), NOW),
        DeliveryEvent.EXPIRE: states.expire,
        DeliveryEvent.REPORT_LATE: states.report_late,
        DeliveryEvent.PUT_AGAIN: lambda e: states.put(e, letter(mode=Mode.STATE), NOW),
        DeliveryEvent.SKIP: states.skip,
        DeliveryEvent.SET_ASIDE: lambda e: states.set_aside(e, ""),
        DeliveryEvent.DISCARD: states.discard,
        DeliveryEvent.REVIVE: lambda e: states.revive(e, NOW),
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
    """It waits since the older one was put, is as urgent as the more urgent of both, and keeps the failed attempts."""
    entry = sent(states.begin(letter(mode=Mode.STATE, urgency=Urgency.END), NOW), RetryAt(at=NOW, reason="busy"))
    newer = states.put(entry, letter(mode=Mode.STATE), NOW + LEASE)
    assert (newer.born_at, newer.urgency, newer.attempt, newer.revision) == (NOW, Urgency.END, 1, 1)


def test_what_is_put_while_a_delivery_is_given_up_gets_attempts_of_its_own() -> None:
    """The outcome of an older revision says nothing about the newer one, which waits as if it was put a moment later."""
    claimed = states.claim(states.begin(letter(mode=Mode.STATE), NOW), Call.POST, NOW, LEASE)
    behind = states.put(claimed, letter(mode=Mode.STATE), NOW)
    later = NOW + timedelta(days=2)
    after = states.settle(behind, GiveUp(reason="expired"), later)
    assert (after.state, after.attempt, after.born_at) == (DeliveryState.WAITING, 0, later)


def test_a_milestone_that_comes_while_one_is_sent_is_told_beside_it() -> None:
    """News of which the newest is enough is a new message, whether it was put before or after the older one was delivered."""
    claimed = states.claim(states.begin(letter(1, again=Again.NEWEST), NOW), Call.POST, NOW, LEASE)
    during = states.settle(states.put(claimed, letter(2, again=Again.NEWEST), NOW, is_newer=True), POSTED, NOW)
    after = states.put(states.settle(claimed, POSTED, NOW), letter(2, again=Again.NEWEST), NOW, is_newer=True)
    assert [claiming.call_of(e, has_lane_receipt=True) for e in (during, after)] == [Call.POST, Call.POST]


def test_reasons_and_errors_are_cut_and_mended() -> None:
    """Four thousand characters of each are kept, without what no database takes."""
    after = sent(states.begin(letter(), NOW), RetryAt(at=NOW, reason="r" * 5000, error="\0" + "e" * 5000))
    assert all(states.LONGEST - 20 < len(text) <= states.LONGEST for text in (after.reason, after.error))
    assert "\0" not in after.error


def test_the_order_within_an_ordering_key() -> None:
    """The message first, then news in the order of its numbers, newest-only news, and the edit of the message at last."""
    state, news, way = (
        states.begin(x, NOW) for x in (letter(mode=Mode.STATE), letter(), letter(again=Again.NEWEST))
    )  # fmt: skip
    entries = [msgspec.structs.replace(e, id=i) for i, e in enumerate((way, news, news, state))]
    for has_lane_receipt, expected in ((False, [3, 1, 2, 0]), (True, [1, 2, 0, 3])):
        left, order = list(entries), []
        while (found := claiming.first(left, has_lane_receipt=has_lane_receipt)) is not None:
            left.remove(found)
            order.append(found.id)
        assert order == expected
