"""An agent whose checkpoints the diary gets, and the diary."""

from __future__ import annotations

import os
from pathlib import Path

import spanpost
from spanpost.agent import agent_task

if __name__ == "__main__":
    app = spanpost.attach()
    with agent_task("Water the plants", agent="gardener") as task:
        task.checkpoint("the ficus is dry", progress=50)
    app.shutdown(30)
    for line in Path(os.environ["SPANPOST_DIARY__PATH"]).read_text().splitlines():
        print(line.partition("  #")[0])
