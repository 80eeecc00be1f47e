"""A day of many tasks as agents report it: failures, questions, filling context windows, sub-agents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from spanpost.model.observations import Observation, Origin, Part, Status

#: Agents, and the models that they call in turn.
AGENTS = {"coder": ("gpt-4o", "gpt-4o", "gpt-4o-mini"), "reviewer": ("gpt-4o-mini",), "deployer": ("gpt-4o",)}
SORTS = ("bugfix", "feature", "release")
SECOND = 1_000_000_000


class Day:
    """Yields observations by steps. `began` and `step` are seconds; the same day for one seed."""

    def __init__(self, began: float, *, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._began = began
        self.tasks = 0

    def step(self, at: float, count: int, *, stays_open: bool = False, retries: bool = False) -> Iterator[Observation]:
        """Report `count` tasks that began at `at`; `retries`: each a failed retry of the task before."""
        for _ in range(count):
            self.tasks += 1
            yield from self._task(self.tasks, at + self._random.uniform(0, 60), stays_open, retries)

    def _task(self, n: int, at: float, stays_open: bool, retries: bool) -> Iterator[Observation]:
        choose = self._random
        agent = choose.choice(list(AGENTS))
        fails = choose.random() < 0.15 or retries
        origin = Origin(
            resource={
                "service.name": agent,
                "agent.team": "red" if n % 2 else "blue",
                "deployment.environment.name": "prod",
            },
            scope="day",
            scope_version="1",
        )
        trace = n.to_bytes(16, "big")
        took, clock, spans = 60.0 + n % 7 * 40, at, 1

        def span(
            name: str, attributes: dict[str, Any], start: float, seconds: float, status: Status, number: int
        ) -> Observation:
            return Observation(
                part=Part.ENDED, trace_id=trace, span_id=number.to_bytes(8, "big"),
                tenant="acme" if n % 3 else "globex", parent_id=b"" if number == 1 else (1).to_bytes(8, "big"),
                name=name, at_ns=int((start + seconds) * SECOND), start_ns=int(start * SECOND),
                end_ns=int((start + seconds) * SECOND), status=status, attributes=attributes, origin=origin,
            )  # fmt: skip

        def event(name: str, attributes: dict[str, Any], when: float, index: int) -> Observation:
            return Observation(
                part=Part.EVENT, trace_id=trace, span_id=(1).to_bytes(8, "big"), tenant="acme" if n % 3 else "globex",
                index=index, name=name, at_ns=int(when * SECOND), attributes=attributes, origin=origin,
            )  # fmt: skip

        root_span: dict[str, Any] = {
            "agent.task.id": f"task-{n}", "agent.task.name": f"{SORTS[n % 3].capitalize()} {n}",
            "agent.task.type": SORTS[n % 3], "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent,
            "agent.link.pr": f"https://example.org/pr/{n}",
        }  # fmt: skip
        if retries:
            root_span["agent.retry_of"] = f"task-{n - 1}"
        if stays_open:
            begun = span(f"invoke_agent {agent}", root_span, at, 0, Status.UNSET, 1)
            yield Observation(
                part=Part.STARTED, trace_id=begun.trace_id, span_id=begun.span_id, tenant=begun.tenant, name=begun.name,
                at_ns=begun.start_ns, start_ns=begun.start_ns, attributes=root_span, origin=origin, producer="day",
                seq=n,
            )  # fmt: skip
        for i in range(6):
            spans += 1
            tokens = 20_000 + i * 17_000
            yield span(
                "chat",
                {
                    "gen_ai.operation.name": "chat", "gen_ai.request.model": AGENTS[agent][i % len(AGENTS[agent])],
                    "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 400 + n % 90,
                    "gen_ai.usage.cache_read.input_tokens": tokens // 2, "gen_ai.response.id": f"r-{n}-{i}",
                    "gen_ai.provider.name": "openai", "agent.account": "team-key",
                    **({"error.type": "RateLimitError"} if n % 9 == 0 and i == 2 else {}),
                },
                clock + 4, 3.0 + i, Status.ERROR if n % 9 == 0 and i == 2 else Status.UNSET, spans,
            )  # fmt: skip
            spans += 1
            bad = n % 5 == 0 and i == 1
            tool = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "grep",
                "agent.step.name": f"Step {i + 1}",
            }
            tool |= {"agent.step.index": i + 1, "agent.step.count": 6} | ({"error.type": "TimeoutError"} if bad else {})  # type: ignore[dict-item]
            yield span("execute_tool grep", tool, clock, 1.5, Status.ERROR if bad else Status.OK, spans)
            clock += took / 6
        asked = {"agent.approval.id": f"q-{n}", "agent.approval.question": "Deploy to production?"}
        if agent == "deployer":
            yield event("agent.approval.requested", asked, at + 20, 0)
            if not stays_open:
                answer = {
                    "agent.approval.id": f"q-{n}",
                    "agent.approval.decision": "approved",
                    "agent.approval.by": "ada",
                }
                yield event("agent.approval.resolved", answer, at + 20 + 10 * (n % 30), 1)
        made = {
            "agent.artifact.name": "patch",
            "agent.artifact.kind": "pr",
            "agent.artifact.uri": f"https://example.org/pr/{n}",
        }
        yield event("agent.artifact", made, at + took - 1, 2)
        judged = {"gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.value": 0.3 if fails else 0.9}
        yield event("gen_ai.evaluation.result", judged, at + took - 1, 3)
        if not stays_open:
            ended = {**root_span, "error.type": "BuildFailed"} if fails else root_span
            yield span(f"invoke_agent {agent}", ended, at, took, Status.ERROR if fails else Status.OK, 1)
