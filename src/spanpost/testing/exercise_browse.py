"""Tests of reading from every store: pages, lookup by any id, timelines, sums, a stream without gaps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalFilter, Page, Position, TaskFilter
from spanpost.model.tasks import Task
from spanpost.store.protocols import Store
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.observed import a_run, an_event, ended, started

T = TypeVar("T")
WHOLE = TaskFilter(tenant="default", shows_all=True)


def at_work_on(trace: int, *, tenant: str = "default", at: float = 0.0, **said: Any) -> Observation:
    """Return the live start of a task; keywords are attributes, dots written as double underscores."""
    attributes = {"agent.task.name": f"job {trace}", **{name.replace("__", "."): value for name, value in said.items()}}
    return started(trace=trace, span=1, name="agent", attributes=attributes, at=at, tenant=tenant)


async def all_pages(look: Callable[[Any], Awaitable[Page[T]]]) -> list[T]:
    """Read all pages of a list."""
    found: list[T] = []
    after: Any = None
    for _ in range(1000):
        page = await look(after)
        found += page.items
        if page.next is None:
            return found
        after = page.next
    raise AssertionError("the list has no end")


async def names(store: Store, asked: TaskFilter, limit: int = 50) -> list[str]:
    """Return the names of the selected tasks, newest first."""
    return [task.name for task in await all_pages(lambda after: store.reader.tasks(asked, after, limit))]


def a_call(trace: int, span: int, used: int, *, parent: int = 1, at: float = 0.0) -> Observation:
    """Return a model call with this many tokens."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": used}
    return ended(trace=trace, span=span, parent=parent, name="chat", attributes=said, at=at, seconds=0.1)


class ExerciseBrowse:
    """The suite. Subclasses provide the fixture `make_store`."""

    async def test_the_beginning_of_an_id(self, make_store: MakeStore) -> None:
        """Tasks are found by the beginning of uid or task id, taken literally; questions by that of key or id."""
        store = await make_store()
        await store.record([at_work_on(n, agent__task__id=f"task%_{n}") for n in (1, 2)])
        await store.record([at_work(trace=9), asking(id="ask-1", trace=9)])
        [one, two] = (await store.reader.tasks(TaskFilter(q="task%_", shows_all=True), None, 9)).items
        found = {
            ref: await names(store, TaskFilter(begins=ref, shows_all=True)) for ref in ("task%_", "task%_2", "task__2")
        }
        assert {ref: len(some) for ref, some in found.items()} == {"task%_": 2, "task%_2": 1, "task__2": 0}
        for task in (one, two):
            for ref in (task.uid.hex[:6], str(task.uid)[:11], str(task.uid).upper()):
                assert await names(store, TaskFilter(begins=ref, shows_all=True)) == [task.name]
        asked = (await store.reader.approvals(ApprovalFilter(tenant="default"), None, 9)).items
        [row] = [one.row for one in asked]
        for ref in (row.key.hex[:8], row.approval_id[:3]):
            some = (await store.reader.approvals(ApprovalFilter(tenant="default", begins=ref), None, 9)).items
            assert [one.row.key for one in some] == [row.key]
        assert (await store.reader.approvals(ApprovalFilter(tenant="default", begins="zz"), None, 9)).items == []

    async def test_pages_visit_each_task_once(self, make_store: MakeStore) -> None:
        """Pages of any size give the same list, newest first. A task that starts between two pages disturbs none."""
        store = await make_store()
        await store.record([at_work_on(n, at=float(n // 2)) for n in range(1, 12)])  # pairs begin at one moment
        whole = await names(store, WHOLE)
        assert sorted(whole) == sorted(f"job {n}" for n in range(1, 12))
        starts = [task.started_at for task in (await store.reader.tasks(WHOLE, None, 50)).items]
        assert starts == sorted(starts, key=str, reverse=True)
        assert [await names(store, WHOLE, size) for size in (1, 2, 5, 11)] == [whole] * 4
        first = await store.reader.tasks(WHOLE, None, 4)
        await store.record([at_work_on(99, at=99.0)])
        rest = await all_pages(lambda after: store.reader.tasks(WHOLE, after or first.next, 4))
        assert [task.name for task in [*first.items, *rest]] == whole

    async def test_filters_select_their_tasks(self, make_store: MakeStore) -> None:
        """Each filter, and several together, select their tasks, and no other tenant's."""
        store = await make_store()
        await store.record(
            [
                at_work_on(1, agent__name="red", agent__topic="deploy", agent__action="100%_sure \\ really", at=1),
                at_work_on(2, agent__name="blue", agent__topic="report", at=2),
                at_work_on(3, agent__name="Red", agent__status="paused", at=3),
                started(
                    trace=3,
                    span=2,
                    parent=1,
                    name="agent",
                    attributes={"agent.task.name": "part", "agent.name": "red"},
                    at=4,
                ),
                *a_run("ended", trace=5, at=5),
                *a_run("failed", trace=6, at=6, is_failed=True),
                at_work_on(7, agent__name="red", tenant="other"),
                at_work_on(8, agent__retry_of="t-1", at=8),
                at_work_on(9, agent__caused_by="t-1", agent__retry_of="t-2", agent__order__id="o-1", at=9),
            ]
        )
        everything = await all_pages(lambda after: store.reader.tasks(TaskFilter(shows_all=True), after, 3))
        assert {task.tenant for task in everything} == {"default", "other"}
        middle = sorted(task.started_at for task in everything if task.started_at)[3]
        [parent] = [task.uid for task in everything if task.name == "job 3"]
        asked = [
            WHOLE,
            TaskFilter(tenant="other"),
            TaskFilter(tenant="nobody"),
            TaskFilter(statuses=("working", "starting")),
            TaskFilter(statuses=("error",)),
            TaskFilter(statuses=("complete", "paused")),
            TaskFilter(statuses=("stalled",)),
            TaskFilter(agents=("red",)),
            TaskFilter(agents=("red", "blue"), topics=("deploy",)),
            TaskFilter(types=("x",)),
            TaskFilter(environments=("x",)),
            TaskFilter(since=middle),
            TaskFilter(until=middle),
            TaskFilter(since=middle, until=middle),
            TaskFilter(is_root=True),
            TaskFilter(parent=parent),
            *(TaskFilter(follows=ids) for ids in (("t-1",), ("t-2", "t-3"), ("t-3",))),
            TaskFilter(order="o-1"),
            *(TaskFilter(q=words) for words in ("RED", "100%_", "%", "_", "\\", "job 2", "ENDED", "nowhere", "a'b")),
        ]
        for one in asked:
            found = await all_pages(lambda after, one=one: store.reader.tasks(one, after, 2))  # type: ignore[misc]
            assert {t.uid for t in found} == {t.uid for t in everything if one.takes(t)}, one
        assert {t.name for t in everything if asked[-8].takes(t)} == {
            "job 1"
        }  # what stands for others in patterns stands for itself
        assert await names(store, asked[15]) == ["part"]
        assert [await names(store, one) for one in asked[16:20]] == [["job 9", "job 8"], ["job 9"], [], ["job 9"]]

    async def test_a_task_is_found_by_any_of_its_ids(self, make_store: MakeStore) -> None:
        """Task id, uid and trace id find it, live or ended, and never for another tenant."""
        store = await make_store()
        await store.record(
            [at_work_on(1, agent__task__id="job/1"), *a_run("over", trace=2), at_work_on(3, tenant="other")]
        )
        by_name = {task.name: task for task in (await store.reader.tasks(TaskFilter(), None, 9)).items}
        for task in by_name.values():
            for ref in (task.task_id, str(task.uid), task.trace_id.hex()):
                found = await store.reader.task(task.tenant, ref)
                assert found is not None
                assert found.uid == task.uid
                stranger = "default" if task.tenant == "other" else "other"
                assert await store.reader.task(stranger, ref) is None
        assert by_name["job 1"].task_id == "job/1"
        for ref in ("", "nothing", "0" * 32, "00000000-0000-0000-0000-000000000000", "x" * 5000, "é" * 36):
            assert await store.reader.task("default", ref) is None

    async def test_a_timeline_has_checkpoints_and_acts_in_order(self, make_store: MakeStore) -> None:
        """Checkpoints and people's acts are in one order, whatever the size of the pages, and of that task alone."""
        store = await make_store()
        await store.record([at_work(), asking(), *a_run("another", trace=9)])
        row = await the_question(store)
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key, refusal="only others may"))
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key, text="go"))
        await store.interventions.intervene(an_act(Verb.PAUSE, row.task_uid))

        async def timeline(size: int) -> list[tuple[str, str]]:
            found = await all_pages(lambda after: store.reader.timeline(row.task_uid, after, size, content=False))
            assert [one.key for one in found] == sorted(one.key for one in found)
            assert len({(one.key.source, one.key.id) for one in found}) == len(found)
            return [(one.source, one.kind) for one in found if one.source != "event"]

        whole = await timeline(100)
        assert [await timeline(size) for size in (1, 2, 3)] == [whole] * 3
        assert {("checkpoint", "approval_requested"), ("checkpoint", "approval_resolved")} <= set(whole)
        acts = [one for one in whole if one[0] == "intervention"]
        assert acts == [("intervention", "approve"), ("intervention", "approve"), ("intervention", "pause")]
        page = await store.reader.timeline(row.task_uid, None, 100, content=False)
        listed = {c.id: c.message for c in await store.reader.checkpoints(task_uid=row.task_uid)}
        assert {one.key.id: one.message for one in page.items if one.source == "checkpoint"} == listed
        assert any(listed.values())
        assert [one.result for one in page.items if one.source == "intervention"] == ["refused", "done", "done"]

    async def test_the_history_of_a_context(self, make_store: MakeStore) -> None:
        """Each call of the task is a point, in order of time, once however often it is sent.

        The agent's own report takes precedence.
        """
        store = await make_store()
        calls = [a_call(1, n, used, at=at) for n, used, at in ((10, 300, 3.0), (11, 100, 1.0), (12, 200, 2.0))]
        await store.record(
            [
                at_work_on(1, agent__task__id="t-1", agent__name="red"),
                *calls[:2],
                a_call(2, 13, 900, at=4.0),
                at_work_on(2),
            ]
        )
        await store.record(
            [*calls, at_work_on(3, at=9.0, agent__task__id="t-1", agent__name="red"), a_call(3, 14, 400, at=9.5)]
        )
        said = {"agent.task.name": "part", "agent.name": "blue"}
        part = started(trace=1, span=2, parent=1, name="agent", attributes=said, at=4.5)
        await store.record([part, a_call(1, 15, 700, parent=2, at=5.0)])

        async def curve(id: str) -> list[int]:
            task = await store.reader.task("default", id)
            assert task is not None
            return [point.used_tokens for point in await store.reader.curve(task.uid)]

        assert await curve("t-1") == [100, 200, 300, 400]
        assert await curve(f"{2:032x}") == [900]
        more = {"agent.context.used_tokens": 5_000}
        await store.record([an_event(trace=2, span=1, name="agent.checkpoint", attributes=more, index=1, at=1.0)])
        assert await curve(f"{2:032x}") == [5_000]

    async def test_sums_are_those_of_the_tasks(self, make_store: MakeStore) -> None:
        """By agent, day and status, the announced tasks of that time are summed; another tenant's are not."""
        store = await make_store()
        runs = [run for n in range(1, 5) for run in a_run(f"run {n}", trace=n, at=float(n), is_failed=n == 4)]
        await store.record([*runs, at_work_on(7, agent__name="writer"), *a_run("theirs", trace=1, tenant="other")])
        tasks = [
            task for task in (await store.reader.tasks(TaskFilter(tenant="default"), None, 50)).items if task.started_at
        ]
        first = min(task.started_at for task in tasks if task.started_at)
        stats = await store.reader.stats("default", first, first + timedelta(days=1))
        assert (stats.total.tasks, stats.total.input_tokens, stats.total.output_tokens) == (5, 400, 80)
        assert stats.total.tool_calls == 4
        assert stats.total.cost_usd == sum_of(tasks)
        assert (stats.total.ended, stats.total.seconds_p50, stats.total.seconds_mean) == (4, 10.0, 10.0)
        assert [(one.word, one.tasks, one.failed) for one in stats.agents] == [("coder", 4, 1), ("writer", 1, 0)]
        assert {one.word: one.tasks for one in stats.statuses} == {"complete": 3, "error": 1, "starting": 1}
        assert sum(one.tasks for one in stats.days) == 5
        none = await store.reader.stats("default", first - timedelta(days=9), first)
        assert (none.total.tasks, none.total.input_tokens, none.total.seconds_p95, none.agents) == (0, None, None, [])

    async def test_totals_are_those_of_a_task_and_all_below(self, make_store: MakeStore) -> None:
        """A task with others below it has the figures of all of them; one without is left out."""
        store = await make_store()
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "sub"}
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "ask"}
        below = [
            ended(trace=1, span=5, parent=1, name="execute_tool ask", attributes=tool, at=1.0),
            ended(trace=1, span=2, parent=5, name="invoke_agent sub", attributes=agent, at=1.0),
        ]
        calls = [a_call(1, 3, 100), a_call(1, 4, 50, parent=2), a_call(9, 2, 7)]
        await store.record([at_work_on(1), *below, *calls, at_work_on(9)])
        uids = {task.name: task.uid for task in (await store.reader.tasks(WHOLE, None, 50)).items}
        found = await store.reader.totals(uids.values())
        assert {uid: (one.tasks, one.llm_calls, one.usage.input) for uid, one in found.items()} == {
            uids["job 1"]: (2, 2, 150)
        }
        assert await store.reader.totals([]) == {}

    async def test_questions_come_by_page(self, make_store: MakeStore) -> None:
        """Questions are listed newest first with their tasks, by state and task; another tenant's are not."""
        store = await make_store()
        for n in range(1, 6):
            await store.record([at_work(f"deploy {n}", trace=n), asking(f"a{n}", f"Deploy {n}?", trace=n, at=float(n))])
        row = await the_question(store, "a3")
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key))

        async def asked(**more: Any) -> list[str]:
            filter = ApprovalFilter(**({"tenant": "default"} | more))
            found = await all_pages(lambda after: store.reader.approvals(filter, after, 2))
            assert all(one.task is not None and one.task.uid == one.row.task_uid for one in found)
            return [one.row.approval_id for one in found]

        assert await asked() == ["a5", "a4", "a3", "a2", "a1"]
        assert await asked(state="open") == ["a5", "a4", "a2", "a1"]
        assert await asked(task_uid=row.task_uid) == ["a3"]
        assert await asked(tenant="other") == []
        assert await asked(agent="nobody") == []

    async def test_the_stream_has_each_checkpoint_once(self, make_store: MakeStore) -> None:
        """From any position the stream continues with later checkpoints, in one order. A duplicate is not repeated."""
        store = await make_store()
        await store.record([at_work_on(50)])
        head = await store.reader.head()
        assert await store.reader.streamed(head, 100) == []
        for n in range(1, 6):
            await store.record([*a_run(f"run {n}", trace=n), at_work_on(n, tenant="other")])
        await store.record(a_run("run 1", trace=1))

        async def listed(after: Position, size: int, tenant: str | None = None) -> list[tuple[Position, str]]:
            found: list[tuple[Position, str]] = []
            while page := await store.reader.streamed(found[-1][0] if found else after, size, tenant):
                found += [
                    (one.position, f"{one.checkpoint.tenant} {one.task.name} {one.checkpoint.kind}") for one in page
                ]
            return found

        whole = await listed(head, 1000)
        assert len({position for position, _ in whole}) == len(whole)
        assert [position for position, _ in whole] == sorted(position for position, _ in whole)
        assert {words for _, words in whole} >= {f"default run {n} end" for n in range(1, 6)} | {
            f"other job {n} start" for n in range(1, 6)
        }
        assert await listed(head, 1) == whole
        assert await listed(head, 3) == whole
        assert [await listed(whole[n][0], 2) for n in range(len(whole))] == [whole[n + 1 :] for n in range(len(whole))]
        assert await listed(head, 2, "other") == [one for one in whole if one[1].startswith("other ")]


def sum_of(tasks: list[Task]) -> Any:
    """Return the cost of tasks; None where no cost is known."""
    said = [task.cost_usd for task in tasks if task.cost_usd is not None]
    return sum(said) if said else None
