"""Resources that name their tenants: each is recorded for the tenant that its sender may use, or left out."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.http.tenancy import TenantSources
from spanpost.http.tokens import hash_of
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.contents import CollectorTopic, Contents, RawMessage
from tests.receivers.endpoints import Endpoint, opened

RULES = TenantSources(attribute="tenant.id", others={hash_of("shared"): frozenset({"acme", "globex"})})
TOKENS = [("collector", hash_of("shared")), ("acme", hash_of("own"))]


def request(*tenants: Any, is_json: bool = False) -> bytes:
    """Return a request with a resource for each tenant, in which its number is the span's id."""
    whole = ExportTraceServiceRequest()
    for number, tenant in enumerate(tenants, 1):
        resource = whole.resource_spans.add()
        for value in tenant if isinstance(tenant, list) else [tenant]:
            if value is not None:
                pair = resource.resource.attributes.add(key="tenant.id")
                if isinstance(value, str):
                    pair.value.string_value = value
                else:
                    pair.value.int_value = value
        resource.scope_spans.add().spans.add(
            name="chat", trace_id=b"\1" * 16, span_id=number.to_bytes(8, "big"),
            start_time_unix_nano=10**18, end_time_unix_nano=10**18 + 1,
        ).attributes.add(key="gen_ai.operation.name").value.string_value = "chat"  # fmt: skip
    if not is_json:
        return whole.SerializeToString()
    from google.protobuf.json_format import MessageToDict

    found = MessageToDict(whole)
    for resource in found["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                span["traceId"], number = "01" * 16, int.from_bytes(b64decode(span["spanId"]))
                span["spanId"] = f"{number:016x}"
    return json.dumps(found).encode()


async def sent(body: bytes, token: str = "shared", *, is_json: bool = False) -> tuple[int, Any, list[tuple[str, int]]]:
    """Send a request; return the status, the answer, and what was recorded by tenant."""
    async with opened(tokens=TOKENS) as there:
        there.sender_tokens.replace("default", TOKENS, rules=RULES)
        kind = "application/json" if is_json else "application/x-protobuf"
        answer = await there.post("/v1/traces", body, kind, authorization=f"Bearer {token}")
        return answer.status, answer.body, recorded(there)


def recorded(there: Endpoint) -> list[tuple[str, int]]:
    batches = there.interaction_store.batches
    return sorted((o.tenant, int.from_bytes(o.span_id)) for batch in batches for o in batch)


@pytest.mark.parametrize("is_json", [False, True])
async def test_each_resource_is_its_tenants(is_json: bool) -> None:
    """Resources of one request are recorded for the tenants that they name, and without a name for the token's."""
    status, _, found = await sent(request("acme", None, "globex", "acme", is_json=is_json), is_json=is_json)
    assert (status, found) == (200, [("acme", 1), ("acme", 4), ("collector", 2), ("globex", 3)])


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("tenant", ["initech", "", 7, ["acme", "globex"], ["acme", "acme"], "x" * 201, "a\nb"])
async def test_a_resource_of_another_tenant_is_left_out(tenant: Any, is_json: bool) -> None:
    """A resource that names a tenant beyond the token's, or none that can be one, is rejected; the others stay."""
    status, body, found = await sent(request("acme", tenant, is_json=is_json), is_json=is_json)
    assert (status, found) == (200, [("acme", 1)])
    assert b"tenant" in body
    status, _, found = await sent(request(tenant, is_json=is_json), is_json=is_json)
    assert (status, found) == (403, [])


async def test_a_token_of_one_tenant_names_no_other() -> None:
    """Without `tenants` a token names its own tenant alone."""
    assert (await sent(request("acme", None), "own"))[::2] == (200, [("acme", 1), ("acme", 2)])
    assert (await sent(request("globex"), "own"))[::2] == (403, [])


async def test_a_resource_that_is_sent_in_two_parts_names_one_tenant() -> None:
    """Protobuf joins the parts of a message: a second part cannot add another tenant behind a first one."""
    [one, other] = (ExportTraceServiceRequest.FromString(request(name)) for name in ("acme", "globex"))
    resource = one.resource_spans[0].SerializeToString() + other.resource_spans[0].SerializeToString()
    length = bytes((len(resource) & 127 | 128, len(resource) >> 7)) if len(resource) > 127 else bytes((len(resource),))
    assert (await sent(b"\x0a" + length + resource))[::2] == (403, [])


@pytest.mark.slow
async def test_many_empty_resources_are_refused() -> None:
    """A small body of very many resources is refused before it costs anything."""
    status, _, found = await sent(b"\x0a\x00" * 700_000)
    assert (status, found) == (413, [])


@pytest.mark.parametrize(
    ("tenants", "named", "expected", "unreadable"),
    [
        ({"acme", "globex"}, ("acme", "globex", None), ["acme", "collector", "globex"], 0),
        ({"acme"}, ("acme", "globex"), ["acme"], 1),
        (set(), ("acme",), [], 1),
    ],
)
def test_a_collectors_messages_name_tenants_of_their_topic(
    tenants: set[str], named: tuple[Any, ...], expected: list[str], unreadable: int
) -> None:
    """In Kafka an attribute names the topic's `tenants` alone; of a message with others only those are quarantined."""
    topic = CollectorTopic(
        topic="spans", signal="traces", tenant="collector", tenant_attribute="tenant.id", tenants=frozenset(tenants)
    )
    contents = Contents(JournalCipher(["a secret of the settings"]), [topic], "default")
    found = contents.read(RawMessage("spans", 0, 1, 1.0, (), request(*named)))
    assert sorted(o.tenant for o in found.observations) == expected
    assert len(found.unreadable) == unreadable
    assert not [one for one in found.unreadable if b"acme" in one.body and "acme" in expected]


def test_a_header_of_a_message_names_the_tenants_of_its_topic() -> None:
    """With `tenants` a message's header names one of them; another goes to the quarantine of the topic's own."""
    topic = CollectorTopic(
        topic="spans", signal="traces", tenant="own", tenant_header="x-tenant", tenants=frozenset({"acme"})
    )
    contents = Contents(JournalCipher(["a secret of the settings"]), [topic], "default")
    for value, expected in ((b"acme", ["acme"]), (b"own", ["own"]), (b"globex", [])):
        found = contents.read(RawMessage("spans", 0, 1, 1.0, (("x-tenant", value),), request(None)))
        assert [o.tenant for o in found.observations] == expected
        assert [one.tenant for one in found.unreadable] == ([] if expected else ["own"])


def test_an_unreadable_entry_of_one_tenant_is_not_shown_to_another() -> None:
    """What the quarantine keeps of a message is of the tenant whose part it is, and the others are recorded."""
    broken = request("acme").replace(b"\x12\x06\n\x04chat", b"\x12\x06\x0f\x04chat")
    topic = CollectorTopic(
        topic="spans",
        signal="traces",
        tenant="own",
        tenant_attribute="tenant.id",
        tenants=frozenset({"acme", "globex"}),
    )
    contents = Contents(JournalCipher(["a secret of the settings"]), [topic], "default")
    found = contents.read(RawMessage("spans", 0, 1, 1.0, (), broken + request("globex")))
    assert [o.tenant for o in found.observations] == ["globex"]
    assert {one.tenant for one in found.unreadable} == {"acme"}
    assert not [one for one in found.unreadable if b"globex" in one.body]


async def test_a_tenant_that_cannot_be_read_costs_the_others_nothing() -> None:
    """A request with an unreadable resource is recorded for the other tenants."""
    broken = request("acme").replace(b"\n\x04acme", b"\x0f\x04acme")
    status, _, found = await sent(broken + request("globex"))
    assert (status, found) == (200, [("globex", 1)])
