"""Reads the messages of topics: those of the gateway, and those of a Collector's `kafkaexporter`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from spanpost.model.consumption import ConsumedMessage, UnreadableMessage
from spanpost.receivers.decoded import Decoded, Undecodable
from spanpost.receivers.elements import KEPT, KEPT_BYTES
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.messages import KEY, TENANT, read_message
from spanpost.receivers.pieces import pieces

#: Characters of a tenant's name.
_LONGEST: Final = 200


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
    tenant = topic.tenant
    wanted = topic.tenant_header.lower()
    for name, value in raw.headers if wanted else ():
        if name.lower() == wanted and value:
            try:
                tenant = value.decode()
            except UnicodeDecodeError:
                tenant = ""
            if not tenant.isprintable() or not 0 < len(tenant) <= _LONGEST:
                return _unreadable(raw, topic.tenant, f"its header {name} names no tenant")
    decoded = Decoded()
    unreadable: list[UnreadableMessage] = []
    try:
        for piece in pieces(topic.signal, raw.value, tenant, is_json=topic.encoding == "otlp_json"):
            if piece is not None:
                decoded.add(piece.decoded)
    except (Undecodable, BodyTooLarge) as error:  # pieces before it stay valid
        refused = _unreadable(raw, tenant, str(error))
        unreadable += refused.unreadable
        decoded.lose("undecodable")
    for each in decoded.spoiled:
        decoded.lose("undecodable", each.entries)
        if len(unreadable) < KEPT:
            unreadable.append(UnreadableMessage(tenant=tenant, error=str(each.error), body=each.body[:KEPT_BYTES]))
    return ConsumedMessage(
        offset=raw.offset,
        observations=decoded.observations,
        unreadable=unreadable,
        dropped=decoded.dropped,
        metric_points=decoded.metric_points,
    )


def _unreadable(raw: RawMessage, tenant: str, error: str) -> ConsumedMessage:
    where = f"partition {raw.partition}, offset {raw.offset}: {error}"
    body = UnreadableMessage(tenant=tenant, error=where, body=raw.value[:KEPT_BYTES])
    return ConsumedMessage(offset=raw.offset, unreadable=[body], dropped={"undecodable": 1})
