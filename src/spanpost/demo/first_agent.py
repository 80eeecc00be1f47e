"""A small agent that emits OpenTelemetry and nothing else: it finds a slow query, mends it and has the patch
reviewed.

Its model and its tools are scripted, so it runs offline. It knows nothing of Slack, PostgreSQL or
Prometheus, and runs unchanged without spanpost: ``python first_agent.py``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from spanpost.agent import agent_task, artifact, checkpoint

MODEL = "gpt-4o"
WINDOW = 32_000  # tokens; the agent knows its own limit and says so

tracer = trace.get_tracer("first_agent")


class ToolFailed(Exception):
    """A tool failed."""


class Agent:
    """Follows a script. `pace` is the duration of a scripted second, in seconds."""

    def __init__(self, pace: float) -> None:
        self.pace = pace

    def wait(self, seconds: float) -> None:
        """Wait, as models and tools make an agent wait."""
        time.sleep(seconds * self.pace)

    def think(self, seconds: float, *, input_tokens: int, output_tokens: int) -> None:
        """Call the model."""
        with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT) as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": MODEL,
                }
            )
            self.wait(seconds)
            span.set_attributes(
                {
                    "gen_ai.response.model": MODEL,
                    "gen_ai.response.id": f"resp-{uuid.uuid4().hex[:12]}",
                    "gen_ai.response.finish_reasons": ("stop",),
                    "gen_ai.usage.input_tokens": input_tokens,
                    "gen_ai.usage.output_tokens": output_tokens,
                    "agent.cost_usd": (2.5 * input_tokens + 10 * output_tokens) / 1e6,
                }
            )

    @contextmanager
    def tool(self, name: str) -> Iterator[Span]:
        """Call a tool."""
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": f"call-{uuid.uuid4().hex[:12]}",
        }
        with tracer.start_as_current_span(f"execute_tool {name}", attributes=attributes) as span:
            yield span


def run(pace: float = 1.0) -> None:
    """Do the whole task; about 15 seconds at a pace of 1."""
    agent = Agent(pace)
    with agent_task("Make the checkout page fast again", agent="pilot", repo="acme/shop", topic="performance") as task:
        checkpoint("Planning", progress=5, step="plan", step_index=1, step_count=4, context_window=WINDOW)
        agent.think(1.6, input_tokens=3_200, output_tokens=310)

        checkpoint("Looking for the slow query", progress=20, step="find the cause", step_index=2, step_count=4)
        with agent.tool("read_traces"):
            agent.wait(1.0)
        agent.think(1.2, input_tokens=9_400, output_tokens=420)
        try:
            with agent.tool("explain_query"):
                agent.wait(0.8)
                raise ToolFailed("the replica did not answer within 5 s")
        except ToolFailed:
            checkpoint("The replica does not answer; asking the primary instead", progress=35)
        with agent.tool("explain_query") as span:
            agent.wait(1.0)
            span.set_status(Status(StatusCode.OK))
        checkpoint("Found it: orders.customer_id has no index", progress=45)

        agent.think(1.4, input_tokens=17_800, output_tokens=900)
        checkpoint("Writing the migration", progress=60, step="mend it", step_index=3, step_count=4)
        with agent.tool("write_file"):
            agent.wait(0.8)
        agent.think(1.2, input_tokens=23_900, output_tokens=640)  # 75 % of the window
        artifact("Add an index on orders.customer_id", uri="https://git.example.com/shop/pull/1042", kind="pr")

        checkpoint("Asking for a review", progress=80, step="review", step_index=4, step_count=4)
        with agent_task("Review the migration", agent="reviewer"):
            agent.think(1.4, input_tokens=2_100, output_tokens=260)
            with agent.tool("run_tests"):
                agent.wait(1.2)
            checkpoint("All 214 tests pass; the index is built concurrently", progress=100)

        agent.think(1.0, input_tokens=25_100, output_tokens=180)
        task.result("p95 of /checkout", "2.4 s before, 180 ms after")
        checkpoint("The checkout page is fast again", progress=100)


if __name__ == "__main__":
    run()
