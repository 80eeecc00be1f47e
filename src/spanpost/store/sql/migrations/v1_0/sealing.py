"""The sealed log: per tenant a Merkle tree over its audit rows and interventions, with signed checkpoints.

A row's leaf holds when it was recorded and a salted hash of the rest, so that the leaf alone says nothing about
the content. `sealed_rows` has what leads from a leaf to its row: the row's key and the salt. An erasure deletes
that, and the tree stays as it was.
"""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import Column, table
from spanpost.store.sql.migrations.v1_0.shared import TENANT

#: The transaction that wrote a row. A sealer seals rows of transactions that are older than every running one.
WRITTEN_IN: Final[Column] = (
    "written_in",
    "bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint",
    "Internal: number of the transaction that wrote the row, by which the sealer finds it.",
)


def by_transaction(name: str) -> str:
    """Return the index by which the sealer finds the rows of a table; it costs writers next to nothing."""
    return f"CREATE INDEX {name}_written ON {name} USING brin (written_in) WITH (pages_per_range = 32, autosummarize)"


STATE: Final = table(
    "seal_state",
    "One row: how far the sealer came. None: nothing was sealed yet.",
    [
        ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "True: there is one row."),
        ("cluster", "text NOT NULL", "System identifier of the server whose transaction numbers the rows have."),
        ("sealed_before", "bigint NOT NULL", "Every row of a transaction before this number is sealed."),
        (
            "rescan",
            "jsonb",
            "After a dump was restored in another cluster: how far all rows were looked through again. Null: done.",
        ),
        ("sealed_at", "timestamptz NOT NULL", "When the sealer was last here, by the database's clock."),
        ("caught_up_at", "timestamptz NOT NULL", "Rows that were committed before this time are sealed."),
    ],
    options="WITH (fillfactor = 50)",
)

LOGS: Final = table(
    "seal_logs",
    "One row per sealed log: a tenant's.",
    [
        ("tenant", "text PRIMARY KEY", "Tenant; empty: operations on the database."),
        ("origin", "text NOT NULL", "Name of the log in its checkpoints, and of its key."),
        ("size", "bigint NOT NULL", "Number of leaves."),
        ("began_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was begun."),
    ],
    options="WITH (fillfactor = 50)",
)

ROWS: Final = table(
    "sealed_rows",
    "Internal: the row of each leaf, and the salt of its hash. Erasure deletes it: the content cannot be guessed then.",
    [
        ("leaf", "bigint NOT NULL", "Its number in the tenant's log, from 0."),
        ("row_at", "timestamptz NOT NULL", "audit_rows.occurred_at, human_interventions.at or seal_notes.at."),
        ("row_hash", "bigint NOT NULL", "audit_rows.content_hash; 0 for the others."),
        ("row_id", "uuid NOT NULL", "audit_rows.event_id, human_interventions.id or seal_notes.id."),
        ("salt", "uuid NOT NULL", "122 random bits, in front of the content when it is hashed."),
        ("source", "smallint NOT NULL", "1 audit_rows, 2 human_interventions, 3 seal_notes."),
        TENANT,
    ],
    rules=["PRIMARY KEY (tenant, leaf)"],
    indexes=[
        "CREATE UNIQUE INDEX sealed_rows_row ON sealed_rows (row_id, row_hash, source)",
        "CREATE INDEX sealed_rows_at ON sealed_rows USING brin (row_at)",
    ],
)

ENTRIES: Final = table(
    "seal_entries",
    "Leaves of the sealed logs, 256 in a row, as the format tlog-tiles (C2SP) says.",
    [
        TENANT,
        ("bundle", "bigint NOT NULL", "Number of the bundle, from 0."),
        ("width", "smallint NOT NULL CHECK (width BETWEEN 1 AND 256)", "Number of its leaves."),
        ("body", "bytea NOT NULL", "The leaves, each after its length in two bytes."),
    ],
    rules=["PRIMARY KEY (tenant, bundle)"],
)

TILES: Final = table(
    "seal_tiles",
    "Hashes of the trees of the sealed logs (RFC 6962), 256 in a row, as the format tlog-tiles (C2SP) says.",
    [
        TENANT,
        ("level", "smallint NOT NULL", "0: hashes of leaves; above: hashes of whole tiles of the level below."),
        ("tile", "bigint NOT NULL", "Number of the tile in its level, from 0."),
        ("width", "smallint NOT NULL CHECK (width BETWEEN 1 AND 256)", "Number of its hashes."),
        ("hashes", "bytea NOT NULL", "The hashes, 32 bytes each."),
    ],
    rules=["PRIMARY KEY (tenant, level, tile)"],
)

CHECKPOINTS: Final = table(
    "seal_checkpoints",
    "One row per signed checkpoint of a sealed log.",
    [
        TENANT,
        ("size", "bigint NOT NULL", "Number of leaves that it signs."),
        ("root", "bytea NOT NULL", "Root hash of the tree of these leaves, 32 bytes."),
        ("note", "text NOT NULL", "The checkpoint as it is published: a signed note."),
        ("signed_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was signed, by the database's clock."),
    ],
    rules=["PRIMARY KEY (tenant, size)"],
)

NOTES: Final = table(
    "seal_notes",
    "What the sealed log says about itself: rows that were erased, archived or pruned, and new keys. Each is a leaf.",
    [
        ("id", "uuid PRIMARY KEY DEFAULT gen_random_uuid()", "Identity."),
        TENANT,
        ("kind", "text NOT NULL CHECK (kind IN ('erased', 'removed', 'key'))", "erased, removed, or key: a new key."),
        ("actor", "text NOT NULL", "Who did it."),
        ("reason", "text NOT NULL", "Why. It stays in the log for ever."),
        ("act", "uuid", "human_interventions.id of the operation (erase, archive) that did it; null: a new key."),
        ("archive", "bytea", "SHA-256 of the archive's file that has the rows now; null: they are gone."),
        ("rows", "bigint NOT NULL", "Number of rows; those that were not sealed yet are counted as well."),
        ("leaves", "int8multirange NOT NULL", "Leaves of these rows."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When, by the database's clock."),
        WRITTEN_IN,
    ],
    rules=["CHECK (kind = 'key' OR act IS NOT NULL)"],
    indexes=[by_transaction("seal_notes"), "CREATE INDEX seal_notes_tenant ON seal_notes (tenant, at)"],
)

KEYS: Final = table(
    "seal_keys",
    "One row per key that signed checkpoints: the public half. The private half is in no table.",
    [
        ("public_key", "bytea PRIMARY KEY CHECK (length(public_key) = 32)", "Ed25519 public key."),
        ("since", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was first used."),
        ("until", "timestamptz", "When another key followed; null: it signs."),
    ],
)

PUBLICATIONS: Final = table(
    "seal_publications",
    "One row per tenant and way by which checkpoints leave the premises.",
    [
        TENANT,
        ("way", "text NOT NULL", "Setting by which it leaves: file, webhook, slack_webhook or timestamp_url."),
        ("size", "bigint NOT NULL", "Size of the last checkpoint that left."),
        ("left_at", "timestamptz", "When it left; null: none did yet."),
        ("tried_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was last tried."),
        ("failure", "text NOT NULL DEFAULT ''", "Why the last try failed; empty: it did not."),
        ("receipt", "bytea", "What came back: of a time stamp authority its token."),
    ],
    rules=["PRIMARY KEY (tenant, way)"],
    options="WITH (fillfactor = 50)",
)
