"""A newer spanpost beside this one on one database: the parts for the test of a rollout.

The newer one is this source with one more, synthetic, revision of the schema. This version makes the database and
records part of a stream. Meanwhile two processes of the newer version upgrade the database at once. Then gateways of
both record shuffled, overlapping, repeated batches; one of this version restarts on the newer schema.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.receivers.decode import decode_traces
from spanpost.store.sql import schema
from spanpost.store.sql.migrations import ddl
from spanpost.tasks.folded import FoldRules
from tests.acceptance.gateways import Gateway
from tests.conftest import ROOT
from tests.faults.posted import truth
from tests.faults.stream import tangled, task

_RESOURCE, _SCOPE = Resource({"service.name": "rollout"}), InstrumentationScope("rollout")
_PLACES = (0, 1, 2, 3, 4, 5, 6, 48, 49)

#: Tasks of each sort.
RUNS = 20


def stream(runs: int, began: int) -> list[ReadableSpan]:
    """Return spans of plain tasks that begin, report and end, and of tangled ones, in order of time."""
    return [_span(o) for n in range(runs) for o in _forms(task(n, began))] + [
        _span(o) for o in _renamed(tangled(runs, began + runs * 10))
    ]


def _forms(observations: Sequence[Observation]) -> list[Observation]:
    return [observations[place] for place in _PLACES if observations[place].part is not Part.EVENT]


def _renamed(observations: Sequence[Observation]) -> list[Observation]:
    """Give the tangled tasks ids that the plain ones do not use."""
    made = []
    for o in observations:
        attributes = dict(o.attributes)
        if "agent.task.id" in attributes:
            attributes["agent.task.id"] = f"tangled-{attributes['agent.task.id']}"
        made.append(msgspec.structs.replace(o, attributes=attributes))
    return made


def _span(o: Observation) -> ReadableSpan:
    trace = int.from_bytes(o.trace_id)
    return ReadableSpan(
        name=o.name,
        context=SpanContext(trace, int.from_bytes(o.span_id), False, TraceFlags(1)),
        parent=SpanContext(trace, int.from_bytes(o.parent_id), False, TraceFlags(1)) if o.parent_id else None,
        resource=_RESOURCE,
        instrumentation_scope=_SCOPE,
        attributes=o.attributes,
        events=[Event("agent.checkpoint", {"agent.checkpoint.message": "half way"}, o.start_ns + 1000)]
        if o.parent_id == b"" and o.end_ns
        else (),
        start_time=o.start_ns,
        end_time=o.end_ns or None,
        status=Status(StatusCode(o.status.value) if o.status else StatusCode.UNSET),
    )


def body(spans: Sequence[ReadableSpan]) -> bytes:
    """Return a request."""
    return encode_spans(spans).SerializeToString()


def torn(whole: Sequence[ReadableSpan], chance: random.Random) -> list[bytes]:
    """Return bodies of most of the spans in any order, some of them twice."""
    mine = [s for s in whole if chance.random() < 0.8] + [s for s in whole if chance.random() < 0.2]
    chance.shuffle(mine)
    bodies, start = [], 0
    while start < len(mine):
        end = start + chance.randrange(1, 40)
        bodies.append(body(mine[start:end]))
        start = end
    return bodies


def send(gateways: Sequence[Gateway], bodies: Sequence[bytes], at_once: int = 4) -> Counter[int]:
    """Post each body to one of the gateways until it is accepted; return the answers."""
    waiting, answers, lock = list(enumerate(bodies)), Counter[int](), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number, body = waiting.pop()
            while True:
                gateway = gateways[number % len(gateways)]
                request = urllib.request.Request(
                    f"{gateway.url}/v1/traces", body, {"content-type": "application/x-protobuf"}
                )
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        status = answer.status
                except urllib.error.HTTPError as error:
                    status = error.code
                with lock:
                    answers[status] += 1
                if status == 200:
                    break
                assert status == 503, status
                number += 1  # as a load balancer does

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def newer_source(directory: Path) -> tuple[Path, str]:
    """Copy this source and add a revision with a new column and a new table; return its path and the
    revision.
    """
    source, place = directory / "newer", Path(schema.__file__).relative_to(ROOT / "src")
    shutil.copytree(ROOT / "src", source)
    major, minor = schema.number(schema.HEAD)
    newer = f"{major}.{minor + 1}"
    text, known = (source / place).read_text(), f'HEAD = "{schema.HEAD}"'
    assert text.count(known) == 1
    (source / place).write_text(text.replace(known, f'HEAD = "{newer}"'))
    migration = source / place.parent / "migrations" / "versions" / f"v{major}_{minor + 1}.py"
    migration.write_text(f"""
from alembic import op
from {ddl.__name__} import add_columns, table

revision, down_revision = "{newer}", "{schema.HEAD}"


def upgrade():
    for statement in [
        *add_columns("agent_tasks", [("note", "text NOT NULL DEFAULT 'none'", "Synthetic.")]),
        *table("task_notes", "Synthetic.", [("note", "text PRIMARY KEY", "Synthetic.")]),
    ]:
        op.get_bind().exec_driver_sql(statement)
""")
    return source, newer


def upgrade(dsn: str, source: Path) -> str:
    """Run `spanpost db upgrade` of that source; return the printed revision."""
    done = subprocess.run(
        [sys.executable, "-c", "from spanpost.cli import main; main()", "db", "upgrade"],
        env={**os.environ, "PYTHONPATH": str(source), "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.split()[-1]


def upgrade_under_a_writer(dsn: str, source: Path, writer: Gateway, bodies: Sequence[bytes]) -> list[str]:
    """Upgrade twice at once while a gateway takes the bodies, over and over; return the printed revisions."""
    begun, done = threading.Event(), threading.Event()

    def write() -> None:
        while not done.is_set():
            send([writer], bodies)
            begun.set()
        send([writer], bodies)

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(write)
        assert begun.wait(60)
        try:
            return [each.result() for each in [pool.submit(upgrade, dsn, source) for _ in range(2)]]
        finally:
            done.set()
            writing.result()


def figures(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return the figures of all tasks, as far as every version has them."""
    return {
        key: (
            *(
                t.uid,
                t.status,
                t.agent_name,
                t.input_tokens,
                t.output_tokens,
                t.llm_calls,
                t.parent_task_id,
                t.child_count,
            ),
            *(t.runs, t.started_at, t.ended_at, sorted(t.aliases)),
        )
        for key, t in tasks.items()
    }


async def rows(dsn: str) -> Counter[tuple[Any, ...]]:
    """Return the audit rows by identity, with the number of each."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    found = await connection.fetch("SELECT trace_id, span_id, part, idx FROM agent_events")
    await connection.close()
    return Counter(tuple(row) for row in found)


def alone(whole: Sequence[ReadableSpan]) -> tuple[Counter[tuple[Any, ...]], dict[str, Any], set[str]]:
    """Return the rows, figures and reported checkpoints of this version alone."""
    from spanpost.store.memory import MemoryStore

    async def take() -> tuple[dict[str, Any], set[str]]:
        store = MemoryStore(FoldRules(), keep=None)
        await store.record(observations)
        tasks = figures({t.task_id: t for t in await store.tasks(TaskQuery(limit=10_000))})
        return tasks, {str(c.id) for c in await store.reader.checkpoints(limit=100_000) if c.kind in REPORTED_KINDS}

    observations = decode_traces(body(whole)).observations
    return Counter((o.trace_id, o.span_id, o.part, o.index) for o in observations), *asyncio.run(take())


def held(dsn: str) -> tuple[Counter[tuple[Any, ...]], dict[str, Any], set[str]]:
    """Return the same of a database."""
    tasks, checkpoints, _ = asyncio.run(truth(dsn))
    return asyncio.run(rows(dsn)), figures(tasks), {key for key, c in checkpoints.items() if c.kind in REPORTED_KINDS}
