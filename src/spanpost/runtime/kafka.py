"""Kafka in front of the database: the gateway's producer and the consumer, made from the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from spanpost.model.consumption import ConsumedMessage, PartitionOffset
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.findings import Finding
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.client import Brokers, refuse_missing, topic_state
from spanpost.receivers.kafka.consumer import TopicConsumer
from spanpost.receivers.kafka.contents import CollectorTopic, Contents
from spanpost.receivers.kafka.producer import TopicProducer
from spanpost.runtime.journaling import cipher_of
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import KafkaSettings, Settings
from spanpost.settings.gateway import GatewaySettings

if TYPE_CHECKING:
    from spanpost.store.postgres import PostgresStore


def brokers_of(section: KafkaSettings) -> Brokers:
    """Return how to reach the brokers."""
    return Brokers(
        servers=section.bootstrap_servers,
        tls=section.tls,
        certificate=section.certificate,
        client_certificate=section.client_certificate,
        client_key=section.client_key,
        username=section.username,
        password=section.password.get_secret_value() if section.password is not None else "",
        mechanism=section.mechanism,
    )


class PipelineTopic:
    """Writes what the gateway receives to its topic, and counts it: a `RecordBatch` in place of the pipeline's."""

    def __init__(self, pipeline: Pipeline, producer: TopicProducer, topic: str) -> None:
        self._pipeline = pipeline
        self._topic = topic
        self.producer = producer

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Write a batch to the topic."""
        metrics, before = self._pipeline.metrics, self.producer.sent
        try:
            recorded = await self.producer.record(batch, is_whole=is_whole)
        except StoreUnavailable:
            if metrics is not None:
                metrics.not_produced(self._topic)
            raise
        if metrics is not None:
            metrics.produced(self._topic, self.producer.sent - before)
        if recorded.dropped:
            await self._pipeline.components.recorded.publish(recorded)
        return recorded


class PipelineConsumption:
    """A `spanpost.receivers.kafka.partition.Consumption` in the pipeline's loop."""

    def __init__(self, pipeline: Pipeline, store: PostgresStore) -> None:
        self._pipeline = pipeline
        self._store = store

    async def offsets(self, group: str, partitions: Sequence[tuple[str, int]], /) -> dict[tuple[str, int], int]:
        """Return the offsets of a group's partitions."""
        return await self._store.offsets(group, partitions)

    async def record(self, at: PartitionOffset, messages: Sequence[ConsumedMessage], /) -> int:
        """Record messages and move their offset."""
        await self._pipeline.prices.load_for([o for message in messages for o in message.observations])
        end = at.next or 0

        async def recording() -> Recorded:
            nonlocal end
            recorded, end = await self._store.record_consumed(at, messages)
            return recorded

        await self._pipeline.counted(recording())
        self._count(at.topic, [message for message in messages if message.offset < end])
        return end

    def _count(self, topic: str, messages: Sequence[ConsumedMessage]) -> None:
        if (metrics := self._pipeline.metrics) is None:
            return
        metrics.consumed(topic, len(messages))
        for message in messages:
            if message.metric_points:
                metrics.count_ignored_points(message.metric_points)
            for reason, count in message.dropped.items():
                metrics.count_dropped("kafka", reason, count)

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task."""
        await self._store.listen_anew()


def cleaning(store: PostgresStore) -> Callable[[Observation], Observation]:
    """Return the redaction of messages, by the rules that the store has at that moment: a reload replaces them."""

    def clean(o: Observation) -> Observation:
        redaction = store.redaction
        if redaction is None:
            return o
        return redaction.sparing_questions().clean_source(o, keeps_content=store.rules.keeps_content)

    return clean


async def topic_of(pipeline: Pipeline, settings: Settings, section: GatewaySettings) -> PipelineTopic | None:
    """Return the topic that the gateway writes; None if it records directly. Raises `ConfigError`."""
    kafka = settings.kafka
    if kafka is None or not kafka.produce:
        return None
    cipher = await _cipher(pipeline, settings, section)
    store = cast("PostgresStore", pipeline.store)
    producer = TopicProducer(
        brokers_of(kafka),
        kafka.topic,
        cipher,
        clean=cleaning(store),
        quarantine=store.quarantine,
        most=kafka.max_message_bytes,
    )
    producer.start()
    return PipelineTopic(pipeline, producer, kafka.topic)


async def consumer_of(pipeline: Pipeline, settings: Settings, section: GatewaySettings) -> TopicConsumer | None:
    """Return the consumer of this process; None if it consumes nothing. Raises `ConfigError`."""
    kafka = settings.kafka
    if kafka is None or not kafka.consume:
        return None
    cipher = await _cipher(pipeline, settings, section)
    collected = [
        CollectorTopic(
            topic=each.topic,
            signal=each.signal,
            encoding=each.encoding,
            tenant=each.tenant,
            tenant_header=each.tenant_header,
            tenant_attribute=each.tenant_attribute,
            tenants=frozenset(each.tenants),
        )
        for each in kafka.collector_topics
    ]
    return TopicConsumer(
        brokers_of(kafka),
        [kafka.topic, *(each.topic for each in collected)],
        kafka.group,
        consumption=PipelineConsumption(pipeline, cast("PostgresStore", pipeline.store)),
        contents=Contents(cipher, collected, settings.intake.tenant),
        watch=pipeline.metrics,
        writers=section.writers,
        group_size=section.group_size,
        session=kafka.session_timeout.total_seconds(),
    )


def examined(section: KafkaSettings) -> list[Finding]:
    """Return what the brokers say about the topics, for ``spanpost check``. Raises `ConfigError`."""
    refuse_missing()
    found = []
    for topic in (section.topic, *(each.topic for each in section.collector_topics)):
        state = topic_state(brokers_of(section), topic)
        if state.trouble:
            cure = f"start the brokers, mend SPANPOST_KAFKA__BOOTSTRAP_SERVERS, or make the topic {topic}"
            found.append(Finding(ok=False, found=state.trouble, cure=cure))
            continue
        said = f"topic {topic}: {state.partitions} partitions, {state.replicas} replicas"
        if state.config:
            in_sync, most = int(state.config["min.insync.replicas"]), int(state.config["max.message.bytes"])
            said += f", min.insync.replicas {in_sync}, retention.ms {state.config['retention.ms']}"
            if topic == section.topic and most < section.max_message_bytes:
                cure = f"set SPANPOST_KAFKA__MAX_MESSAGE_BYTES={most}, or raise the topic's max.message.bytes"
                found.append(Finding(ok=False, found=f"{said}; it takes messages of {most} bytes only", cure=cure))
                continue
            if state.replicas < 2 or in_sync < 2:
                cure = "give it 3 replicas and min.insync.replicas 2, so that a broker may be lost"
                found.append(
                    Finding(ok=True, found=f"{said}: one broker's disk holds what was acknowledged", cure=cure)
                )
                continue
        found.append(Finding(ok=True, found=said))
    return found


async def _cipher(pipeline: Pipeline, settings: Settings, section: GatewaySettings) -> JournalCipher:
    refuse_missing()
    if not hasattr(pipeline.store, "record_consumed"):
        raise ConfigError("kafka: it needs PostgreSQL, which keeps the rows and the offsets; set DATABASE_URL")
    try:
        return await cipher_of(pipeline, settings, section)
    except ImportError as error:
        raise ConfigError(f"kafka: {error.name} is missing; install it with: pip install 'spanpost[gateway]'") from None
    except ValueError as error:
        raise ConfigError(f"kafka: there is no key to encrypt messages with: {error}") from None
