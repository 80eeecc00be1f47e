"""`spanpost emit`: telemetry of shell scripts arrives, and a mistake is reported with its remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.cli import main
from spanpost.model.errors import ConfigError
from spanpost.model.observations import Part
from spanpost.model.queries import TaskQuery
from spanpost.receivers import emit as wire
from spanpost.receivers.decode import decode_logs, decode_traces
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.testing.gateway import RunningGateway
from spanpost.text.repair import mend

ROOT = Path(__file__).parents[2]
Emit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with RunningGateway() as gateway:
        yield gateway


@pytest.fixture
def emit(
    clean_environment: Path,
    gateway: RunningGateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Emit:
    """Lend ``emit(*arguments, **environment)``; the output of `start` is exported, as eval would."""
    monkeypatch.setenv("SPANPOST_FORWARD__ENDPOINT", gateway.url)
    monkeypatch.setattr(wire, "_PAUSE", 0.0)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["spanpost", "emit", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        for line in said.out.splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                monkeypatch.setenv(name, value)
        code = left.value.code
        assert code is None or isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code or 0, said.out, said.err)

    return run


def made_of(gateway: RunningGateway) -> dict[str, Any]:
    store = MemoryStore(FoldRules())
    for o in gateway.observations:
        store.record_now([o])
    return report(store.tasks_now(TaskQuery()), store.checkpoints_now(), {})


def test_a_script_is_followed_from_its_start_to_its_end(emit: Emit, gateway: RunningGateway) -> None:
    """A start, progress, an artifact, a question with its answer and an end make one task, reported as it
    goes.
    """
    about = (
        "--agent",
        "ci",
        "--repo",
        "acme/web",
        "--topic",
        "deploys",
        "--requested-by",
        "ann",
        "--link",
        "run=https://ci/1",
    )
    assert emit("start", "Nightly build", *about).returncode == 0
    assert [t["status"] for t in made_of(gateway)["tasks"]] == ["starting"]
    step = ("--step", "test", "--step-index", "2", "--step-count", "3")
    assert emit("checkpoint", "half way", "--progress", "50", *step, "--result", "tests=41").returncode == 0
    assert emit("artifact", "report", "--uri", "https://ci/1/report", "--kind", "file").returncode == 0
    assert emit("approval", "Deploy?", "--id", "d1", "--option", "yes", "--option", "no").returncode == 0
    assert [t["status"] for t in made_of(gateway)["tasks"]] == ["waiting"]
    assert emit("approval", "--id", "d1", "--decision", "yes", "--by", "ann").returncode == 0
    assert emit("error", "one test is flaky", "--type", "Flaky").returncode == 0
    assert emit("end", "all is well").returncode == 0
    body = made_of(gateway)
    [task] = body["tasks"]
    assert (task["name"], task["agent_name"], task["status"], task["progress"]) == (
        "Nightly build",
        "ci",
        "complete",
        100.0,
    )
    assert [(s["name"], s["index"]) for s in task["steps"]] == [("test", 2)]
    assert [a["uri"] for a in task["artifacts"]] == ["https://ci/1/report"]
    assert [(a["options"], a["decision"], a["by"]) for a in task["approvals"]] == [(["yes", "no"], "yes", "ann")]
    kinds = [c["kind"] for c in body["checkpoints"]]
    assert kinds == [
        "start",
        "checkpoint",
        "artifact",
        "approval_requested",
        "approval_resolved",
        "error",
        "checkpoint",
        "end",
    ]
    assert {o.origin.resource["service.name"] for o in gateway.observations} == {"shell"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), "complete", None),
        (("--status", "error", "it broke"), "error", "it broke"),
        (("--status", "cancelled"), "cancelled", None),
        (("--exit-code", "0"), "complete", None),
        (("--exit-code", "2"), "error", "exit code 2"),
        (("--exit-code", "130"), "cancelled", None),
    ],
)
def test_the_end_says_how(
    emit: Emit, gateway: RunningGateway, arguments: tuple[str, ...], status: str, message: str | None
) -> None:
    """A task ends with the given status, or by a program's exit code."""
    emit("start", "job")
    assert emit("end", *arguments).returncode == 0
    [task] = made_of(gateway)["tasks"]
    assert task["status"] == status
    assert (task["error"] or {}).get("message") == message


def test_the_end_of_a_log_is_kept_with_the_error(emit: Emit, gateway: RunningGateway, tmp_path: Path) -> None:
    """The end of a long log is kept with the error, whatever bytes are in it."""
    log = tmp_path / "build.log"
    log.write_bytes(b"begin" + b"." * 100_000 + b"\xff the end")
    emit("start", "job")
    assert emit("end", "--status", "error", "it broke", "--log-tail", str(log)).returncode == 0
    [task] = made_of(gateway)["tasks"]
    assert task["error"]["message"] == "it broke"
    assert task["error"]["log_tail"].endswith("\ufffd the end")
    assert "begin" not in task["error"]["log_tail"]


def test_a_part_of_a_task_is_a_task_below_it(emit: Emit, gateway: RunningGateway) -> None:
    """With --child the new task is below the one in the environment, in the same trace."""
    emit("start", "all", "--agent", "lead")
    above = os.environ["SPANPOST_TASK"]
    emit("start", "part", "--child", "--agent", "worker")
    emit("end")
    emit("end", "--task", above)
    tasks = {t["name"]: t for t in made_of(gateway)["tasks"]}
    assert tasks["part"]["parent_task_id"] == tasks["all"]["task_id"]
    assert {t["status"] for t in tasks.values()} == {"complete"}
    assert os.environ["TRACEPARENT"].split("-")[1] == wire.task_of(above).trace_id


def test_what_start_prints_fits_a_ci_job(emit: Emit) -> None:
    """For CI files with NAME=value there is a form without export, and one in JSON for everything else."""
    lines = emit("start", "job", "--format", "env").stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == ["SPANPOST_TASK", "TRACEPARENT"]
    body = json.loads(emit("start", "job", "--format", "json").stdout)
    assert wire.task_of(body["SPANPOST_TASK"]).trace_id == body["trace_id"]


def test_a_dry_run_prints_what_would_be_sent(emit: Emit, gateway: RunningGateway) -> None:
    """--dry-run prints OTLP/JSON that the gateway's own decoder reads, and sends nothing; no endpoint is needed."""
    emit("start", "job")
    arrived = len(gateway.observations)
    printed = emit("checkpoint", "half", "--progress", "50", "--dry-run", SPANPOST_FORWARD__ENDPOINT="").stdout
    [o] = decode_logs(printed.encode(), is_json=True).observations
    assert (o.name, o.attributes["agent.progress"], o.part) == ("agent.checkpoint", 50.0, Part.LOG)
    assert len(gateway.observations) == arrived


def test_a_receiver_that_is_busy_is_asked_again(emit: Emit, gateway: RunningGateway) -> None:
    """A request that got 503 or 429 is sent again unchanged, so that nothing is recorded twice."""
    gateway.answers.extend([503, 429])
    assert emit("start", "job").returncode == 0
    assert gateway.names(Part.STARTED) == ["job"]


def test_who_asks_is_known_by_token_and_resource(emit: Emit, gateway: RunningGateway) -> None:
    """The token is sent as a header and printed nowhere; OpenTelemetry's variables name the resource."""
    resource = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=pro%20d,odd", "OTEL_SERVICE_NAME": "nightly"}
    done = emit("start", "job", SPANPOST_FORWARD__TOKEN="s3cret-42", **resource)
    assert "s3cret-42" not in done.stdout + done.stderr
    _, headers, _ = gateway.requests[-1]  # on a loaded machine it is sent twice
    assert headers["authorization"] == "Bearer s3cret-42"
    o = gateway.observations[-1]
    assert (o.origin.resource["service.name"], o.origin.resource["deployment.environment.name"]) == ("nightly", "pro d")
    gateway.answers.append(401)
    refused = emit("checkpoint", "x")
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "forward.token" in refused.stderr
    assert "s3cret-42" not in refused.stderr


def test_a_receiver_that_is_away_is_an_error_unless_it_may_be(emit: Emit, gateway: RunningGateway) -> None:
    """Without a receiver the exit is 1 with the reason; with --best-effort it is 0 with the reason."""
    emit("start", "job")
    gateway.close()
    refused = emit("checkpoint", "x")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"spanpost: {gateway.url}/v1/logs did not take it: ")
    assert "refused" in refused.stderr
    forgiven = emit("checkpoint", "x", "--best-effort")
    assert (forgiven.returncode, forgiven.stderr) == (0, refused.stderr)


def test_a_redirect_does_not_take_the_token_along(emit: Emit, gateway: RunningGateway) -> None:
    """A redirect is an error: the token and the telemetry go to no other receiver."""
    gateway.answers.append(307)
    refused = emit("start", "job", SPANPOST_FORWARD__TOKEN="s3cret-42")
    assert refused.returncode == 1
    assert "307" in refused.stderr
    assert not gateway.observations


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("start", " "), {}, "the name is empty"),
        (("start", "x", "--link", "run"), {}, "NAME=URL"),
        (("start", "x", "--link", "run=ftp://x"), {}, "https://"),
        (("start", "x", "--child"), {}, "SPANPOST_TASK is not set"),
        (("checkpoint",), {"SPANPOST_TASK": "?"}, "nothing to report"),
        (("checkpoint", "x"), {}, "SPANPOST_TASK is not set"),
        (("checkpoint", "x"), {"SPANPOST_TASK": "nonsense"}, "holds no task"),
        (("checkpoint", "x"), {"SPANPOST_TASK": "eJwDAAAAAAE"}, "holds no task"),
        (("checkpoint", "x", "--status", "complete"), {}, "spanpost emit end"),
        (("end", "--status", "error", "--exit-code", "1"), {}, "not both"),
        (("approval", "go?"), {}, "--id is missing"),
        (("approval", "--id", "x"), {}, "QUESTION"),
        (("approval", "go?", "--id", "x", "--decision", "yes"), {}, "QUESTION"),
        (("approval", "go?", "--id", "x", "--wait"), {}, "SPANPOST_TASK is not set"),
        (("approval", "go?", "--id", "x", "--wait", "--timeout", "0"), {}, "more than 0 seconds"),
        (("approval", "go?", "--id", "x", "--wait", "--timeout", "nan"), {}, "more than 0 seconds"),
        (("approval", "go?", "--id", "x", "--wait", "--best-effort"), {}, "--best-effort"),
        (("approval", "go?", "--id", "x", "--wait", "--dry-run"), {}, "--dry-run"),
        (("approval", "--id", "x", "--wait", "--decision", "approve"), {}, "--decision"),
        (("approval", "go?", "--id", "x", "--timeout", "5"), {}, "--wait"),
        (("approval", " ", "--id", "x", "--wait"), {}, "question is empty"),
        (("approval", "x" * 9000, "--id", "x", "--wait"), {}, "9000 characters"),
        (("approval", "go?", "--id", "x", "--wait", "--expires-at", "soon"), {}, "2026-03-01T12:00:00Z"),
        (("approval", "go?", "--id", "x", "--wait"), {"SPANPOST_FORWARD__ENDPOINT": "http://c:4317"}, "by HTTP"),
        (("start", "x"), {"SPANPOST_FORWARD__ENDPOINT": "collector"}, "http://host:port"),
        (("start", "x"), {"SPANPOST_FORWARD__ENDPOINT": "http://c:4317"}, "4318"),
        (("start", "x"), {"SPANPOST_FORWARD__ENDPIONT": "http://c:4318"}, "SPANPOST_FORWARD__ENDPOINT"),
        (("start", "x", "--endpoint", "unix:///s"), {}, "4318"),
    ],
)
def test_mistakes_are_said_with_the_next_step(
    emit: Emit, gateway: RunningGateway, arguments: tuple[str, ...], environment: dict[str, str], says: str
) -> None:
    """Each mistake is exit 2 with one line that says what to do; nothing is sent."""
    done = emit(*arguments, **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert not gateway.observations


def test_without_an_endpoint_it_is_said_how_to_name_one(emit: Emit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing endpoint is an error with a remedy."""
    monkeypatch.delenv("SPANPOST_FORWARD__ENDPOINT")
    done = emit("start", "x")
    assert done.returncode == 2
    assert "SPANPOST_FORWARD__ENDPOINT" in done.stderr


@pytest.mark.slow
@pytest.mark.needs("bash")
def test_a_real_script_under_a_trap(gateway: RunningGateway, tmp_path: Path) -> None:
    """A failing script ends its task as failed by its trap, and keeps its own exit code."""
    script = """
        set -e
        spanpost() { "$PYTHON" -m spanpost "$@"; }
        eval "$(spanpost emit start "It's a \\"job\\" \\$HOME" --format shell)"
        trap 'spanpost emit end --exit-code $?' EXIT
        spanpost emit checkpoint 'half'
        (exit 3)
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHON": sys.executable,
    }
    environment["SPANPOST_FORWARD__ENDPOINT"] = gateway.url
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (3, "")
    [task] = made_of(gateway)["tasks"]
    assert (task["name"], task["status"], task["error"]["message"]) == ('It\'s a "job" $HOME', "error", "exit code 3")


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


#: Names of a record's own attributes, which no attribute of a task has.
_RESERVED = {*c.ENVELOPE, c.PRODUCER, c.SEQ}
_keys = st.text(min_size=1).filter(lambda key: key not in _RESERVED)


@given(st.text(min_size=1), st.dictionaries(_keys, _values, max_size=5))
def test_what_is_sent_is_what_is_read(name: str, attributes: dict[str, Any]) -> None:
    """Any name and attributes survive the token, JSON and the gateway's decoder; the end repeats the start."""
    task = wire.task_of(wire.begin(name, attributes).token)
    _, logs = wire.request({}, records=[wire.started(task)])
    _, traces = wire.request({}, spans=[wire.ended(task, {})])
    [start] = decode_logs(json.dumps(logs).encode(), is_json=True).observations
    [end] = decode_traces(json.dumps(traces).encode(), is_json=True).observations
    expected = mend({"agent.task.name": name, **attributes})[0]
    assert start.attributes == end.attributes == expected
    assert (start.trace_id, start.span_id, start.start_ns) == (end.trace_id, end.span_id, end.start_ns)
    assert start.name == end.name


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.hex())))
def test_no_word_breaks_the_reading_of_a_task(word: str) -> None:
    """Any text in the variable is a task or a reported mistake."""
    said = ""
    try:
        task = wire.task_of(word)
        assert wire.task_of(task.token) == task
    except ConfigError as error:
        said = str(error)
    assert said == "" or "SPANPOST_TASK" in said
