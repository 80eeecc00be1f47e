"""Reads the messages of topics: those of the gateway, and those of a Collector's `kafkaexporter`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from spanpost.http.tenancy import TenantGrant, TenantRefused, decide, is_tenant
from spanpost.model.consumption import ConsumedMessage, UnreadableMessage
from spanpost.receivers.decoded import Decoded, Undecodable
from spanpost.receivers.elements import KEPT, KEPT_BYTES
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.messages import KEY, TENANT, read_message
from spanpost.receivers.pieces import pieces
from spanpost.receivers.tenant_parts import TenantParts, cut, joined


class RawMessage(NamedTuple):
    """A message as it came. `at`: Unix seconds."""

    topic: str
    partition: int
    offset: int
    at: float
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes


@dataclass(frozen=True, kw_only=True)
class CollectorTopic:
    """What a topic of a Collector holds, and whose it is."""

    topic: str
    signal: str
    encoding: str = "otlp_proto"
    tenant: str = "default"
    tenant_header: str = ""
    tenant_attribute: str = ""
    #: Tenants that the header and attribute may name; empty: the header any.
    tenants: frozenset[str] = frozenset()


class Contents:
    """Reads messages. `tenant`: of messages in quarantine whose own is not known."""

    def __init__(self, cipher: JournalCipher, topics: Iterable[CollectorTopic], tenant: str) -> None:
        self._cipher = cipher
        self._topics = {each.topic: each for each in topics}
        self._tenant = tenant

    def read(self, raw: RawMessage) -> ConsumedMessage:
        """Return the contents of a message; one that cannot be read is in `unreadable`. Raises `UnknownKey`."""
        topic = self._topics.get(raw.topic)
        return self._own(raw) if topic is None else _of_collector(raw, topic)

    def _own(self, raw: RawMessage) -> ConsumedMessage:
        headers = dict(raw.headers)
        tenant, key = headers.get(TENANT), headers.get(KEY)
        try:
            if tenant is None or key is None:
                raise ValueError(f"it has no header {TENANT if tenant is None else KEY}: no gateway made it")
            whose = tenant.decode("utf-8", "surrogateescape")
            observations = read_message(whose, key, raw.value, self._cipher)
        except (ValueError, msgspec.MsgspecError) as error:
            return _unreadable(raw, self._tenant, str(error))
        return ConsumedMessage(offset=raw.offset, observations=observations)


def _of_collector(raw: RawMessage, topic: CollectorTopic) -> ConsumedMessage:
    """Return the contents of an OTLP request; an entry that cannot be read does not affect the others."""
    decoded = Decoded()
    unreadable: list[UnreadableMessage] = []
    owners: list[str] = []  # of each spoiled entry
    tenant = topic.tenant
    try:
        grant = _grant(raw, topic)
        tenant = grant.tenant
        parts, refused = _parts(raw, topic, grant)
        if refused:
            unreadable += _unreadable(raw._replace(value=refused.left_out), tenant, refused.reason).unreadable
            decoded.lose("tenant", refused.refused)
    except (TenantRefused, Undecodable, BodyTooLarge) as error:
        return _unreadable(raw, tenant, str(error))
    for tenant, part in parts:
        try:
            for piece in pieces(topic.signal, part, tenant, is_json=topic.encoding == "otlp_json"):
                if piece is not None:
                    decoded.add(piece.decoded)
        except (Undecodable, BodyTooLarge) as error:  # pieces before it stay valid, and other tenants' parts
            # What is kept is this tenant's alone.
            unreadable += _unreadable(raw._replace(value=part), tenant, str(error)).unreadable
            decoded.lose("undecodable")
        owners += [tenant] * (len(decoded.spoiled) - len(owners))
    for owner, each in zip(owners, decoded.spoiled, strict=True):
        decoded.lose("undecodable", each.entries)
        if len(unreadable) < KEPT:
            unreadable.append(UnreadableMessage(tenant=owner, error=str(each.error), body=each.body[:KEPT_BYTES]))
    return ConsumedMessage(
        offset=raw.offset,
        observations=decoded.observations,
        unreadable=unreadable,
        dropped=decoded.dropped,
        metric_points=decoded.metric_points,
    )


def _grant(raw: RawMessage, topic: CollectorTopic) -> TenantGrant:
    """Return the tenant of a message. Raises `TenantRefused`."""
    wanted = topic.tenant_header.lower()
    values = {value for name, value in raw.headers if value and name.lower() == wanted} if wanted else set()
    named = None
    if values:
        try:
            [value] = values  # of several, another program may have read another one
            named = value.decode()
        except ValueError:
            named = ""
        if not is_tenant(named):
            raise TenantRefused(f"its header {topic.tenant_header} names no tenant")
    own = TenantGrant(topic.tenant, topic.tenants)
    grant = decide(own if topic.tenants or named is None else None, named=named)
    assert grant is not None
    return grant


def _parts(
    raw: RawMessage, topic: CollectorTopic, grant: TenantGrant
) -> tuple[list[tuple[str, bytes]], TenantParts | None]:
    """Return the parts of a message by tenant, and those that were refused."""
    if not topic.tenant_attribute:
        return [(grant.tenant, raw.value)], None
    is_json = topic.encoding == "otlp_json"
    found = TenantParts(grant)
    for _ in cut(found, topic.tenant_attribute, topic.signal, raw.value, is_json=is_json):
        pass
    whole = [(tenant, joined(topic.signal, parts, is_json=is_json)) for tenant, parts in found.parts.items()]
    return whole, found if found.refused else None


def _unreadable(raw: RawMessage, tenant: str, error: str) -> ConsumedMessage:
    where = f"partition {raw.partition}, offset {raw.offset}: {error}"
    body = UnreadableMessage(tenant=tenant, error=where, body=raw.value[:KEPT_BYTES])
    return ConsumedMessage(offset=raw.offset, unreadable=[body], dropped={"undecodable": 1})
