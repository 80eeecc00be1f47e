"""How every store limits rates: a class of tests beside `ExerciseStore`, with the same fixture and one more
method.

    class TestMyPacing(ExercisePacing):
        @pytest.fixture
        async def make_store(self): ...

        async def pass_time(self, store, seconds): ...   # advances the store's clock, or ages its rows
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from spanpost.model.deliveries import Delivery, Mode, RateLimit, RateLimits, Receipt, SinkCall, unlimited
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, RetryAt
from spanpost.store.protocols import Store
from spanpost.testing.exercise_store import POSTED, SINK, MakeStore, drain, in_seconds, moved, steps
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended

#: So slow that within a test nothing is gained.
SLOW = 1 / 3600


def limits(
    post: Sequence[RateLimit] = (), edit: Sequence[RateLimit] = (), look: Sequence[RateLimit] = ()
) -> RateLimits:
    """Return a function with these rate limits."""
    named = {SinkCall.POST: tuple(post), SinkCall.EDIT: tuple(edit), SinkCall.RECONCILE: tuple(look)}
    return lambda sink, address, call: named[call]


def paced(key: str, burst: float = 1.0, reserve: float = 0.0) -> RateLimit:
    """Return a rate limit that gains nothing within a test."""
    return RateLimit(key=key, rate=SLOW, burst=burst, reserve=reserve)


BREAKER = RateLimit(key="breaker", is_breaker=True)
BROKEN = limits(post=[BREAKER], edit=[BREAKER], look=[BREAKER])


def _asks(trace: int) -> list[Observation]:
    asked = {"agent.approval.id": f"a{trace}", "agent.approval.question": "deploy?"}
    return [
        *steps(0, trace=trace),
        an_event(trace=trace, span=1, name="agent.approval.requested", attributes=asked, index=50),
    ]


def _ended(trace: int, *, is_failed: bool = False) -> list[Observation]:
    root_span: dict[str, Any] = {
        "agent.task.name": f"steps {trace}",
        **({"agent.status": "error"} if is_failed else {}),
    }
    return [ended(trace=trace, span=1, name="agent", attributes=root_span)]


def _names(deliveries: Sequence[Delivery]) -> list[str]:
    return [d.task.name for d in deliveries]


def _unsure() -> RetryAt:
    return RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True)


async def _first(store: Store, rate_limits: RateLimits = unlimited) -> Delivery:
    [delivery] = await store.outbox.claim([SINK], 1, rate_limits)
    return delivery


class ExercisePacing(Exercised):
    """How every store limits rates, opens circuit breakers, and reconciles before it sends again."""

    # --- pace --------------------------------------------------------------------------------------------------------

    async def test_no_more_is_claimed_than_there_are_calls(self, make_store: MakeStore) -> None:
        """Of many ordering keys as many are claimed as calls are left.

        The others wait unchanged until a call is gained.
        """
        store = await make_store(lease=timedelta(hours=9))
        for trace in range(1, 6):
            await store.record(steps(0, trace=trace))
        rate_limits = limits(post=[paced("p", burst=2.0)])
        claimed = await store.outbox.claim([SINK], 10, rate_limits)
        assert [d.drawn for d in claimed] == [("p",)] * 2
        assert all(d.claimed_at is not None and d.sent_at is None for d in claimed)
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        due = await store.outbox.due_in([SINK], rate_limits)
        assert due is not None
        assert 3500 < due <= 3600
        rows = await store.outbox.deliveries(state="waiting", limit=100)
        assert {row.attempt for row in rows} == {0}

    async def test_a_call_is_gained_in_time(self, make_store: MakeStore) -> None:
        """When a call is gained the next ordering key is due, and not before."""
        store = await make_store(lease=timedelta(hours=9))
        for trace in (1, 2, 3):
            await store.record(steps(0, trace=trace))
        rate_limits = limits(post=[paced("p")])
        await _first(store, rate_limits)
        await self.pass_time(store, 1800)
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        due = await store.outbox.due_in([SINK], rate_limits)
        assert due is not None
        assert 1700 < due <= 1800
        await self.pass_time(store, 1801)
        assert await store.outbox.due_in([SINK], rate_limits) == 0
        assert len(await store.outbox.claim([SINK], 10, rate_limits)) == 1

    async def test_closed_edits_let_posts_pass(self, make_store: MakeStore) -> None:
        """While no edits are left, new messages and checkpoints of the same ordering keys go out, and the
        newest edit waits.
        """
        store = await make_store()
        for trace in (1, 2, 3):
            await store.record(moved(10.0, index=0, trace=trace))
        await drain(store)
        rate_limits = limits(edit=[paced("edit")])
        for trace in (1, 2, 3):
            await store.record(moved(12.0, index=1, trace=trace))
        [edit] = await store.outbox.claim([SINK], 10, rate_limits)
        assert (edit.mode, edit.drawn, edit.message_receipt) == (Mode.STATE, ("edit",), POSTED)
        await store.outbox.finish(edit, POSTED)
        for percent in (13.0, 14.0, 15.0):
            await store.record(moved(percent, index=int(percent), trace=2))
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        await store.record(steps(0, trace=9))
        await store.record(
            [an_event(trace=2, span=1, name="agent.checkpoint", attributes={"agent.checkpoint.message": "!"}, index=9)]
        )
        passed = await store.outbox.claim([SINK], 10, rate_limits)
        assert sorted((d.mode, d.task.name) for d in passed) == [(Mode.CHECKPOINT, "moving"), (Mode.STATE, "steps 9")]
        for delivery in passed:
            await store.outbox.finish(delivery, POSTED)
        rest = await drain(store)
        assert [d.task.progress for d in rest if d.mode is Mode.STATE and d.task.name == "moving"] == [15.0, 12.0]

    async def test_approvals_then_ends_then_errors_then_the_rest(self, make_store: MakeStore) -> None:
        """Each remaining call goes to the most urgent ordering key, however long the others wait."""
        store = await make_store()
        for trace in (1, 2, 3, 4):
            await store.record(steps(0, trace=trace))
        await drain(store)
        await store.record([*steps(0, trace=1), *moved(5.0, index=3, trace=1)])
        await store.record(_ended(2))
        await store.record(_asks(3))
        rate_limits = limits(post=[paced("p", burst=2.0)], edit=[paced("e", burst=1.0)])
        out = []
        for _ in range(3):
            out += await store.outbox.claim([SINK], 1, rate_limits)
        assert _names(out)[:2] == ["steps 3", "steps 2"]
        assert out[0].urgency == "approval"

    async def test_the_reserve_is_kept_for_the_urgent(self, make_store: MakeStore) -> None:
        """The last calls are for approvals, ends and errors.

        Other ordering keys are due when more than the reserve is left.
        """
        store = await make_store()
        for trace in range(1, 5):
            await store.record(steps(0, trace=trace))
        rate_limits = limits(post=[paced("p", burst=3.0, reserve=1.0)])
        assert len(await store.outbox.claim([SINK], 10, rate_limits)) == 2
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        await store.record(_asks(8))
        assert await store.outbox.due_in([SINK], rate_limits) == 0
        assert _names(await store.outbox.claim([SINK], 10, rate_limits)) == ["steps 8"]
        assert await store.outbox.claim([SINK], 10, rate_limits) == []

    async def test_a_skipped_delivery_costs_no_call(self, make_store: MakeStore) -> None:
        """A delivery that a sink skipped, or a dispatcher returned unsent, costs no call.

        A returned one is no attempt.
        """
        store = await make_store()
        for trace in (1, 2):
            await store.record(steps(0, trace=trace))
        rate_limits = limits(post=[paced("p")])
        first = await _first(store, rate_limits)
        await store.outbox.finish(first, RetryAt(at=in_seconds(-1), reason="late", is_unsent=True))
        again = await _first(store, rate_limits)
        assert (again.attempt, again.is_unknown, again.sent_at) == (1, False, None)
        await store.outbox.finish(again, Receipt(skipped="muted"))
        assert len(await store.outbox.claim([SINK], 1, rate_limits)) == 1
        assert await store.outbox.claim([SINK], 1, rate_limits) == []

    async def test_all_rate_limits_or_none(self, make_store: MakeStore) -> None:
        """A call that one of its rate limits does not allow uses none of the others."""
        store = await make_store()
        for trace in (1, 2, 3):
            await store.record(steps(0, trace=trace))
        narrow = limits(post=[paced("wide", burst=2.0), paced("narrow")])
        assert len(await store.outbox.claim([SINK], 10, narrow)) == 1
        assert len(await store.outbox.claim([SINK], 10, limits(post=[paced("wide", burst=2.0)]))) == 1

    # --- closed ------------------------------------------------------------------------------------------------------

    async def test_a_retry_after_holds_for_the_whole_rate_limit(self, make_store: MakeStore) -> None:
        """A time that the service names closes the rate limit for every delivery, urgent ones too, and no
        other rate limit.
        """
        store = await make_store()
        await store.record(moved(10.0, index=0, trace=2))
        await drain(store)
        await store.record(steps(0, trace=1))
        rate_limits = limits(post=[RateLimit(key="post")], edit=[RateLimit(key="edit")])
        first = await _first(store, rate_limits)
        wait = RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",))
        [closed] = await store.outbox.finish(first, wait)
        assert (closed.key, closed.why, closed.reason) == ("post", "throttled", "ratelimited")
        await store.record(_asks(3))
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        due = await store.outbox.due_in([SINK], rate_limits)
        assert due is not None
        assert 590 < due <= 600
        [row] = await store.outbox.rate_limits(is_closed=True)
        assert (row.key, row.state, row.why, row.reason) == ("post", "closed", "throttled", "ratelimited")
        await store.record(moved(12.0, index=1, trace=2))
        assert [d.drawn for d in await store.outbox.claim([SINK], 10, rate_limits)] == [("edit",)]
        await self.pass_time(store, 601)
        assert _names(await store.outbox.claim([SINK], 1, rate_limits)) == ["steps 3"]
        assert [row for row in await store.outbox.rate_limits(is_closed=True) if row.key == "post"] == []

    async def test_failures_open_the_circuit_and_a_probe_closes_it(self, make_store: MakeStore) -> None:
        """Five failures in a row stop a sink. Then one call at a time is sent, until one succeeds."""
        store = await make_store(lease=timedelta(hours=1))
        for trace in range(1, 9):
            await store.record(steps(0, trace=trace))
        claimed = await store.outbox.claim([SINK], 6, BROKEN)
        down = RetryAt(at=in_seconds(-1), reason="connect", is_failure=True)
        closed = [await store.outbox.finish(delivery, down) for delivery in claimed]
        assert [[c.why for c in each] for each in closed] == [[], [], [], [], ["failing"], []]
        assert await store.outbox.claim([SINK], 10, BROKEN) == []
        due = await store.outbox.due_in([SINK], BROKEN)
        assert due is not None
        assert 6 < due <= 12
        await self.pass_time(store, 13)
        assert await store.outbox.due_in([SINK], BROKEN) == 0
        probe = await _first(store, BROKEN)
        assert await store.outbox.claim([SINK], 10, BROKEN) == []
        [row] = await store.outbox.rate_limits(is_closed=True)
        assert (row.state, row.why) == ("probing", "failing")
        [again] = await store.outbox.finish(probe, down)
        assert again.why == "failing"
        await self.pass_time(store, 25)
        probe = await _first(store, BROKEN)
        assert await store.outbox.finish(probe, POSTED) == []
        assert len(await store.outbox.claim([SINK], 10, BROKEN)) == 8
        assert await store.outbox.rate_limits(is_closed=True) == []

    async def test_failed_probes_are_due_when_the_circuit_closes(self, make_store: MakeStore) -> None:
        """Deliveries that failed as probes have no other wait: after one success all go out, urgent ones first."""
        store = await make_store(lease=timedelta(hours=1))
        for trace in range(1, 9):
            await store.record(_asks(trace) if trace == 4 else steps(0, trace=trace))
        down = RetryAt(at=in_seconds(600), reason="connect", is_failure=True)
        claimed = await store.outbox.claim([SINK], 8, BROKEN)
        for delivery in claimed:
            await store.outbox.finish(delivery, down)
        # The first four failed before it opened: those wait by themselves.
        held = {d.id for d in claimed[4:]}
        for _ in range(3):
            await self.pass_time(store, 80)
            probe = await _first(store, BROKEN)
            assert probe.id in held
            await store.outbox.finish(probe, down)
        await self.pass_time(store, 80)
        back = await _first(store, BROKEN)
        await store.outbox.finish(back, POSTED)
        assert held - {back.id} <= {d.id for d in await store.outbox.claim([SINK], 10, BROKEN)}
        await self.pass_time(store, 600)
        assert "steps 4" in _names(await store.outbox.claim([SINK], 10, BROKEN))

    async def test_an_urgent_delivery_that_always_fails_blocks_no_other(self, make_store: MakeStore) -> None:
        """Deliveries take turns as probes: however urgent the failing one, the next probe is another delivery."""
        store = await make_store(lease=timedelta(hours=1))
        await store.record(steps(0, trace=1))
        await store.record(_asks(2))
        down = RetryAt(at=in_seconds(-1), reason="internal_error", is_failure=True)
        for _ in range(5):
            guilty = await _first(store, BROKEN)
            assert guilty.task.name == "steps 2"
            await store.outbox.finish(guilty, down)
        await self.pass_time(store, 13)
        other = await _first(store, BROKEN)
        assert other.task.name == "steps 1"
        await store.outbox.finish(other, down)
        await self.pass_time(store, 25)
        assert (await _first(store, BROKEN)).task.name == "steps 2"

    async def test_a_refusal_waits_for_a_person(self, make_store: MakeStore) -> None:
        """A refusal that a person must mend is retried after five minutes, then less often, or at once at
        that person's request.
        """
        store = await make_store(lease=timedelta(hours=9))
        for trace in (1, 2, 3):
            await store.record(steps(0, trace=trace))
        no = RetryAt(
            at=in_seconds(-1), reason="token_revoked", error="make a new token", closes=("breaker",), is_refusal=True
        )
        for longest in (360, 720, 1440):
            probe = await _first(store, BROKEN)
            assert longest == 360 or await store.outbox.claim([SINK], 10, BROKEN) == []
            [closed] = await store.outbox.finish(probe, no)
            assert (closed.why, closed.reason) == ("refused", "token_revoked")
            due = await store.outbox.due_in([SINK], BROKEN)
            assert due is not None
            assert longest * 0.6 < due <= longest
            if longest < 1440:
                await self.pass_time(store, longest + 1)
        [row] = await store.outbox.rate_limits(is_closed=True)
        assert (row.state, row.why, row.error) == ("closed", "refused", "make a new token")
        assert await store.outbox.reopen(["another"]) == 0
        assert await store.outbox.reopen(["breaker"]) == 1
        assert len(await store.outbox.claim([SINK], 10, BROKEN)) == 3

    async def test_calls_under_way_do_not_extend_a_pause(self, make_store: MakeStore) -> None:
        """Calls that were under way when a rate limit closed do not extend the pause, whatever their outcome."""
        store = await make_store()
        for trace in (1, 2, 3):
            await store.record(steps(0, trace=trace))
        no = RetryAt(at=in_seconds(-1), reason="token_revoked", closes=("breaker",), is_refusal=True)
        first, second, third = await store.outbox.claim([SINK], 10, BROKEN)
        [closed] = await store.outbox.finish(first, no)
        assert await store.outbox.finish(second, no) == []
        assert await store.outbox.finish(third, POSTED) == []
        [row] = await store.outbox.rate_limits(is_closed=True)
        assert row.until == closed.until

    async def test_only_what_is_asked_for_is_due(self, make_store: MakeStore) -> None:
        """A delivery to another sink is not due for this one."""
        store = await make_store()
        await store.record(steps(0))
        assert await store.outbox.due_in(["another"], limits()) is None
        assert await store.outbox.due_in(["another", SINK], limits()) == 0

    # --- looking -----------------------------------------------------------------------------------------------------

    async def test_a_reconciliation_has_its_own_rate_limit(self, make_store: MakeStore) -> None:
        """A doubtful delivery waits for the rate limit of reconciliations alone, and blocks no other."""
        store = await make_store()
        await store.record(steps(0, trace=1))
        rate_limits = limits(post=[RateLimit(key="post")], look=[RateLimit(key="look")])
        first = await _first(store, rate_limits)
        await store.outbox.finish(first, _unsure())
        look = await _first(store, rate_limits)
        assert (look.drawn, look.is_unknown, look.lookups) == (("look",), True, 0)
        assert look.sent_at == first.claimed_at
        await store.outbox.finish(look, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("look",)))
        await store.record(steps(0, trace=2))
        assert _names(await store.outbox.claim([SINK], 10, rate_limits)) == ["steps 2"]
        await self.pass_time(store, 601)
        again = [d for d in await store.outbox.claim([SINK], 10, rate_limits) if d.id == look.id]
        assert [(d.is_unknown, d.lookups) for d in again] == [(True, 0)]

    async def test_an_attempt_without_a_call_changes_nothing(self, make_store: MakeStore) -> None:
        """An attempt that made no call counts neither as an attempt nor as a reconciliation, and leaves no doubt."""
        store = await make_store()
        await store.record(steps(0))
        first = await _first(store)
        late = RetryAt(at=in_seconds(-1), reason="late", is_unsent=True, reconcile=True, has_looked=True)
        await store.outbox.finish(first, late)
        again = await _first(store)
        assert (again.id, again.attempt, again.is_unknown, again.lookups, again.sent_at) == (
            first.id,
            1,
            False,
            0,
            None,
        )

    async def test_reconciliations_are_counted_until_it_is_sent_again(self, make_store: MakeStore) -> None:
        """Reconciliations that found nothing are counted, failed ones are not.

        A delivery that did not arrive is sent at once.
        """
        store = await make_store()
        await store.record(steps(0))
        first = await _first(store)
        await store.outbox.finish(first, _unsure())
        for lookups, has_looked in ((0, True), (1, False), (1, True)):
            look = await _first(store)
            assert (look.is_unknown, look.lookups, look.sent_at) == (True, lookups, first.claimed_at)
            more = RetryAt(at=in_seconds(-1), reason="unreconciled", reconcile=has_looked, has_looked=has_looked)
            await store.outbox.finish(look, more)
        look = await _first(store)
        assert look.lookups == 2
        await store.outbox.finish(look, NotArrived())
        sent = await _first(store)
        assert (sent.id, sent.is_unknown, sent.lookups, sent.sent_at) == (first.id, False, 0, first.claimed_at)
        await store.outbox.finish(sent, _unsure())
        assert (await _first(store)).sent_at == sent.claimed_at

    async def test_a_found_checkpoint_is_delivered(self, make_store: MakeStore) -> None:
        """A checkpoint that a reconciliation finds is delivered, with the receipt that was found."""
        store = await make_store()
        await store.record(steps(1))
        await store.outbox.finish(await _first(store), POSTED)
        delivery = await _first(store)
        await store.outbox.finish(delivery, _unsure())
        await store.outbox.finish(await _first(store), Arrived(receipt=Receipt(ref={"ts": "2.0"})))
        assert [r.state for r in await store.outbox.deliveries() if r.id == delivery.id] == ["delivered"]
        assert delivery.id not in {d.id for d in await drain(store)}

    async def test_a_state_that_is_found_is_edited_next(self, make_store: MakeStore) -> None:
        """The text that a reconciliation finds may be old: the ordering key keeps the receipt, and an edit
        follows before anything else.
        """
        store = await make_store()
        await store.record(steps(0))
        state = await _first(store)
        await store.outbox.finish(state, _unsure())
        look = await _first(store)
        found = Receipt(ref={"ts": "7.0"})
        await store.outbox.finish(look, Arrived(receipt=found))
        rate_limits = limits(edit=[RateLimit(key="edit")])
        edits = [d for d in await drain_with(store, rate_limits) if d.id == state.id]
        assert [(d.is_unknown, d.message_receipt, d.drawn) for d in edits] == [(False, found, ("edit",))]

    async def test_a_doubtful_dead_letter_is_reconciled_when_it_is_retried(self, make_store: MakeStore) -> None:
        """A dead letter that may have arrived is not sent blindly by `retry`."""
        store = await make_store()
        await store.record(steps(0))
        first = await _first(store)
        await store.outbox.finish(first, GiveUp(reason="expired", reconcile=True))
        assert await store.outbox.retry([first.id]) == 1
        assert (await _first(store)).is_unknown is True

    # --- leases ------------------------------------------------------------------------------------------------------

    async def test_the_only_delivery_of_an_ordering_key_is_taken_over(self, make_store: MakeStore) -> None:
        """When its worker dies, the only delivery of an ordering key is due after the lease, and is reconciled."""
        store = await make_store()
        await store.record(steps(0))
        await drain(store)
        await store.record(moved(50.0, index=1, trace=1))
        lost = await _first(store)
        due = await store.outbox.due_in()
        assert due is not None
        assert 50 < due <= 60
        await self.pass_time(store, 61)
        assert await store.outbox.due_in() == 0
        found = await _first(store)
        assert (found.id, found.is_unknown, found.attempt) == (lost.id, True, lost.attempt)

    async def test_a_late_receipt_is_reconciled(self, make_store: MakeStore) -> None:
        """A receipt after the lease was lost: the delivery is reconciled once more, though another worker
        delivered it meanwhile.
        """
        for is_finished_before in (True, False):
            store = await make_store()
            await store.record(steps(0))
            late = await _first(store)
            await self.pass_time(store, 61)
            await store.outbox.finish(await _first(store), NotArrived())
            second = await _first(store)
            assert (second.id, second.is_unknown) == (late.id, False)
            if is_finished_before:
                await store.outbox.finish(second, POSTED)
            await store.outbox.finish(late, Receipt(ref={"ts": "late"}))
            if not is_finished_before:
                assert await store.outbox.claim([SINK], 10) == []
                await store.outbox.finish(second, POSTED)
            out = await drain(store, lambda d: Arrived(receipt=POSTED) if d.is_unknown else POSTED)
            again = [(d.is_unknown, d.message_receipt) for d in out if d.id == late.id]
            assert again == [(True, POSTED), (False, POSTED)]
            assert {r.state for r in await store.outbox.deliveries()} == {"delivered"}

    async def test_a_delivered_checkpoint_is_not_sent_again_by_a_blind_reconciliation(
        self, make_store: MakeStore
    ) -> None:
        """A checkpoint with a receipt that is reconciled on suspicion is not sent again by a sink that finds
        nothing.
        """
        store = await make_store()
        await store.record(steps(1))
        await store.outbox.finish(await _first(store), POSTED)
        late = await _first(store)
        await self.pass_time(store, 61)
        await store.outbox.finish(await _first(store), NotArrived())
        second = await _first(store)
        assert second.id == late.id
        await store.outbox.finish(second, POSTED)
        await store.outbox.finish(late, POSTED)
        look = await _first(store)
        assert (look.id, look.is_unknown) == (late.id, True)
        await store.outbox.finish(look, NotArrived())
        assert late.id not in {d.id for d in await drain(store)}
        assert [r.state for r in await store.outbox.deliveries() if r.id == late.id] == ["delivered"]

    async def test_a_late_failure_changes_nothing(self, make_store: MakeStore) -> None:
        """A worker that lost its lease and sent nothing changes nothing.

        Nor does a repeated outcome cause a reconciliation.
        """
        store = await make_store()
        await store.record(steps(0))
        late = await _first(store)
        await self.pass_time(store, 61)
        await store.outbox.finish(await _first(store), Arrived(receipt=POSTED))
        for delivery in await drain(store):
            await store.outbox.finish(delivery, POSTED)
        for outcome in (Receipt(skipped="muted"), RetryAt(at=in_seconds(-1), reason="down"), GiveUp(reason="no")):
            await store.outbox.finish(late, outcome)
        assert await store.outbox.claim([SINK], 10) == []
        assert {r.state for r in await store.outbox.deliveries()} == {"delivered"}

    async def test_a_late_retry_after_holds(self, make_store: MakeStore) -> None:
        """A service's answer holds for all, though another worker holds the delivery by now."""
        store = await make_store()
        await store.record(steps(0))
        rate_limits = limits(post=[RateLimit(key="post")])
        late = await _first(store, rate_limits)
        await self.pass_time(store, 61)
        await _first(store, rate_limits)
        [closed] = await store.outbox.finish(late, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",)))
        assert closed.key == "post"


async def drain_with(store: Store, rate_limits: RateLimits) -> list[Delivery]:
    """Deliver until nothing is due and return what was delivered, in order."""
    out: list[Delivery] = []
    while claimed := await store.outbox.claim([SINK], 100, rate_limits):
        for delivery in claimed:
            await store.outbox.finish(delivery, POSTED)
            out.append(delivery)
    return out
