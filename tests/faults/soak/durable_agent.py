"""An agent with `attach()`, a database and a spool, which writes down each call that has returned.

python -m tests.faults.soak.durable_agent RUN ASIDE PAUSE      (settings by the environment)

SIGTERM ends it in order. RUN `last` imports what earlier runs left, and ends.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

from opentelemetry import trace

import spanpost
from spanpost.model.errors import ConfigError


def main(run: str, aside: str, pause: float) -> int:
    """Emit until the end, and return the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    attach()
    if run == "last":
        return 0 if spanpost.flush(60) else 3
    to = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(what: str, span: trace.Span) -> None:
        context = span.get_span_context()
        os.write(to, f"{what} {context.trace_id:032x} {context.span_id:016x} \n".encode())

    tracer = trace.get_tracer("soak")
    for number in itertools.count():
        if stop.is_set():
            break
        name = {"agent.task.id": f"agent-{run}-{number}", "agent.task.name": f"Agent {run}-{number}"}
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "durable"}
        root = tracer.start_span("invoke_agent durable", attributes=agent | name)
        note("start", root)
        for part in range(3):
            call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 12}
            child = tracer.start_span("chat gpt-4o", trace.set_span_in_context(root), attributes=call)
            stop.wait(pause)
            root.add_event("agent.checkpoint", {"agent.checkpoint.message": f"part {part}"})
            child.end()
            note("end", child)
        root.end()
        note("end", root)
    return 0 if spanpost.flush(60) else 3


def attach(seconds: float = 90.0) -> None:
    """Attach; while the database is away, again and again, as a service manager starts a program again."""
    given_up = time.monotonic() + seconds
    while True:
        try:
            spanpost.attach()
        except ConfigError as error:
            if "cannot be reached" not in str(error) or time.monotonic() > given_up:
                raise
            time.sleep(1)  # a service manager's pause
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
