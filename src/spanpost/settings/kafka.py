"""Settings of the section `kafka`: topics in front of the database."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.settings.section import Duration, Section, expanded

#: What Kafka accepts as the name of a topic.
_TOPIC: Final = r"^[A-Za-z0-9._-]{1,249}$"
_SERVER: Final = re.compile(r"^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$")

TopicName = Annotated[str, StringConstraints(pattern=_TOPIC)]


class CollectorTopicSettings(Section):
    """A topic that a Collector's `kafkaexporter` writes."""

    topic: TopicName = Field(
        description="Name of the topic; the exporter's defaults are `otlp_spans`, `otlp_logs` and `otlp_metrics`."
    )
    signal: Literal["traces", "logs", "metrics"] = Field(description="What it holds.")
    encoding: Literal["otlp_proto", "otlp_json"] = Field(
        default="otlp_proto", description="The exporter's setting `encoding`."
    )
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default="default", description="Tenant of its messages."
    )
    tenant_header: str = Field(
        default="",
        max_length=200,
        description="Header that names the tenant of a message, where it has one: a key of the exporter's "
        "`include_metadata_keys`. Every program that may write to the topic chooses it.",
    )
    tenant_attribute: str = Field(
        default="",
        max_length=200,
        description="Attribute of a resource that names its tenant, one of `tenants`; a resource that names another is "
        "put into the quarantine.",
    )
    tenants: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(
        default=(),
        description="Tenants that `tenant_header` and `tenant_attribute` may name. Without any the header may name "
        "every tenant, and the attribute only `tenant`.",
    )


class KafkaSettings(Section):
    """Kafka in front of the database: the gateway writes to a topic, and `spanpost run --consume` records it."""

    bootstrap_servers: tuple[str, ...] = Field(
        min_length=1, description='Addresses of some brokers: `["kafka-1:9092", "kafka-2:9092"]`.'
    )
    topic: TopicName = Field(
        default="spanpost", description="Topic that gateways write and consumers record. spanpost does not make it."
    )
    produce: bool = Field(
        default=True,
        description="The receivers write to the topic, and answer when all in-sync replicas have it. `false`: they "
        "record directly.",
    )
    consume: bool = Field(
        default=False, description="Record the messages of the topics; `spanpost run --consume` sets it."
    )
    group: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default="spanpost",
        description="Consumer group. Its members share the partitions; the database keeps the group's offsets.",
    )
    session_timeout: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=5),
        description="After so long without a sign of life of a consumer, others get its partitions. The brokers' "
        "`group.min.session.timeout.ms` is 6 s by default.",
    )
    collector_topics: tuple[CollectorTopicSettings, ...] = Field(
        default=(), description="More topics that consumers record: those of a Collector's `kafkaexporter`."
    )
    max_message_bytes: int = Field(
        default=1_000_000,
        ge=4096,
        le=256 * 1024 * 1024,
        description="Maximum bytes of a message, at most the topic's `max.message.bytes`. A trace that is larger "
        "becomes several messages; a single span that is larger goes to `quarantine`.",
    )
    tls: bool = Field(default=False, description="Speak TLS to the brokers, and verify their names.")
    certificate: Path | None = Field(
        default=None, description="CA certificates that verify the brokers, a PEM file. Not given: the system's."
    )
    client_certificate: Path | None = Field(default=None, description="Client certificate, a PEM file. Needs `tls`.")
    client_key: Path | None = Field(default=None, description="Private key of the client certificate, a PEM file.")
    username: str = Field(default="", description="Name for SASL; empty: none is used.")
    password: SecretStr | None = Field(default=None, description="Password for SASL.")
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="How the password is shown to the brokers. `PLAIN` needs `tls`."
    )

    _expand = field_validator("certificate", "client_certificate", "client_key")(expanded)

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not _SERVER.match(one):
                raise ValueError(f"{one!r} is no address of a broker: give host:port")
        return value

    @model_validator(mode="after")
    def _fits(self) -> KafkaSettings:
        topics = [self.topic, *(each.topic for each in self.collector_topics)]
        if twice := [name for name in topics if topics.count(name) > 1]:
            raise ValueError(f"collector_topics: {twice[0]!r} is there twice; a topic holds one thing")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together: set both or neither")
        if self.username and self.mechanism == "PLAIN" and not self.tls:
            raise ValueError("mechanism: PLAIN sends the password as it is: set tls, or use SCRAM-SHA-512")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together: give both or neither")
        if not self.tls and (self.certificate is not None or self.client_certificate is not None):
            raise ValueError("certificates need tls = true")
        return self
