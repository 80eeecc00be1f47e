"""Our own components of the Collector: their Go tests, and the two in a real Collector before a real gateway."""

from __future__ import annotations

import gzip
import json
import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.http.tokens import hash_of
from spanpost.readers import is_silent
from spanpost.readers.dialect import compile_tables
from spanpost.readers.known_dialects import DIALECTS
from spanpost.receivers.decoded import PENDING
from spanpost.receivers.recordings import tell_signal
from spanpost.text.content import is_content, is_spared
from tests.acceptance.asking_agent import WaitingAgent
from tests.acceptance.gateways import run_gateway
from tests.acceptance.test_collector import Collector, make_spans, send, span_ids, until_stored
from tests.acceptance.test_control import App
from tests.conftest import ROOT, Database, find, fresh_database
from tests.eventually import eventually
from tests.tasks.recorded_runs import bodies, observations, runs, shared

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

MODULE = ROOT / "collector"
#: Percent of the statements of each component that its tests run.
FLOOR = 80.0
COMPONENTS = ("spanpostexporter", "spanpostextension")
CONFIG = "spanpost-exporter"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def go(*words: str, **environment: str) -> str:
    """Run Go in the module of the components; return what it printed."""
    ran = subprocess.run(
        [find("go"), *words],
        cwd=MODULE,
        env={**os.environ, "CGO_ENABLED": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    return ran.stdout


def names() -> Iterator[tuple[str, str, bool, bool, bool]]:
    """Yield scope, name, and whether it is content, spared and an agent's: all that were recorded, and variants."""
    found: set[tuple[str, str]] = set()
    for run in runs(shared()):
        for o in observations(shared() / run):
            found |= {(o.origin.scope, name) for name in o.attributes}
    found |= {("", name) for name in compile_tables(DIALECTS, "").keys}
    for scope, name in list(found):
        found |= {(scope, f"acme.{name}"), ("", name.title().replace(".", "")), ("", name.replace(".", ":"))}
    for scope, name in sorted(found):
        yield scope, name, is_content(name), is_spared(name), not is_silent(scope, (name,)) or name == PENDING


def test_the_components_pass_their_tests(tmp_path: Path) -> None:
    """The tests in Go pass, cover the components, and the exporter's rules say of each name what Python says."""
    (tmp_path / "names.json").write_text(json.dumps(list(names())))
    go("vet", "-trimpath", "./...")
    said = go(
        "test",
        "-trimpath",
        "-count=1",
        "-timeout=120s",
        "-cover",
        "./...",
        SPANPOST_TEST_NAMES=str(tmp_path / "names.json"),
    )
    for component in COMPONENTS:
        [covered] = re.findall(rf"{component}\s.*coverage: ([\d.]+)%", said)
        assert float(covered) >= FLOOR, said


@pytest.mark.skipif("SPANPOST_TEST_RACE" not in os.environ, reason="set SPANPOST_TEST_RACE: compiles all a second time")
def test_the_components_have_no_races() -> None:
    """The tests in Go pass under the race detector."""
    go("test", "-race", "-count=3", "-timeout=300s", "./...", CGO_ENABLED="1")


@pytest.mark.skipif(
    "SPANPOST_TEST_MDATAGEN" not in os.environ,
    reason="set SPANPOST_TEST_MDATAGEN: compiles the generator of the Collector",
)
def test_the_generated_code_is_current(tmp_path: Path) -> None:
    """The code made from metadata.yaml is what the Collector's generator makes now."""
    copy = tmp_path / "collector"
    shutil.copytree(MODULE, copy)
    subprocess.run([find("go"), "generate", "./..."], cwd=copy, check=True, capture_output=True, timeout=600)
    for path in MODULE.rglob("generated_*.go"):
        assert path.read_text() == (copy / path.relative_to(MODULE)).read_text(), path


def test_the_distribution_has_one_version() -> None:
    """The module is of the release that the builder's manifest names, and uses the manifest's Collector."""
    manifest = (ROOT / "collector-config" / "builder.yaml").read_text()
    [dist] = re.findall(r"^  version: (\S+)$", manifest, re.MULTILINE)
    [released] = set(re.findall(r"spanpost/collector v(\S+)", manifest))
    assert f'const version = "{released}"' in (MODULE / "spanpostexporter" / "generated_rules.go").read_text()
    for module in ("go.mod", "internal/tools/go.mod"):
        used = set(re.findall(r"go\.opentelemetry\.io/collector/\S+ v(0\.\S+)", (MODULE / module).read_text()))
        assert used == {dist}


def start(stack: ExitStack, directory: Path, **environment: str) -> Collector:
    collector = Collector(CONFIG, directory, **environment)
    stack.callback(collector.stop)
    return collector


def post(url: str, body: bytes, **headers: str) -> int:
    request = urllib.request.Request(
        url, body, {"content-type": "application/x-protobuf", **{k.replace("_", "-"): v for k, v in headers.items()}}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def post_json(url: str, body: Any) -> int:
    return post(url, json.dumps(body).encode(), content_type="application/json")


ROWS = """SELECT encode(trace_id, 'hex'), encode(span_id, 'hex'), part, name, attributes::text
          FROM agent_events WHERE part IN (0, 1, 2) ORDER BY 1, 2, 3, 4, 5"""


def test_rows_are_those_of_a_direct_sender(server: str, stack: ExitStack, open_dir: Callable[[], Path]) -> None:
    """Recorded traces of every framework have the same rows through the exporter, which drops content, and without."""
    sent: list[bytes] = []
    for dialect in sorted({run.partition("/")[0] for run in runs(shared())}):
        run = next(run for run in runs(shared()) if run.startswith(f"{dialect}/"))
        for path in bodies(shared() / run):
            body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            if tell_signal(body) == "traces":
                sent.append(body)
    assert len(sent) > 40
    rows = []
    for is_direct in (True, False):
        with ExitStack() as mine:
            database = Database(mine.enter_context(fresh_database(server)))
            directory = open_dir()
            gateway = mine.enter_context(run_gateway(database.dsn, directory))
            url = (
                gateway.url
                if is_direct
                else f"http://127.0.0.1:{start(mine, directory, SPANPOST_URL=gateway.url).http}"
            )
            for body in sent:
                assert post(f"{url}/v1/traces", body) == 200
            count = "SELECT count(*) FROM agent_events WHERE part IN (0, 1, 2)"
            if is_direct:
                wanted = eventually(lambda: database.fetch(count)[0][0])  # noqa: B023
            eventually(lambda: database.fetch(count)[0][0], lambda found: found >= wanted)  # noqa: B023
            rows.append(database.fetch(ROWS))
    assert rows[0] == rows[1]


def test_all_signals_of_a_tenant_arrive(database: Database, stack: ExitStack, open_dir: Callable[[], Path]) -> None:
    """Spans, log records and data points arrive with the exporter's token, as its tenant's."""
    directory = open_dir()
    token = "spt_of-the-collector"
    tokens = json.dumps([{"tenant": "acme", "sha256": [hash_of(token)]}])
    gateway = stack.enter_context(run_gateway(database.dsn, directory, SPANPOST_GATEWAY__TOKENS=tokens))
    collector = start(stack, directory, SPANPOST_URL=gateway.url, SPANPOST_TOKEN=token)
    url = f"http://127.0.0.1:{collector.http}"
    spans = make_spans(3)
    assert send(url, spans)
    now = str(time.time_ns())
    record = {"timeUnixNano": now, "eventName": "agent.checkpoint", "body": {"stringValue": "half of it"},
              "traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8)}  # fmt: skip
    assert post_json(f"{url}/v1/logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}) == 200
    said = {"session.id": "s", "type": "input", "model": "claude-opus-4-1"}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in said.items()]
    point = {"asInt": "7", "timeUnixNano": now, "startTimeUnixNano": now, "attributes": attributes}
    metric = {
        "name": "claude_code.token.usage",
        "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]},
    }
    scope = {"scope": {"name": "com.anthropic.claude_code"}, "metrics": [metric]}
    assert post_json(f"{url}/v1/metrics", {"resourceMetrics": [{"scopeMetrics": [scope]}]}) == 200
    until_stored(database, span_ids(spans))
    kinds = "SELECT DISTINCT tenant, name FROM agent_events WHERE part = 4 ORDER BY 2"
    found = eventually(lambda: database.fetch(kinds), lambda rows: len(rows) >= 2)
    assert found == [("acme", "agent.checkpoint"), ("acme", "claude_code.token.usage")]
    assert '"tenant": "acme"' in collector.log  # the check at its start


def test_a_rejected_span_does_not_hold_the_others(
    database: Database, stack: ExitStack, open_dir: Callable[[], Path]
) -> None:
    """A span that the gateway rejects is logged as dropped with its message; those beside it are rows, once."""
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory))
    collector = start(stack, directory, SPANPOST_URL=gateway.url)
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for number in range(3):
        span = spans.add(
            trace_id=secrets.token_bytes(16), span_id=bytes([number + 1]) * 8, name="chat gpt-4o",
            start_time_unix_nano=now, end_time_unix_nano=now + 1,
        )  # fmt: skip
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        for value in range(50_001 if number == 1 else 0):
            span.attributes.add(key=f"n{value}").value.int_value = value
    assert post(f"http://127.0.0.1:{collector.http}/v1/traces", request.SerializeToString()) == 200
    until_stored(database, {"01" * 8, "03" * 8})
    eventually(lambda: collector.log, lambda log: "The gateway dropped items" in log)
    [line] = [line for line in collector.log.splitlines() if "The gateway dropped items" in line]
    assert '"items": 1' in line
    assert "holds more than 50000" in line
    assert sorted(database.fetch("SELECT encode(span_id, 'hex') FROM agent_events")) == [("01" * 8,), ("03" * 8,)]


def test_an_agent_behind_a_collector_gets_its_answer(
    database: Database, stack: ExitStack, open_dir: Callable[[], Path]
) -> None:
    """An agent that reaches only its Collector asks there, waits at the extension, and receives a person's decision."""
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory))
    collector = start(stack, directory, SPANPOST_URL=gateway.url)
    agent = WaitingAgent(
        f"http://127.0.0.1:{collector.http}", directory, control=f"http://127.0.0.1:{collector.control}"
    )
    stack.callback(agent.kill)
    app = App(gateway, database.dsn)
    app.decide(app.asked("go").key)
    assert agent.goes_on() == "approve alice"


def test_the_collector_starts_before_its_gateway(
    database: Database, stack: ExitStack, open_dir: Callable[[], Path]
) -> None:
    """Spans that a Collector took while its gateway was down, before it was killed itself, are rows later."""
    directory = open_dir()
    with run_gateway(database.dsn, directory) as before:
        url, port = before.url, before.http
    collector = start(stack, directory, SPANPOST_URL=url)
    spans = make_spans(5)
    assert send(f"http://127.0.0.1:{collector.http}", spans)
    collector.kill()
    collector.start()
    stack.enter_context(run_gateway(database.dsn, directory, http=port))
    assert sorted(until_stored(database, span_ids(spans))) == sorted(span_ids(spans))
