"""Tests of loops in every store."""

from __future__ import annotations

import json
from typing import Any

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.interventions import Result, Verb
from spanpost.model.loops import LoopKind
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.loops import LoopRules
from spanpost.testing.exercise_people import an_act, at_work
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import ended, started

SECRET = "the whole truth"


def a_call(
    number: int, arguments: Any = None, result: str = "unchanged", *, trace: int = 1, parent: int = 1, **more: Any
) -> Observation:
    """Return the n-th tool call of a run, a second after the one before."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read_file",
        "gen_ai.tool.call.arguments": json.dumps({"path": SECRET} if arguments is None else arguments),
        "gen_ai.tool.call.result": result,
    }
    return ended(
        trace=trace,
        span=100 + number,
        parent=parent,
        name="execute_tool read_file",
        attributes=attributes,
        at=float(number),
        seconds=0.5,
        **more,
    )


async def loops_of(store: Store) -> list[Checkpoint]:
    """Return the loops that were reported, in order of time."""
    return [c for c in await store.reader.checkpoints() if c.kind is Kind.LOOP]


async def the_task(store: Store, name: str = "deploy") -> Task:
    """Return the task of that name."""
    [task] = [task for task in await store.tasks(TaskQuery()) if task.name == name]
    return task


class ExerciseLoops(Exercised):
    """Tests of loops in every store."""

    async def test_a_loop_is_shown_while_it_lasts_and_reported_once(self, make_store: MakeStore) -> None:
        """The sixth equal call makes one checkpoint; the task shows the count until a call shows something new."""
        store = await make_store()
        await store.record([at_work(), *(a_call(n) for n in range(5))])
        assert (await the_task(store)).loop is None
        for n in range(5, 9):
            await store.record([a_call(n)])
        task = await the_task(store)
        assert task.loop is not None
        assert (task.loop.kind, task.loop.tools, task.loop.count) == (LoopKind.SAME_CALL, ("read_file",), 9)
        [reported] = await loops_of(store)
        assert reported.text == "Calls read_file with the same arguments: 6 times without anything new"
        assert (reported.task_uid, reported.ref) == (task.uid, task.loop.id)
        await store.record([a_call(9, {"path": "another"})])
        assert (await the_task(store)).loop is None
        assert len(await loops_of(store)) == 1

    async def test_the_arguments_are_kept_nowhere(self, make_store: MakeStore) -> None:
        """Of arguments and results only hashes are kept: neither the task nor its checkpoints hold a word of them."""
        store = await make_store()
        await store.record([at_work(), *(a_call(n, result=SECRET) for n in range(8))])
        assert len(await loops_of(store)) == 1
        assert SECRET not in repr((await the_task(store), await loops_of(store)))

    async def test_a_loop_that_a_person_lets_be_is_reported_again_when_it_has_doubled(
        self, make_store: MakeStore
    ) -> None:
        """A dismissal is a row and changes the task; the loop is reported again at twice its count, and no second
        dismissal is possible before.
        """
        store = await make_store()
        await store.record([at_work(), *(a_call(n) for n in range(7))])
        task = await the_task(store)
        verdict = await store.interventions.intervene(an_act(Verb.DISMISS, task.uid))
        assert verdict.result is Result.DONE
        task = await the_task(store)
        assert task.loop is not None
        assert task.loop.is_dismissed
        assert (await store.interventions.intervene(an_act(Verb.DISMISS, task.uid))).result is Result.TOO_LATE
        await store.record([a_call(n) for n in range(7, 13)])
        assert len(await loops_of(store)) == 1
        await store.record([a_call(13)])
        assert [one.text.partition(":")[2][:4] for one in await loops_of(store)] == [" 6 t", " 14 "]
        task = await the_task(store)
        assert task.loop is not None
        assert not task.loop.is_dismissed
        said = [c.text for c in await store.reader.checkpoints() if c.ref == Verb.DISMISS]
        assert said == ["alice lets it be"]

    async def test_a_task_without_a_loop_has_none_to_dismiss(self, make_store: MakeStore) -> None:
        """A dismissal of a task without a loop is too late, and changes nothing."""
        store = await make_store()
        await store.record([at_work(), a_call(1)])
        task = await the_task(store)
        assert (await store.interventions.intervene(an_act(Verb.DISMISS, task.uid))).result is Result.TOO_LATE

    async def test_another_process_goes_on_counting(self, make_store: MakeStore) -> None:
        """The calls that one process recorded count for the next, and hashes are the same in both."""
        store = await make_store()
        await store.record([at_work(), *(a_call(n) for n in range(3))])
        other = await self.another(store) or store
        await other.record([a_call(n) for n in range(3, 6)])
        assert [one.text.partition(":")[2][:3] for one in await loops_of(other)] == [" 6 "]

    async def test_a_sub_agent_is_judged_by_itself(self, make_store: MakeStore) -> None:
        """Two sub-agents that make the same calls three times each are no loop; one that makes them six times is, and
        the task above shows it.
        """
        store = await make_store()
        helper = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}
        helpers = [
            started(trace=1, span=span, parent=1, name="helper", attributes=helper, at=float(span)) for span in (2, 3)
        ]
        await store.record([at_work(), *helpers, *(a_call(n, parent=2 + n % 2) for n in range(6))])
        assert await loops_of(store) == []
        await store.record([a_call(n, parent=2) for n in range(6, 10)])
        assert len(await loops_of(store)) == 1
        shown = [task.loop for task in await store.tasks(TaskQuery()) if task.loop is not None]
        assert [loop.count for loop in shown] == [7]

    async def test_tenants_are_judged_apart(self, make_store: MakeStore) -> None:
        """Equal calls of two tenants in one trace's id are not counted together."""
        store = await make_store()
        await store.record([at_work(), *(a_call(n) for n in range(5))])
        await store.record([a_call(n, tenant="other") for n in range(5, 8)])
        assert await loops_of(store) == []

    async def test_loops_can_be_switched_off_and_agents_exempted(self, make_store: MakeStore) -> None:
        """With `loops.enabled = false`, or for an agent of `loops.ignore_agents`, nothing is found."""
        named = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "watcher"}
        for rules in (LoopRules(enabled=False), LoopRules(ignore_agents=("watch*",))):
            store = await make_store(FoldRules(loops=rules))
            await store.record([at_work(attributes=named), *(a_call(n) for n in range(9))])
            assert await loops_of(store) == []
            assert (await the_task(store)).loop is None
