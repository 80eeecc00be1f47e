"""Routes: which checkpoints go to which sink and address."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Mode, Urgency
from spanpost.model.readings import Approval
from spanpost.routing import noise
from spanpost.routing.delivery_states import RANK
from spanpost.routing.planned import Again
from spanpost.routing.routes import Route, Routes, Verbosity, deliveries
from spanpost.routing.similarity import likeness
from spanpost.testing.nouns import NOON, a_checkpoint, a_task

BOTH = Routes(sinks=("console", "slack"))


def test_without_routes_every_enabled_sink_gets_the_state():
    """A change without a checkpoint is one state delivery per sink, with the root task's ordering key as its
    key.
    """
    task = a_task()
    found = deliveries(task, None, BOTH)
    assert [(x.sink, x.mode, x.ordering_key, x.key, x.task_uid) for x in found] == [
        (s, Mode.STATE, f"{s}||{task.uid}", f"{s}||{task.uid}", task.uid) for s in ("console", "slack")
    ]


def test_a_checkpoint_comes_with_its_state_and_is_keyed_by_its_id():
    """A checkpoint is a state delivery and a checkpoint delivery of one ordering key; a repeat has the same
    key.
    """
    task, checkpoint = a_task(), a_checkpoint()
    state, reply = deliveries(task, checkpoint, Routes(sinks=("slack",)))
    assert (state.mode, reply.mode, reply.key, reply.checkpoint_id) == (
        Mode.STATE,
        Mode.CHECKPOINT,
        str(checkpoint.id),
        checkpoint.id,
    )
    assert state.ordering_key == reply.ordering_key
    assert deliveries(task, checkpoint, Routes(sinks=("slack",))) == [state, reply]


def test_the_first_matching_route_is_taken():
    """The first matching route applies; the default does not apply beside a match."""
    routes = Routes(
        sinks=("slack",),
        routes=(
            Route(sink="slack", address="#legal", topic="legal"),
            Route(sink="slack", address="#reporters", agent="reporter"),
            Route(sink="slack", address="#all"),
        ),
    )
    assert [x.address for x in deliveries(a_task(), None, routes)] == ["#reporters"]
    assert [x.address for x in deliveries(a_task(topic="legal"), None, routes)] == ["#legal"]
    assert [x.address for x in deliveries(a_task(agent_name="x"), None, routes)] == ["#all"]


def test_a_status_route_is_taken_beside_the_others():
    """A failing task is also posted to the alarm channel, and its message stays where it was."""
    routes = Routes(sinks=("slack",), routes=(Route(sink="slack", address="#alarms", status="error"),))
    before = {x.address for x in deliveries(a_task(), None, routes)}
    after = {x.address for x in deliveries(a_task(status="error"), None, routes)}
    assert (before, after) == ({""}, {"", "#alarms"})


def test_two_addresses_of_one_sink_get_two_keys():
    """(sink, key) is unique in the store, so one checkpoint to two channels has two keys."""
    routes = Routes(
        sinks=("slack",),
        routes=(Route(sink="slack", address="#a", status="error"), Route(sink="slack", address="#b")),
    )
    task = a_task(status="error")
    keys = [(x.sink, x.key) for x in deliveries(task, a_checkpoint(task, kind=Kind.END), routes)]
    assert len(keys) == len(set(keys)) == 4


def test_a_childs_checkpoint_goes_to_its_roots_thread():
    """A sub-agent is routed by its root task; the state delivery is the root's, the checkpoint delivery the
    child's.
    """
    root = a_task()
    child = a_task("child", root_uid=root.uid, agent_name="other")
    routes = Routes(sinks=("slack",), routes=(Route(sink="slack", address="#r", agent="reporter"),))
    state, reply = deliveries(child, a_checkpoint(child), routes, root=root)
    assert (state.ordering_key, reply.ordering_key) == (f"slack|#r|{root.uid}",) * 2
    assert (state.task_uid, reply.task_uid) == (root.uid, child.uid)


def test_an_unannounced_task_has_no_delivery():
    """A lone model call is recorded without a delivery."""
    assert deliveries(a_task(is_announced=False), a_checkpoint(), BOTH) == []


@pytest.mark.parametrize(
    ("verbosity", "kinds"),
    [
        (Verbosity.LIVE, set(Kind)),
        (Verbosity.MILESTONES, set(Kind) - {Kind.START, Kind.CHECKPOINT, Kind.COMPACTION, Kind.STALLED}),
        (Verbosity.FINAL, {Kind.END, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ALERT}),
        (Verbosity.MUTE, set()),
    ],
)
def test_verbosity_selects_the_checkpoints(verbosity, kinds):
    """Each verbosity delivers exactly its kinds."""
    routes = Routes(sinks=("slack",), routes=(Route(sink="slack", verbosity=verbosity),))
    found = {k for k in Kind for x in deliveries(a_task(), a_checkpoint(kind=k), routes) if x.mode is Mode.CHECKPOINT}
    assert found == kinds


def test_final_only_posts_nothing_before_the_end():
    """A final-only route has no message while the task works, and one when it has ended or asks."""
    routes = Routes(sinks=("slack",), routes=(Route(sink="slack", verbosity=Verbosity.FINAL),))
    assert deliveries(a_task(), a_checkpoint(), routes) == []
    assert [x.mode for x in deliveries(a_task(status="complete"), None, routes)] == [Mode.STATE]
    assert [x.mode for x in deliveries(a_task(approvals=(Approval(id="a"),)), None, routes)] == [Mode.STATE]


@pytest.mark.parametrize(
    ("kind", "urgency"),
    [
        (Kind.APPROVAL_REQUESTED, Urgency.APPROVAL),
        (Kind.END, Urgency.END),
        (Kind.ERROR, Urgency.WARNING),
        (Kind.ALERT, Urgency.ERROR),
        (Kind.CHECKPOINT, Urgency.NORMAL),
    ],
)
def test_urgency_follows_the_kind(kind, urgency):
    """Approvals go before alerts, these before warnings, then ends, then the rest; the state takes the same."""
    assert [x.urgency for x in deliveries(a_task(), a_checkpoint(kind=kind), Routes(sinks=("slack",)))] == [
        urgency,
        urgency,
    ]


def test_the_message_of_a_new_task_goes_before_failures_and_a_sub_agent_last():
    """That a task begins is more urgent than a failure; what is of a sub-agent comes last, its questions first."""
    root = a_task()
    child = a_task("child", parent_uid=root.uid, root_uid=root.uid)

    def urgencies(task, checkpoint):
        return [x.urgency for x in deliveries(task, checkpoint, Routes(sinks=("slack",)), root=root)]

    assert urgencies(root, a_checkpoint(kind=Kind.START))[0] is Urgency.START
    assert urgencies(root, a_checkpoint(kind=Kind.END, status="error")) == [Urgency.ERROR] * 2
    assert urgencies(child, a_checkpoint(child)) == [Urgency.MINOR] * 2
    assert urgencies(child, a_checkpoint(child, kind=Kind.START)) == [Urgency.MINOR] * 2
    assert urgencies(child, a_checkpoint(child, kind=Kind.ERROR)) == [Urgency.MINOR] * 2
    assert urgencies(child, a_checkpoint(child, kind=Kind.APPROVAL_REQUESTED)) == [Urgency.APPROVAL] * 2
    assert list(RANK.values()) == sorted(RANK.values())


def ends(route: Route, *, ran: float, status: str = "complete", is_child: bool = False) -> int:
    """Return the number of lines of the thread for the end of a task that ran so many seconds."""
    root = a_task(started_at=NOON, ended_at=NOON + timedelta(seconds=ran), status=status)
    task = a_task("child", root_uid=root.uid, status=status) if is_child else root
    routes = Routes(sinks=("slack",), routes=(route,), editing=frozenset({"slack"}))
    found = deliveries(task, a_checkpoint(task, kind=Kind.END, status=status), routes, root=root, now=NOON)
    return sum(x.mode is Mode.CHECKPOINT for x in found)


def test_an_end_is_a_line_only_of_a_long_task_or_a_failure():
    """The message says how a task ended: the thread does if it ran long enough or failed, of sub-agents if they
    failed, in `live` always.
    """
    route = Route(sink="slack", verbosity=Verbosity.MILESTONES, closing=timedelta(minutes=1))
    assert (ends(route, ran=59), ends(route, ran=60), ends(route, ran=5, status="error")) == (0, 1, 1)
    assert (ends(route, ran=90, is_child=True), ends(route, ran=90, is_child=True, status="error")) == (0, 1)
    live = Route(sink="slack", verbosity=Verbosity.LIVE, closing=timedelta(minutes=1))
    assert (ends(live, ran=5), ends(live, ran=5, is_child=True)) == (1, 1)


def test_what_came_of_each_agent_is_a_line_below_an_alert():
    """The message of an alert shows no agents: each end of one that works on it is a line of its thread."""
    route = Route(sink="slack", verbosity=Verbosity.MILESTONES, closing=timedelta(minutes=1))
    alert = a_task(type="alert", agent_name=None)
    task = a_task("child", root_uid=alert.uid, status="complete")
    routes = Routes(sinks=("slack",), routes=(route,), editing=frozenset({"slack"}))
    end = a_checkpoint(task, kind=Kind.END, status="complete")
    assert Mode.CHECKPOINT in {one.mode for one in deliveries(task, end, routes, root=alert, now=NOON)}


def modes(route: Route, task, checkpoint=None, *, seconds: float) -> list[tuple[Mode, bool]]:
    """Return the deliveries at a time after noon: mode, and whether only an existing message is edited."""
    now = NOON + timedelta(seconds=seconds)
    found = deliveries(task, checkpoint, Routes(sinks=("slack",), routes=(route,)), now=now)
    return [(x.mode, x.is_quiet) for x in found]


def test_a_task_has_no_message_before_it_ran_a_while():
    """With `after` a short task has none; a question or a failure is posted at once, and later all is as ever."""
    route = Route(sink="slack", after=timedelta(seconds=30))
    task, asked = a_task(), a_task(approvals=(Approval(id="a"),))
    question = a_checkpoint(kind=Kind.APPROVAL_REQUESTED, ref="a")
    assert modes(route, task, a_checkpoint(), seconds=29) == [(Mode.STATE, True)]
    assert modes(route, task, a_checkpoint(), seconds=30) == [(Mode.STATE, False), (Mode.CHECKPOINT, False)]
    assert modes(route, asked, question, seconds=2) == [(Mode.STATE, False), (Mode.CHECKPOINT, False)]
    short = a_task(status="complete", ended_at=NOON + timedelta(seconds=12))
    assert modes(route, short, a_checkpoint(kind=Kind.END), seconds=3_600) == [(Mode.STATE, True)]
    failed = a_task(status="error", ended_at=NOON + timedelta(seconds=12))
    end = a_checkpoint(kind=Kind.END, status="error", at=NOON)
    assert modes(route, failed, end, seconds=13) == [(Mode.STATE, False), (Mode.CHECKPOINT, False)]
    below = a_task("child", root_uid=task.uid, status="error", ended_at=NOON + timedelta(seconds=12))
    routes = Routes(sinks=("slack",), routes=(route,), editing=frozenset({"slack"}))
    found = deliveries(below, end, routes, root=task, now=NOON + timedelta(seconds=13))
    assert [(x.mode, x.is_quiet) for x in found] == [(Mode.STATE, False), (Mode.CHECKPOINT, False)]


@pytest.mark.parametrize(
    ("quiet", "zone", "until"),
    [
        ("11:00-13:30", "UTC", NOON + timedelta(hours=1, minutes=30)),
        ("22:00-07:00", "UTC", None),
        ("20:00-07:00", "Asia/Seoul", NOON + timedelta(hours=10)),
        ("12:00-11:00", "UTC", NOON + timedelta(hours=23)),
        ("11:00-12:00", "UTC", None),
    ],
)
def test_in_quiet_hours_only_questions_and_failures_are_posted(quiet, zone, until):
    """In the hours of the route's zone new messages wait until their end; questions do not."""
    route = Route(sink="slack", quiet=noise.hours(quiet), timezone=zone)
    assert noise.quiet_until(route, NOON) == until
    is_quiet = until is not None
    assert modes(route, a_task(), seconds=0) == [(Mode.STATE, is_quiet)]
    assert (len(modes(route, a_task(), a_checkpoint(), seconds=0)) == 1) is is_quiet
    question = a_checkpoint(kind=Kind.APPROVAL_REQUESTED, ref="a")
    assert modes(route, a_task(), question, seconds=0) == [(Mode.STATE, False), (Mode.CHECKPOINT, False)]


def test_old_checkpoints_are_not_delivered_but_the_message_is_updated():
    """A drained backlog pages nobody; an open approval is delivered whatever its age."""
    routes, late = Routes(sinks=("slack",)), NOON + timedelta(hours=1)
    assert [x.mode for x in deliveries(a_task(), a_checkpoint(), routes, now=late)] == [Mode.STATE]
    asked = a_checkpoint(kind=Kind.APPROVAL_REQUESTED, ref="a")
    is_open = a_task(approvals=(Approval(id="a"),))
    is_closed = a_task(approvals=(Approval(id="a", decision="deny"),))
    assert [x.mode for x in deliveries(is_open, asked, routes, now=late)] == [Mode.STATE, Mode.CHECKPOINT]
    assert [x.mode for x in deliveries(is_closed, asked, routes, now=late)] == [Mode.STATE]


_routes = st.builds(
    Routes,
    sinks=st.sampled_from([(), ("slack",), ("slack", "console")]),
    routes=st.lists(
        st.builds(Route, sink=st.sampled_from(["slack", "console", "off"]), address=st.sampled_from(["", "#a"]),
                  verbosity=st.sampled_from(Verbosity),
                  agent=st.sampled_from([None, "reporter", "x"]), topic=st.sampled_from([None, "legal"]),
                  status=st.sampled_from([None, "working", "error"])),
        max_size=6,
    ).map(tuple),
)  # fmt: skip


@given(_routes, st.sampled_from(["working", "error"]), st.sampled_from([None, "legal"]), st.sampled_from(Kind))
def test_deliveries_are_unique_and_of_enabled_sinks(routes, status, topic, kind):
    """For any table deliveries are unique by (sink, key), to sinks that are on, never without a state."""
    found = deliveries(a_task(status=status, topic=topic), a_checkpoint(kind=kind), routes)
    assert len({(x.sink, x.key) for x in found}) == len(found)
    assert {x.sink for x in found} <= set(routes.sinks)
    assert {x.ordering_key for x in found if x.mode is Mode.CHECKPOINT} <= {
        x.ordering_key for x in found if x.mode is Mode.STATE
    }


@pytest.mark.parametrize(
    ("route", "task", "is_taken"),
    [
        (Route(sink="slack", topic=("legal", "pay*")), a_task(topic="payments"), True),
        (Route(sink="slack", topic="pay*"), a_task(topic="repay"), False),
        (Route(sink="slack", topic="*"), a_task(topic=None), False),
        (Route(sink="slack", repo="shop/*"), a_task(repo="shop/checkout"), True),
        (Route(sink="slack", attributes={"agent.requested_by": "mina"}), a_task(requested_by="mina"), True),
        (Route(sink="slack", attributes={"team.name": "a.c"}), a_task(attributes={"team.name": "abc"}), False),
        (
            Route(sink="slack", attributes={"team.name": ("pay*", "legal")}),
            a_task(attributes={"team.name": "payments"}),
            True,
        ),
        (Route(sink="slack", cost_usd=Decimal(5)), a_task(cost_usd=Decimal("5.01")), True),
        (Route(sink="slack", cost_usd=Decimal(5)), a_task(cost_usd=None), False),
        (Route(sink="slack", severity="error"), a_task(status="stalled"), False),
        (Route(sink="slack", severity="warning"), a_task(status="stalled"), True),
        (Route(sink="slack", severity="error"), a_task(status="error"), True),
        (Route(sink="slack", severity="warning"), a_task(error_count=1), True),
    ],
)
def test_what_a_route_takes(route, task, is_taken):
    """A route matches wildcards, lists, fields by their attribute's name, other attributes, cost, severity."""
    assert route.takes(task) is is_taken


def test_a_severity_route_gets_only_severe_checkpoints():
    """For a failed task the alarm channel gets the end, and not the earlier milestones."""
    alarms = Route(sink="slack", address="#alarms", severity="error")
    routes = Routes(sinks=("slack",), routes=(alarms,))
    failed = a_task(status="error")
    for kind, status, expected in ((Kind.END, "error", {"", "#alarms"}), (Kind.ARTIFACT, "working", {""})):
        addresses = [
            x.address
            for x in deliveries(failed, a_checkpoint(failed, kind=kind, status=status), routes)
            if x.mode is Mode.CHECKPOINT
        ]
        assert set(addresses) == expected


def test_a_muted_task_delivers_only_questions_alerts_and_the_end():
    """The message of a muted task is updated, its thread is quiet."""
    muted = a_task(is_muted=True)
    routed = {k for k in Kind for x in deliveries(muted, a_checkpoint(kind=k), BOTH) if x.mode is Mode.CHECKPOINT}
    assert routed == {Kind.END, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ALERT}
    assert [x.mode for x in deliveries(muted, None, Routes(sinks=("slack",)))] == [Mode.STATE]


def test_a_sink_that_edits_shows_a_decision_with_its_question():
    """A sink that edits shows the decision in its question; other sinks get it as a delivery."""
    asked_by = UUID(int=5)
    task = a_task(approvals=(Approval(id="a", question="Deploy?", reported_by=asked_by, decision="deny"),))
    resolved = a_checkpoint(task, kind=Kind.APPROVAL_RESOLVED, ref="a")
    routes = Routes(sinks=("slack", "webhook"), editing=frozenset({"slack"}))
    by_sink = {x.sink: x for x in deliveries(task, resolved, routes) if x.mode is Mode.CHECKPOINT}
    assert (by_sink["slack"].checkpoint_id, by_sink["slack"].key, by_sink["slack"].again) == (
        asked_by,
        str(asked_by),
        Again.CHANGED,
    )
    assert (by_sink["webhook"].checkpoint_id, by_sink["webhook"].again) == (resolved.id, Again.NEVER)


def test_errors_that_are_alike_have_one_key():
    """Two failures that differ in numbers, ids, paths and quotes have one key; other text or type has not."""
    routes = Routes(sinks=("slack",), editing=frozenset({"slack"}))

    def key(text, ref="Timeout"):
        [one] = [
            x
            for x in deliveries(a_task(), a_checkpoint(kind=Kind.ERROR, text=text, ref=ref), routes)
            if x.mode is Mode.CHECKPOINT
        ]
        return one.key

    same = [
        "no answer within 120 s from /srv/a/b.py",
        "No answer within 7 s from /opt/c.py/d",
        "no answer within 0x7f s from /x/y",
    ]
    assert len({key(text) for text in same}) == 1
    assert len({key(text) for text in ('no "a"', "no 'b'")}) == 1
    assert len({key(same[0]), key("disk full"), key(same[0], "OSError")}) == 3


@given(st.text(max_size=600))
def test_any_error_has_a_key(text):
    """Any error has a key, and the same one each time."""
    error = a_checkpoint(kind=Kind.ERROR, text=text)
    assert likeness(error) == likeness(error)
