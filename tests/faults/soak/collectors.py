"""Collectors before the gateways: genuine ones with a queue on disk, with the stock exporter and with ours."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExporter

from tests.acceptance.test_collector import Collector
from tests.eventually import free_port
from tests.faults.soak.queued import QueuedSenders
from tests.faults.soak.senders import TIMEOUT
from tests.faults.soak.world import PORTS, World


class DurableCollector(QueuedSenders):
    """A Collector with the stock exporter before the first gateway, and programs that export to it.

    What the Collector answered 200 is in its queue on disk: it must become a row.
    """

    name = "collector"
    needs: ClassVar[Sequence[str]] = ("otelcol",)
    config = "durable"
    #: The gateway behind it.
    behind = 0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.directory = world.directory / self.name.replace(" ", "-")
        self.queue = self.directory / "queue"
        self.queue.mkdir(parents=True)
        self.has_small_disk = world.small_disk(self.queue, 64)

    def start(self) -> None:
        gateway = self.world.gateways[self.behind]
        self.collector = Collector(
            self.config,
            self.directory,
            ports=partial(free_port, PORTS),
            SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}",
            SPANPOST_URL=gateway.url,
        )
        self.world.on_end(self.collector.kill)
        super().start()

    def exporters(self) -> list[SpanExporter]:
        return [HttpExporter(endpoint=f"http://127.0.0.1:{self.collector.http}/v1/traces", timeout=TIMEOUT)]

    def log(self) -> str:
        return self.collector.log

    def send(self, number: int) -> None:
        """Send the Collector a signal."""
        self.collector.process.send_signal(number)

    def revive(self) -> None:
        """Start it again if it has ended, as a service manager does."""
        if self.collector.process.poll() is not None:
            self.collector.start()

    def close(self) -> None:
        """Stop it in order when its queue is empty."""
        self.revive()
        super().close()
        self.send(signal.SIGTERM)
        if code := self.collector.process.wait(60):
            self.world.findings.append(f"{self.name} ended with {code}: {self.log()[-500:]}")

    def findings(self) -> Sequence[str]:
        """It dropped nothing: what a stop interrupts stays in its queue, whatever it says."""
        lines = [line for line in self.log().splitlines() if "interrupted due to shutdown" not in line]
        dropped = [line for line in lines if "dropp" in line.lower() or "panic:" in line]
        return [f"{len(dropped)} lines of its log say that it dropped something: {dropped[:3]}"] * bool(dropped)


class OurCollector(DurableCollector):
    """A Collector with spanpost's exporter before the last gateway."""

    name, config, behind = "collector with our exporter", "spanpost-exporter", -1
