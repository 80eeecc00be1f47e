"""Messages of the gateway's own topic: the observations of one trace, without secrets, compressed, encrypted.

The gateway decodes and redacts a request before it writes it to the topic. The words of questions stay,
because the mark of a question is made of them, and content stays, because the task state is read from it: so
a message is also encrypted, with the keys of the journal. It is bound to its tenant, which stands in a
header: a program without the key can neither read a message nor make one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from spanpost.model.observations import NO_ORIGIN, Observation, Origin
from spanpost.readers import read
from spanpost.receivers.journal_bodies import JournalCipher

#: Headers of a message: the tenant, and the id of the key.
TENANT, KEY = "spanpost-tenant", "spanpost-key"
#: First byte of the content.
_VERSION: Final = b"\x01"
#: Larger numbers do not fit into MessagePack.
_INT64: Final = 2**63
#: Bytes of a message beside its value: key, headers, and Kafka's own fields.
OVERHEAD: Final = 512

#: Cleans an observation.
Clean = Callable[[Observation], Observation]


class UnknownKey(Exception):
    """The message is encrypted with a key that this process does not have."""


class _Run(msgspec.Struct, array_like=True):
    """Observations of one origin. `indexes`: those that are too large a number, by position."""

    origin: Origin
    observations: list[Observation]
    indexes: dict[int, bytes]


class TopicMessage(NamedTuple):
    """A message that is ready to be sent."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    observations: Sequence[Observation]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Run]).decode


def key_of(o: Observation) -> bytes:
    """Return the key of an observation's message: its trace id in hex, or that of the trace that stands for
    its session; empty without either.
    """
    if o.trace_id:
        return o.trace_id.hex().encode()
    reading = read(o)
    if reading.stands_for is not None:
        return reading.stands_for[0].hex().encode()
    return (reading.conversation_id or "").encode("utf-8", "replace")


def messages_of(batch: Iterable[Observation], cipher: JournalCipher, clean: Clean, most: int) -> Iterator[TopicMessage]:
    """Yield the messages of a batch: one for each tenant and key, and more where one would exceed `most` bytes.

    A message of a single observation may exceed them. Slow: call it in a thread.
    """
    groups: dict[tuple[str, bytes], list[Observation]] = {}
    for o in batch:
        groups.setdefault((o.tenant, key_of(o)), []).append(clean(o))
    for (tenant, key), observations in groups.items():
        yield from _split(tenant, key, observations, cipher, most)


def _split(
    tenant: str, key: bytes, observations: Sequence[Observation], cipher: JournalCipher, most: int
) -> Iterator[TopicMessage]:
    key_id, value = cipher.encrypt(tenant, _VERSION + _encode(_runs(observations)))
    if len(value) + len(tenant) + OVERHEAD > most and len(observations) > 1:
        middle = len(observations) // 2
        yield from _split(tenant, key, observations[:middle], cipher, most)
        yield from _split(tenant, key, observations[middle:], cipher, most)
        return
    headers = [(TENANT, tenant.encode("utf-8", "surrogateescape")), (KEY, key_id)]
    yield TopicMessage(key, value, headers, observations)


def _runs(observations: Sequence[Observation]) -> list[_Run]:
    runs: dict[int, _Run] = {}
    for o in observations:
        run = runs.get(id(o.origin))
        if run is None:
            run = runs[id(o.origin)] = _Run(o.origin, [], {})
        index = o.index
        if index >= _INT64:
            run.indexes[len(run.observations)] = index.to_bytes(16, "big")
            index = 0
        run.observations.append(msgspec.structs.replace(o, origin=NO_ORIGIN, tenant="default", index=index))
    return list(runs.values())


def read_message(tenant: str, key_id: bytes, value: bytes, cipher: JournalCipher) -> list[Observation]:
    """Return the observations of a message.

    Raises ValueError if it is damaged or of another tenant, and `UnknownKey`.
    """
    if key_id not in cipher.keys:
        if len(key_id) != len(cipher.keys[0]):
            raise ValueError("its header names no key: no gateway made it")
        raise UnknownKey(key_id.hex())
    content = cipher.decrypt(tenant, key_id, value)
    if content[:1] != _VERSION:
        raise ValueError(f"its form is {content[:1].hex()}, which this version of spanpost does not know")
    found = []
    for run in _decode(content[1:]):
        for position, o in enumerate(run.observations):
            index = run.indexes.get(position)
            found.append(
                msgspec.structs.replace(
                    o,
                    origin=run.origin,
                    tenant=tenant,
                    index=o.index if index is None else int.from_bytes(index, "big"),
                )
            )
    return found
