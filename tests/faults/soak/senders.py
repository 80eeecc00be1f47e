"""Senders: the genuine OTLP exporters, and a prober that measures when each gateway answers 200 again."""

from __future__ import annotations

import http.client
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tests.acceptance.gateway_process import request
from tests.faults.soak.actors import Threads
from tests.faults.soak.sent import sent_task, span
from tests.faults.soak.world import World, choice_of, now

#: Seconds until an exporter gives up a request; the sender then sends it to another gateway.
TIMEOUT = 4
#: Seconds after the close until a sender gives its spans up, which is a finding.
GIVE_UP_AFTER = 90.0
SENDERS = 8
#: A span of its own that is recorded and announces nothing.
PROBE: dict[str, str | int] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "probe"}


class Senders(Threads):
    """Programs that export their spans over HTTP and gRPC until they are acknowledged, as behind a load balancer."""

    name = "senders"
    #: Spans a second, of all senders; the share of them that this actor sends beside; and its senders.
    rate, share, count = 150.0, 1.0, SENDERS
    #: Share of tasks with hundreds of spans.
    long = 1 / 8

    def __init__(self, world: World) -> None:
        super().__init__(world)
        #: Where it notes what it sent.
        self.sent = world.sent

    def start(self) -> None:
        for number in range(self.count):
            self.begin(self._send, number)

    def exporters(self) -> list[SpanExporter]:
        """Return the exporters of one sender, which tries one after the other."""
        made: list[SpanExporter] = []
        for gateway in self.world.gateways:
            made.append(HttpExporter(endpoint=f"{gateway.url}/v1/traces", timeout=TIMEOUT))
            made.append(GrpcExporter(endpoint=f"http://127.0.0.1:{gateway.grpc}", insecure=True, timeout=TIMEOUT))
        return made

    def acknowledged(self, body: Sequence[ReadableSpan]) -> None:
        """Note an answer of 200 or OK."""
        self.sent.acknowledge(body)

    def _send(self, number: int) -> None:
        world, chance = self.world, choice_of(self.world.seed, self.name, number)
        exporters, prefix, due = self.exporters(), "".join(word[0] for word in self.name.split()), now()
        for count in itertools.count():
            if world.closing.is_set():
                break
            task = sent_task(f"{prefix}-{world.seed}-{number}-{count}", chance, self.long)
            mixed = list(task.spans)
            chance.shuffle(mixed)
            mixed += chance.sample(mixed, 3)  # what a sender repeats by itself
            size = chance.randrange(8, 20) if len(mixed) < 100 else chance.randrange(64, 400)
            bodies = [mixed[at : at + size] for at in range(0, len(mixed), size)]
            delivered = [self._deliver(body, exporters, chance) for body in bodies]  # also after one was given up
            if all(delivered):
                self.sent.complete(task)
            due = max(due + len(mixed) * self.count / (self.rate * self.share), now() - 5)
            world.closing.wait(max(0.0, due - now()))
        for exporter in exporters:
            exporter.shutdown()

    def _deliver(self, body: list[ReadableSpan], exporters: Sequence[SpanExporter], chance: random.Random) -> bool:
        place, given_up = chance.randrange(len(exporters)), float("inf")
        while True:
            if exporters[place].export(body) is SpanExportResult.SUCCESS:
                self.acknowledged(body)
                return True
            self.sent.refuse(len(body))
            place = (place + 1) % len(exporters)
            if self.world.closing.is_set():
                given_up = min(given_up, now() + GIVE_UP_AFTER)
            if now() > given_up:
                self.sent.give_up(len(body))
                return False
            time.sleep(0.1)  # as a client does that tries another address


class Prober(Threads):
    """A client for each gateway that sends one span four times a second and notes when the answer was 200."""

    name = "prober"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        #: By gateway: when a request began that was answered 200, and when the answer came.
        self.answers: list[list[tuple[float, float]]] = [[] for _ in world.gateways]
        #: Other answers than 200 and 503, which no gateway gives to correct telemetry.
        self.wrong: list[str] = []

    def start(self) -> None:
        for number in range(len(self.world.gateways)):
            self.begin(self._probe, number)

    def _probe(self, number: int) -> None:
        world, chance = self.world, choice_of(self.world.seed, "prober", number)
        while not world.closing.is_set():
            one = [span(chance.getrandbits(127) + 1, 1, "execute_tool probe", PROBE)]
            began, status = now(), 0
            with suppress(OSError, http.client.HTTPException):
                status, said = request(
                    f"{world.gateways[number].url}/v1/traces",
                    encode_spans(one).SerializeToString(),
                    timeout=3,
                    **{"content-type": "application/x-protobuf"},
                )
            if status == 200:
                self.answers[number].append((began, now()))
                world.sent.acknowledge(one)
            elif status not in (0, 503):
                self.wrong.append(f"gateway {number} answered {status}: {said[:200]!r}")
            world.closing.wait(0.25)

    def first_200(self, gateway: int, since: float) -> float:
        """Return when a gateway answered 200 to a request that began after `since`."""
        return next((answered for began, answered in self.answers[gateway] if began >= since), float("inf"))

    def waits_for_200(self, gateway: int, seconds: float) -> bool:
        """Return whether a gateway answers no request that begins from now on, within so many seconds."""
        since = now()
        while self.first_200(gateway, since) == float("inf") and now() < since + seconds:
            self.world.closing.wait(0.2)
        return self.first_200(gateway, since) == float("inf")

    def findings(self) -> Sequence[str]:
        """Return the answers that no gateway gives."""
        return self.wrong
