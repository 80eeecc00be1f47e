"""How every ledger paces: a class of tests beside `ExerciseLedger`, with the same fixture and one method more.

class TestMyPacing(ExercisePacing):
    @pytest.fixture
    async def make_ledger(self): ...

    async def pass_time(self, ledger, seconds): ...   # lets the ledger's clock go on, or what it keeps grow older
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt
from spanpost.domain.observations import Observation
from spanpost.domain.outcomes import Absent, Found, GiveUp, RetryAt
from spanpost.ledger.base import Budgets, Ledger, unlimited
from spanpost.testing.exercise_ledger import POSTED, SINK, MakeLedger, drain, in_seconds, moved, steps
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended

#: So slow that within a test nothing is gained.
SLOW = 1 / 3600


def limits(post: Sequence[Budget] = (), edit: Sequence[Budget] = (), look: Sequence[Budget] = ()) -> Budgets:
    """Return what names these budgets."""
    named = {Call.POST: tuple(post), Call.EDIT: tuple(edit), Call.LOOK: tuple(look)}
    return lambda sink, address, call: named[call]


def paced(key: str, burst: float = 1.0, reserve: float = 0.0) -> Budget:
    """Return a budget that gains nothing within a test."""
    return Budget(key=key, rate=SLOW, burst=burst, reserve=reserve)


BREAKER = Budget(key="breaker", is_breaker=True)
BROKEN = limits(post=[BREAKER], edit=[BREAKER], look=[BREAKER])


def _asks(trace: int) -> list[Observation]:
    asked = {"agent.approval.id": f"a{trace}", "agent.approval.question": "deploy?"}
    return [*steps(0, trace=trace), an_event(trace=trace, span=1, name="agent.approval.requested", attributes=asked, index=50)]


def _ended(trace: int, *, is_failed: bool = False) -> list[Observation]:
    box: dict[str, Any] = {"agent.task.name": f"steps {trace}", **({"agent.status": "error"} if is_failed else {})}
    return [ended(trace=trace, span=1, name="agent", attributes=box)]


def _names(deliveries: Sequence[Delivery]) -> list[str]:
    return [d.task.name for d in deliveries]


def _unsure() -> RetryAt:
    return RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True)


async def _first(ledger: Ledger, budgets: Budgets = unlimited) -> Delivery:
    [delivery] = await ledger.claim([SINK], 1, budgets)
    return delivery


class ExercisePacing(Exercised):
    """How every ledger paces, breaks off, and looks before it sends again."""

    # --- pace ---------------------------------------------------------------------------------------------------------

    async def test_no_more_is_claimed_than_there_are_calls(self, make_ledger: MakeLedger) -> None:
        """Of many lanes as many are claimed as calls are left; the others wait untouched, and are due when a call is gained."""
        ledger = await make_ledger(lease=timedelta(hours=9))
        for trace in range(1, 6):
            await ledger.record(steps(0, trace=trace))
        budgets = limits(post=[paced("p", burst=2.0)])
        claimed = await ledger.claim([SINK], 10, budgets)
        assert [d.drawn for d in claimed] == [("p",)] * 2
        assert all(d.claimed_at is not None and d.sent_at is None for d in claimed)
        assert await ledger.claim([SINK], 10, budgets) == []
        due = await ledger.due_in([SINK], budgets)
        assert due is not None
        assert 3500 < due <= 3600
        rows = await ledger.deliveries(state="waiting", limit=100)
        assert {row.attempt for row in rows} == {0}

    async def test_a_call_is_gained_in_time(self, make_ledger: MakeLedger) -> None:
        """When a call is gained the next lane is due, and not before."""
        ledger = await make_ledger(lease=timedelta(hours=9))
        for trace in (1, 2, 3):
            await ledger.record(steps(0, trace=trace))
        budgets = limits(post=[paced("p")])
        await _first(ledger, budgets)
        await self.pass_time(ledger, 1800)
        assert await ledger.claim([SINK], 10, budgets) == []
        due = await ledger.due_in([SINK], budgets)
        assert due is not None
        assert 1700 < due <= 1800
        await self.pass_time(ledger, 1801)
        assert await ledger.due_in([SINK], budgets) == 0
        assert len(await ledger.claim([SINK], 10, budgets)) == 1

    async def test_closed_edits_let_posts_pass(self, make_ledger: MakeLedger) -> None:
        """While edits have no calls left, new messages and news of the same lanes go out, and the newest edit waits."""
        ledger = await make_ledger()
        for trace in (1, 2, 3):
            await ledger.record(moved(10.0, index=0, trace=trace))
        await drain(ledger)
        budgets = limits(edit=[paced("edit")])
        for trace in (1, 2, 3):
            await ledger.record(moved(12.0, index=1, trace=trace))
        [edit] = await ledger.claim([SINK], 10, budgets)
        assert (edit.mode, edit.drawn, edit.lane_receipt) == (Mode.STATE, ("edit",), POSTED)
        await ledger.settle(edit, POSTED)
        for percent in (13.0, 14.0, 15.0):
            await ledger.record(moved(percent, index=int(percent), trace=2))
        assert await ledger.claim([SINK], 10, budgets) == []
        await ledger.record(steps(0, trace=9))
        await ledger.record(
            [an_event(trace=2, span=1, name="agent.checkpoint", attributes={"agent.checkpoint.message": "!"}, index=9)]
        )
        passed = await ledger.claim([SINK], 10, budgets)
        assert sorted((d.mode, d.task.name) for d in passed) == [(Mode.NEWS, "moving"), (Mode.STATE, "steps 9")]
        for delivery in passed:
            await ledger.settle(delivery, POSTED)
        rest = await drain(ledger)
        assert [d.task.progress for d in rest if d.mode is Mode.STATE and d.task.name == "moving"] == [15.0, 12.0]

    async def test_approvals_then_ends_then_errors_then_the_rest(self, make_ledger: MakeLedger) -> None:
        """Each call that is left goes to the most urgent lane, however long the others wait."""
        ledger = await make_ledger()
        for trace in (1, 2, 3, 4):
            await ledger.record(steps(0, trace=trace))
        await drain(ledger)
        await ledger.record([*steps(0, trace=1), *moved(5.0, index=3, trace=1)])
        await ledger.record(_ended(2))
        await ledger.record(_asks(3))
        budgets = limits(post=[paced("p", burst=2.0)], edit=[paced("e", burst=1.0)])
        out = []
        for _ in range(3):
            out += await ledger.claim([SINK], 1, budgets)
        assert _names(out)[:2] == ["steps 3", "steps 2"]
        assert out[0].urgency == "approval"

    async def test_the_reserve_is_kept_for_the_urgent(self, make_ledger: MakeLedger) -> None:
        """The last calls are for approvals, ends and errors; other lanes are due when more than the reserve is there."""
        ledger = await make_ledger()
        for trace in range(1, 5):
            await ledger.record(steps(0, trace=trace))
        budgets = limits(post=[paced("p", burst=3.0, reserve=1.0)])
        assert len(await ledger.claim([SINK], 10, budgets)) == 2
        assert await ledger.claim([SINK], 10, budgets) == []
        await ledger.record(_asks(8))
        assert await ledger.due_in([SINK], budgets) == 0
        assert _names(await ledger.claim([SINK], 10, budgets)) == ["steps 8"]
        assert await ledger.claim([SINK], 10, budgets) == []

    async def test_what_was_skipped_is_given_back(self, make_ledger: MakeLedger) -> None:
        """A letter that a sink did not send, or a pump gave back unsent, costs no call; given back, it is no attempt."""
        ledger = await make_ledger()
        for trace in (1, 2):
            await ledger.record(steps(0, trace=trace))
        budgets = limits(post=[paced("p")])
        first = await _first(ledger, budgets)
        await ledger.settle(first, RetryAt(at=in_seconds(-1), reason="late", is_unsent=True))
        again = await _first(ledger, budgets)
        assert (again.attempt, again.is_unknown, again.sent_at) == (1, False, None)
        await ledger.settle(again, Receipt(skipped="muted"))
        assert len(await ledger.claim([SINK], 1, budgets)) == 1
        assert await ledger.claim([SINK], 1, budgets) == []

    async def test_all_budgets_or_none(self, make_ledger: MakeLedger) -> None:
        """A call that one of its budgets does not allow draws on none of the others."""
        ledger = await make_ledger()
        for trace in (1, 2, 3):
            await ledger.record(steps(0, trace=trace))
        narrow = limits(post=[paced("wide", burst=2.0), paced("narrow")])
        assert len(await ledger.claim([SINK], 10, narrow)) == 1
        assert len(await ledger.claim([SINK], 10, limits(post=[paced("wide", burst=2.0)]))) == 1

    # --- closed -------------------------------------------------------------------------------------------------------

    async def test_patience_holds_for_all_that_draw_on_it(self, make_ledger: MakeLedger) -> None:
        """A time that the far side names closes the budget for every letter, urgent ones too, and no other budget."""
        ledger = await make_ledger()
        await ledger.record(moved(10.0, index=0, trace=2))
        await drain(ledger)
        await ledger.record(steps(0, trace=1))
        budgets = limits(post=[Budget(key="post")], edit=[Budget(key="edit")])
        first = await _first(ledger, budgets)
        wait = RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",))
        [closed] = await ledger.settle(first, wait)
        assert (closed.key, closed.why, closed.reason) == ("post", "throttled", "ratelimited")
        await ledger.record(_asks(3))
        assert await ledger.claim([SINK], 10, budgets) == []
        due = await ledger.due_in([SINK], budgets)
        assert due is not None
        assert 590 < due <= 600
        [row] = await ledger.budgets(is_closed=True)
        assert (row.key, row.state, row.why, row.reason) == ("post", "closed", "throttled", "ratelimited")
        await ledger.record(moved(12.0, index=1, trace=2))
        assert [d.drawn for d in await ledger.claim([SINK], 10, budgets)] == [("edit",)]
        await self.pass_time(ledger, 601)
        assert _names(await ledger.claim([SINK], 1, budgets)) == ["steps 3"]
        assert [row for row in await ledger.budgets(is_closed=True) if row.key == "post"] == []

    async def test_failures_open_the_circuit_and_a_probe_closes_it(self, make_ledger: MakeLedger) -> None:
        """Five failures in a row stop a sink; then one call at a time goes out, until one succeeds."""
        ledger = await make_ledger(lease=timedelta(hours=1))
        for trace in range(1, 9):
            await ledger.record(steps(0, trace=trace))
        claimed = await ledger.claim([SINK], 6, BROKEN)
        down = RetryAt(at=in_seconds(-1), reason="connect", is_failure=True)
        closed = [await ledger.settle(delivery, down) for delivery in claimed]
        assert [[c.why for c in each] for each in closed] == [[], [], [], [], ["failing"], []]
        assert await ledger.claim([SINK], 10, BROKEN) == []
        due = await ledger.due_in([SINK], BROKEN)
        assert due is not None
        assert 6 < due <= 12
        await self.pass_time(ledger, 13)
        assert await ledger.due_in([SINK], BROKEN) == 0
        probe = await _first(ledger, BROKEN)
        assert await ledger.claim([SINK], 10, BROKEN) == []
        [row] = await ledger.budgets(is_closed=True)
        assert (row.state, row.why) == ("probing", "failing")
        [again] = await ledger.settle(probe, down)
        assert again.why == "failing"
        await self.pass_time(ledger, 25)
        probe = await _first(ledger, BROKEN)
        assert await ledger.settle(probe, POSTED) == []
        assert len(await ledger.claim([SINK], 10, BROKEN)) == 8
        assert await ledger.budgets(is_closed=True) == []

    async def test_what_failed_while_it_was_open_is_due_when_it_closes(self, make_ledger: MakeLedger) -> None:
        """Who was tried in vain by an open circuit waits for nothing else: after one success all go, the urgent first."""
        ledger = await make_ledger(lease=timedelta(hours=1))
        for trace in range(1, 9):
            await ledger.record(_asks(trace) if trace == 4 else steps(0, trace=trace))
        down = RetryAt(at=in_seconds(600), reason="connect", is_failure=True)
        claimed = await ledger.claim([SINK], 8, BROKEN)
        for delivery in claimed:
            await ledger.settle(delivery, down)
        # The first four failed before it opened: those wait by themselves.
        held = {d.id for d in claimed[4:]}
        for _ in range(3):
            await self.pass_time(ledger, 80)
            probe = await _first(ledger, BROKEN)
            assert probe.id in held
            await ledger.settle(probe, down)
        await self.pass_time(ledger, 80)
        back = await _first(ledger, BROKEN)
        await ledger.settle(back, POSTED)
        assert held - {back.id} <= {d.id for d in await ledger.claim([SINK], 10, BROKEN)}
        await self.pass_time(ledger, 600)
        assert "steps 4" in _names(await ledger.claim([SINK], 10, BROKEN))

    async def test_an_urgent_letter_that_always_fails_holds_nobody_up(self, make_ledger: MakeLedger) -> None:
        """Letters take turns as probes: however urgent the one that brings its own failure, the next probe is another's."""
        ledger = await make_ledger(lease=timedelta(hours=1))
        await ledger.record(steps(0, trace=1))
        await ledger.record(_asks(2))
        down = RetryAt(at=in_seconds(-1), reason="internal_error", is_failure=True)
        for _ in range(5):
            guilty = await _first(ledger, BROKEN)
            assert guilty.task.name == "steps 2"
            await ledger.settle(guilty, down)
        await self.pass_time(ledger, 13)
        other = await _first(ledger, BROKEN)
        assert other.task.name == "steps 1"
        await ledger.settle(other, down)
        await self.pass_time(ledger, 25)
        assert (await _first(ledger, BROKEN)).task.name == "steps 2"

    async def test_a_refusal_waits_for_a_person(self, make_ledger: MakeLedger) -> None:
        """What a person must mend is tried after five minutes, then more seldom, or at once when that person says so."""
        ledger = await make_ledger(lease=timedelta(hours=9))
        for trace in (1, 2, 3):
            await ledger.record(steps(0, trace=trace))
        no = RetryAt(at=in_seconds(-1), reason="token_revoked", error="make a new token", closes=("breaker",), is_refusal=True)
        for longest in (360, 720, 1440):
            probe = await _first(ledger, BROKEN)
            assert longest == 360 or await ledger.claim([SINK], 10, BROKEN) == []
            [closed] = await ledger.settle(probe, no)
            assert (closed.why, closed.reason) == ("refused", "token_revoked")
            due = await ledger.due_in([SINK], BROKEN)
            assert due is not None
            assert longest * 0.6 < due <= longest
            if longest < 1440:
                await self.pass_time(ledger, longest + 1)
        [row] = await ledger.budgets(is_closed=True)
        assert (row.state, row.why, row.error) == ("closed", "refused", "make a new token")
        assert await ledger.reopen_budgets(["another"]) == 0
        assert await ledger.reopen_budgets(["breaker"]) == 1
        assert len(await ledger.claim([SINK], 10, BROKEN)) == 3

    async def test_the_first_refusal_leaves_what_is_under_way(self, make_ledger: MakeLedger) -> None:
        """Calls that were under way when it closed do not make the pause longer, whatever they bring back."""
        ledger = await make_ledger()
        for trace in (1, 2, 3):
            await ledger.record(steps(0, trace=trace))
        no = RetryAt(at=in_seconds(-1), reason="token_revoked", closes=("breaker",), is_refusal=True)
        first, second, third = await ledger.claim([SINK], 10, BROKEN)
        [closed] = await ledger.settle(first, no)
        assert await ledger.settle(second, no) == []
        assert await ledger.settle(third, POSTED) == []
        [row] = await ledger.budgets(is_closed=True)
        assert row.until == closed.until

    async def test_only_what_is_asked_for_is_due(self, make_ledger: MakeLedger) -> None:
        """What waits for another sink keeps nobody awake."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        assert await ledger.due_in(["another"], limits()) is None
        assert await ledger.due_in(["another", SINK], limits()) == 0

    # --- looking ------------------------------------------------------------------------------------------------------

    async def test_a_look_draws_on_its_own_budget(self, make_ledger: MakeLedger) -> None:
        """A doubtful letter waits for the budget of looks, whatever the others hold, and hinders nobody."""
        ledger = await make_ledger()
        await ledger.record(steps(0, trace=1))
        budgets = limits(post=[Budget(key="post")], look=[Budget(key="look")])
        first = await _first(ledger, budgets)
        await ledger.settle(first, _unsure())
        look = await _first(ledger, budgets)
        assert (look.drawn, look.is_unknown, look.looks) == (("look",), True, 0)
        assert look.sent_at == first.claimed_at
        await ledger.settle(look, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("look",)))
        await ledger.record(steps(0, trace=2))
        assert _names(await ledger.claim([SINK], 10, budgets)) == ["steps 2"]
        await self.pass_time(ledger, 601)
        again = [d for d in await ledger.claim([SINK], 10, budgets) if d.id == look.id]
        assert [(d.is_unknown, d.looks) for d in again] == [(True, 0)]

    async def test_what_was_not_called_is_as_before(self, make_ledger: MakeLedger) -> None:
        """An attempt of which no call was made counts for nothing, whatever else is said of it: no attempt, no look, no doubt."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        first = await _first(ledger)
        late = RetryAt(at=in_seconds(-1), reason="late", is_unsent=True, reconcile=True, has_looked=True)
        await ledger.settle(first, late)
        again = await _first(ledger)
        assert (again.id, again.attempt, again.is_unknown, again.looks, again.sent_at) == (first.id, 1, False, 0, None)

    async def test_looks_are_counted_until_it_is_sent_again(self, make_ledger: MakeLedger) -> None:
        """Looks that saw nothing are counted, and failures to look are not; when nothing had arrived, it is sent at once."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        first = await _first(ledger)
        await ledger.settle(first, _unsure())
        for looks, has_looked in ((0, True), (1, False), (1, True)):
            look = await _first(ledger)
            assert (look.is_unknown, look.looks, look.sent_at) == (True, looks, first.claimed_at)
            more = RetryAt(at=in_seconds(-1), reason="unreconciled", reconcile=has_looked, has_looked=has_looked)
            await ledger.settle(look, more)
        look = await _first(ledger)
        assert look.looks == 2
        await ledger.settle(look, Absent())
        sent = await _first(ledger)
        assert (sent.id, sent.is_unknown, sent.looks, sent.sent_at) == (first.id, False, 0, first.claimed_at)
        await ledger.settle(sent, _unsure())
        assert (await _first(ledger)).sent_at == sent.claimed_at

    async def test_news_that_is_found_was_delivered(self, make_ledger: MakeLedger) -> None:
        """News that a look finds is done, with the receipt that was found."""
        ledger = await make_ledger()
        await ledger.record(steps(1))
        await ledger.settle(await _first(ledger), POSTED)
        news = await _first(ledger)
        await ledger.settle(news, _unsure())
        await ledger.settle(await _first(ledger), Found(receipt=Receipt(ref={"ts": "2.0"})))
        assert [r.state for r in await ledger.deliveries() if r.id == news.id] == ["delivered"]
        assert news.id not in {d.id for d in await drain(ledger)}

    async def test_a_state_that_is_found_is_edited_next(self, make_ledger: MakeLedger) -> None:
        """The text that a look finds may be old: the lane keeps its receipt, and an edit follows before nothing else."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        state = await _first(ledger)
        await ledger.settle(state, _unsure())
        look = await _first(ledger)
        found = Receipt(ref={"ts": "7.0"})
        await ledger.settle(look, Found(receipt=found))
        budgets = limits(edit=[Budget(key="edit")])
        edits = [d for d in await drain_with(ledger, budgets) if d.id == state.id]
        assert [(d.is_unknown, d.lane_receipt, d.drawn) for d in edits] == [(False, found, ("edit",))]

    async def test_what_is_given_up_in_doubt_is_looked_up_when_it_is_revived(self, make_ledger: MakeLedger) -> None:
        """A letter that was buried though it may have arrived is not sent blindly by `retry`."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        first = await _first(ledger)
        await ledger.settle(first, GiveUp(reason="expired", reconcile=True))
        assert await ledger.retry_deliveries([first.id]) == 1
        assert (await _first(ledger)).is_unknown is True

    # --- leases -------------------------------------------------------------------------------------------------------

    async def test_the_last_letter_of_a_lane_is_taken_over(self, make_ledger: MakeLedger) -> None:
        """A lane whose only letter was under way when its holder died is due when the lease is over, and looked up."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        await drain(ledger)
        await ledger.record(moved(50.0, index=1, trace=1))
        lost = await _first(ledger)
        due = await ledger.due_in()
        assert due is not None
        assert 50 < due <= 60
        await self.pass_time(ledger, 61)
        assert await ledger.due_in() == 0
        found = await _first(ledger)
        assert (found.id, found.is_unknown, found.attempt) == (lost.id, True, lost.attempt)

    async def test_who_sent_too_late_has_it_looked_up_again(self, make_ledger: MakeLedger) -> None:
        """A receipt after the lease was lost: the letter is looked up once more, though another delivered it meanwhile."""
        for is_settled_before in (True, False):
            ledger = await make_ledger()
            await ledger.record(steps(0))
            late = await _first(ledger)
            await self.pass_time(ledger, 61)
            await ledger.settle(await _first(ledger), Absent())
            second = await _first(ledger)
            assert (second.id, second.is_unknown) == (late.id, False)
            if is_settled_before:
                await ledger.settle(second, POSTED)
            await ledger.settle(late, Receipt(ref={"ts": "late"}))
            if not is_settled_before:
                assert await ledger.claim([SINK], 10) == []
                await ledger.settle(second, POSTED)
            out = await drain(ledger, lambda d: Found(receipt=POSTED) if d.is_unknown else POSTED)
            again = [(d.is_unknown, d.lane_receipt) for d in out if d.id == late.id]
            assert again == [(True, POSTED), (False, POSTED)]
            assert {r.state for r in await ledger.deliveries()} == {"delivered"}

    async def test_news_that_was_delivered_stays_so_when_a_look_is_blind(self, make_ledger: MakeLedger) -> None:
        """Looked up once more on suspicion, news that has its receipt is not sent again by a sink that sees nothing."""
        ledger = await make_ledger()
        await ledger.record(steps(1))
        await ledger.settle(await _first(ledger), POSTED)
        late = await _first(ledger)
        await self.pass_time(ledger, 61)
        await ledger.settle(await _first(ledger), Absent())
        second = await _first(ledger)
        assert second.id == late.id
        await ledger.settle(second, POSTED)
        await ledger.settle(late, POSTED)
        look = await _first(ledger)
        assert (look.id, look.is_unknown) == (late.id, True)
        await ledger.settle(look, Absent())
        assert late.id not in {d.id for d in await drain(ledger)}
        assert [r.state for r in await ledger.deliveries() if r.id == late.id] == ["delivered"]

    async def test_what_was_not_sent_too_late_changes_nothing(self, make_ledger: MakeLedger) -> None:
        """Who lost its lease and sent nothing has no say; nor is a settle that is told twice a reason to look."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        late = await _first(ledger)
        await self.pass_time(ledger, 61)
        await ledger.settle(await _first(ledger), Found(receipt=POSTED))
        for delivery in await drain(ledger):
            await ledger.settle(delivery, POSTED)
        for outcome in (Receipt(skipped="muted"), RetryAt(at=in_seconds(-1), reason="down"), GiveUp(reason="no")):
            await ledger.settle(late, outcome)
        assert await ledger.claim([SINK], 10) == []
        assert {r.state for r in await ledger.deliveries()} == {"delivered"}

    async def test_patience_is_heard_from_who_lost_its_lease(self, make_ledger: MakeLedger) -> None:
        """What a far side answered holds for all, though the letter is another's by now."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        budgets = limits(post=[Budget(key="post")])
        late = await _first(ledger, budgets)
        await self.pass_time(ledger, 61)
        await _first(ledger, budgets)
        [closed] = await ledger.settle(late, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",)))
        assert closed.key == "post"


async def drain_with(ledger: Ledger, budgets: Budgets) -> list[Delivery]:
    """Deliver until nothing is due and return what was delivered, in order."""
    out: list[Delivery] = []
    while claimed := await ledger.claim([SINK], 100, budgets):
        for delivery in claimed:
            await ledger.settle(delivery, POSTED)
            out.append(delivery)
    return out
