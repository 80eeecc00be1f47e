"""Observations that the store cannot record as they are: repaired if possible, else kept in `quarantine`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from spanpost.model.errors import MessageTooLarge, OverBudget
from spanpost.model.observations import Observation, Origin, Repair
from spanpost.model.recorded import OVER_BUDGET, TOO_LARGE
from spanpost.store.attribute_sets import LARGE
from spanpost.text.repair import mend, mend_text, mend_value

_INT64 = 2**63 - 1
_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode
_decode = msgspec.msgpack.Decoder(tuple[Observation, bytes]).decode

#: Returns a text without what the rules of a tenant take away.
CleanText = Callable[[str, str], str]

#: Source of observations.
OBSERVATION: Final = "record"

#: Reasons by exception; other errors have the database's SQLSTATE or the exception's name as reason.
_REASONS: dict[type[BaseException], str] = {OverBudget: OVER_BUDGET, MessageTooLarge: TOO_LARGE}
#: Rows written by one call, so that other tasks run in between.
_AT_ONCE = 500

_DISCARD = """
INSERT INTO quarantine AS known (key, tenant, source, reason, error, bytes) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (key) DO UPDATE
SET attempts = known.attempts + 1, last_at = now(), error = excluded.error, reason = excluded.reason"""


def mended(o: Observation) -> Observation:
    """Return the observation with values that PostgreSQL accepts, flagged in `repairs`.

    The same object if it was fine. An observation is repaired the same way each time, so that its duplicates
    are recognised.
    """
    flags = 0
    changes: dict[str, Any] = {}
    for field in ("name", "status_message", "tenant", "producer"):
        text, bits = mend_text(getattr(o, field))
        if bits:
            changes[field] = text
            flags |= bits
    for field in ("at_ns", "start_ns", "end_ns"):
        if not 0 <= getattr(o, field) <= _INT64:
            changes[field] = 0
            flags |= Repair.TIME
    for field, most in (("severity", 32767), ("kind", 32767), ("seq", _INT64), ("repairs", 2**31 - 1)):
        if not 0 <= getattr(o, field) <= most:
            changes[field] = 0
            flags |= Repair.NUMBER
    attributes, bits = mend(o.attributes)
    if bits:
        changes["attributes"] = attributes
        flags |= bits
    if o.body is not None:
        body, bits = mend_value(o.body)
        if bits:
            changes["body"] = body
            flags |= bits
    resource, bits = mend(o.origin.resource)
    scope, more = mend_text(o.origin.scope)
    version, most_bits = mend_text(o.origin.scope_version)
    if bits | more | most_bits:
        changes["origin"] = Origin(resource=resource, scope=scope, scope_version=version)
        flags |= bits | more | most_bits
    if not flags:
        return o
    changes["repairs"] = changes.get("repairs", o.repairs) | flags
    return msgspec.structs.replace(o, **changes)


async def discard(connection: Any, o: Observation, error: BaseException, clean: CleanText) -> None:
    """Put an observation into quarantine."""
    await connection.execute(_DISCARD, *next(discarded([o], error, clean)))


def discarded(batch: Iterable[Observation], error: BaseException, clean: CleanText) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `quarantine` for observations that cannot be recorded.

    A large resource is kept with the first of its observations alone. `clean` is applied to the error, which
    may quote a value.
    """
    whole = f"{type(error).__name__}: {error}"
    said: dict[str, str] = {}
    reason = _REASONS.get(type(error)) or str(getattr(error, "sqlstate", None) or type(error).__name__)
    origins: dict[int, tuple[Origin, bool]] = {}
    for o in batch:
        try:
            origin, is_large = origins.get(id(o.origin), (None, False))
            if origin is not o.origin:
                origins[id(o.origin)] = o.origin, len(_encode(o.origin.resource)) > LARGE
            elif is_large:
                o = msgspec.structs.replace(o, origin=msgspec.structs.replace(origin, resource={}))
            # The index of a log record has 128 bits, which MessagePack cannot hold.
            kept = _encode((msgspec.structs.replace(o, index=0), o.index.to_bytes(16, "big")))
        except Exception:
            kept = repr(o).encode("utf-8", "backslashreplace")
        if o.tenant not in said:
            said[o.tenant] = mend_text(clean(o.tenant, whole), 2000)[0]
        key = blake2b(kept, digest_size=16).digest()
        yield key, mend_text(o.tenant)[0], OBSERVATION, reason, said[o.tenant], kept


def unpacked(kept: bytes) -> Observation | None:
    """Return the observation of a row; None for its Python text, which is kept where MessagePack cannot hold it."""
    try:
        o, index = _decode(kept)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return msgspec.structs.replace(o, index=int.from_bytes(index, "big"))


async def set_aside(connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows of `discarded`, many at once."""
    for start in range(0, len(rows), _AT_ONCE):
        await connection.executemany(_DISCARD, rows[start : start + _AT_ONCE])


async def discard_body(connection: Any, tenant: str, source: str, said: str, body: bytes) -> None:
    """Put a request body that cannot be decoded into quarantine."""
    whose = mend_text(tenant)[0]
    # The same body of two tenants is two rows.
    key = blake2b(
        body, digest_size=16, person=source.encode()[:16], salt=blake2b(whose.encode(), digest_size=16).digest()
    ).digest()
    await connection.execute(_DISCARD, key, whose, source, "undecodable", mend_text(said, 2000)[0], body)
