"""How every store handles deliveries that may have arrived: a class of tests beside `ExercisePacing`."""

from __future__ import annotations

from spanpost.model.deliveries import Delivery, RateLimit, RateLimits, Receipt
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, RetryAt
from spanpost.store.protocols import Store
from spanpost.testing.exercise_pacing import first_claimed, limits, names_of
from spanpost.testing.exercise_store import POSTED, SINK, MakeStore, drain, in_seconds, moved, steps
from spanpost.testing.exercised import Exercised


def _unsure() -> RetryAt:
    return RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True)


class ExerciseReconciling(Exercised):
    """How every store reconciles before it sends again, and takes over what a lost worker had claimed."""

    async def test_a_reconciliation_has_its_own_rate_limit(self, make_store: MakeStore) -> None:
        """A doubtful delivery waits for the rate limit of reconciliations alone, and blocks no other."""
        store = await make_store()
        await store.record(steps(0, trace=1))
        rate_limits = limits(post=[RateLimit(key="post")], look=[RateLimit(key="look")])
        first = await first_claimed(store, rate_limits)
        await store.outbox.finish(first, _unsure())
        look = await first_claimed(store, rate_limits)
        assert (look.drawn, look.is_unknown, look.lookups) == (("look",), True, 0)
        assert look.sent_at == first.claimed_at
        await store.outbox.finish(look, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("look",)))
        await store.record(steps(0, trace=2))
        assert names_of(await store.outbox.claim([SINK], 10, rate_limits)) == ["steps 2"]
        await self.pass_time(store, 601)
        again = [d for d in await store.outbox.claim([SINK], 10, rate_limits) if d.id == look.id]
        assert [(d.is_unknown, d.lookups) for d in again] == [(True, 0)]

    async def test_an_attempt_without_a_call_changes_nothing(self, make_store: MakeStore) -> None:
        """An attempt that made no call counts neither as an attempt nor as a reconciliation, and leaves no doubt."""
        store = await make_store()
        await store.record(steps(0))
        first = await first_claimed(store)
        late = RetryAt(at=in_seconds(-1), reason="late", is_unsent=True, reconcile=True, has_looked=True)
        await store.outbox.finish(first, late)
        again = await first_claimed(store)
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
        first = await first_claimed(store)
        await store.outbox.finish(first, _unsure())
        for lookups, has_looked in ((0, True), (1, False), (1, True)):
            look = await first_claimed(store)
            assert (look.is_unknown, look.lookups, look.sent_at) == (True, lookups, first.claimed_at)
            more = RetryAt(at=in_seconds(-1), reason="unreconciled", reconcile=has_looked, has_looked=has_looked)
            await store.outbox.finish(look, more)
        look = await first_claimed(store)
        assert look.lookups == 2
        await store.outbox.finish(look, NotArrived())
        sent = await first_claimed(store)
        assert (sent.id, sent.is_unknown, sent.lookups, sent.sent_at) == (first.id, False, 0, first.claimed_at)
        await store.outbox.finish(sent, _unsure())
        assert (await first_claimed(store)).sent_at == sent.claimed_at

    async def test_a_found_checkpoint_is_delivered(self, make_store: MakeStore) -> None:
        """A checkpoint that a reconciliation finds is delivered, with the receipt that was found."""
        store = await make_store()
        await store.record(steps(1))
        await store.outbox.finish(await first_claimed(store), POSTED)
        delivery = await first_claimed(store)
        await store.outbox.finish(delivery, _unsure())
        await store.outbox.finish(await first_claimed(store), Arrived(receipt=Receipt(ref={"ts": "2.0"})))
        assert [r.state for r in await store.outbox.deliveries() if r.id == delivery.id] == ["delivered"]
        assert delivery.id not in {d.id for d in await drain(store)}

    async def test_a_state_that_is_found_is_edited_next(self, make_store: MakeStore) -> None:
        """The text that a reconciliation finds may be old: the ordering key keeps the receipt, and an edit
        follows before anything else.
        """
        store = await make_store()
        await store.record(steps(0))
        state = await first_claimed(store)
        await store.outbox.finish(state, _unsure())
        look = await first_claimed(store)
        found = Receipt(ref={"ts": "7.0"})
        await store.outbox.finish(look, Arrived(receipt=found))
        rate_limits = limits(edit=[RateLimit(key="edit")])
        edits = [d for d in await drain_with(store, rate_limits) if d.id == state.id]
        assert [(d.is_unknown, d.message_receipt, d.drawn) for d in edits] == [(False, found, ("edit",))]

    async def test_a_doubtful_dead_letter_is_reconciled_when_it_is_retried(self, make_store: MakeStore) -> None:
        """A dead letter that may have arrived is not sent blindly by `retry`."""
        store = await make_store()
        await store.record(steps(0))
        first = await first_claimed(store)
        await store.outbox.finish(first, GiveUp(reason="expired", reconcile=True))
        assert await store.outbox.retry([first.id]) == 1
        assert (await first_claimed(store)).is_unknown is True

    # --- leases ------------------------------------------------------------------------------------------------------

    async def test_the_only_delivery_of_an_ordering_key_is_taken_over(self, make_store: MakeStore) -> None:
        """When its worker dies, the only delivery of an ordering key is due after the lease, and is reconciled."""
        store = await make_store()
        await store.record(steps(0))
        await drain(store)
        await store.record(moved(50.0, index=1, trace=1))
        lost = await first_claimed(store)
        due = await store.outbox.due_in()
        assert due is not None
        assert 50 < due <= 60
        await self.pass_time(store, 61)
        assert await store.outbox.due_in() == 0
        found = await first_claimed(store)
        assert (found.id, found.is_unknown, found.attempt) == (lost.id, True, lost.attempt)

    async def test_a_late_receipt_is_reconciled(self, make_store: MakeStore) -> None:
        """A receipt after the lease was lost: the delivery is reconciled once more, though another worker
        delivered it meanwhile.
        """
        for is_finished_before in (True, False):
            store = await make_store()
            await store.record(steps(0))
            late = await first_claimed(store)
            await self.pass_time(store, 61)
            await store.outbox.finish(await first_claimed(store), NotArrived())
            second = await first_claimed(store)
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
        await store.outbox.finish(await first_claimed(store), POSTED)
        late = await first_claimed(store)
        await self.pass_time(store, 61)
        await store.outbox.finish(await first_claimed(store), NotArrived())
        second = await first_claimed(store)
        assert second.id == late.id
        await store.outbox.finish(second, POSTED)
        await store.outbox.finish(late, POSTED)
        look = await first_claimed(store)
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
        late = await first_claimed(store)
        await self.pass_time(store, 61)
        await store.outbox.finish(await first_claimed(store), Arrived(receipt=POSTED))
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
        late = await first_claimed(store, rate_limits)
        await self.pass_time(store, 61)
        await first_claimed(store, rate_limits)
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
