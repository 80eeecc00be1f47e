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

import pytest

from spanpost.model.deliveries import Delivery, Mode, RateLimit, RateLimits, Receipt, SinkCall, unlimited
from spanpost.model.observations import Observation
from spanpost.model.outcomes import RetryAt
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


def names_of(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the names of their tasks."""
    return [d.task.name for d in deliveries]


async def first_claimed(store: Store, rate_limits: RateLimits = unlimited) -> Delivery:
    """Claim one delivery, the most urgent."""
    [delivery] = await store.outbox.claim([SINK], 1, rate_limits)
    return delivery


class ExercisePacing(Exercised):
    """How every store limits rates and opens circuit breakers."""

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
        await first_claimed(store, rate_limits)
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
        said = {"agent.checkpoint.message": "half", "agent.progress": 50.0}
        await store.record([an_event(trace=1, span=1, name="agent.checkpoint", attributes=said, index=3)])
        await store.record(_ended(2))
        await store.record(_asks(3))
        rate_limits = limits(post=[paced("p", burst=2.0)], edit=[paced("e", burst=1.0)])
        out = []
        for _ in range(3):
            out += await store.outbox.claim([SINK], 1, rate_limits)
        assert names_of(out)[:2] == ["steps 3", "steps 2"]
        assert out[0].urgency == "approval"

    @pytest.mark.parametrize("is_killed", [False, True], ids=["no answer", "worker killed"])
    async def test_what_may_have_arrived_is_looked_up_first(self, make_store: MakeStore, is_killed: bool) -> None:
        """A plain checkpoint whose answer was lost is looked up before ends and failures are sent: the more is posted
        after it, the less of it is found.
        """
        store = await make_store(lease=timedelta(0) if is_killed else timedelta(hours=1))
        for trace in (1, 2, 3):
            await store.record(steps(0, trace=trace))
        await drain(store)
        said = {"agent.checkpoint.message": "half"}
        await store.record([an_event(trace=1, span=1, name="agent.checkpoint", attributes=said, index=3)])
        lost = await first_claimed(store)
        if not is_killed:
            await store.outbox.finish(lost, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        await store.record(_ended(2))
        await store.record(_ended(3, is_failed=True))
        found = await first_claimed(store)
        assert (found.id, found.is_unknown) == (lost.id, True)

    async def test_the_reserve_is_kept_for_the_urgent(self, make_store: MakeStore) -> None:
        """The last calls are for approvals, starts, ends and errors.

        Other ordering keys are due when more than the reserve is left.
        """
        store = await make_store()
        for trace in range(1, 5):
            await store.record(steps(0, trace=trace))
        await drain(store)
        said = {"agent.checkpoint.message": "half"}
        for trace in range(1, 5):
            await store.record([an_event(trace=trace, span=1, name="agent.checkpoint", attributes=said, index=3)])
        rate_limits = limits(post=[paced("p", burst=3.0, reserve=1.0)])
        assert len(await store.outbox.claim([SINK], 10, rate_limits)) == 2
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        await store.record(_asks(8))
        assert await store.outbox.due_in([SINK], rate_limits) == 0
        assert names_of(await store.outbox.claim([SINK], 10, rate_limits)) == ["steps 8"]
        assert await store.outbox.claim([SINK], 10, rate_limits) == []

    async def test_a_skipped_delivery_costs_no_call(self, make_store: MakeStore) -> None:
        """A delivery that a sink skipped, or a dispatcher returned unsent, costs no call.

        A returned one is no attempt.
        """
        store = await make_store()
        for trace in (1, 2):
            await store.record(steps(0, trace=trace))
        rate_limits = limits(post=[paced("p")])
        first = await first_claimed(store, rate_limits)
        await store.outbox.finish(first, RetryAt(at=in_seconds(-1), reason="late", is_unsent=True))
        again = await first_claimed(store, rate_limits)
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
        first = await first_claimed(store, rate_limits)
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
        fleet = await store.fleet(is_asked=True)
        assert fleet is not None
        assert (fleet.circuits, fleet.closed_rate_limits) == ({"post": "throttled"}, {"throttled": 1})
        assert list(fleet.delivered_at) == [SINK]
        await store.record(moved(12.0, index=1, trace=2))
        assert [d.drawn for d in await store.outbox.claim([SINK], 10, rate_limits)] == [("edit",)]
        await self.pass_time(store, 601)
        assert names_of(await store.outbox.claim([SINK], 1, rate_limits)) == ["steps 3"]
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
        probe = await first_claimed(store, BROKEN)
        assert await store.outbox.claim([SINK], 10, BROKEN) == []
        [row] = await store.outbox.rate_limits(is_closed=True)
        assert (row.state, row.why) == ("probing", "failing")
        [again] = await store.outbox.finish(probe, down)
        assert again.why == "failing"
        await self.pass_time(store, 25)
        probe = await first_claimed(store, BROKEN)
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
            probe = await first_claimed(store, BROKEN)
            assert probe.id in held
            await store.outbox.finish(probe, down)
        await self.pass_time(store, 80)
        back = await first_claimed(store, BROKEN)
        await store.outbox.finish(back, POSTED)
        assert held - {back.id} <= {d.id for d in await store.outbox.claim([SINK], 10, BROKEN)}
        await self.pass_time(store, 600)
        assert "steps 4" in names_of(await store.outbox.claim([SINK], 10, BROKEN))

    async def test_an_urgent_delivery_that_always_fails_blocks_no_other(self, make_store: MakeStore) -> None:
        """Deliveries take turns as probes: however urgent the failing one, the next probe is another delivery."""
        store = await make_store(lease=timedelta(hours=1))
        await store.record(steps(0, trace=1))
        await store.record(_asks(2))
        down = RetryAt(at=in_seconds(-1), reason="internal_error", is_failure=True)
        for _ in range(5):
            guilty = await first_claimed(store, BROKEN)
            assert guilty.task.name == "steps 2"
            await store.outbox.finish(guilty, down)
        await self.pass_time(store, 13)
        other = await first_claimed(store, BROKEN)
        assert other.task.name == "steps 1"
        await store.outbox.finish(other, down)
        await self.pass_time(store, 25)
        assert (await first_claimed(store, BROKEN)).task.name == "steps 2"

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
            probe = await first_claimed(store, BROKEN)
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
        fleet = await store.fleet(is_asked=True)
        assert fleet is not None
        assert (fleet.circuits, fleet.delivered_at) == ({"breaker": "refused"}, {})
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
