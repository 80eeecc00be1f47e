"""Tasks: the runs of each, their facts together, and the task above each."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from uuid import UUID

from spanpost import semconv as c
from spanpost.model.checkpoints import Kind
from spanpost.model.readings import METERED
from tests.tasks.oracle.context import use_of
from tests.tasks.oracle.counting import count, counts
from tests.tasks.oracle.facts import Facts
from tests.tasks.oracle.ids import named
from tests.tasks.oracle.names import request_around
from tests.tasks.oracle.occurrences import Occurrence, occurrences
from tests.tasks.oracle.placement import DEPTH, Run, Runs
from tests.tasks.oracle.resumption import resumption
from tests.tasks.oracle.rules import Rules
from tests.tasks.oracle.status import TaskRun, Verdict, judge, newest_of
from tests.tasks.oracle.tree import Span
from tests.tasks.oracle.usage import Usage, summed, whole

#: Runs of a task that are kept, the newest.
RUNS = 16


def calls_of(run: Run) -> list[Span]:
    """Return the model calls of a run; data points are none."""
    return [call for b in run.owners if b.id != METERED and b.amount for call in b.amount.calls]


class Task:
    """One task: runs that are shown together."""

    def __init__(self, key: bytes, runs: list[Run], rules: Rules) -> None:
        self.key, self.rules = key, rules
        self.runs = sorted(runs, key=lambda run: run.key)
        self.tenant = runs[0].tenant
        self.has_root_span = any(not run.is_loose for run in runs)
        self.all_task_runs = sorted(
            (TaskRun(run, has_root_span=self.has_root_span) for run in self.runs), key=lambda s: (s.start_ns, s.key)
        )[-RUNS:]
        own = next((run for run in self.runs if run.own_task == key), self.runs[0])
        self.task_id = own.task_id if own.own_task == key else ""
        self.is_conversation = own.own_task != key
        self.trace_id, self.span_id = self._place(own)
        has_own_domain = self.task_id or self.is_conversation
        self.uid = (
            UUID(bytes=key[:16]) if has_own_domain else named(self.tenant, self.trace_id.hex(), self.span_id.hex())
        )
        #: The task above, those below, and what was used by its agent before (`Tasks`).
        self.parent: Task | None = None
        self.children: list[Task] = []
        self.before: tuple[int, int] | None = None
        #: Tool calls of an earlier run that asked, and that a later run makes again.
        self.repeated_in = 0

    def _place(self, own: Run) -> tuple[bytes, bytes]:
        if self.task_id:
            starts = [(f.first_ns, b.trace.id) for run in self.runs for b in run.owners if (f := _facts([b])).first_ns]
            return (min(starts)[1] if starts else own.trace.id), b""
        return own.trace.id, own.root.id if own.root is not None else b""

    @cached_property
    def facts(self) -> Facts:
        return _facts([b for run in self.runs for b in run.owners])

    @property
    def task_runs(self) -> list[TaskRun]:
        """Its runs; spans below no root span are one only where the task has no root span."""
        return [s for s in self.all_task_runs if not s.run.is_loose] or self.all_task_runs

    @property
    def newest(self) -> TaskRun:
        return newest_of(self.task_runs)

    @property
    def calls(self) -> list[Span]:
        return [call for run in self.runs for call in calls_of(run)]

    @cached_property
    def own_usage(self) -> Usage:
        return summed(self.calls)

    @cached_property
    def metered(self) -> Usage:
        return summed(
            call for run in self.runs for b in run.owners if b.id == METERED and b.amount for call in b.amount.calls
        )

    @cached_property
    def usage(self) -> Usage:
        return whole(self.own_usage, self.metered, self._said_cost())

    def _said_cost(self) -> int | None:
        """Return the reported cost of its runs, where each run has one, or of the only run."""
        costs = self.facts.costs
        each = [costs.get((s.trace_id, s.span_id)) for s in self.task_runs]
        said = [cost for cost in each if cost is not None]
        if costs and len(said) == len(each):
            return sum(said)
        return next(iter(costs.values())) if len(costs) == 1 and len(each) == 1 else None

    @property
    def tools(self) -> tuple[int, int]:
        found = [b.amount.tool_calls for run in self.runs for b in run.owners if b.id != METERED and b.amount]
        return sum(n for n, _ in found) - self.repeated_in, sum(failed for _, failed in found)

    @cached_property
    def verdict(self) -> Verdict:
        loose = [s for s in self.all_task_runs if s.run.is_loose]
        return judge(
            self.facts,
            self.task_runs,
            use_of(self.facts, self.rules),
            self.rules,
            has_root_span=self.has_root_span,
            loose=loose,
            is_below=self.parent is not None,
            has_children=bool(self.children),
        )

    @property
    def has_failed(self) -> bool:
        return self.verdict.is_over and self.verdict.status == c.ERROR

    @property
    def is_at_work(self) -> bool:
        return not self.verdict.is_over and self.verdict.status in (c.WORKING, c.CONTEXT_WARNING)

    @property
    def is_shown(self) -> bool:
        """Return whether it has a row: for a root span, a call, a step, a status or other content."""
        facts = self.facts
        is_metered = bool(self.metered.calls or self.metered.tokens or self.metered.priced)
        if self.has_root_span or self.own_usage.calls or any(self.tools) or is_metered:
            return True
        return bool(facts.tool_steps) or facts.says_more_than_calls or facts.status is not None

    @property
    def is_worth_a_message(self) -> bool:
        """Return whether it is announced after its settling time: a lone model call or tool call is not."""
        calls, facts = self.own_usage.calls, self.facts
        if facts.is_beside:
            return False
        if self.has_root_span or self.task_id:
            return True
        is_request = request_around(self)[0]
        if not is_request and (calls > 1 or (calls and (any(self.tools) or facts.failed_turn_ns))):
            return True
        return facts.says_more_than_calls or facts.status is not None

    @property
    def public_id(self) -> str:
        if self.is_conversation:
            return f"conversation-{self.uid.hex}"
        return self.task_id or self.facts.earliest("task_alias", of_root_span=True) or self.span_name

    @property
    def span_name(self) -> str:
        return f"{self.trace_id.hex()}-{self.span_id.hex()}" if self.span_id else self.trace_id.hex()

    @property
    def root(self) -> Task:
        """The topmost task above; of tasks in a circle the first by key."""
        seen = [self]
        while (above := seen[-1].parent) is not None and len(seen) < DEPTH:
            if above in seen:
                return min(seen[seen.index(above) :], key=lambda task: task.key)
            seen.append(above)
        return seen[-1]


class Tasks:
    """The tasks of a history."""

    def __init__(self, runs: Runs, rules: Rules) -> None:
        self.runs = runs
        count(runs.traces)
        self.has_conversations = rules.has_conversations
        alone = self.alone = {run.key: TaskRun(run, has_root_span=True) for run in runs}
        self.resumed = resumption(runs.traces, alone)
        by_task: dict[bytes, list[Run]] = defaultdict(list)
        for run in runs:
            by_task[self._key_of(run)].append(run)
        self.by_key = {key: Task(key, of_it, rules) for key, of_it in sorted(by_task.items())}
        self.all = list(self.by_key.values())
        for task in self.all:
            for s in task.all_task_runs:
                s.waits = alone[s.key].waits
                s.goes_on = s.key in self.resumed.goes_on
                s.calls_again = s.key in self.resumed.repeated_in
            task.repeated_in = len(self.resumed.repeated_in & {run.key for run in task.runs})
            task.parent = self._parent_of(task)
        for task in self.all:
            if task.parent is not None:
                task.parent.children.append(task)
        self._take_off_lifetimes()

    @cached_property
    def occurrences(self) -> list[Occurrence]:
        """The occurrences in all tasks."""
        return occurrences(self.runs.traces)

    def task_of(self, run: Run) -> Task:
        return self.by_key[self._key_of(run)]

    def errors_of(self, task: Task) -> list[Occurrence]:
        """Return the failures of its parts."""
        return [one for one in self.occurrences if one.kind is Kind.ERROR and self.task_of(one.run) is task]

    def _key_of(self, run: Run) -> bytes:
        """Return the key of the task in which a run is: its own, or that of the run with which it goes on."""
        seen = set()
        while run.key not in seen and (to := self.resumed.goes_on.get(run.key)) is not None:
            seen.add(run.key)
            run = self.runs.by_key[to]
        return self._conversation_of(run) or run.own_task

    def _conversation_of(self, run: Run) -> bytes:
        """Return the key of the task of the conversation that a run names; empty for none."""
        facts = self.alone[run.key].facts
        talk, service = facts.conversation, facts.earliest("service") or ""
        if not (self.has_conversations and talk) or run.is_loose or run.above is not None or run.task_id:
            return b""
        return named(run.tenant, "conversation", service, run.agent_name, talk).bytes + b"g"

    def _parent_of(self, task: Task) -> Task | None:
        """Return the task above the earliest run that has one."""
        found = []
        for run in task.runs:
            above = run.above.run if run.above is not None else None
            if above is None and run.key in self.resumed.hangs_below:
                above = self.runs.by_key[self.resumed.hangs_below[run.key]]
            if above is not None and self._key_of(above) != task.key:
                found.append((run.start_ns, run.key, self._key_of(above)))
        return self.by_key[min(found)[2]] if found else None

    def _take_off_lifetimes(self) -> None:
        """Subtract the use of the run before from totals of an agent's lifetime."""
        by_agent: dict[tuple[str, str], list[tuple[int, bytes, tuple[int, int], Task]]] = defaultdict(list)
        for task in self.all:
            for s in task.all_task_runs:
                is_asked = s.run.root is not None and s.run.above is None and not s.run.task_id
                if (
                    is_asked
                    and s.closed is not None
                    and s.facts.totals_of
                    and s.facts.aggregate
                    and not task.own_usage.calls
                ):
                    total = (s.facts.aggregate[0] or 0, s.facts.aggregate[1] or 0)
                    by_agent[task.tenant, s.facts.totals_of].append((s.closed[0], s.key, total, task))
        for ended in by_agent.values():
            former: tuple[int, int] | None = None
            for *_, total, task in sorted(ended, key=lambda e: e[:2]):
                task.before = former if former is not None and former[0] <= total[0] and former[1] <= total[1] else None
                former = total

    def used_by_model(self) -> dict[str, int]:
        """Return calls and input tokens by model."""
        out: dict[str, int] = defaultdict(int)
        for task in self.all:
            for call in task.calls:
                assert call.best is not None
                model, usage = (call.best.r.model or "")[:200], call.best.r.usage
                out[f"calls of {model}"] += counts(call)
                out[f"input of {model}"] += (usage.input if usage is not None else 0) or 0
        return {name: n for name, n in out.items() if n}

    def used_by_task(self) -> dict[UUID, int]:
        return {task.uid: n for task in self.all if (n := task.usage.tokens.get("input"))}


def _facts(owners: list[Span]) -> Facts:
    return Facts((n, b.trace.spans[n.o.span_id]) for b in owners for n in b.notes)
