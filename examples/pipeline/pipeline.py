"""A pipeline of four stages: each stage is a step of one task, and the last one leaves an artifact."""

from __future__ import annotations

import spanpost
from spanpost.agent import agent_task, step

STAGES = {
    "collect": "1,204 orders of yesterday",
    "clean": "37 duplicates removed",
    "summarise": "revenue up 4 %, returns down",
    "publish": "posted to the wiki",
}


def run() -> None:
    """Run all stages in order."""
    with agent_task("Report of yesterday's orders", agent="reporter", repo="acme/reports") as task:
        for number, (stage, found) in enumerate(STAGES.items(), 1):
            step(stage, index=number, count=len(STAGES))
            task.checkpoint(found, progress=100 * number / len(STAGES))
        task.artifact("Orders, 2026-11-22", uri="https://wiki.example.com/orders/2026-11-22", kind="page")
        task.result("revenue", "+4 %")


if __name__ == "__main__":
    app = spanpost.attach()
    run()
    app.shutdown(30)
