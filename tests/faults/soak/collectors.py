"""Collectors before the gateways: genuine ones with a queue on disk, with the stock exporter and with ours."""

from __future__ import annotations

import signal
import threading
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from tests.acceptance.test_collector import Collector
from tests.eventually import free_port
from tests.faults.soak.senders import TIMEOUT, Senders
from tests.faults.soak.sent import Row, rows_of
from tests.faults.soak.world import PORTS, World, now, pause

#: Seconds after the last fault within which a Collector hands on what is in its queue.
EMPTY_WITHIN = 180.0
#: Traces that are looked up at once.
AT_ONCE = 500


class DurableCollector(Senders):
    """A Collector with the stock exporter before the first gateway, and a program that exports to it.

    What the Collector answered 200 is in its queue on disk: it must become a row.
    """

    name, share, count = "collector", 0.2, 2
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
        self._rows = defaultdict[bytes, set[Row]](set)
        self._lock = threading.Lock()

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

    def acknowledged(self, body: Sequence[ReadableSpan]) -> None:
        super().acknowledged(body)
        with self._lock:
            for row in rows_of(body):
                self._rows[row[0]].add(row)

    def send(self, number: int) -> None:
        """Send the Collector a signal."""
        self.collector.process.send_signal(number)

    def revive(self) -> None:
        """Start it again if it has ended, as a service manager does."""
        if self.collector.process.poll() is not None:
            self.collector.start()

    def close(self) -> None:
        """Wait for the senders, then until the queue is empty; stop it in order."""
        super().close()
        self.revive()
        waiting, until = self._waiting(list(self._rows)), now() + EMPTY_WITHIN
        while waiting and now() < until:
            pause(threading.Event(), 0.5)
            waiting = self._waiting(waiting)
        if waiting:
            self.world.findings.append(
                f"{self.name}: {len(waiting)} of {len(self._rows)} traces are not recorded {EMPTY_WITHIN:g} s after "
                f"the last fault: {self.collector.log[-1000:]}"
            )
        self.send(signal.SIGTERM)
        if code := self.collector.process.wait(60):
            self.world.findings.append(f"{self.name} ended with {code}: {self.collector.log[-500:]}")

    def _waiting(self, traces: Sequence[bytes]) -> list[bytes]:
        """Return the traces of which a row is still missing."""
        left = []
        for at in range(0, len(traces), AT_ONCE):
            some = traces[at : at + AT_ONCE]
            listed = ", ".join(f"'\\x{trace.hex()}'" for trace in some)
            found = set(
                self.world.database.rows(
                    f"SELECT trace_id, span_id, part, idx FROM agent_events WHERE trace_id IN ({listed}) AND part < 3"
                )
            )
            left += [trace for trace in some if self._rows[trace] - found]
        return left

    def findings(self) -> Sequence[str]:
        """It dropped nothing."""
        dropped = [line for line in self.collector.log.splitlines() if "dropp" in line.lower() or "panic:" in line]
        return [f"{len(dropped)} lines of its log say that it dropped something: {dropped[:3]}"] * bool(dropped)


class OurCollector(DurableCollector):
    """A Collector with spanpost's exporter before the last gateway."""

    name, config, behind = "collector with our exporter", "spanpost-exporter", -1
