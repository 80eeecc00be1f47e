"""How processes end, and which of their spans are in the database afterwards."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Database
from tests.processes.conftest import Run, Start

pytestmark = pytest.mark.slow


@pytest.mark.proves("ends")
def test_exit_with_an_open_span(run: Run, database: Database) -> None:
    """Ended spans of a program that exits are recorded as ended, and open ones as interrupted."""
    run("spanpost.attach(); agent('done').end(); left = agent('left')", DATABASE_URL=database.dsn)
    assert database.tasks == [("done", "complete"), ("left", "error")]


def test_an_exception_at_the_top(run: Run, database: Database) -> None:
    """A program that ends with an exception leaves its task as failed."""
    code = """
        spanpost.attach()
        with trace.use_span(agent("unlucky"), end_on_exit=True):
            raise RuntimeError("no")
    """
    assert "RuntimeError: no" in run(code, exit_code=1, DATABASE_URL=database.dsn)
    assert database.tasks == [("unlucky", "error")]


def test_what_was_flushed_survives_os_exit(run: Run, database: Database) -> None:
    """After `os._exit`, which runs no clean-up, everything before a successful flush is recorded."""
    run("spanpost.attach(); agent('a').end(); assert spanpost.flush(20); os._exit(0)", DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete")]


@pytest.mark.proves("ends", "agent-killed")
def test_what_was_flushed_survives_kill(start: Start, database: Database) -> None:
    """After SIGKILL, everything before a flush is recorded; the open span stays open for the heartbeat
    check.
    """
    child = start(
        "spanpost.attach(); agent('a').end(); left = agent('b'); say('flushed', spanpost.flush(20)); pause()",
        DATABASE_URL=database.dsn,
    )
    assert child.hear("flushed") == "True"
    child.send(signal.SIGKILL)
    child.end(-signal.SIGKILL)
    assert database.tasks == [("a", "complete"), ("b", "starting")]


def test_a_process_frozen_between_requests(start: Start, database: Database) -> None:
    """A flushed span is in the database while the process is frozen, and after that the process goes on."""
    code = """
        spanpost.attach()
        for request in ("first", "second"):
            agent(request).end()
            say("flushed", spanpost.flush(20))
            pause()
    """
    child = start(code, DATABASE_URL=database.dsn)
    assert child.hear("flushed") == "True"
    child.send(signal.SIGSTOP)
    assert database.tasks == [("first", "complete")]
    child.send(signal.SIGCONT)
    child.go_on()
    assert child.hear("flushed") == "True"
    assert database.tasks == [("first", "complete"), ("second", "complete")]
    child.go_on()
    child.end()


@pytest.mark.proves("ends")
@pytest.mark.parametrize("by", ["flush_on_sigterm=True", "attach={'flush_on_sigterm': True}"])
def test_sigterm_without_a_handler(start: Start, database: Database, by: str) -> None:
    """With flush at SIGTERM, a process records everything and still dies of the signal."""
    code = f"""
        spanpost.attach({by})
        agent("done").end(); left = agent("left")
        say("ready"); pause()
    """
    child = start(code, DATABASE_URL=database.dsn)
    child.hear("ready")
    child.send(signal.SIGTERM)
    child.end(-signal.SIGTERM)
    assert database.tasks == [("done", "complete"), ("left", "error")]


def test_sigterm_with_a_handler(start: Start, database: Database) -> None:
    """The application's handler runs after the flush, and what it does after that is recorded too."""
    code = """
        import signal
        def leave(number, frame):
            say("received"); pause()
            agent("last").end()
            sys.exit(7)
        signal.signal(signal.SIGTERM, leave)
        spanpost.attach(flush_on_sigterm=True)
        agent("first").end()
        say("ready"); pause()
    """
    child = start(code, DATABASE_URL=database.dsn)
    child.hear("ready")
    child.send(signal.SIGTERM)
    child.hear("received")
    assert database.tasks == [("first", "complete")]
    child.go_on()
    child.end(7)
    assert database.tasks == [("first", "complete"), ("last", "complete")]


def test_sigterm_is_left_alone_unless_asked_for(run: Run) -> None:
    """Without the setting no handler is touched; with it, the former handler returns at the shutdown."""
    run("""
        import signal
        spanpost.attach().shutdown()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        app = spanpost.attach(flush_on_sigterm=True)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        app.shutdown()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """)


def test_sigterm_that_cannot_be_joined(run: Run) -> None:
    """Off the main thread, or with SIGTERM ignored, attach works and says why it does not flush then."""
    said = run("""
        import logging, signal, threading
        logging.basicConfig(level="INFO")
        thread = threading.Thread(target=lambda: spanpost.attach(flush_on_sigterm=True))
        thread.start(); thread.join()
        spanpost.attach().shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        spanpost.attach(flush_on_sigterm=True)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    """)
    assert "attach was not called in the main thread" in said
    assert "SIGTERM is ignored in this process" in said


@pytest.mark.proves("ends", "after-shutdown")
def test_spans_that_end_while_the_interpreter_shuts_down(run: Run, database: Database) -> None:
    """A span that ends in a thread after the main one is recorded; one after the last flush causes no error."""
    code = """
        import atexit, threading
        main = threading.main_thread()
        class Late:
            def __init__(self): self.span, self.tracer = agent("late"), trace.get_tracer("t")
            def __del__(self): self.span.add_event("x"); self.span.end(); self.tracer.start_span("later").end()
        atexit.register(lambda: agent("at exit").end())
        spanpost.attach()
        late = Late()
        def outlive():
            main.join()
            agent("outlived").end()
        threading.Thread(target=outlive).start()
    """
    assert run(code, DATABASE_URL=database.dsn) == ""
    assert ("outlived", "complete") in database.tasks
    assert ("late", "error") in database.tasks


@pytest.mark.proves("no-wait", "after-shutdown")
def test_threads_and_asyncio_at_once(run: Run, database: Database) -> None:
    """Spans of many threads and tasks are each recorded once."""
    code = """
        import asyncio, threading
        spanpost.attach()
        async def task(number):
            span = agent(f"a{number}")
            await asyncio.sleep(0)
            span.add_event("half"); span.end()
        async def main(): await asyncio.gather(*(task(n) for n in range(40)))
        def work(number):
            for n in range(10): agent(f"t{number}-{n}").end()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for t in threads: t.start()
        asyncio.run(main())
        for t in threads: t.join()
    """
    run(code, DATABASE_URL=database.dsn)
    names = [f"a{n}" for n in range(40)] + [f"t{t}-{n}" for t in range(4) for n in range(10)]
    assert database.tasks == sorted((name, "complete") for name in names)


@pytest.mark.proves("left-alone")
@pytest.mark.parametrize("switch", [{"OTEL_SDK_DISABLED": "true"}, {"SPANPOST_ATTACH__ENABLED": "false"}])
def test_switched_off(run: Run, switch: dict[str, str]) -> None:
    """A disabled spanpost opens nothing (the database named does not exist), starts no thread, and all calls
    return.
    """
    code = """
        import threading
        app = spanpost.attach(flush_on_sigterm=True)
        by_hand = spanpost.AgentSpanProcessor()
        agent("a").end()
        assert [t.name for t in threading.enumerate()] == ["MainThread"]
        assert (app.force_flush(), spanpost.flush(), app.shutdown(), app.dropped) == (True, True, True, {})
    """
    assert run(code, DATABASE_URL="postgresql://127.0.0.1:1/nowhere", **switch) == ""
