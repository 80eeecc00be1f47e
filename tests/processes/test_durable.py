"""Durable in process: observations from before a kill are in the database after the next start, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.processes.conftest import Run, Start

pytestmark = pytest.mark.slow

#: Another start, without observations of its own.
NEXT = "spanpost.attach(); assert spanpost.flush(60), 'not everything was imported'"

#: Emits as fast as it can, and writes down each call that has returned, with one write a line.
TELL = """
import itertools, threading
spanpost.attach()
aside = os.open(os.environ["ASIDE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(what, span, *more):
    os.write(aside, " ".join([what, format(span.get_span_context().span_id, "016x"), *more, ""]).encode() + b"\\n")
def tell():
    tracer = trace.get_tracer("test")
    for number in itertools.count():
        root = agent("busy"); note("start", root)
        for _ in range(3):
            child = tracer.start_span("chat", trace.set_span_in_context(root), attributes={
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "gen_ai.usage.input_tokens": 12,
                "gen_ai.response.finish_reasons": ("stop",), "text": "x" * 200})
            child.add_event("agent.checkpoint", {"agent.checkpoint.message": f"m{number}"}); note("event", child)
            child.end(); note("end", child)
        root.end(); note("end", root)
for _ in range(THREADS - 1): threading.Thread(target=tell, daemon=True).start()
say("begun")
tell()
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def reports(aside: Path) -> dict[str, set[str]]:
    """Return the written calls by kind; a line that the kill cut off does not count."""
    noted: dict[str, set[str]] = {"start": set(), "event": set(), "end": set()}
    for line in aside.read_text().splitlines() if aside.exists() else ():
        words = line.split(" ")
        if len(words) == 3 and len(words[1]) == 16:
            noted[words[0]].add(words[1])
    return noted


def recorded(database: Database, part: int) -> list[str]:
    rows = database.fetch(f"SELECT encode(span_id, 'hex') FROM agent_events WHERE part = {part}")
    return [row[0] for row in rows]


def spool_files(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.spool"))


@pytest.mark.proves("spool", "agent-killed")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("threads", "rounds"), [(1, 14), (3, 8)])
def test_kill_at_full_speed(
    start: Start, run: Run, database: Database, spool: Path, tmp_path: Path, threads: int, rounds: int
) -> None:
    """Killed at random moments: each end, event and agent's start that had returned is recorded once.

    A process whose disk was slow says so, and its promise ends there: its round counts only against duplicates.
    """
    asides: list[Path] = []
    environment = {"DATABASE_URL": database.dsn, "SPANPOST_INTAKE__SPOOL_DIR": str(spool)}
    for number in range(rounds):
        aside = tmp_path / f"aside{number}"
        child = start(TELL.replace("THREADS", str(threads)), ASIDE=str(aside), **environment)
        child.hear("begun")
        moment = random.Random(f"{threads} {number}").uniform(0.05, 0.6)
        subprocess.run(["sleep", str(moment)], check=True)  # the moment is random on purpose
        child.send(signal.SIGKILL)
        if "bypassed, the disk is slow" not in child.end(-signal.SIGKILL):
            asides.append(aside)
    assert len(asides) > rounds / 2, "the disk was slow most of the time: nothing was tried"
    assert spool_files(spool)
    run(NEXT, **environment)
    assert spool_files(spool) == []
    noted = [reports(aside) for aside in asides]
    starts, events, ends = (set[str]().union(*(one[what] for one in noted)) for what in ("start", "event", "end"))
    rows, event_rows = recorded(database, 0), recorded(database, 2)
    assert len(ends) > 10 * len(asides)
    assert ends - set(rows) == set()
    assert events - set(event_rows) == set()
    assert starts - set(rows) - set(recorded(database, 1)) == set()
    assert (len(rows), len(event_rows)) == (len(set(rows)), len(set(event_rows)))


ONE = """
spanpost.attach()
agent("done").end()
left = agent("left")
left.add_event("agent.checkpoint", {"agent.checkpoint.message": "half way"})
from opentelemetry._logs import LogRecord, get_logger
context = left.get_span_context()
get_logger("test").emit(LogRecord(event_name="agent.checkpoint", attributes={"agent.checkpoint.message": "nearly"},
    trace_id=context.trace_id, span_id=context.span_id, trace_flags=context.trace_flags))
say("sent"); pause()
"""
#: Nothing can be recorded: observations stay in memory and in the spool.
LOCKED = """
import asyncio, asyncpg, threading
is_held = threading.Event()
async def hold():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    async with connection.transaction():
        await connection.execute("LOCK TABLE audit_rows IN ACCESS EXCLUSIVE MODE")
        is_held.set()
        await asyncio.Event().wait()
def lock():
    threading.Thread(target=lambda: asyncio.run(hold()), daemon=True).start(); is_held.wait()
"""


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Block all recording as long as the block lasts."""
    import asyncpg

    is_held, is_over = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(database.dsn)
        async with connection.transaction():
            await connection.execute("LOCK TABLE audit_rows IN ACCESS EXCLUSIVE MODE")
            is_held.set()
            await asyncio.to_thread(is_over.wait)
        await connection.close()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    assert is_held.wait(60)
    try:
        yield
    finally:
        is_over.set()
        holder.join()


def killed(start: Start, code: str, number: signal.Signals = signal.SIGKILL, **environment: str) -> None:
    """Run a child until it has reported everything, and kill it."""
    child = start(code, **environment)
    child.hear("sent")
    child.send(number)
    child.end(-number)


@pytest.fixture
def environment(database: Database, spool: Path) -> dict[str, str]:
    return {"DATABASE_URL": database.dsn, "SPANPOST_INTAKE__SPOOL_DIR": str(spool)}


def without_database(code: str) -> str:
    """Return a program whose store hangs from the attachment on."""
    return LOCKED + code.replace("spanpost.attach()\n", "spanpost.attach()\nlock()\n", 1)


@pytest.mark.proves("spool", "agent-killed")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_left(
    start: Start, run: Run, database: Database, environment: dict[str, str], number: signal.Signals
) -> None:
    """A span, an event, a log event and an agent's start survive a kill; open spans are marked interrupted."""
    killed(start, without_database(ONE), number, **environment)
    run(NEXT, **environment)
    assert database.tasks == [("done", "complete"), ("left", "error")]
    said = "SELECT text FROM agent_checkpoints WHERE text IN ('half way', 'nearly') ORDER BY text"
    assert database.fetch(said) == [("half way",), ("nearly",)]
    assert database.fetch("SELECT count(*) FROM agent_events WHERE name = 'agent.span.interrupted'") == [(1,)]


@pytest.mark.proves("ends", "agent-killed")
def test_without_it_a_kill_takes_what_waits(start: Start, run: Run, database: Database) -> None:
    """Without a spool a kill loses what waits."""
    killed(start, without_database(ONE), DATABASE_URL=database.dsn)
    run(NEXT, DATABASE_URL=database.dsn)
    assert database.tasks == []


@pytest.mark.proves("spool", "agent-killed")
@pytest.mark.parametrize("cut", [1, 5, 9, 40])
def test_a_torn_tail(
    start: Start, run: Run, database: Database, spool: Path, environment: dict[str, str], cut: int
) -> None:
    """A record cut off by the kill is ignored without an error; all before it are recorded."""
    killed(
        start,
        without_database("spanpost.attach()\nfor n in range(20): agent(f'a{n:02}').end()\nsay('sent'); pause()"),
        **environment,
    )
    [spool_file] = spool_files(spool)
    os.truncate(spool_file, spool_file.stat().st_size - cut)
    said = run("import logging; logging.basicConfig(level='INFO')\n" + NEXT, **environment)
    assert "damaged" not in said
    assert [name for name, status in database.tasks if status == "complete"] == [f"a{n:02}" for n in range(19)]
    assert spool_files(spool) == []


@pytest.mark.proves("spool", "bit-flips")
def test_a_damaged_record(start: Start, run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """A damaged record is counted and logged; all others are recorded."""
    code = "spanpost.attach()\nfor n in range(20): agent(f'a{n:02}').end()\nsay('sent'); pause()"
    killed(start, without_database(code), **environment)
    [spool_file] = spool_files(spool)
    data = spool_file.read_bytes()
    spool_file.write_bytes(data.replace(b"invoke_agent a07", b"invoke_agent !07"))
    said = run("import logging; logging.basicConfig(level='INFO')\n" + NEXT, **environment)
    assert "2 records of" in said  # its start and its end
    assert "were damaged" in said
    assert [name for name, _ in database.tasks] == [f"a{n:02}" for n in range(20) if n != 7]


def test_a_living_process_is_left_alone(
    start: Start, run: Run, database: Database, spool: Path, environment: dict[str, str]
) -> None:
    """A third process imports the dead process's file and leaves the living one's alone."""
    killed(start, without_database("spanpost.attach()\nagent('dead').end()\nsay('sent'); pause()"), **environment)
    [dead] = spool_files(spool)
    living = start(
        "spanpost.attach()\nagent('living').end(); assert spanpost.flush(20)\nsay('sent'); pause()", **environment
    )
    living.hear("sent")
    assert not dead.exists()
    [its] = spool_files(spool)
    before = its.read_bytes()
    run(NEXT + "\nagent('third').end()", **environment)
    assert spool_files(spool) == [its]
    assert its.read_bytes() == before
    assert [name for name, _ in database.tasks] == ["dead", "living", "third"]
    living.go_on()
    living.end()
    assert spool_files(spool) == []


@pytest.mark.proves("spool", "agent-killed")
def test_a_process_that_was_there_before_the_kill(
    start: Start, database: Database, spool: Path, environment: dict[str, str]
) -> None:
    """A process that already runs imports the file of a killed one, without any new start."""
    code = (
        "import spanpost.receivers.spool_recovery\nspanpost.receivers.spool_recovery.SCAN_INTERVAL = 0.1\n"
        "spanpost.attach()"
    )
    code = code.replace(
        "spanpost.receivers.spool_recovery.SCAN_INTERVAL = 0.1",
        "spanpost.receivers.spool_recovery.Recovery.__init__.__kwdefaults__['scan_interval'] = 0.1",
    )
    watching = start(
        code
        + """
        say("ready"); pause()
        import time
        until = time.monotonic() + 60
        while any(os.scandir(os.environ["SPANPOST_INTAKE__SPOOL_DIR"]), ) and time.monotonic() < until:
            if not [e for e in os.scandir(os.environ["SPANPOST_INTAKE__SPOOL_DIR"]) if e.name.endswith(".spool")]: break
            time.sleep(0.05)
        say("seen")
    """.replace("\n        ", "\n"),
        **environment,
    )
    watching.hear("ready")
    killed(start, without_database("spanpost.attach()\nagent('dead').end()\nsay('sent'); pause()"), **environment)
    watching.go_on()
    watching.hear("seen")
    watching.end()
    assert database.tasks == [("dead", "complete")]


@pytest.mark.proves("one-row")
def test_an_orderly_end_leaves_nothing(run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """A process that ends in order has recorded everything: no file is left, and nothing is recorded twice."""
    assert run("spanpost.attach(); agent('done').end(); left = agent('left')", **environment) == ""
    assert spool_files(spool) == []
    run(NEXT, **environment)
    assert database.tasks == [("done", "complete"), ("left", "error")]
    assert database.fetch("SELECT count(*) FROM agent_events WHERE name = 'agent.span.interrupted'") == [(1,)]


@pytest.mark.proves("spool", "database-hangs")
def test_an_orderly_end_while_the_database_hangs(run: Run, database: Database, environment: dict[str, str]) -> None:
    """Observations that could not be recorded at the end are recorded at the next start, with interruptions."""
    said = run(without_database("spanpost.attach()\nagent('done').end(); left = agent('left')"), **environment)
    assert "not everything was recorded" in said
    assert database.tasks == []
    run(NEXT, **environment)
    assert database.tasks == [("done", "complete"), ("left", "error")]


@pytest.mark.proves("counted-losses")
def test_what_the_queue_did_not_hold(run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """An overflow of the queue is read from the file: nothing is lost, and the flush returns the truth."""
    run(
        """
        import threading
        app = spanpost.attach(intake={"queue_size": 64, "spool_dir": os.environ["SPANPOST_INTAKE__SPOOL_DIR"]})
        held = threading.Event()
        app._loop.call(held.wait)  # as a slow store would hold it up
        for n in range(1000): agent(f"a{n:04}").end()
        assert not spanpost.flush(0.2)
        held.set()
        assert spanpost.flush(60)
        assert app.dropped == {}, app.dropped
    """,
        **environment,
    )
    assert database.tasks == [(f"a{n:04}", "complete") for n in range(1000)]


@pytest.mark.proves("spool", "fork", "agent-killed")
def test_fork(start: Start, run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """A forked child writes a file of its own; observations of both are recorded after both were killed."""
    code = """
spanpost.attach()
agent("before").end()
pid = os.fork()
agent("parent" if pid else "child").end()
if pid: os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT | os.WEXITED)
else: os.kill(os.getpid(), 19)
say("sent", pid); pause()
"""
    with held(database):
        child = start(code, **environment)
        forked = int(child.hear("sent"))
        assert len(spool_files(spool)) == 2
        # Kill both: a stopped one could hold its transaction's locks meanwhile.
        os.kill(forked, signal.SIGKILL)
        child.send(signal.SIGKILL)
        child.process.communicate()
    run(NEXT, **environment)
    assert database.tasks == [("before", "complete"), ("child", "complete"), ("parent", "complete")]
    assert spool_files(spool) == []


@pytest.mark.proves("spool", "fork")
def test_multiprocessing(run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """Children that end by `os._exit` leave their observations, with each start method."""
    code = """
import multiprocessing
def work(number):
    spanpost.attach()
    agent(f"job {number}").end()
    os._exit(0)
if __name__ == "__main__":
    spanpost.attach()
    agent("parent").end()
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=work, args=(method,))
        child.start(); child.join()
        assert child.exitcode == 0
"""
    run(code, **environment)
    run(NEXT, **environment)
    assert database.tasks == [("job fork", "complete"), ("job spawn", "complete"), ("parent", "complete")]
    assert spool_files(spool) == []


def test_another_database(
    start: Start, run: Run, database: Database, spool: Path, environment: dict[str, str], server: str
) -> None:
    """Observations for one database are never recorded in another: they wait, with a log line."""
    from tests.conftest import fresh_database

    killed(start, without_database("spanpost.attach()\nagent('mine').end()\nsay('sent'); pause()"), **environment)
    with fresh_database(server) as other:
        said = run(
            "import logging; logging.basicConfig(level='INFO')\n" + NEXT, **{**environment, "DATABASE_URL": other}
        )
        assert "1 files in" in said
        assert "wait for another database" in said
        assert Database(other).tasks == []
    run(NEXT, **environment)
    assert database.tasks == [("mine", "complete")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(where)], capture_output=True, text=True
    )
    if done.returncode:
        reason = f"no file system can be mounted here: {done.stderr.strip() or 'not permitted'}"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.mark.proves("no-wait", "spool-disk-full")
def test_a_full_disk(start: Start, run: Run, database: Database, small_disk: Path, environment: dict[str, str]) -> None:
    """On a full disk the agent goes on, with one log line and a count; when there is space, the file is
    written again.
    """
    code = (
        LOCKED
        + """
import time
app = spanpost.attach()
(open(os.environ["SPANPOST_INTAKE__SPOOL_DIR"] + "/filler", "wb").write(b"x" * 900_000))
slowest = 0.0
for n in range(2000):
    span = agent(f"a{n:04}"); span.set_attribute("text", "x" * 500)
    span.end()
assert app._spool.bypass == "no_space", app._spool.bypass
past = app._spool.bypassed.totals()
assert set(past) == {"no_space"}, past
assert spanpost.flush(60)
os.unlink(os.environ["SPANPOST_INTAKE__SPOOL_DIR"] + "/filler")
until = time.monotonic() + 60
while app._spool.bypass is not None and time.monotonic() < until: time.sleep(0.05)
lock()
agent("after").end()
say("sent", app.dropped); pause()
"""
    )
    where = {**environment, "SPANPOST_INTAKE__SPOOL_DIR": str(small_disk)}
    child = start(code, **where)
    assert child.hear("sent") == "{}"
    child.send(signal.SIGKILL)
    said = child.end(-signal.SIGKILL)
    assert said.count("is bypassed") == 1
    assert "the disk is full" in said
    next_said = run("import logging; logging.basicConfig(level='INFO')\n" + NEXT, **where)
    assert "went past the spool (no_space)" in next_said
    assert [status for _, status in database.tasks] == ["complete"] * 2001


@pytest.mark.proves("counted-losses")
def test_the_cap(run: Run, database: Database, spool: Path, environment: dict[str, str]) -> None:
    """At the cap nothing more is written, which is logged and counted; memory goes on."""
    code = (
        LOCKED
        + """
import time
app = spanpost.attach()
lock()
until = time.monotonic() + 60
n = 0
while app._spool.bypass is None and time.monotonic() < until:
    for _ in range(50): agent(f"a{n}").end(); n += 1
    time.sleep(0.02)
assert app._spool.bypass == "full"
agent("past").end()
assert app._spool.bypassed.totals()["full"] >= 1
assert app.dropped == {}
os._exit(0)
"""
    )
    said = run(code, **environment, SPANPOST_INTAKE__SPOOL_MAX_BYTES="65536")
    assert said.count("is bypassed, it has reached SPANPOST_INTAKE__SPOOL_MAX_BYTES") == 1
    assert sum(path.stat().st_size for path in spool_files(spool)) < 20 * 65_536


def test_refused_without_a_database(run: Run, spool: Path) -> None:
    """Without a database attach refuses a spool and says what to do."""
    code = """
        try:
            spanpost.attach()
        except spanpost.ConfigError as error:
            assert "there is no database" in str(error) and "DATABASE_URL" in str(error), error
        else:
            raise SystemExit("it was taken")
    """
    run(code, SPANPOST_INTAKE__SPOOL_DIR=str(spool))
    run(code, SPANPOST_INTAKE__DURABLE="true")


def test_refused_where_others_can_read(run: Run, database: Database, spool: Path) -> None:
    """A spool directory open to other users is refused; the directory and files made are private."""
    spool.mkdir(mode=0o755)
    code = (
        "try: spanpost.attach()\n"
        "except spanpost.ConfigError as error: assert 'chmod 700' in str(error), error\n"
        "else: raise SystemExit(1)"
    )
    environment = {"DATABASE_URL": database.dsn, "SPANPOST_INTAKE__SPOOL_DIR": str(spool / "in")}
    run(code, **{**environment, "SPANPOST_INTAKE__SPOOL_DIR": str(spool)})
    run(
        """
        spanpost.attach(); agent("a").end()
        where = os.environ["SPANPOST_INTAKE__SPOOL_DIR"]
        assert os.stat(where).st_mode & 0o777 == 0o700
        assert {e.stat().st_mode & 0o777 for e in os.scandir(where)} == {0o600}
        assert len([e for e in os.scandir(where) if e.name.endswith(".spool")]) == 1
    """,
        **environment,
    )
