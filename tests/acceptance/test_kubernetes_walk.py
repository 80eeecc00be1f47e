"""The objects in deploy/kubernetes at work: migration, two gateways behind their Service, all features, roll-out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from spanpost.testing.postgres import as_role, with_database
from tests.acceptance.features import FEATURES, Deployment, record, settings, surroundings, walk
from tests.acceptance.gateway_process import spans
from tests.acceptance.manifests import built
from tests.acceptance.pods import Checkout, Pod, Runtime, Service, over_tcp
from tests.eventually import eventually_async

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("kustomize", "postgres", "local-slack")]

NAMES = count(1)


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """DSN, as superuser, of a database without tables that the role spanpost owns."""
    name = f"kubernetes_{next(NAMES)}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"CREATE DATABASE {name} OWNER spanpost"))
    yield with_database(server, name)
    asyncio.run(run(f"DROP DATABASE {name} WITH (FORCE)"))


class Senders:
    """Agents that send traces one after the other through the Service."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token, self._stop = f"{url}/v1/traces", token, False
        self.acknowledged: list[int] = []
        self.refused: list[Any] = []

    def _run(self, first: int) -> None:
        exporter = OTLPSpanExporter(self._url, headers={"authorization": f"Bearer {self._token}"})
        for trace in count(first, 10):
            if self._stop:
                break
            result = exporter.export(spans(trace * 10, 10))
            (self.acknowledged if result is SpanExportResult.SUCCESS else self.refused).append(trace)
        exporter.shutdown()

    async def until(self, number: int) -> None:
        """Wait until so many more traces are acknowledged."""
        wanted = len(self.acknowledged) + number
        while len(self.acknowledged) < wanted:
            assert not self.refused
            await asyncio.sleep(0.02)

    async def __aenter__(self) -> Senders:
        self._threads = [asyncio.create_task(asyncio.to_thread(self._run, first)) for first in (1, 2)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._threads)


async def works(dsn: str, directory: Path, runtime: Runtime, column: str, how: str, replaced: int) -> None:
    """Start and walk the example in pods of that runtime, and replace so many of its two gateways."""
    async with surroundings(directory) as (slack, webhooks), AsyncExitStack() as stack:
        tcp = stack.enter_context(over_tcp(dsn))
        found, tokens = built(
            directory / "kubernetes",
            as_role(tcp, "spanpost_writer"),
            as_role(tcp, "spanpost"),
            settings(slack, webhooks),
        )
        names = count(1)

        def pod(kind: str) -> Pod:
            template = found.one(kind)["spec"]["template"]
            made = Pod(found, template, directory / f"pod-{next(names)}", runtime)
            stack.callback(made.kill)
            return made

        early = pod("Deployment")
        assert early.start(early.spec["containers"][0]).wait(60) == 2
        assert "run `spanpost db upgrade`" in early.log, early.log
        await asyncio.to_thread(pod("Job").complete)
        service = Service()
        with service.listen(found.one("Service", "spanpost")) as ports:
            service.pods = [
                pod("Deployment") for _ in range(found.one("HorizontalPodAutoscaler")["spec"]["minReplicas"])
            ]
            await asyncio.gather(*(asyncio.to_thread(each.serve) for each in service.pods))
            url = f"http://127.0.0.1:{ports['http']}"
            results = await walk(
                Deployment(
                    gateway=url,
                    dsn=as_role(dsn, "spanpost_reader"),
                    slack=slack,
                    webhooks=webhooks,
                    otlp_grpc=f"http://127.0.0.1:{ports['otlp-grpc']}",
                    metrics=f"http://127.0.0.1:{ports['metrics']}/metrics",
                    token=tokens["AGENTS_TOKEN"],
                    operator=tokens["token"],
                )
            )
            record(column, how, results)
            assert results == dict.fromkeys(FEATURES, "yes")
            assert [each.is_alive() for each in service.pods] == [True, True]

            async with Senders(url, tokens["AGENTS_TOKEN"]) as senders:
                await senders.until(4)
                for old in service.pods[:replaced]:
                    new = pod("Deployment")
                    await asyncio.to_thread(new.serve)
                    service.pods.append(new)
                    service.pods.remove(old)
                    await senders.until(2)
                    # 1: it left deliveries to the others.
                    assert await asyncio.to_thread(old.terminate) in (0, 1), old.log
                    await senders.until(4)
            assert senders.refused == []
            sent = sorted(trace * 10 + each for trace in senders.acknowledged for each in range(10))
            await eventually_async(lambda: numbers(dsn), lambda found: found == sent)
        for each in service.pods:
            assert each.terminate() in (0, 1), each.log
            assert "stopped" in each.log


async def numbers(dsn: str) -> list[int]:
    """Return the numbers of the senders' recorded spans, sorted."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT attributes->>'n' FROM agent_events WHERE part = 0 AND attributes ? 'n'")
    await connection.close()
    return sorted(int(row[0]) for row in rows)


async def test_every_feature_in_kubernetes(empty_database: str, tmp_path: Path) -> None:
    """The example migrates, serves every feature with two gateways, and replaces one without a refused request."""
    how = "The example overlay, resolved by kustomize: the migration, then two gateways with their probes."
    await works(empty_database, tmp_path, Checkout(), "kubernetes", how, replaced=1)
