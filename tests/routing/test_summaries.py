"""Digests and boards: periods without gaps, and the route's tasks with the neediest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.routing import summaries
from spanpost.routing.routes import Route, Routes
from spanpost.testing.nouns import NOON, a_task
from spanpost.testing.strategies import tasks as any_tasks
from tests.thorough import thorough

ROUTE = Route(sink="slack", address="#a", agent="reporter", digest="hourly", board=True)
OTHER = Route(sink="slack", address="#b")
ROUTES = Routes(sinks=("slack",), routes=(ROUTE, OTHER))
ZONES = ("UTC", "Asia/Seoul", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia")


@thorough(100)
@given(
    st.sampled_from(["hourly", "daily", "weekly"]),
    st.times(),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2005, 1, 2), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
def test_periods_follow_each_other(digest: str, at: time, zone: str, now: datetime) -> None:
    """The last period is over and the one before ends at its start, whatever the zone's clock changes."""
    route = replace(ROUTE, digest=digest, digest_at=at.replace(second=0, microsecond=0), timezone=zone)
    began, ends = summaries.period(route, now)
    assert began < ends <= now - summaries.GRACE
    assert summaries.period(route, began + summaries.GRACE)[1] == began
    assert summaries.period(route, ends + summaries.GRACE) == (began, ends)
    length = {"hourly": timedelta(hours=1), "daily": timedelta(hours=49), "weekly": timedelta(days=8, hours=1)}[digest]
    assert now - summaries.GRACE - ends <= length
    assert ends - began <= length


def test_a_day_begins_when_it_is_said() -> None:
    """A daily digest at nine in Seoul covers the day until midnight in London."""
    route = replace(ROUTE, digest="daily", digest_at=time(9), timezone="Asia/Seoul")
    began, ends = summaries.period(route, datetime(2026, 8, 3, 0, 1, tzinfo=UTC))
    assert (began, ends) == (datetime(2026, 8, 2, tzinfo=UTC), datetime(2026, 8, 3, tzinfo=UTC))


def test_a_week_begins_on_its_day() -> None:
    """A weekly digest on Friday at nine covers the week until then."""
    route = replace(ROUTE, digest="weekly", digest_at=time(9), digest_day="friday")
    began, ends = summaries.period(route, datetime(2026, 8, 6, 12, tzinfo=UTC))
    assert (began, ends) == (datetime(2026, 7, 24, 9, tzinfo=UTC), datetime(2026, 7, 31, 9, tzinfo=UTC))


def test_a_digest_counts_its_routes_tasks() -> None:
    """A digest counts its route's tasks by end, failures and needs, with sums, and leaves alerts out."""
    over = [
        a_task("a", status="complete", cost_usd=Decimal("0.5"), unpriced_calls=2),
        a_task(
            "b", status="error", error=Failure(type="E", message="no", log_tail="secret log"), cost_usd=Decimal("0.25")
        ),
        a_task("c", status="cancelled", input_tokens=None, output_tokens=None, cost_usd=None),
        a_task("d", status="complete", agent_name="somebody else"),
        a_task("e", status="complete", agent_name=None, type="alert"),
        a_task("f", status="complete", is_announced=False),
    ]
    living = [
        a_task("g"),
        a_task("h", status="stalled"),
        a_task("i", status="waiting", approvals=(Approval(id="q", question="Go?"),)),
        a_task("j", status="waiting", rule=BETWEEN_PROMPTS),
    ]
    digest = summaries.digest(ROUTE, NOON, NOON, over, living, ROUTES)
    assert digest is not None
    assert digest.ended == {"complete": 1, "error": 1, "cancelled": 1}
    assert digest.living == {"working": 1, "stalled": 1, "waiting": 1, "between_prompts": 1}
    assert (digest.cost_usd, digest.input_tokens, digest.unpriced) == (Decimal("0.75"), 36_800, 2)
    assert [task.task_id for task in digest.failed] == ["b"]
    assert {task.task_id for task in digest.needy} == {"h", "i"}
    assert "secret log" not in summaries.digest_order(ROUTE, digest, "t").body.decode()


def test_of_nothing_no_digest_is_made() -> None:
    """Without an end, and with nothing that needs a person, no digest is made."""
    assert summaries.digest(ROUTE, NOON, NOON, [], [a_task("a")], ROUTES) is None
    assert summaries.digest(ROUTE, NOON, NOON, [], [a_task("a", status="stalled")], ROUTES) is not None


def test_a_board_has_the_neediest_first() -> None:
    """A board sorts by need: waiting, stalled, failing, filling, working, paused, then age; the rest counts."""
    order = ["waiting", "stalled", "failing", "context_warning", "working", "paused"]
    made = [a_task(status, status=status) for status in order if status != "failing"]
    made.append(a_task("failing", error_count=1))
    board = summaries.board(ROUTE, reversed(made), ROUTES)
    assert [task.task_id for task in board.tasks] == order
    many = [a_task(f"t{n}", started_at=NOON + timedelta(seconds=n)) for n in range(57)]
    board = summaries.board(ROUTE, many, ROUTES)
    assert (len(board.tasks), board.more, board.living) == (20, 37, {"working": 57})
    assert board.tasks[0].task_id == "t0"


def test_a_summary_is_of_its_routes_tenant() -> None:
    """A route of one tenant makes summaries of that tenant; any other, of the default tenant."""
    of = [summaries.tenant_of(replace(OTHER, tenant=t), "house") for t in ("acme", "ac*", ("a", "b"), None)]
    assert of == ["acme", "house", "house", "house"]


@pytest.mark.slow
@thorough(30)
@given(st.lists(any_tasks, max_size=6, unique_by=lambda t: t.uid))
def test_what_is_ordered_comes_back_whole(tasks: list) -> None:
    """Any board and digest survives its order unchanged, and is known by its route."""
    tasks = [task for task in tasks if "\\ud" not in ascii(task)]  # incoming text is repaired before
    route = Route(sink="slack", digest="hourly")
    routes = Routes(sinks=("slack",), routes=(route,))
    board = summaries.board(route, tasks, routes)
    order = summaries.board_order(route, board, "t", NOON)
    back = summaries.summary_of(order)
    assert back is not None
    assert back.content == board
    assert summaries.came_from(back.content, [OTHER, route]) == route
    later = summaries.board_order(route, board, "t", NOON + timedelta(seconds=59))
    assert (later.id == order.id, summaries.summary_of(later).key) == (NOON.second == 0, back.key)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"type":"digest"}', b"\xff"])
def test_what_cannot_be_read_is_no_summary(body: bytes) -> None:
    """An order of another version, or a forged one, is refused and breaks nothing."""
    order = msgspec.structs.replace(
        summaries.board_order(ROUTE, summaries.board(ROUTE, [], ROUTES), "t", NOON), body=body
    )
    assert summaries.summary_of(order) is None
