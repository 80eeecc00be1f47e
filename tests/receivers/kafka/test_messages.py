"""Messages of the gateway's topic: exact, unreadable without the key, and bound to their tenant."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from spanpost.model.observations import Observation
from spanpost.readers import read
from spanpost.readers.redaction import Redaction
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.contents import CollectorTopic, Contents, RawMessage
from spanpost.receivers.kafka.messages import KEY, TENANT, TopicMessage, UnknownKey, key_of, messages_of, read_message
from spanpost.receivers.recordings import read_recording
from spanpost.tasks import batches
from spanpost.testing.observed import ended
from tests.conftest import ROOT
from tests.receivers.endpoints import traces

SECRET = "sk-proj-" + "a1B2c3D4" * 6


@pytest.fixture(scope="module")
def cipher() -> JournalCipher:
    return JournalCipher(["a secret of the settings"])


@pytest.fixture(scope="module")
def captured() -> list[Observation]:
    """Return what frameworks really sent, of all three signals."""

    def found() -> Iterator[Observation]:
        for path in sorted((ROOT / "tests" / "captures").rglob("*")):
            if path.suffix in (".pb", ".json", ".jsonl", ".gz"):
                try:
                    for decoded in read_recording(path, tenant="acme"):
                        yield from decoded.observations
                except ValueError:  # another file of a capture
                    continue

    return list(found())


def made(batch: list[Observation], cipher: JournalCipher, most: int = 1_000_000) -> list[TopicMessage]:
    return list(messages_of(batch, cipher, lambda o: o, most))


def back(message: TopicMessage, cipher: JournalCipher) -> list[Observation]:
    headers = dict(message.headers)
    return read_message(headers[TENANT].decode(), headers[KEY], message.value, cipher)


def _order(o: Observation) -> tuple[object, ...]:
    return (o.trace_id, o.span_id, o.part, o.index, o.ordinal, o.at_ns, repr(o.attributes))


@pytest.mark.slow
def test_every_captured_observation_comes_back_as_it_was(captured: list[Observation], cipher: JournalCipher) -> None:
    """What is read from a message equals what was written, for all captures of all frameworks."""
    assert len(captured) > 1000
    found = [o for message in made(captured, cipher) for o in back(message, cipher)]
    assert sorted(found, key=_order) == sorted(captured, key=_order)


def test_a_message_holds_one_trace(captured: list[Observation], cipher: JournalCipher) -> None:
    """The key of a message is the trace id of all its observations, or that of their session's own trace."""
    for message in made(captured, cipher):
        found = back(message, cipher)
        assert {key_of(o) for o in found} == {message.key}
        if found[0].trace_id:
            assert message.key == found[0].trace_id.hex().encode()
    sessions = [(o, reading.stands_for) for o in captured if not o.trace_id and (reading := read(o)).stands_for]
    assert sessions
    assert [key_of(o) for o, _ in sessions] == [stands_for[0].hex().encode() for _, stands_for in sessions]


def test_a_large_trace_becomes_several_messages(cipher: JournalCipher) -> None:
    """No message of several observations exceeds the limit, and together they hold all of the trace."""
    batch = [ended(trace=7, span=n, name="x", attributes={"n": os.urandom(100).hex()}) for n in range(1, 200)]
    found = made(batch, cipher, 6000)
    assert len(found) > 1
    assert max(len(message.value) for message in found) <= 6000
    assert sorted([o for message in found for o in back(message, cipher)], key=_order) == sorted(batch, key=_order)


def test_a_message_cannot_be_read_or_made_for_another_tenant(cipher: JournalCipher) -> None:
    """A header with another tenant, and a byte that was changed, are refused; nothing of the text is readable."""
    [message] = made([ended(trace=7, span=1, name="a very private name", tenant="acme")], cipher)
    assert b"private" not in message.value
    headers = dict(message.headers)
    with pytest.raises(ValueError, match="for this tenant"):
        read_message("other", headers[KEY], message.value, cipher)
    with pytest.raises(ValueError, match="damaged"):
        read_message("acme", headers[KEY], message.value[:-1] + b"!", cipher)
    with pytest.raises(UnknownKey):
        read_message("acme", headers[KEY], message.value, JournalCipher(["another secret"]))


def test_a_row_of_the_journal_is_no_message(cipher: JournalCipher) -> None:
    """Bytes that the same key encrypted for the journal are refused as a message, and the other way round."""
    key, encrypted = cipher.encrypt("acme", b"\x01")
    with pytest.raises(ValueError, match="damaged"):
        cipher.open("acme", key, encrypted)


def test_secrets_are_out_before_a_message_is_made() -> None:
    """The gateway's redaction makes the same observation that recording makes, so its identity is the same."""
    redaction = Redaction(key=b"k" * 32)
    o = ended(trace=7, span=1, name="x", attributes={"note": f"use {SECRET}", "gen_ai.prompt": f"and {SECRET}"})
    sent = redaction.clean_source(o, keeps_content=False)
    assert SECRET not in sent.attributes["note"]
    [direct], [through] = (
        batches.prepare([each], redaction=Redaction(key=b"k" * 32), keeps_content=False) for each in (o, sent)
    )
    assert (direct.event_id, direct.content_hash) == (through.event_id, through.content_hash)
    assert direct.observation == through.observation


def raw(value: bytes, topic: str = "otlp_spans", headers: tuple[tuple[str, bytes], ...] = ()) -> RawMessage:
    return RawMessage(topic, 0, 41, 0.0, headers, value)


def test_a_collectors_messages_are_requests(cipher: JournalCipher) -> None:
    """A message of `kafkaexporter` is read as a request to the gateway, of the tenant in the settings."""
    contents = Contents(cipher, [CollectorTopic(topic="otlp_spans", signal="traces", tenant="acme")], "default")
    found = contents.read(raw(traces(1, 2)))
    assert [(o.name, o.tenant) for o in found.observations] == [("chat 1", "acme"), ("chat 2", "acme")]
    assert (found.offset, list(found.unreadable)) == (41, [])


@pytest.mark.parametrize(("value", "tenant"), [(b"beta", "beta"), (b"", "acme"), (b"\xff", None), (b"x" * 201, None)])
def test_a_header_may_name_the_tenant(cipher: JournalCipher, value: bytes, tenant: str | None) -> None:
    """With `tenant_header` the header decides; without a value the setting does; one that is no name is refused."""
    topic = CollectorTopic(topic="otlp_spans", signal="traces", tenant="acme", tenant_header="X-Tenant")
    found = Contents(cipher, [topic], "default").read(raw(traces(1), headers=(("x-tenant", value),)))
    assert [o.tenant for o in found.observations] == ([tenant] if tenant else [])
    assert len(found.unreadable) == (tenant is None)


def test_headers_that_name_several_tenants_name_none(cipher: JournalCipher) -> None:
    """A sender's own header beside the one that a proxy adds: the message is recorded for neither."""
    topic = CollectorTopic(topic="otlp_spans", signal="traces", tenant="acme", tenant_header="X-Tenant")
    contents = Contents(cipher, [topic], "default")
    found = contents.read(raw(traces(1), headers=(("x-tenant", b"beta"), ("X-Tenant", b"gamma"))))
    assert (list(found.observations), [each.tenant for each in found.unreadable]) == ([], ["acme"])
    same = contents.read(raw(traces(1), headers=(("x-tenant", b"beta"), ("x-tenant", b"beta"))))
    assert [o.tenant for o in same.observations] == ["beta"]


def test_without_the_setting_no_header_names_a_tenant(cipher: JournalCipher) -> None:
    """A header of a Collector's message is not believed unless the settings name it."""
    contents = Contents(cipher, [CollectorTopic(topic="otlp_spans", signal="traces", tenant="acme")], "default")
    found = contents.read(raw(traces(1), headers=((TENANT, b"beta"), ("x-tenant", b"beta"))))
    assert [o.tenant for o in found.observations] == ["acme"]


@pytest.mark.parametrize(
    ("topic", "value"), [("spanpost", b"rubbish"), ("spanpost", b""), ("otlp_spans", b"\xff\xff\xff")]
)
def test_poison_is_unreadable_and_no_error(cipher: JournalCipher, topic: str, value: bytes) -> None:
    """A message that is none is counted and kept with its place, and does not raise."""
    contents = Contents(cipher, [CollectorTopic(topic="otlp_spans", signal="traces")], "default")
    found = contents.read(raw(value, topic))
    assert [(each.tenant, each.body) for each in found.unreadable] == [("default", value)]
    assert "partition 0, offset 41" in found.unreadable[0].error
    assert (list(found.observations), found.dropped) == ([], {"undecodable": 1})


def test_a_header_that_cannot_be_a_key_stops_no_partition(cipher: JournalCipher) -> None:
    """An unknown key waits for its secret; what is no key's id at all is another program's message, and passed."""
    contents = Contents(cipher, [], "default")

    def of(key: bytes) -> RawMessage:
        return raw(b"x", "spanpost", ((TENANT, b"acme"), (KEY, key)))

    with pytest.raises(UnknownKey):
        contents.read(of(b"8 bytes!"))
    for key in (b"", b"none", b"x" * 4096):
        assert len(contents.read(of(key)).unreadable) == 1


def test_the_largest_numbers_come_back(cipher: JournalCipher) -> None:
    """A 128-bit index, which MessagePack cannot hold, is kept."""
    o = msgspec.structs.replace(ended(trace=7, span=1, name="x"), index=2**128 - 1)
    [message] = made([o], cipher)
    assert back(message, cipher) == [o]
