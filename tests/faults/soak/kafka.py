"""Kafka before the database: a broker, two gateways that write to it and record it, and a producer beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tests.eventually import free_port
from tests.faults.soak.queued import QueuedSenders
from tests.faults.soak.senders import TIMEOUT
from tests.faults.soak.world import PORTS, Gateway
from tests.kafka_broker import Broker

#: Topic of the gateways, and the one that a Collector's `kafkaexporter` would write.
TOPIC, COLLECTED = "soak", "soak-collected"


class TopicExporter(SpanExporter):
    """Writes requests to a topic; exported is what all in-sync replicas have."""

    def __init__(self, address: str) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(
            {"bootstrap.servers": address, "acks": "all", "message.timeout.ms": TIMEOUT * 1000, "log_level": 0}
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        errors = list[Any]()
        body = encode_spans(spans).SerializeToString()
        self._producer.produce(COLLECTED, body, on_delivery=lambda error, _: errors.append(error))
        self._producer.flush(2 * TIMEOUT)
        return SpanExportResult.SUCCESS if errors and errors[0] is None else SpanExportResult.FAILURE


class KafkaFront(QueuedSenders):
    """A broker with two gateways that share its topics, and senders of both kinds."""

    name, is_extra = "kafka", True
    needs: ClassVar[Sequence[str]] = ("kafka",)

    def start(self) -> None:
        world, directory = self.world, self.world.directory / self.name
        directory.mkdir()
        self.broker = Broker(directory, ports=partial(free_port, PORTS))
        world.on_end(self.broker.kill)
        self.broker.start()
        for topic in (TOPIC, COLLECTED):
            self.broker.make_topic(topic, 4)
        self.gateways = list[Gateway]()
        for number in range(2):
            home = directory / f"gateway-{number}"
            home.mkdir()
            gateway = Gateway(
                world.database.dsn,
                home,
                http=free_port(PORTS),
                grpc=free_port(PORTS),
                **world.settings(),
                **world.variables,
                SPANPOST_KAFKA__BOOTSTRAP_SERVERS=json.dumps([self.broker.address]),
                SPANPOST_KAFKA__TOPIC=TOPIC,
                SPANPOST_KAFKA__COLLECTOR_TOPICS=json.dumps([{"topic": COLLECTED, "signal": "traces"}]),
                SPANPOST_KAFKA__CONSUME="true",
                SPANPOST_KAFKA__SESSION_TIMEOUT="2",
            )
            self.gateways.append(gateway)
            world.on_end(gateway.kill)
        for gateway in self.gateways:
            world.wait_until_up(gateway)
        super().start()

    def exporters(self) -> list[SpanExporter]:
        of_gateways = (HttpExporter(endpoint=f"{each.url}/v1/traces", timeout=TIMEOUT) for each in self.gateways)
        return [*of_gateways, TopicExporter(self.broker.address)]

    def log(self) -> str:
        return "\n".join(gateway.log[-500:] for gateway in self.gateways)

    def findings(self) -> Sequence[str]:
        """No gateway wrote a traceback."""
        return [f"a gateway: {each.log[-800:]}" for each in self.gateways if "Traceback (most recent" in each.log]
