"""Helpers that an agent imports.

They emit plain OpenTelemetry and need opentelemetry-api and `spanpost.semconv` alone.

    from spanpost.agent import agent_task, artifact, checkpoint

    with agent_task("Review pull request 7", agent="reviewer", repo="acme/shop") as task:
        task.checkpoint("read the diff", progress=20)
        artifact("review.md", kind="file")

`spanpost.agent.control` asks people and waits for their answers. Where nothing receives (no SDK, telemetry
off) every call does nothing.
"""

from __future__ import annotations

from spanpost.agent.task import AgentTask, Task, agent_task, artifact, checkpoint, current_task, step

__all__ = ["AgentTask", "Task", "agent_task", "artifact", "checkpoint", "current_task", "step"]
