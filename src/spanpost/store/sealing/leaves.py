"""Leaves of the sealed log: what of a row they hold, and the SQL that hashes the rest with a salt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import rfc8785

from spanpost.store.sealing.forgetting import Source

#: The form of leaves and contents. A later form gets another number, and old leaves keep theirs.
FORM: Final = 1


def _as(form: str, columns: str) -> dict[str, str]:
    return {column: form.format(f"e.{column}") for column in columns.split()}


#: SQL of a time, of bytes and of other values, independent of all settings of the session.
TIME: Final = "CASE WHEN isfinite({0}) THEN (extract(epoch FROM {0}) * 1000000)::int8 END"
_BYTES: Final = "encode({0}, 'hex')"
_VALUE: Final = "{0}"
#: Sealed columns of each table, with the SQL of what is hashed.
COLUMNS: Final[dict[Source, dict[str, str]]] = {
    "audit_rows": {
        **_as(TIME, "occurred_at received_at"),
        **_as(_BYTES, "trace_id span_id parent_span_id"),
        **_as(_VALUE, "event_id content_hash start_ns end_ns seq idx repairs part kind role status severity tenant"),
        **_as(_VALUE, "name attributes resource scope status_message links body producer"),
    },
    "human_interventions": {
        **_as(TIME, "at recorded_at"),
        **_as(_BYTES, "trace_id span_id"),
        **_as(_VALUE, "id number tenant key idempotency_key verb action decision comment actor actor_id actor_email"),
        **_as(_VALUE, "via scope rule database_role result refusal verdict approval_id question detail options risk"),
        **_as(_VALUE, "expires_at mark credential client os_user launcher parameters order_id"),
    },
}
#: Columns that change when tasks are merged, and those that serve the store.
NOT_SEALED: Final[dict[Source, tuple[str, ...]]] = {
    "audit_rows": ("task_uid", "subtree", "written_in", "set_id"),
    "human_interventions": ("task_uid", "subtree", "written_in"),
}
#: Where the content of a row is read, as `e`: audit rows with their attribute sets.
FROM: Final[dict[Source, str]] = {"audit_rows": "agent_events", "human_interventions": "human_interventions"}
#: Key columns, as in `sealed_rows`: time, id and hash.
KEYS: Final[dict[Source, tuple[str, str, str]]] = {
    "audit_rows": ("occurred_at", "event_id", "content_hash"),
    "human_interventions": ("at", "id", "0::int8"),
}
#: When a row was written, by the database's clock.
WRITTEN_AT: Final[dict[Source, str]] = {"audit_rows": "received_at", "human_interventions": "recorded_at"}
#: SQL of a note, `n`, as its leaf holds it. The leaves that it explains may be many: their hash is in the leaf.
NOTE: Final = """jsonb_build_object('id', n.id, 'at', extract(epoch FROM n.at) * 1000000, 'kind', n.kind,
  'actor', n.actor, 'reason', n.reason, 'act', n.act, 'archive', encode(n.archive, 'hex'), 'rows', n.rows,
  'leaves', encode(sha256(convert_to(n.leaves::text, 'UTF8')), 'hex'))::text"""


def content(source: Source) -> str:
    """Return the SQL of a row's content: a text that is the same for the same values."""
    pairs = ", ".join(f"'{name}', {form}" for name, form in sorted(COLUMNS[source].items()))
    return f"jsonb_build_object({pairs})::text"


def digest(source: Source, salt: str) -> str:
    """Return the SQL of the salted hash of a row's content."""
    return f"sha256(uuid_send({salt}) || convert_to({content(source)}, 'UTF8'))"


def same_row(source: Source, sealed: str) -> str:
    """Return the SQL that joins `e` with its row of `sealed_rows`."""
    at, id, hash = KEYS[source]
    own = f" AND e.{hash} = {sealed}.row_hash AND e.{at} = {sealed}.row_at" if source == "audit_rows" else ""
    return f"e.{id} = {sealed}.row_id{own}"


def leaf_of_row(source: Source, written_at: int | None, content_digest: bytes) -> bytes:
    """Return the leaf of a row. `written_at`: microseconds since 1970."""
    return rfc8785.dumps({"content": content_digest.hex(), "form": FORM, "source": source, "written_at": written_at})


def leaf_of_note(note: str) -> bytes:
    """Return the leaf of a note of the log about itself, from its JSON. It is not salted.

    Raises `ValueError` for values that no leaf holds: the note was changed.
    """
    fields: dict[str, Any] = json.loads(note)
    return rfc8785.dumps({**fields, "at": int(fields["at"]), "form": FORM, "source": "seal_notes"})


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """Return a leaf's fields; empty for what is no leaf of this form."""
    try:
        found = json.loads(leaf)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("form") == FORM else {}


def bundled(leaves: Iterable[bytes]) -> bytes:
    """Return leaves as an entry bundle holds them: each after its length in two bytes."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def unbundled(body: bytes) -> list[bytes]:
    """Return the leaves of an entry bundle; what is cut off at its end is left out."""
    found, at = [], 0
    while at + 2 <= len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        if at + 2 + size > len(body):
            break
        found.append(body[at + 2 : at + 2 + size])
        at += 2 + size
    return found
