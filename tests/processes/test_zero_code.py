"""Loading by OpenTelemetry itself, in processes started by `opentelemetry-instrument`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.processes.conftest import PRELUDE, Run, needs_package

pytestmark = pytest.mark.slow

#: A program without spanpost code.
AGENT = PRELUDE.replace("import spanpost\n", "")

SPAN = """
from opentelemetry._logs import LogRecord, get_logger
with trace.use_span(agent("gardener"), end_on_exit=True) as span:
    span.add_event("agent.checkpoint", {"agent.checkpoint.message": "half way"})
    said = {"event.name": "agent.checkpoint", "agent.checkpoint.message": "nearly"}
    get_logger("test").emit(LogRecord(attributes=said, trace_id=span.get_span_context().trace_id,
        span_id=span.get_span_context().span_id, trace_flags=span.get_span_context().trace_flags))
trace.get_tracer_provider().force_flush()
"""

CONFIG_FILE = """
file_format: "1.0"
tracer_provider:
  processors:
    - batch:
        exporter: {tracers}
logger_provider:
  processors:
    - batch:
        exporter: {loggers}
"""

#: The SDK exports nothing itself: the stock distribution's default would look for a Collector.
QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
BY_NAME = {"OTEL_TRACES_EXPORTER": "spanpost", "OTEL_LOGS_EXPORTER": "spanpost", "OTEL_METRICS_EXPORTER": "none"}


def zero_code(tmp_path: Path, code: str) -> list[str]:
    """Return the command that runs a program without a line of set-up in it."""
    needs_package("opentelemetry.instrumentation.auto_instrumentation")
    needs_package("opentelemetry.distro")
    script = tmp_path / "agent.py"
    script.write_text(AGENT + code)
    return [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, str(script)]


def config_file(tmp_path: Path, tracers: str, loggers: str) -> dict[str, str]:
    """Return the environment that names a declarative configuration."""
    needs_package("opentelemetry.configuration")
    path = tmp_path / "otel.yaml"
    path.write_text(CONFIG_FILE.format(tracers=tracers, loggers=loggers))
    return {"OTEL_CONFIG_FILE": str(path)}


def expect_all(database: Database) -> None:
    """Check that each span, span event and log event is recorded once, and arrived while the span was open."""
    assert database.tasks == [("gardener", "complete")]
    events = database.fetch("SELECT part, name FROM agent_events WHERE part <> 0 ORDER BY occurred_at, name")
    assert sorted(name for _, name in events) == ["agent.checkpoint", "agent.checkpoint", "invoke_agent gardener"]
    assert len(database.fetch("SELECT 1 FROM agent_checkpoints WHERE text IN ('half way', 'nearly')")) == 2


def test_the_hook(run: Run, tmp_path: Path, database: Database) -> None:
    """Installed, spanpost follows a program without its code: spans live, span events, log events."""
    code = SPAN + "assert any(p.__class__.__name__ == 'SdkSpanProcessor' for p in "
    code += "trace.get_tracer_provider()._active_span_processor._span_processors)"
    assert run(zero_code(tmp_path, code), DATABASE_URL=database.dsn, **QUIET) == ""
    expect_all(database)


def test_exporters_by_name(run: Run, tmp_path: Path, database: Database) -> None:
    """With exporters named beside the hook, everything is still recorded once."""
    assert run(zero_code(tmp_path, SPAN), DATABASE_URL=database.dsn, **BY_NAME) == ""
    expect_all(database)


@pytest.mark.proves("left-alone")
def test_a_program_that_attaches_too(run: Run, tmp_path: Path, database: Database) -> None:
    """Hook, exporters and a line in the program are one attachment."""
    code = "import spanpost\nassert spanpost.attach() is spanpost.attach()\n" + SPAN
    assert run(zero_code(tmp_path, code), DATABASE_URL=database.dsn, **BY_NAME) == ""
    expect_all(database)


@pytest.mark.parametrize("exporter", ["{console: }", "{spanpost: }", "{spanpost: {context: {warn_at: [0.5]}}}"])
def test_a_declarative_configuration(run: Run, tmp_path: Path, database: Database, exporter: str) -> None:
    """With OTEL_CONFIG_FILE the hook is called, and the exporters can be named there, with settings."""
    environment = config_file(tmp_path, exporter, exporter)
    assert "spanpost" not in run(zero_code(tmp_path, SPAN), DATABASE_URL=database.dsn, **environment)
    expect_all(database)


def test_a_wrong_key_in_a_declarative_configuration(run: Run, tmp_path: Path, database: Database) -> None:
    """A wrong file is reported in one line; the program's own telemetry works without spanpost."""
    environment = config_file(tmp_path, "{spanpost: {databse: {url: x}}}", "{spanpost: }")
    code = SPAN + "assert type(trace.get_tracer_provider()).__module__ == 'opentelemetry.sdk.trace'\n"
    said = run(zero_code(tmp_path, code), DATABASE_URL=database.dsn, **environment).splitlines()
    assert [line for line in said if "spanpost" in line] == [
        "spanpost stays out: databse: there is no such section (did you mean database?); "
        "mend it in spanpost.toml (docs/reference/settings.md lists all)"
    ]
    assert database.tasks == []


@pytest.mark.proves("settings", "settings-values")
@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"SPANPOST_DATABSE__URL": "x", "SPANPOST_METRICS_PORT": "1"}, "SPANPOST_DATABASE__URL"),
        ({"DATABASE_URL": "postgresql://me:canary-secret@127.0.0.1:1/nowhere"}, "cannot be reached"),
        ({"SPANPOST_ATTACH__ENABLED": "perhaps"}, "attach.enabled"),
    ],
)
@pytest.mark.parametrize("exporters", [QUIET, BY_NAME], ids=["hook", "by name"])
def test_a_wrong_setting(
    run: Run, tmp_path: Path, exporters: dict[str, str], environment: dict[str, str], word: str
) -> None:
    """A wrong setting is one line without secrets; the program runs as without spanpost."""
    [line] = run(zero_code(tmp_path, SPAN), **exporters, **environment).splitlines()
    assert line.startswith("spanpost stays out: ")
    assert word in line
    assert "canary-secret" not in line


@pytest.mark.parametrize("switch", [{"OTEL_SDK_DISABLED": "true"}, {"SPANPOST_ATTACH__ENABLED": "false"}])
@pytest.mark.parametrize("exporters", [QUIET, BY_NAME], ids=["hook", "by name"])
def test_switched_off(run: Run, tmp_path: Path, exporters: dict[str, str], switch: dict[str, str]) -> None:
    """A disabled spanpost opens nothing (the database named does not exist), and logs nothing."""
    environment = {"DATABASE_URL": "postgresql://127.0.0.1:1/nowhere", **exporters, **switch}
    assert run(zero_code(tmp_path, SPAN), **environment) == ""


def test_a_provider_made_after_the_hook(run: Run, tmp_path: Path, database: Database) -> None:
    """A provider that the program sets after the hook is refused by OpenTelemetry: its spans are followed."""
    code = "from opentelemetry.sdk.trace import TracerProvider\ntrace.set_tracer_provider(TracerProvider())\n" + SPAN
    assert "Overriding of current TracerProvider" in run(zero_code(tmp_path, code), DATABASE_URL=database.dsn, **QUIET)
    expect_all(database)
