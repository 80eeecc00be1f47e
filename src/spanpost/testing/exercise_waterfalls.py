"""Tests of timelines in either order, waterfalls, sorted lists, facets and the cost of days, in every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from spanpost.model import queries
from spanpost.model.queries import TaskFilter, TimelineFilter
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.exercise_browse import all_pages, at_work_on, names
from spanpost.testing.exercise_budgets import a_costly_run
from spanpost.testing.exercise_people import asking, at_work, the_question
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.observed import a_run, an_event, ended, started


class ExerciseWaterfalls:
    """The suite. Subclasses provide the fixture `make_store`."""

    async def test_a_timeline_is_read_from_its_end(self, make_store: MakeStore) -> None:
        """Newest first, pages of any size give the list from its begin, turned around; limits of the time hold."""
        store = await make_store()
        said = [
            an_event(
                trace=1,
                span=1,
                name="agent.checkpoint",
                attributes={"agent.checkpoint.message": f"m{n}"},
                index=n,
                at=n,
            )
            for n in range(1, 9)
        ]
        await store.record([at_work_on(1), *said])
        task = await store.reader.task("default", f"{1:032x}")
        assert task is not None

        async def timeline(size: int, asked: TimelineFilter) -> list[str]:
            found = await all_pages(
                lambda after: store.reader.timeline(task.uid, after, size, content=False, asked=asked)
            )
            return [f"{one.source} {one.text}" for one in found]

        whole = await timeline(50, TimelineFilter())
        newest = TimelineFilter(is_newest_first=True)
        assert len(whole) >= 9
        assert [await timeline(size, newest) for size in (1, 3, 50)] == [whole[::-1]] * 3
        page = await store.reader.timeline(task.uid, None, 50, content=False)
        at = next(one.key.at for one in page.items if one.text == "m4")
        assert (await timeline(2, TimelineFilter(is_newest_first=True, until=at)))[0] == "checkpoint m4"
        assert (await timeline(50, TimelineFilter(since=at)))[0] == "checkpoint m4"

    async def test_a_timeline_of_one_subject(self, make_store: MakeStore) -> None:
        """Errors, people and checkpoints can be asked for alone."""
        store = await make_store()
        await store.record([at_work(), asking()])
        row = await the_question(store)

        async def kinds(*of: str) -> set[str]:
            asked = TimelineFilter(of=frozenset(of))
            page = await store.reader.timeline(row.task_uid, None, 50, content=False, asked=asked)
            return {one.kind for one in page.items}

        assert await kinds("people") == {"approval_requested"}
        assert await kinds("errors") == set()
        assert await kinds("checkpoints") == {"start", "approval_requested"}
        assert await kinds("errors", "people") == {"approval_requested"}

    async def test_a_waterfall_has_the_tasks_below(self, make_store: MakeStore) -> None:
        """A track for the task and each below it, their checkpoints and questions, and nothing of other tasks."""
        store = await make_store()
        child = {"agent.task.name": "below", "gen_ai.operation.name": "invoke_agent", "agent.task.id": "below"}
        await store.record(
            [
                at_work_on(1),
                started(trace=1, span=2, parent=1, name="agent", attributes=child, at=1),
                asking("go", trace=1),
                *a_run("another", trace=9),
            ]
        )
        task = await store.reader.task("default", f"{1:032x}")
        assert task is not None
        found = await store.reader.waterfall(task.uid, None, None)
        assert [track.name for track in found.tracks] == ["job 1", "below"]
        uids = {track.uid for track in found.tracks}
        assert {tick.task_uid for tick in found.ticks} <= uids
        assert "start" in {tick.kind for tick in found.ticks}
        assert [(one.state, one.closed_at) for one in found.questions] == [("open", None)]
        await store.record([ended(trace=1, span=1, name="agent", at=0.0, seconds=60.0)])
        late = found.questions[0].asked_at.replace(year=found.questions[0].asked_at.year + 1)
        assert (await store.reader.waterfall(task.uid, late, None)).ticks == []

    async def test_a_waterfall_is_of_one_tenant(self, make_store: MakeStore) -> None:
        """A task of another tenant that hangs below has no track, no checkpoint and no question in it."""
        store = await make_store()
        await store.record([at_work_on(1), asking("go", trace=1)])
        root = await store.reader.task("default", f"{1:032x}")
        assert root is not None
        await store.record(
            [started(trace=2, span=1, name="agent", attributes={"agent.task.name": "theirs"}, tenant="other")]
        )
        theirs = await store.reader.task("other", f"{2:032x}")
        assert theirs is not None
        await self.hang_below(store, theirs.uid, root.uid)
        before = await store.reader.version(root.uid)
        found = await store.reader.waterfall(root.uid, None, None)
        assert [track.name for track in found.tracks] == ["job 1"]
        uids = [one.task_uid for one in found.ticks] + [one.task_uid for one in found.bars]
        assert set(uids) | {one.task_uid for one in found.questions} == {root.uid}
        await store.record([ended(trace=2, span=1, name="agent", at=0.0, seconds=9.0, tenant="other")])
        assert await store.reader.version(root.uid) == before

    async def hang_below(self, store: Any, child: UUID, parent: UUID) -> None:
        """Write a task below another one, past all checks."""
        raise NotImplementedError

    async def test_the_version_of_a_task_changes_with_its_records(self, make_store: MakeStore) -> None:
        """It stays while nothing comes, whatever happens elsewhere; it changes with it and with tasks below it."""
        store = await make_store()
        child = {"agent.task.name": "below", "gen_ai.operation.name": "invoke_agent", "agent.task.id": "below"}
        await store.record([at_work_on(1), started(trace=1, span=2, parent=1, name="agent", attributes=child, at=1)])
        task = await store.reader.task("default", f"{1:032x}")
        assert task is not None
        seen = [await store.reader.version(task.uid)]
        await store.record([at_work_on(9)])
        assert await store.reader.version(task.uid) == seen[0]
        said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        for parent, span in ((1, 3), (2, 4)):
            await store.record(
                [ended(trace=1, span=span, parent=parent, name="x", attributes=said, at=span, seconds=1.0)]
            )
            seen.append(await store.reader.version(task.uid))
        assert len(set(seen)) == 3

    async def test_facets_count_the_newest_tasks(self, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of very many tasks the newest are counted, and since when is said; a narrower time is counted whole."""
        store = await make_store()
        for n in range(1, 7):
            await store.record(a_run(f"run {n}", trace=n, at=60.0 * n))
        monkeypatch.setattr(queries, "FACETED", 3)
        page = await store.reader.tasks(TaskFilter(tenant="default"), None, 9)
        starts = sorted(one.started_at for one in page.items if one.started_at is not None)
        found = await store.reader.facets(TaskFilter(tenant="default"))
        assert (found.total, found.since) == (4, starts[2])
        narrow = await store.reader.facets(TaskFilter(tenant="default", since=starts[4]))
        assert (narrow.total, narrow.since) == (2, None)
        older = await store.reader.facets(TaskFilter(tenant="default", until=starts[3]))
        assert (older.total, older.since) == (3, None)

    async def test_lists_are_sorted_and_counted(self, make_store: MakeStore) -> None:
        """Tasks are listed by cost or duration, in pages of any size, and facets count the same tasks."""
        store = await make_store()
        for n, usd in ((1, "0.5"), (2, "3"), (3, None), (4, "1")):
            await store.record(a_costly_run(n, usd, agent="odd" if n % 2 else "even"))

        async def listed(size: int = 50, **asked: Any) -> list[str]:
            return await names(store, TaskFilter(tenant="default", **asked), size)

        assert await listed(order_by="cost") == ["run 2", "run 4", "run 1", "run 3"]
        assert [await listed(size, order_by="cost") for size in (1, 3)] == [await listed(order_by="cost")] * 2
        assert sorted(await listed(2, order_by="duration")) == sorted(await listed())
        assert await listed(min_cost=1.0, order_by="cost") == ["run 2", "run 4"]
        assert await listed(max_cost=0.9) == ["run 1"]
        assert await listed(models=("own-model",), min_seconds=1e6) == []
        found = await store.reader.facets(TaskFilter(tenant="default", max_cost=4.0))
        assert (found.total, found.cost_usd) == (3, Decimal("4.5"))
        assert [(one.value, one.count) for one in found.fields["agent"]] == [("even", 2), ("odd", 1)]
        assert (await store.reader.facets(TaskFilter(tenant="other"))).total == 0

    async def test_the_cost_of_days(self, make_store: MakeStore) -> None:
        """Finalized calls are added up by day of the time zone and by model, agent or person, within the tenant."""
        store = await make_store(FoldRules(usage_delay=timedelta(0), stall_rules=NO_STALL))
        for n, usd, agent in ((1, "0.5", "red"), (2, "3", "red"), (3, "1", "blue")):
            await store.record(a_costly_run(n, usd, agent=agent))
        await store.elapse()
        now = datetime.now(UTC)

        def window(zone: str) -> tuple[list[datetime], datetime]:
            today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
            return [today - timedelta(days=1), today], now + timedelta(days=1)

        found = await store.budgets.days("default", "agent", *window("UTC"))
        assert [(one.key, one.cost_usd, one.calls) for one in found] == [
            ("blue", Decimal(1), 1), ("red", Decimal("3.5"), 2),
        ]  # fmt: skip
        [model] = await store.budgets.days("default", "model", *window("Pacific/Kiritimati"))
        assert (model.key, model.input_tokens) == ("own-model", 300)
        assert model.day == (now + timedelta(hours=14)).date().isoformat()
        assert await store.budgets.days("other", "agent", *window("UTC")) == []
