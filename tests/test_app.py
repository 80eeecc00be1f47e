"""The app: attach, receivers made by hand, and replay; in a process of its own where a test is about a
process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import spanpost
from spanpost import app
from spanpost.model.errors import ConfigError
from spanpost.settings import load

pytestmark = pytest.mark.slow

HEAD = """
import spanpost
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from spanpost.model.queries import TaskQuery

def agent(provider, name):
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    with provider.get_tracer("test").start_as_current_span(f"invoke_agent {name}", attributes=attributes):
        pass

def tasks(pipeline):
    assert pipeline.force_flush(10)
    return sorted((t.name, t.status) for t in pipeline.ask(pipeline.store.tasks(TaskQuery())))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a clean process."""
    kept = {
        k: v for k, v in os.environ.items() if not k.upper().startswith(("SPANPOST_", "OTEL_")) and k != "DATABASE_URL"
    }
    return subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**kept, **environment},
        check=False,
    )


def test_receivers_made_by_hand_share_one_pipeline() -> None:
    """A processor and an exporter without arguments, and attach on top, fill one store."""
    done = run("""
        p, q = TracerProvider(), TracerProvider()
        p.add_span_processor(spanpost.AgentSpanProcessor())
        q.add_span_processor(SimpleSpanProcessor(spanpost.AgentSpanExporter()))
        agent(p, "a"); agent(q, "b")
        pipeline = spanpost.attach()
        agent(trace.get_tracer_provider(), "c")
        print(tasks(pipeline))
    """)
    assert done.stdout.strip() == str([(n, "complete") for n in "abc"]), done.stderr


def test_what_prices_import_is_imported_before_an_agent_calls_a_model() -> None:
    """The openai package uses `httpx2` as soon as another thread begins to import it: attach() has imported it."""
    done = run("""
        import sys
        spanpost.attach()
        print("httpx2" in sys.modules)
    """)
    assert done.stdout.strip() == "True", done.stderr


def test_attaching_twice_is_attaching_once_and_a_second_provider_is_joined() -> None:
    """A second attach returns the same pipeline, records a span once, and joins another provider."""
    done = run("""
        first = spanpost.attach()
        mine = TracerProvider()
        second = spanpost.attach(tracer_provider=mine)
        assert first is second is spanpost.attach()
        agent(trace.get_tracer_provider(), "a"); agent(mine, "b")
        print(tasks(first))
    """)
    assert done.stdout.strip() == str([("a", "complete"), ("b", "complete")]), done.stderr


def test_without_a_database_it_is_said_once_that_rows_are_not_kept() -> None:
    """Without a database one line names what is missing and what to set; nothing else is printed."""
    done = run("""
        spanpost.attach(); spanpost.attach()
        agent(trace.get_tracer_provider(), "a")
    """)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "audit rows are not kept" in lines[0]
    assert "DATABASE_URL" in lines[0]
    assert done.returncode == 0


@pytest.mark.slow
def test_the_embedded_database_is_left_quietly_and_keeps_the_rows(open_dir: Callable[[], Path]) -> None:
    """A script without a flush records its rest at exit, stops the server silently and keeps the rows."""
    data = str(open_dir() / "data")
    first = run(
        'spanpost.attach(); agent(trace.get_tracer_provider(), "a")',
        SPANPOST_DATABASE__EMBEDDED="true",
        SPANPOST_DATABASE__DATA_DIR=data,
    )
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert not (Path(data) / "pg" / "postmaster.pid").exists()
    then = run("print(tasks(spanpost.attach()))", SPANPOST_DATABASE__EMBEDDED="true", SPANPOST_DATABASE__DATA_DIR=data)
    assert then.stdout.strip() == str([("a", "complete")]), then.stderr


def test_a_misspelt_setting_raises_with_the_right_name() -> None:
    """`attach` refuses to start and names the closest setting."""
    done = run("spanpost.attach()", SPANPOST_DATABSE__URL="x")
    assert "ConfigError" in done.stderr
    assert "SPANPOST_DATABASE__URL" in done.stderr


def test_an_unreachable_database_raises_without_its_password() -> None:
    """The error says what to check, and never the URL."""
    done = run("spanpost.attach()", DATABASE_URL="postgresql://me:canary-secret@127.0.0.1:1/nowhere")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "canary-secret" not in done.stderr + done.stdout


def test_a_route_to_a_sink_that_is_off_is_refused() -> None:
    """A route to a disabled sink stops the start with the enabled ones."""
    settings = load(routes=[{"sink": "slack"}], console={})
    with pytest.raises(ConfigError, match=r"'slack' is not on \(on: console\)"):
        app.Pipeline(settings)


def test_a_forked_child_records_in_a_store_of_its_own() -> None:
    """After a fork both processes are followed: each opens its own store, and neither disturbs the other."""
    done = run("""
        import os, sys
        pipeline = spanpost.attach()
        agent(trace.get_tracer_provider(), "before")
        print("parent", tasks(pipeline), flush=True)
        pid = os.fork()
        if pid == 0:
            agent(trace.get_tracer_provider(), "child")
            print("child", tasks(pipeline), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        agent(trace.get_tracer_provider(), "after")
        print("parent", tasks(pipeline), flush=True)
    """)
    assert done.stdout.splitlines() == [
        f"parent {[('before', 'complete')]}",
        f"child {[('child', 'complete')]}",
        f"parent {[('after', 'complete'), ('before', 'complete')]}",
    ], done.stderr


def test_replay_comes_to_the_same_for_any_order_of_files() -> None:
    """Order and repetition of a recording's files make no difference."""
    files = sorted((Path(__file__).parent / "captures").glob("pydantic-ai/ok/*.pb"))
    assert files
    forward, backward = spanpost.replay(files), spanpost.replay([*reversed(files), *files])
    assert forward.tasks == backward.tasks
    assert forward.checkpoints == backward.checkpoints
    assert [(t.status, t.llm_calls) for t in forward.tasks] == [("complete", 3)]


def test_the_default_port_of_metrics_may_be_taken(clean_environment: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second process runs without metrics on a taken default port and says so; a gateway refuses to start."""
    with ExitStack() as stack:
        with suppress(OSError):  # another process has it: that serves as well
            stack.enter_context(socket.create_server(("127.0.0.1", 9464)))
        pipeline = app.Pipeline(load(metrics={}))
        pipeline.start()
        stack.callback(pipeline.shutdown)
        assert pipeline.metrics_url is None
        assert "SPANPOST_METRICS__PORT" in caplog.text
        with pytest.raises(ConfigError, match="SPANPOST_METRICS__PORT"):
            app.Pipeline(load(metrics={"port": 9464}), is_gateway=True).start()
