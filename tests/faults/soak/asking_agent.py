"""An agent that asks a person, waits for the answer at the gateway, and writes it down; then it asks the next.

python -m tests.faults.soak.asking_agent SEED ASIDE ENDPOINT

Started again, it asks the last question again. SIGTERM ends it after the answer that it waits for.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from pathlib import Path

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import ControlUnavailable, approval_sync


def main(seed: str, aside: Path, endpoint: str) -> None:
    """Ask until the end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    spanpost.attach(endpoint=endpoint)
    asked = len(aside.read_text().splitlines()) if aside.exists() else 0
    for number in itertools.count(asked):
        if stop.is_set():
            break
        name = f"ask-{seed}-{number}"
        with agent_task(f"Question {number}", agent="asker", task_id=name):
            while True:
                try:
                    decision = approval_sync(f"Shall I do number {number}?", id=name)
                    break
                except ControlUnavailable as error:
                    print(f"{time.time():.1f} {error}", flush=True)
                    time.sleep(0.5)  # as an agent does that needs the answer
        with aside.open("a") as to:
            to.write(f"{name} {decision.decision} {decision.by}\n")
        stop.wait(0.5)
    spanpost.flush(30)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
