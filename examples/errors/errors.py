"""Errors of three kinds: one that is handled, one that is retried, and one that ends the task with its log."""

from __future__ import annotations

from opentelemetry import trace

import spanpost
from spanpost.agent import agent_task

tracer = trace.get_tracer("deployer")


class ReplicaDown(Exception):
    """The replica does not answer."""


class DeployFailed(Exception):
    """A deployment failed."""


def query(attempt: int) -> str:
    """Ask the replica, as a tool of the agent; the first attempt fails."""
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "query_replica"}
    with tracer.start_as_current_span("execute_tool query_replica", attributes=attributes):
        if attempt == 1:
            raise ReplicaDown("no answer within 5 s")
        return "12 hosts"


def run() -> None:
    """Look up, deploy, fail."""
    with agent_task("Deploy 1.8.2", agent="deployer", repo="acme/shop") as task:
        for attempt in (1, 2):
            try:
                task.checkpoint(query(attempt), progress=30)
                break
            except ReplicaDown:
                # Handled: the task goes on, and its thread says which tool failed.
                task.checkpoint("asking the replica again")
        raise DeployFailed("canary at 12 % errors, 1 % allowed")


if __name__ == "__main__":
    app = spanpost.attach()
    try:
        run()
    except DeployFailed as error:
        print(f"the agent's own handler: {error}")
    app.shutdown(30)
