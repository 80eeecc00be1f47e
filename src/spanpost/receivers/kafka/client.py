"""What producers and consumers have in common: the connection to the brokers, and the metadata of topics."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from spanpost.model.errors import ConfigError

log = logging.getLogger("spanpost.runtime.kafka")

#: Seconds for a question to the brokers.
ASK: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Brokers:
    """How to reach the brokers."""

    servers: tuple[str, ...]
    tls: bool = False
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    username: str = ""
    password: str = ""
    mechanism: str = ""

    def options(self) -> dict[str, Any]:
        """Return the options of librdkafka."""
        options: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.servers),
            "client.id": "spanpost",
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2000,
            "security.protocol": f"{'SASL_' if self.username else ''}{'SSL' if self.tls else 'PLAINTEXT'}",
        }
        files = {
            "ssl.ca.location": self.certificate,
            "ssl.certificate.location": self.client_certificate,
            "ssl.key.location": self.client_key,
        }
        options |= {name: str(path) for name, path in files.items() if path is not None}
        if self.username:
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        return options


def refuse_missing() -> None:
    """Raise `ConfigError` if the client's package is missing."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "kafka: confluent_kafka is missing; install it with: pip install 'spanpost[kafka]'"
        ) from error


@dataclass(frozen=True, kw_only=True)
class TopicState:
    """What the brokers say about a topic. `trouble`: why it cannot be used; `config`: empty if it may not be read."""

    trouble: str = ""
    partitions: int = 0
    replicas: int = 0
    config: dict[str, str] = field(default_factory=dict)


def why_missing(client: Any, topic: str) -> str:
    """Return why a topic cannot be used; empty if it can. Blocks for up to `ASK` seconds."""
    return _state(client, topic).trouble


def topic_state(brokers: Brokers, topic: str) -> TopicState:
    """Return what the brokers say about a topic. Blocks for some seconds."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import RESOURCE_TOPIC, AdminClient, ConfigResource  # type: ignore[attr-defined]

    client = AdminClient(brokers.options(), logger=log)
    state = _state(client, topic)
    if state.trouble:
        return state
    try:
        [answer] = client.describe_configs([ConfigResource(RESOURCE_TOPIC, topic)], request_timeout=ASK).values()
        return replace(state, config={name: entry.value for name, entry in answer.result(ASK + 1).items()})
    except KafkaException:  # it may not be read
        return state


def _state(client: Any, topic: str) -> TopicState:
    from confluent_kafka import KafkaException

    try:
        found = client.list_topics(topic, timeout=ASK).topics.get(topic)
    except KafkaException as error:
        return TopicState(trouble=f"Kafka cannot be reached: {error.args[0].str()}")
    if found is None or found.error is not None:
        trouble = f"Kafka has no topic {topic}" if found is None else f"topic {topic}: {found.error.str()}"
        return TopicState(trouble=trouble)
    parts = found.partitions.values()
    if without := sum(each.leader < 0 for each in parts):
        return TopicState(trouble=f"{without} partitions of topic {topic} have no leader")
    return TopicState(partitions=len(parts), replicas=min(len(each.replicas) for each in parts))
