"""Proofs that leave the database: of one row, and of one checkpoint continuing another. They are verified offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.errors import ConfigError
from spanpost.store.sealing import checkpoints, leaves, logs, tree
from spanpost.store.sealing.checkpoints import BadNote
from spanpost.store.sealing.forgetting import SOURCES, Source

_FIND: Final = """
SELECT s.tenant, s.leaf, s.source, s.salt FROM sealed_rows s WHERE s.row_id = $1 AND s.source <= 2
ORDER BY s.tenant, s.leaf LIMIT 100"""
_SOURCES: Final = {SOURCES[source]: source for source in leaves.COLUMNS}
_BODY: Final = "SELECT body FROM seal_entries WHERE tenant = $1 AND bundle = $2"
_COVERS: Final = "SELECT size, note FROM seal_checkpoints WHERE tenant = $1 AND size > $2 ORDER BY size DESC LIMIT 1"
_NOTE: Final = "SELECT note FROM seal_checkpoints WHERE tenant = $1 AND size = $2"
_ORIGIN: Final = "SELECT origin FROM seal_logs WHERE tenant = $1"
_IS_ROW: Final = "SELECT EXISTS (SELECT FROM {source} WHERE {id} = $1)"


class Proof(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="inclusion-1"
):
    """A proof that a row is in a log. Bytes are base64."""

    index: int
    leaf: str
    hashes: list[str]
    checkpoint: str
    #: Salt and content of the row, to show that the leaf is of this content; empty: the proof does not show it.
    salt: str = ""
    content: str = ""


class Consistency(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="consistency-1"
):
    """A proof that one checkpoint continues another."""

    old: str
    new: str
    hashes: list[str]


async def prove(connection: Any, row: UUID, *, with_content: bool) -> list[Proof]:
    """Return the proofs of a row of `audit_rows` or `human_interventions`: of an event that came in several versions,
    one for each. Raises `ConfigError` if there is none.
    """
    found = await connection.fetch(_FIND, row)
    if not found:
        raise ConfigError(await _missing(connection, row))
    return [await _proof(connection, *each, with_content=with_content) for each in found]


async def _missing(connection: Any, row: UUID) -> str:
    for source in leaves.COLUMNS:
        if await connection.fetchval(_IS_ROW.format(source=source, id=leaves.KEYS[source][1]), row):
            return f"{row} is recorded and not sealed yet: wait for the sealer, and see `spanpost check`"
    return f"{row}: no event and no act has that id (column event_id of agent_events, id of human_interventions)"


async def _proof(connection: Any, tenant: str, leaf: int, number: int, salt: UUID, *, with_content: bool) -> Proof:
    covering = await connection.fetchrow(_COVERS, tenant, leaf)
    if covering is None:
        raise ConfigError(f"leaf {leaf} is not signed yet: wait for the next checkpoint (`sealing.sign_every`)")
    read = await logs.reader(connection, tenant, [covering["size"]], [leaf])
    bundle = await connection.fetchval(_BODY, tenant, leaf // tree.WIDTH) or b""
    entries = leaves.unbundled(bundle)
    if leaf % tree.WIDTH >= len(entries):
        raise ConfigError(f"the log has lost its leaf {leaf}: run `spanpost audit verify`")
    body = entries[leaf % tree.WIDTH]
    try:
        hashes = tree.inclusion_proof(leaf, covering["size"], read)
    except ValueError as error:
        raise ConfigError(f"the log cannot prove its leaf {leaf}: {error}; run `spanpost audit verify`") from None
    content = ""
    if with_content:
        if number not in _SOURCES:
            raise ConfigError(f"sealed_rows names no table for leaf {leaf}: run `spanpost audit verify`")
        content = await _content(connection, _SOURCES[number], tenant, leaf)
    return Proof(
        index=leaf,
        leaf=_encoded(body),
        hashes=[_encoded(each) for each in hashes],
        checkpoint=covering["note"],
        salt=_encoded(salt.bytes) if with_content else "",
        content=content,
    )


async def _content(connection: Any, source: Source, tenant: str, leaf: int) -> str:
    found = await connection.fetchval(
        f"SELECT {leaves.content(source)} FROM sealed_rows s JOIN {leaves.FROM[source]} e ON "
        f"{leaves.same_row(source, 's')} WHERE s.tenant = $1 AND s.leaf = $2",
        tenant,
        leaf,
    )
    if found is None:
        raise ConfigError(f"the row of leaf {leaf} is in an archive: restore it, or prove it without its content")
    return str(found)


def check(proof: Proof, trusted: Sequence[bytes]) -> dict[str, Any]:
    """Return what a proof shows: the log, the number of the leaf, when it was written, its content if it has it.

    Raises `BadNote` if it shows nothing.
    """
    checkpoint = checkpoints.opened(proof.checkpoint, trusted)
    leaf = _decoded(proof.leaf)
    try:
        root = tree.root_by_inclusion(
            proof.index, checkpoint.size, tree.leaf_hash(leaf), [_decoded(each) for each in proof.hashes]
        )
    except ValueError as error:
        raise BadNote(f"the proof does not fit its checkpoint: {error}") from None
    if root != checkpoint.root:
        raise BadNote("the proof does not lead to the root that the checkpoint signs")
    fields = leaves.read_leaf(leaf)
    shown: dict[str, Any] = {"log": checkpoint.origin, "size": checkpoint.size, "index": proof.index, "leaf": fields}
    if proof.content:
        if sha256(_decoded(proof.salt) + proof.content.encode()).hexdigest() != fields.get("content"):
            raise BadNote("the content of the proof is not what the leaf holds")
        shown["content"] = msgspec.json.decode(proof.content)
    return shown


async def consistency(connection: Any, tenant: str, old: str | int, new: str | int) -> Consistency:
    """Return the proof that a checkpoint continues another; both by their size or as signed notes."""
    notes = [each if isinstance(each, str) else await _signed(connection, tenant, each) for each in (old, new)]
    first, second = (checkpoints.read(note) for note in notes)
    origin = await connection.fetchval(_ORIGIN, tenant)
    for found in (first, second):
        if found.origin != origin:
            raise ConfigError(f"checkpoint {found.size} is of the log {found.origin}: name its tenant with --tenant")
    if first.size > second.size:
        raise ConfigError(f"the first checkpoint ({first.size} leaves) is newer than the second ({second.size})")
    read = await logs.reader(connection, tenant, [first.size, second.size], [max(first.size - 1, 0)])
    try:
        hashes = tree.consistency_proof(first.size, second.size, read)
    except ValueError as error:
        raise ConfigError(f"the log has no such beginning: {error}") from None
    return Consistency(old=notes[0], new=notes[1], hashes=[_encoded(each) for each in hashes])


async def _signed(connection: Any, tenant: str, size: int) -> str:
    note: str | None = await connection.fetchval(_NOTE, tenant, size)
    if note is None:
        raise ConfigError(
            f"tenant {tenant!r} has no checkpoint of {size} leaves: `spanpost audit checkpoints` prints them"
        )
    return note


def check_consistency(proof: Consistency, trusted: Sequence[bytes]) -> None:
    """Check that a proof shows one checkpoint to continue another. Raises `BadNote`."""
    old, new = (checkpoints.opened(note, trusted) for note in (proof.old, proof.new))
    if old.origin != new.origin:
        raise BadNote(f"the checkpoints are of two logs: {old.origin} and {new.origin}")
    hashes = [_decoded(each) for each in proof.hashes]
    if not tree.is_consistent(old.size, old.root, new.size, new.root, hashes):
        raise BadNote(f"checkpoint {new.size} does not continue checkpoint {old.size}: the log was rewritten")


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadNote("the proof is damaged: a part of it is not base64") from None
