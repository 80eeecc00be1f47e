"""Which runs of different traces are one task: tables of runs and their successors."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.model.readings import Reading, Role
from spanpost.model.usage import Usage
from spanpost.tasks.amounts import ONE_CALL, ZERO, Amounts
from spanpost.tasks.records import RunCandidate, RunCandidates, TaskState
from spanpost.tasks.run_facts import totals_of
from spanpost.tasks.run_matches import continued, goes_on, may_go_on, of_links
from tests.tasks.learning import Say, learned, root

Runs = dict[str, RunCandidate]


def a_run(key: str, begins: int, ends: int = 0, agent: str = "ann", **more: Any) -> RunCandidate:
    """Return a run of the trace that its key begins with; its task is called as it is, in capitals."""
    return RunCandidate(begins, ends, key.upper().encode(), agent, **more)


def keyed(runs: Runs) -> dict[bytes, RunCandidate]:
    return {key.encode().ljust(17, b" ") if len(key) < 17 else key.encode(): run for key, run in runs.items()}


def shown(found: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode().strip(): task.decode() for key, task in found.items()}


OPEN_SEARCH, OPEN_ID, NOTHING_OPEN = ("search", ""), ("search", "c1"), ("", "")


@pytest.mark.parametrize(
    ("pending", "waits", "former_agent", "began_with", "is_so", "sentence"),
    [
        pytest.param(
            OPEN_ID,
            1,
            "ann",
            ("write", "c1"),
            True,
            "the id of the call that was left open decides, whatever its name",
            id="same id",
        ),
        pytest.param(OPEN_ID, 1, "ann", ("search", "c2"), False, "another id is another call", id="other id"),
        pytest.param(
            OPEN_ID,
            1,
            "bob",
            ("search", ""),
            True,
            "without an id the tool's name decides, not the agent's",
            id="same name",
        ),
        pytest.param(OPEN_SEARCH, 2, "ann", ("write", ""), False, "another tool does not answer it", id="other name"),
        pytest.param(
            OPEN_SEARCH,
            2,
            "ann",
            None,
            False,
            "who begins with a model call does not do what was left open",
            id="model first",
        ),
        pytest.param(
            NOTHING_OPEN,
            2,
            "ann",
            None,
            True,
            "where the wait was said and no call is open, the same agent goes on",
            id="said",
        ),
        pytest.param(NOTHING_OPEN, 2, "bob", None, False, "another agent does not", id="said by another"),
        pytest.param(NOTHING_OPEN, 2, "", None, True, "an agent without a name may be the same", id="said by nobody"),
        pytest.param(
            NOTHING_OPEN,
            1,
            "ann",
            None,
            False,
            "where the wait was only inferred, a tool call must show it",
            id="inferred",
        ),
    ],
)
def test_a_run_goes_on_with_one_that_left_its_work_open(
    pending: tuple[str, str],
    waits: int,
    former_agent: str,
    began_with: tuple[str, str] | None,
    is_so: bool,
    sentence: str,
) -> None:
    """The open work of a run and the first call of the next decide whether both are one task."""
    before = a_run("a", 1, 5, former_agent, waits=waits, pending=pending)
    assert goes_on(before, a_run("b", 6, agent="ann", began_with=began_with)) is is_so, sentence


WAITS: dict[str, Any] = {"waits": 2}


@pytest.mark.parametrize(
    ("runs", "on", "sentence"),
    [
        pytest.param(
            {"a": a_run("a", 1, 5, **WAITS), "b": a_run("b", 6, 9)},
            {"b": "A"},
            "a run goes on with one that waits",
            id="one",
        ),
        pytest.param(
            {"a": a_run("a", 1, 5), "b": a_run("b", 6, 9)},
            {},
            "nobody goes on with a run that does not wait",
            id="no wait",
        ),
        pytest.param(
            {"a": a_run("a", 1, 7, **WAITS), "b": a_run("b", 6, 9)}, {}, "runs side by side are two", id="side by side"
        ),
        pytest.param(
            {"a": a_run("a", 1, **WAITS), "b": a_run("b", 6, 9)},
            {},
            "a run that has not ended is not gone on with",
            id="still open",
        ),
        pytest.param(
            {"a": a_run("a", 1, 5, **WAITS), "b": a_run("b", 6, 9), "c": a_run("c", 7, 9)},
            {"b": "A"},
            "each wait is gone on with by one run, the earliest",
            id="one each",
        ),
        pytest.param(
            {"a": a_run("a", 1, 3, **WAITS), "b": a_run("b", 1, 5, **WAITS), "c": a_run("c", 6)},
            {"c": "B"},
            "of two waits the later is gone on with",
            id="the later wait",
        ),
        pytest.param(
            {"a": a_run("a", 1, 3, **WAITS), "b": a_run("b", 4, 5, **WAITS), "c": a_run("c", 6)},
            {"b": "A", "c": "B"},
            "a run that goes on may wait again",
            id="chain",
        ),
        pytest.param(
            {"b": a_run("b", 5, 5, **WAITS), "a": a_run("a", 5, 5, **WAITS)},
            {"b": "A"},
            "of one moment the key decides",
            id="same moment",
        ),
    ],
)
def test_each_wait_has_one_successor(runs: Runs, on: dict[str, str], sentence: str) -> None:
    """Each wait of runs that share a conversation or a tool call has one successor."""
    assert shown(continued(keyed(runs)).on) == on, sentence
    assert shown(continued(dict(reversed(keyed(runs).items()))).on) == on, "in any order"


T1, T2 = "trace-one-------u", "trace-two-------u"


@pytest.mark.parametrize(
    ("runs", "guests", "is_joined", "on", "below", "sentence"),
    [
        pytest.param(
            {T1 + "1": a_run("a", 1), T2 + "1": a_run("b", 2)},
            {},
            True,
            {T2 + "1": "A"},
            {},
            "runs of one agent whose traces are joined are one task",
            id="one agent",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 1), T2 + "1": a_run("b", 2, agent="bob"), T2 + "2": a_run("c", 3, agent="bob")},
            {},
            True,
            {T2 + "2": "B"},
            {T2 + "1": "A"},
            "the first run of another agent hangs below the earliest, its others go on with it",
            id="team",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 1), T1 + "2": a_run("b", 2)},
            {},
            False,
            {},
            {},
            "runs of a trace that is joined to no other are what its spans report",
            id="one trace",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 1)},
            {T2 + "1": a_run("b", 2)},
            False,
            {T2 + "1": "A"},
            {},
            "a run that links to a trace goes on with the same agent's run there",
            id="guest",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 1), T1 + "2": a_run("c", 2)},
            {T2 + "1": a_run("b", 3, agent="bob")},
            False,
            {},
            {T2 + "1": "A"},
            "another agent's hangs below the earliest there",
            id="guest of another agent",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 5)},
            {T2 + "1": a_run("b", 2)},
            False,
            {},
            {},
            "not below one that began later",
            id="guest came first",
        ),
        pytest.param(
            {T1 + "1": a_run("a", 1)},
            {T1 + "2": a_run("b", 2)},
            False,
            {},
            {},
            "nor below one of its own trace",
            id="guest at home",
        ),
    ],
)
def test_what_links_join(
    runs: Runs, guests: Runs, is_joined: bool, on: dict[str, str], below: dict[str, str], sentence: str
) -> None:
    """Messages join traces, and a link leads a run to the trace that sent it."""
    found_on, found_below, _ = of_links(keyed(runs), keyed(guests), is_joined)
    assert (shown(found_on), shown(found_below)) == (on, below), sentence


@pytest.mark.parametrize(
    ("run", "names_late", "is_so", "sentence"),
    [
        pytest.param(
            a_run("b", 6, is_idle=True), False, True, "a new run may go on with the one that waits", id="idle"
        ),
        pytest.param(a_run("b", 6), False, False, "a run that did something is known by it", id="at work"),
        pytest.param(
            a_run("b", 6, 8, is_idle=True), False, False, "a run that ended idle goes on with nothing", id="ended"
        ),
        pytest.param(a_run("b", 4, is_idle=True), False, False, "a run before the wait goes on with none", id="before"),
        pytest.param(
            a_run("b", 6, is_idle=True, talk=b"other"), False, False, "another conversation waits for none", id="other"
        ),
        pytest.param(a_run("b", 4, is_idle=True), True, True, "it may name its conversation yet", id="late"),
        pytest.param(
            a_run("b", 4, is_idle=True, talk=b"talk"), True, False, "its conversation is known", id="is known"
        ),
    ],
)
def test_a_run_that_did_nothing_yet_is_held(run: RunCandidate, names_late: bool, is_so: bool, sentence: str) -> None:
    """A run is not announced by itself while it may turn out to be part of a task with a message."""
    runs = keyed({"a": a_run("a", 1, 5, **WAITS, talk=b"talk"), "b": run})
    assert may_go_on(RunCandidates(runs, names_late=names_late), run) is is_so, sentence


TOTAL = Reading(role=Role.AGENT, aggregate=Usage(input=7, output=None), totals_of="ann's process")


@pytest.mark.parametrize(
    ("says", "amounts", "totals", "sentence"),
    [
        pytest.param(root(TOTAL, 3), ZERO, (7, 0), "totals of a lifetime count where no call is known", id="totals"),
        pytest.param(root(TOTAL, 3), ONE_CALL, None, "a call that is known stands above them", id="calls"),
        pytest.param(
            root(Reading(role=Role.AGENT, aggregate=Usage(input=7)), 3),
            ZERO,
            None,
            "totals of this run alone are taken from nothing",
            id="own",
        ),
    ],
)
def test_lifetime_totals_count_for_runs_without_calls(
    says: Say, amounts: Amounts, totals: tuple[int, int] | None, sentence: str
) -> None:
    """Only lifetime totals of runs without known calls are differenced."""
    assert totals_of(learned(says), TaskState(amounts=amounts)) == totals, sentence


@pytest.mark.parametrize(
    ("former", "later", "on", "repeated", "sentence"),
    [
        pytest.param({"asked": ("c1", "c2")}, {"takes_up": ("c2",)}, True, False, "made as asked", id="asked"),
        pytest.param({"asked": ("c1",)}, {"takes_up": ("c3",)}, False, False, "another call", id="another"),
        pytest.param({"asked": ("c1",)}, {"asked": ("c1",), "waits": 2}, False, False, "asked as well", id="both ask"),
        pytest.param(
            {"pending": ("t", "c1"), "asked": ("c1",)},
            {"began_with": ("t", "c1"), "takes_up": ("c1",)},
            True,
            True,
            "made again",
            id="again",
        ),
        pytest.param(
            {"pending": ("t", "c1"), "asked": ("c1", "c2")},
            {"began_with": ("t", "c2"), "takes_up": ("c2",)},
            True,
            False,
            "the other one of two",
            id="other of two",
        ),
    ],
)
def test_the_id_of_an_asked_tool_call_finds_the_run_that_goes_on(
    former: dict[str, Any], later: dict[str, Any], on: bool, repeated: bool, sentence: str
) -> None:
    """A run that makes or answers the call for which another's model asked goes on with it, and counts it as it is."""
    runs = keyed({"a": a_run("a", 1, 5, **{"waits": 2, **former}), "b": a_run("b", 6, 9, **later)})
    found = continued(runs, b"ra")
    assert (bool(found.on), bool(found.repeated_in)) == (on, repeated), sentence


@pytest.mark.parametrize(
    ("later", "on", "sentence"),
    [
        pytest.param({"began_with": ("t", "")}, True, "it makes the call that waited", id="tool"),
        pytest.param({}, False, "another run of the agent, maybe of another person", id="nothing"),
        pytest.param({"waits": 2, "asked": ("c2",)}, False, "one that waits as well", id="waits"),
    ],
)
def test_a_run_that_shares_only_its_agents_id_has_to_begin_with_a_tool(
    later: dict[str, Any], on: bool, sentence: str
) -> None:
    """Of runs without a conversation, only one that begins with a tool call goes on with another of its agent."""
    runs = keyed({"a": a_run("a", 1, 5, waits=2), "b": a_run("b", 6, 9, **later)})
    assert bool(continued(runs, b"ri").on) == on, sentence
