"""Three sub-agents at once: each is a line of the main task's message, and one that fails does not fail the others."""

from __future__ import annotations

import asyncio

import spanpost
from spanpost.agent import agent_task


async def check(area: str) -> str:
    """Work as a sub-agent: its task is below the one that started it."""
    async with agent_task(f"Check {area}", agent=f"{area}-checker") as task:
        task.checkpoint(f"reading {area}", progress=50)
        await asyncio.sleep(0.05)
        if area == "licences":
            raise LookupError("no licence file in 2 packages")
        return f"{area}: fine"


async def run() -> None:
    """Start all sub-agents, and take what they found."""
    async with agent_task("Check the release", agent="lead") as task:
        results = await asyncio.gather(*map(check, ("tests", "licences", "docs")), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        task.result("checks", f"{len(results) - len(failed)} of {len(results)} are fine")


if __name__ == "__main__":
    app = spanpost.attach()
    asyncio.run(run())
    app.shutdown(30)
