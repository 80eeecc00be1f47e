"""An agent that asks before it deploys.

Run ``python approval_release.py``, and answer at the terminal. Offline, without a database.
"""

from __future__ import annotations

import asyncio

from at_the_terminal import answer_questions

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import approval


async def release(version: str) -> str:
    """Ask, and deploy if a person agrees."""
    async with agent_task(f"Release {version}", agent="release-bot", task_id=f"release-{version}") as task:
        task.checkpoint("tests are green", progress=60)
        decision = await approval(
            f"Deploy {version} to production?",
            id=f"release-{version}",  # a later run with the same id gets the same answer, after a crash too
            detail="12 commits, one migration",
            risk="high",
            expires_in=3600,
        )
        if decision.approved:
            task.artifact(f"{version} in production", kind="deploy")
            return f"deployed {version}, as {decision.by} wanted"
        return "not decided in time" if decision.expired else f"not deployed: {decision.comment or 'denied'}"


if __name__ == "__main__":
    answer_questions(spanpost.attach())
    print(asyncio.run(release("1.4")))
