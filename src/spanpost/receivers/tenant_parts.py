"""Requests whose resources name their tenants: each tenant's resources are taken as a request of that tenant.

An attribute of the resource names the tenant, where the settings allow it (`TenantSources.attribute`). A resource
without it belongs to the credential's own tenant. One that names a tenant that the credential may not use, or none
that can be a tenant, is left out and counted as rejected: a sender that shares a Collector with others must not
cause the loss of theirs. A request of which nothing is left is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import msgspec

from spanpost.http.shares import Sender
from spanpost.http.tenancy import TenantGrant, TenantRefused, decide, is_tenant
from spanpost.receivers.admission import Busy, MemoryReservation
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.elements import LARGEST, SHARED, Elements, too_large_shared
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.otlp_json import LEVELS
from spanpost.receivers.protobuf_pieces import fields, messages_in, wrap
from spanpost.receivers.receiver import Receiver, TakenRequest

_LENGTH_DELIMITED: Final = 2
_RESOURCE, _SCOPES, _ENTRIES = 1, 2, 2
#: Steps between two pauses: about a millisecond.
_STRIDE: Final = 1024


class TenantParts:
    """The resources of a request by tenant, and those that were left out."""

    def __init__(self, grant: TenantGrant) -> None:
        self._grant = grant
        self.parts: dict[str, list[bytes]] = {}
        #: Number of entries that were left out, why, and the first resource of them.
        self.refused = 0
        self.reason = ""
        self.left_out = b""

    def add(self, named: list[Any], part: bytes, count: Callable[[], int]) -> None:
        """Add a resource with all values of its attribute; `count` returns the number of its entries."""
        try:
            grant = decide(self._grant, named=_one(named))
        except TenantRefused as refused:
            self.refused += count()
            self.left_out = self.left_out or part
            self.reason = str(refused)
            return
        assert grant is not None
        self.parts.setdefault(grant.tenant, []).append(part)


def _one(named: list[Any]) -> str | None:
    """Return the tenant that an attribute's values name; None: no value. Raises `TenantRefused`."""
    if not named:
        return None
    if len(named) > 1 or not isinstance(named[0], str) or not is_tenant(named[0]):
        raise TenantRefused("the resource's attribute names no tenant, or several")
    return named[0]


async def take_named(
    receiver: Receiver,
    grant: TenantGrant,
    attribute: str,
    reservation: MemoryReservation,
    signal: str,
    body: bytes,
    *,
    is_json: bool,
) -> TakenRequest:
    """Take a request, each tenant's resources for that tenant; empty `attribute`: all for the credential's own.

    Raises as `Receiver.take` does, and `TenantRefused` if no resource may be taken. After `Busy` the sender repeats
    all of it, and what was recorded is recognised.
    """
    if not attribute or not body:
        return await receiver.take(reservation, signal, body, is_json=is_json)
    found = TenantParts(grant)
    try:
        for _ in cut(found, attribute, signal, body, is_json=is_json):
            await asyncio.sleep(0)
    except BaseException as error:
        reservation.leave()
        if isinstance(error, Undecodable):
            await receiver.keep(signal, grant.tenant, str(error), body)
        raise
    if found.refused == 0 and found.parts.keys() <= {grant.tenant}:
        return await receiver.take(reservation, signal, body, is_json=is_json)
    address = reservation.sender.address
    reservation.leave()
    if not found.parts:
        raise TenantRefused(found.reason)
    rejected, notes = found.refused, [f"{found.refused} were refused: {found.reason}"] if found.refused else []
    if found.refused:
        receiver.count_refused(found.refused)
    failed: list[Exception] = []
    for tenant, parts in found.parts.items():
        part = joined(signal, parts, is_json=is_json)
        try:
            taken = await _take(receiver, Sender(tenant, address), signal, part, is_json=is_json)
        except (Busy, Undecodable, BodyTooLarge) as error:
            failed.append(error)  # the parts of other tenants are taken first
            continue
        rejected += taken.rejected
        notes += [taken.message] if taken.message else []
    if failed:  # a request that may be repeated is, and what is recorded then is recognised
        raise next((error for error in failed if isinstance(error, Busy)), failed[0])
    return TakenRequest(rejected=rejected, message="; ".join(notes))


async def _take(receiver: Receiver, sender: Sender, signal: str, part: bytes, *, is_json: bool) -> TakenRequest:
    reservation = receiver.admit(sender, len(part))
    try:
        reservation.grow(len(part))
    except BaseException:
        reservation.leave()
        raise
    return await receiver.take(reservation, signal, part, is_json=is_json)


def cut(found: TenantParts, attribute: str, signal: str, body: bytes, *, is_json: bool) -> Iterator[None]:
    """Add the resources of a request; yield where a pause is allowed. Raises `Undecodable` and `BodyTooLarge`."""
    return (_of_json if is_json else _of_protobuf)(found, attribute, signal, body)


def joined(signal: str, parts: list[bytes], *, is_json: bool) -> bytes:
    """Return a request of these resources."""
    if is_json:
        return msgspec.json.encode({LEVELS[signal][0]: [msgspec.Raw(part) for part in parts]})
    return b"".join(wrap(_RESOURCE, part) for part in parts)


def _of_protobuf(found: TenantParts, attribute: str, signal: str, body: bytes) -> Iterator[None]:
    """Cut a request; yield where a pause is allowed."""
    elements, steps = Elements(len(body)), 0
    for start, end in messages_in(body, 0, len(body), 1):
        resources: list[bytes] = []
        for number, begin, at, stop in fields(body, start, end):
            steps += 1
            if number == _RESOURCE and body[begin] & 7 == _LENGTH_DELIMITED:
                resources.append(body[at:stop])
            if steps % _STRIDE == 0:
                yield
        steps += 1
        elements.take(1)
        if sum(map(len, resources)) > SHARED:
            raise too_large_shared()
        # Protobuf joins repeated messages, so that a second resource would add attributes to the first.
        named = _values(b"".join(resources), attribute) if attribute.encode() in b"".join(resources) else []
        found.add(named, body[start:end], lambda start=start, end=end: _count(body, start, end))  # type: ignore[misc]


def _values(resource: bytes, attribute: str) -> list[Any]:
    try:
        parsed = _resource().FromString(resource)
    except Exception:  # of the protobuf library; one that cannot be read must not cost the others
        return [None]
    return [
        pair.value.string_value if pair.value.WhichOneof("value") == "string_value" else None
        for pair in parsed.attributes
        if pair.key == attribute
    ]


@cache
def _resource() -> Any:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return Resource


def _count(body: bytes, start: int, end: int) -> int:
    """Return the number of entries in a resource."""
    scopes = messages_in(body, start, end, _SCOPES)
    return sum(1 for at, stop in scopes for _ in messages_in(body, at, stop, _ENTRIES))


def _of_json(found: TenantParts, attribute: str, signal: str, body: bytes) -> Iterator[None]:
    """Cut a request; yield where a pause is allowed."""
    if len(body) > LARGEST:  # it is cut in one call
        raise BodyTooLarge(LARGEST, f"a JSON body that may name tenants has at most {LARGEST} bytes; send protobuf")
    resources, scopes, entries = LEVELS[signal]
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        listed = msgspec.json.decode(document.get(resources, b"[]"), type=list[msgspec.Raw])
        for number, each in enumerate(listed):
            if number % _STRIDE == 0:
                yield
            parts = msgspec.json.decode(each, type=dict[str, msgspec.Raw])
            resource = msgspec.json.decode(parts.get("resource", b"{}"))
            pairs = resource.get("attributes") or [] if isinstance(resource, dict) else []
            named = [
                pair["value"].get("stringValue") if isinstance(pair.get("value"), dict) else None
                for pair in pairs
                if isinstance(pair, dict) and pair.get("key") == attribute
            ]
            found.add(named, bytes(each), lambda parts=parts: _count_json(parts.get(scopes), entries))  # type: ignore[misc]
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Undecodable(f"not OTLP/JSON: {error}") from None


def _count_json(scopes: Any, entries: str) -> int:
    listed = msgspec.json.decode(scopes) if scopes is not None else []
    found = [one.get(entries) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return sum(len(one) for one in found if isinstance(one, list))
