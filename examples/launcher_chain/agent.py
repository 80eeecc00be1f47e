"""One agent of the chain. It knows nothing of the others: the gateway's rules start the next one."""

from __future__ import annotations

import os
import sys

import spanpost
from spanpost.agent import agent_task

if __name__ == "__main__":
    name, text = sys.argv[1], sys.argv[-1]
    app = spanpost.attach(endpoint=os.environ["SPANPOST_URL"])
    with agent_task(text, agent=name) as task:
        if name == "fixer":
            task.link("pr", "https://git.example.com/shop/pull/1042")
    app.shutdown(30)
