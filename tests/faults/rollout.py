"""An older spanpost beside this one on one database: the test of a rollout, and by hand with any older source.

    git archive COMMIT src | tar -x -C /somewhere
    python -m tests.faults.rollout /somewhere/src [KEPT.sql.gz]

The older gateway makes the database and takes the first part of a stream; this version upgrades the database and joins in;
both take shuffled, overlapping, repeated batches of the rest, are told some of it again, and the older one leaves. What the
tables and Slack hold then is what this version alone comes to. With a file named, the database is kept there as it is when
the older one has left: `test_rollout.py` goes on from there wherever no older version can be had.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from spanpost.domain.checkpoints import TOLD
from spanpost.domain.observations import Observation, Part
from spanpost.domain.tasks import Task
from spanpost.fold.batch import Rules
from spanpost.intake.decode import decode_traces
from spanpost.ledger.base import TaskQuery
from tests.acceptance.gateways import Gateway
from tests.conftest import ROOT, find, made_server
from tests.faults.posted import Slack, settings, settled, truth
from tests.faults.stream import tangled, task

_RESOURCE, _SCOPE = Resource({"service.name": "rollout"}), InstrumentationScope("rollout")
_PLACES = (0, 1, 2, 3, 4, 5, 6, 48, 49)


#: Tasks of each sort; and when the recorded stream began, nanoseconds since 1970.
RUNS = 20
BEGAN = 1_790_000_000_000_000_000


def stream(runs: int, began: int) -> list[ReadableSpan]:
    """Return spans of plain tasks that begin, tell and end, and of tangled ones, in order of time."""
    return [_span(o) for n in range(runs) for o in _forms(task(n, began))] + [
        _span(o) for o in _renamed(tangled(runs, began + runs * 10))
    ]


def _forms(observations: Sequence[Observation]) -> list[Observation]:
    return [observations[place] for place in _PLACES if observations[place].part is not Part.EVENT]


def _renamed(observations: Sequence[Observation]) -> list[Observation]:
    """Give the tangled tasks ids that the plain ones do not have."""
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
    """Post each body to one of the gateways until it is taken; return the answers."""
    waiting, answers, lock = list(enumerate(bodies)), Counter[int](), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number, body = waiting.pop()
            while True:
                gateway = gateways[number % len(gateways)]
                request = urllib.request.Request(f"{gateway.url}/v1/traces", body, {"content-type": "application/x-protobuf"})
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


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """Lend a database without any schema."""
    import asyncpg

    from spanpost.testing.postgres import with_database

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run("CREATE DATABASE rollout"))
    yield with_database(server, "rollout")
    asyncio.run(run("DROP DATABASE rollout WITH (FORCE)"))


def upgrade(dsn: str, source: Path) -> str:
    """Run `spanpost db upgrade` of that source; return the revision it says."""
    done = subprocess.run(
        [sys.executable, "-c", "from spanpost.cli import main; main()", "db", "upgrade"],
        env={**os.environ, "PYTHONPATH": str(source), "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()[-1]


def roll_out(dsn: str, older: Path, whole: Sequence[ReadableSpan], keep: Path | None = None) -> tuple[str, Counter[str]]:
    """Take the stream with an older gateway and this one side by side; return what happened and the texts of the messages.

    `keep` is where the database is written to as it is when the older one has left.
    """
    directory, chance = Path(mkdtemp()), random.Random(len(whole))
    first, rest = whole[: len(whole) // 3], whole[len(whole) // 3 :]
    with ExitStack() as stack:
        slack = Slack(directory / "slack.json")
        stack.callback(slack.close)

        def start(source: Path) -> Gateway:
            gateway = Gateway(dsn, directory, **settings(slack.url) | {"PYTHONPATH": str(source)})
            stack.callback(gateway.stop)
            return gateway

        revision = upgrade(dsn, older)
        old = start(older)
        answers = send([old], torn(first, chance))
        upgraded = upgrade(dsn, ROOT / "src")
        new = start(ROOT / "src")
        answers += send([old, new], torn(whole, chance))
        another = start(older)  # restarted on the newer schema
        answers += send([another, old, new], torn(rest, chance))
        answers += send([another], torn(rest, chance))
        stopped = {old.stop(), another.stop()}
        if keep is not None:
            keep.write_bytes(gzip.compress(dumped(dsn), mtime=0))
        answers += send([new], [body(whole[at : at + 50]) for at in range(0, len(whole), 50)])
        letters = asyncio.run(settled(dsn, 120))
        stopped.add(new.stop())
        posted = slack.end()
        faults = [line for each in (old, another, new) for line in each.log.splitlines() if not line.startswith("info: ")]
    roots = [m for c in posted["channels"].values() for m in c if m.get("thread_ts", m["ts"]) == m["ts"]]
    assert stopped <= {0, 1}  # 1: letters wait, which another delivers
    said = f"{revision} beside {upgraded}: answers {dict(answers)}, letters {dict(letters)}"
    return "\n".join([said, *faults]), Counter(m["text"] for m in roots)


def dumped(dsn: str) -> bytes:
    """Return a database as SQL."""
    done = subprocess.run(
        [Path(find("postgres")) / "pg_dump", "--inserts", "--no-owner", "--dbname", dsn], capture_output=True, check=True
    )
    lines = done.stdout.split(b"\n")
    return b"\n".join(line for line in lines if line and not line.startswith((b"--", b"\\")))


def figures(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return what tasks came to, as far as every version knows it."""
    return {
        key: (
            *(t.uid, t.status, t.agent_name, t.input_tokens, t.output_tokens, t.llm_calls, t.parent_task_id, t.child_count),
            *(t.segments, t.started_at, t.ended_at, sorted(t.aliases)),
        )
        for key, t in tasks.items()
    }


async def rows(dsn: str) -> Counter[tuple[Any, ...]]:
    """Return the audit rows by what they are of, with how often each is there."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    found = await connection.fetch("SELECT trace_id, span_id, part, idx FROM agent_events")
    await connection.close()
    return Counter(tuple(row) for row in found)


def alone(whole: Sequence[ReadableSpan]) -> tuple[Counter[tuple[Any, ...]], dict[str, Any], set[str]]:
    """Return the rows, figures and told checkpoints that this version comes to by itself."""
    from spanpost.ledger.memory import MemoryLedger

    async def take() -> tuple[dict[str, Any], set[str]]:
        ledger = MemoryLedger(Rules(), keep=None)
        await ledger.record(observations)
        tasks = figures({t.task_id: t for t in await ledger.tasks(TaskQuery(limit=10_000))})
        return tasks, {str(c.id) for c in await ledger.checkpoints(limit=100_000) if c.kind in TOLD}

    observations = decode_traces(body(whole)).observations
    return Counter((o.trace_id, o.span_id, o.part, o.index) for o in observations), *asyncio.run(take())


def held(dsn: str) -> tuple[Counter[tuple[Any, ...]], dict[str, Any], set[str]]:
    """Return the same of a database."""
    tasks, told, _ = asyncio.run(truth(dsn))
    return asyncio.run(rows(dsn)), figures(tasks), {key for key, c in told.items() if c.kind in TOLD}


def main(older: str, keep: str | None = None) -> int:
    """Try it, and say what came of it."""
    whole = stream(RUNS, BEGAN if keep else time.time_ns())
    with made_server(Path(find("postgres"))) as server, empty_database(server) as dsn:
        said, messages = roll_out(dsn, Path(older), whole, Path(keep) if keep else None)
        found, wanted = held(dsn), alone(whole)
    one_each = all(messages[f"✅ Job {number}: complete"] == 1 for number in range(RUNS))
    print(said)
    for name, is_good in (
        ("rows once", found[0] == wanted[0]),
        ("tasks", found[1] == wanted[1]),
        ("told", found[2] == wanted[2]),
        ("one message each", one_each or keep is not None),  # of long ago, nothing is posted
    ):
        print(name, "ok" if is_good else "BAD")
    for key, value in wanted[1].items():
        if found[1].get(key) != value:
            print(key, value, found[1].get(key))
    if not one_each:
        print(messages)
    return 0 if found == wanted and (one_each or keep) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
