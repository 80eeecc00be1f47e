"""Telemetry that is recorded and sealed."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.sealer import Sealer
from spanpost.store.sealing.verified import Verified
from spanpost.store.sealing.verifying import verify
from spanpost.testing.builders import a_span

#: Rows of a log with more leaves than a tile holds.
SIZE = 300


async def seal(database: Any, key: Ed25519PrivateKey) -> None:
    """Seal all that can be sealed, and sign it; a new key is a note, which is sealed and signed as well."""
    sealer = Sealer(database, "here", key)
    while True:
        while (await sealer.step()).has_more:
            pass
        if not await sealer.sign():
            return


async def record(store: PostgresStore, tenant: str, count: int, *, first: int = 1, **more: Any) -> None:
    """Record `count` spans of a tenant, the first with number `first`. The later ones share an attribute set."""
    spans = [
        a_span(
            span=number,
            tenant=tenant,
            name="chat m",
            attributes={"gen_ai.operation.name": "chat", "n": number},
            **more,
        )
        for number in range(first, first + count)
    ]
    await store.record(spans[:5])
    await store.record(spans[5:])


async def act(database: Any, tenant: str) -> None:
    """Write the row of a person's decision."""
    await database.execute(
        "INSERT INTO human_interventions (id, tenant, task_uid, action, decision, comment, actor, via, approval_id,"
        " question, detail, options, risk, expires_at, trace_id, span_id, at) VALUES (gen_random_uuid(), $1,"
        " gen_random_uuid(), 'resolved', 'approve', '', 'ann', 'api', 'a', 'May I?', '', '[]', '', '', '', '', now())",
        tenant,
    )


async def verified(database: Any, **more: Any) -> Verified:
    """Return the result of a verification of all logs."""
    async with database.transaction(isolation="repeatable_read", readonly=True):
        return await verify(database, **more)


async def said(database: Any, **more: Any) -> list[str]:
    """Return the findings of a verification."""
    return [finding.what for finding in (await verified(database, **more)).findings]
