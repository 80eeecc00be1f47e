"""Real processes: exit with open spans, an exception at the top, fork, and the global providers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

#: The beginning of every child: observations are appended to a file as they are received.
PRELUDE = """
import json, os, sys
from opentelemetry import trace
from spanpost.receivers.attachment import join

def receive(batch):
    with open(sys.argv[1], "a") as file:
        for o in batch:
            told = {"pid": os.getpid(), "part": o.part.name, "name": o.name, "span_id": o.span_id.hex()}
            file.write(json.dumps(told | {"producer": o.producer, "attributes": o.attributes}) + "\\n")
"""


def run(tmp_path: Path, program: str, *, exit_code: int = 0, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Run a child to its end and return what it, and the children that it forked, received."""
    import os

    out = tmp_path / "received.jsonl"
    out.touch()
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + program, str(out)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    assert child.returncode == exit_code, child.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def parts(received: list[dict[str, Any]], name: str) -> list[str]:
    return [r["part"] for r in received if r["name"] == name]


def test_exit_with_open_spans(tmp_path: Path) -> None:
    """A program that ends with a span open leaves its start, its last event and its interruption."""
    received = run(
        tmp_path,
        """
join(receive)
span = trace.get_tracer("t").start_span("open")
span.add_event("last words")
""",
    )
    assert parts(received, "open") == ["STARTED"]
    assert parts(received, "last words") == ["EVENT"]
    assert parts(received, "agent.span.interrupted") == ["LOG"]


def test_a_span_open_in_a_daemon_thread(tmp_path: Path) -> None:
    """A span that a daemon thread holds at exit is interrupted, not forgotten."""
    received = run(
        tmp_path,
        """
import threading
join(receive)
is_open = threading.Event()
def work():
    with trace.get_tracer("t").start_as_current_span("open"):
        is_open.set()
        threading.Event().wait()
threading.Thread(target=work, daemon=True).start()
is_open.wait()
""",
    )
    assert parts(received, "agent.span.interrupted") == ["LOG"]


def test_an_exception_at_the_top(tmp_path: Path) -> None:
    """A program that ends with an exception leaves its span ended, with the exception once."""
    received = run(
        tmp_path,
        """
join(receive)
with trace.get_tracer("t").start_as_current_span("task"):
    raise RuntimeError("no")
""",
        exit_code=1,
    )
    assert parts(received, "task")[-1] == "ENDED"
    assert parts(received, "exception") == ["EVENT"]
    assert parts(received, "agent.span.interrupted") == []


@pytest.mark.parametrize("is_own", [True, False])
def test_a_provider_that_nobody_shuts_down(tmp_path: Path, is_own: bool) -> None:
    """A provider joined without `shutdown_on_exit` is flushed at exit all the same, as one of ours is."""
    made = "" if is_own else "trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))"
    received = run(
        tmp_path,
        f"""
from opentelemetry.sdk.trace import TracerProvider
{made}
join(receive)
trace.get_tracer("t").start_span("task").end()
""",
    )
    assert parts(received, "task")[-1] == "ENDED"


def test_providers_are_made_where_there_are_none(tmp_path: Path) -> None:
    """With only the API's placeholders, SDK providers are made and set; an earlier tracer works; twice is
    once.
    """
    received = run(
        tmp_path,
        """
from opentelemetry import _logs
from opentelemetry._logs import LogRecord
early = trace.get_tracer("early")
handle = join(receive)
assert join(receive) is handle
early.start_span("task").end()
_logs.get_logger("l").emit(LogRecord(attributes={"event.name": "agent.checkpoint"}))
assert handle.flush()
assert type(trace.get_tracer_provider()).__module__ == "opentelemetry.sdk.trace"
""",
    )
    assert parts(received, "task").count("ENDED") == 1
    assert parts(received, "agent.checkpoint") == ["LOG"]


def test_a_provider_of_the_application_is_joined(tmp_path: Path) -> None:
    """A provider that the application set is joined, not replaced."""
    received = run(
        tmp_path,
        """
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine)
join(receive)
assert trace.get_tracer_provider() is mine
mine.get_tracer("t").start_span("task").end()
""",
    )
    assert parts(received, "task")[-1] == "ENDED"


def test_a_disabled_sdk(tmp_path: Path) -> None:
    """With OTEL_SDK_DISABLED the program runs and nothing is received."""
    program = "handle = join(receive)\nassert not handle.is_active\ntrace.get_tracer('t').start_span('task').end()\n"
    assert run(tmp_path, program, env={"OTEL_SDK_DISABLED": "true"}) == []


FORK = """
join_handle = join(receive)
tracer = trace.get_tracer("t")
inherited = tracer.start_span("inherited")
join_handle.flush()
pid = os.fork()
if pid == 0:
    inherited.add_event("heard in the child")
    inherited.end()
    with tracer.start_as_current_span("child's own") as span:
        span.add_event("in the child")
    open_one = tracer.start_span("child's open")
    sys.exit(0)
os.waitpid(pid, 0)
inherited.add_event("heard in the parent")
inherited.end()
"""


def test_fork_with_an_open_span(tmp_path: Path) -> None:
    """After a fork the child has a producer of its own, and the parent's span stays the parent's."""
    received = run(tmp_path, FORK)
    parent = next(r["pid"] for r in received if r["name"] == "inherited")
    of_parent = [r for r in received if r["pid"] == parent]
    of_child = [r for r in received if r["pid"] != parent]
    assert [r["part"] for r in of_parent if r["name"] == "inherited"] == ["STARTED", "ENDED"]
    assert "heard in the parent" in {r["name"] for r in of_parent}
    assert parts(of_parent, "agent.span.interrupted") == []
    assert {r["name"] for r in of_child} == {"child's own", "in the child", "child's open", "agent.span.interrupted"}
    [interrupted] = [r for r in of_child if r["name"] == "agent.span.interrupted"]
    assert interrupted["attributes"] == {"span.name": "child's open"}
    producers = {r["pid"]: r["producer"] for r in received if r["producer"]}
    assert len(set(producers.values())) == 2


@pytest.mark.proves("forks", "fork")
def test_fork_while_the_worker_is_busy(tmp_path: Path) -> None:
    """A fork in the middle of a flood of spans gives the child a working queue, and neither process hangs."""
    received = run(
        tmp_path,
        """
handle = join(receive)
tracer = trace.get_tracer("t")
children = []
for number in range(300):
    tracer.start_span(f"s{number}").end()
    if number % 100 == 50:
        pid = os.fork()
        if pid == 0:
            tracer.start_span(f"child {number}").end()
            sys.exit(0 if handle.flush() else 3)
        children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
""",
    )
    ended = [r["name"] for r in received if r["part"] == "ENDED"]
    assert sorted(ended) == sorted([f"s{n}" for n in range(300)] + ["child 50", "child 150", "child 250"])


@pytest.mark.proves("forks", "fork")
def test_two_hundred_forks_during_traffic(tmp_path: Path) -> None:
    """Of two hundred forks during traffic each child and the parent are followed, each span once, and none hangs."""
    received = run(
        tmp_path,
        """
handle = join(receive)
tracer = trace.get_tracer("t")
for number in range(200):
    tracer.start_span(f"s{number}").end()
    if (pid := os.fork()) == 0:
        tracer.start_span(f"child {number}").end()
        os._exit(0 if handle.flush() else 3)
    if number % 4 == 0:
        tracer.start_span(f"t{number}").end()
    assert os.waitpid(pid, 0)[1] == 0
""",
    )
    ended = [r["name"] for r in received if r["part"] == "ENDED"]
    names = [f"{kind}{n}" for kind in ("s", "child ") for n in range(200)] + [f"t{n}" for n in range(0, 200, 4)]
    assert sorted(ended) == sorted(names)


def test_a_fork_that_ran_no_hooks(tmp_path: Path) -> None:
    """After a fork without Python's hooks, the pid reveals it, and a worker is started anew."""
    received = run(
        tmp_path,
        """
os.register_at_fork = lambda **hooks: None
handle = join(receive)
tracer = trace.get_tracer("t")
tracer.start_span("parent's").end()
assert handle.flush()
while not handle.feed.is_asleep:
    os.sched_yield()
pid = os.fork()
if pid == 0:
    tracer.start_span("child's").end()
    sys.exit(0 if handle.flush() else 3)
assert os.waitpid(pid, 0)[1] == 0
""",
    )
    assert "ENDED" in parts(received, "child's")


def test_multiprocessing_by_fork(tmp_path: Path) -> None:
    """A multiprocessing child, which ends without atexit, is followed as far as it flushes."""
    received = run(
        tmp_path,
        """
import multiprocessing
handle = join(receive)
tracer = trace.get_tracer("t")
def work(number):
    tracer.start_span(f"job {number}").end()
    assert handle.flush()
with tracer.start_as_current_span("pool"), multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(work, range(6))
""",
    )
    assert sorted(r["name"] for r in received if r["part"] == "ENDED") == [*(f"job {n}" for n in range(6)), "pool"]
