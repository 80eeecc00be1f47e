"""Processes that become several: forks, multiprocessing, servers that load an application before they fork."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.processes.conftest import PRELUDE, Run, Start, needs_package

pytestmark = pytest.mark.slow


@pytest.mark.proves("forks", "fork")
def test_fork_with_an_open_span(run: Run, database: Database) -> None:
    """A span open at the fork belongs to the parent; both processes continue with their own connections."""
    code = """
        spanpost.attach()
        shared = agent("shared")
        assert spanpost.flush(20)
        pid = os.fork()
        if pid == 0:
            shared.end(); agent("child").end()
            sys.exit(0 if spanpost.flush(20) else 3)
        assert os.waitpid(pid, 0)[1] == 0
        assert spanpost.flush(20)
        agent("parent").end()
        assert spanpost.flush(20)
        shared.end()
    """
    assert run(code, DATABASE_URL=database.dsn) == ""
    assert database.tasks == [("child", "complete"), ("parent", "complete"), ("shared", "complete")]
    ends = database.fetch("SELECT count(*) FROM agent_events WHERE part <> 0 AND name = 'invoke_agent shared'")
    assert ends == [(1,)]


def test_a_forked_child_while_the_parent_serves_metrics(run: Run, database: Database) -> None:
    """A child cannot serve metrics on its parent's port: it logs that once, and its spans are recorded."""
    code = """
        spanpost.attach(metrics={"port": 0})
        port = int(spanpost.attach().metrics_url.split(":")[2].split("/")[0])
        spanpost.attach().shutdown()
        spanpost.attach(metrics={"port": port})
        pid = os.fork()
        if pid == 0:
            agent("child").end()
            sys.exit(0 if spanpost.flush(20) else 3)
        assert os.waitpid(pid, 0)[1] == 0
        agent("parent").end()
    """
    assert "this process serves no metrics" in run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("child", "complete"), ("parent", "complete")]


MULTIPROCESSING = """
import multiprocessing
def work(number):
    spanpost.attach()
    agent(f"job {number}").end()
    left = agent(f"left {number}")
if __name__ == "__main__":
    spanpost.attach()
    context = multiprocessing.get_context("METHOD")
    children = [context.Process(target=work, args=(n,)) for n in range(2)]
    with trace.use_span(agent("parent"), end_on_exit=True):
        for child in children: child.start()
        for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0]
"""


@pytest.mark.proves("forks", "fork")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(run: Run, database: Database, method: str) -> None:
    """A `Process` is followed to its end without a flush, although a forked one never runs atexit."""
    assert run(MULTIPROCESSING.replace("METHOD", method), DATABASE_URL=database.dsn) == ""
    expected = [(f"{name} {n}", status) for name, status in (("job", "complete"), ("left", "error")) for n in range(2)]
    assert database.tasks == [*expected, ("parent", "complete")]


@pytest.mark.proves("forks", "fork")
def test_a_pool(run: Run, database: Database) -> None:
    """A pool ends its workers by SIGTERM: with `flush_on_sigterm` their last jobs are recorded."""
    code = """
        import multiprocessing
        def work(number): agent(f"job {number}").end()
        spanpost.attach(flush_on_sigterm=True)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(6))
    """
    assert run(code, DATABASE_URL=database.dsn) == ""
    assert database.tasks == [(f"job {n}", "complete") for n in range(6)]


WEB = (
    PRELUDE
    + """
app = spanpost.attach()
with trace.use_span(agent("loading"), end_on_exit=True): pass
"""
)

WSGI = (
    WEB
    + """
def app(environ, start_response):
    agent("request").end()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
)

ASGI = (
    WEB
    + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                agent("leaving").end()
                spanpost.flush(20)
                return
    agent("request VERSION").end()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
)


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as response:
        return str(response.read().decode())


@pytest.mark.proves("forks", "fork")
def test_gunicorn_that_preloads(start: Start, tmp_path: Path, database: Database) -> None:
    """Workers forked by gunicorn after attach are followed with their own connections to their end."""
    needs_package("gunicorn")
    (tmp_path / "web.py").write_text(WSGI)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0", "web:app"]
    server = start([*command, "--no-control-socket"], DATABASE_URL=database.dsn)
    assert server.process.stderr is not None
    address = next(line for line in server.process.stderr if "Listening at" in line).split("at: ")[1].split(" ")[0]
    for _ in range(4):
        get(address)
    server.send(signal.SIGTERM)
    server.end()
    assert database.tasks == [("loading", "complete"), *[("request", "complete")] * 4]


def test_uvicorn_that_reloads(start: Start, tmp_path: Path, database: Database) -> None:
    """Each reload is a new process that attaches anew; the lifespan's last spans are recorded."""
    needs_package("uvicorn")
    (tmp_path / "web.py").write_text(ASGI.replace("VERSION", "one"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        command = [sys.executable, "-m", "uvicorn", "--reload", "--reload-delay", "0.05", "web:app"]
        command += ["--fd", str(listening.fileno())]
        server = start(command, keep_open=listening.fileno(), DATABASE_URL=database.dsn)
        assert server.process.stderr is not None
        get(address)
        (tmp_path / "web.py").write_text(ASGI.replace("VERSION", "number two"))
        next(line for line in server.process.stderr if "Reloading" in line)
        next(line for line in server.process.stderr if "startup complete" in line)
        get(address)
        server.send(signal.SIGTERM)
        server.process.communicate(timeout=60)
    runs = [("leaving", "complete"), ("loading", "complete")]
    assert database.tasks == sorted([*runs, *runs, ("request number two", "complete"), ("request one", "complete")])
