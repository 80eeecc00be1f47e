"""A history with a person in every place, and a search through everything that a database holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spanpost.model.deliveries import Receipt
from spanpost.model.interventions import Actor, Verb
from spanpost.model.observations import Observation
from spanpost.store.erasing.run import Report, erase
from spanpost.store.erasing.selection import Selection
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import SINK
from spanpost.testing.observed import an_event, ended, started
from tests.store.contents import columns

ALICE = Actor(provider="slack", team="T1", id="U0ALICE99", name="Alice Liddell", email="alice@wonder.example")
BOB = Actor(provider="slack", team="T1", id="U0BOB4711", name="Bob Dodgson", email="bob@wonder.example")
COMMENT = "down the rabbit hole with it"
NEEDLES = ("alice liddell", "alice@wonder.example", "u0alice99", COMMENT)


def a_task(
    number: int, *, requested_by: str = "", attributes: dict[str, Any] | None = None, tenant: str = "default"
) -> list[Observation]:
    """Return an ended run with a model call and an artifact."""
    root = {"agent.task.id": f"task-{tenant}-{number}", "agent.task.name": f"work {number}", "agent.name": "coder"}
    if requested_by:
        root["agent.requested_by"] = requested_by
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "gen_ai.response.id": f"r{tenant}{number}"}
    made = {"agent.artifact.name": f"pr {number}", "agent.artifact.uri": f"https://git.example/{number}"}
    return [
        started(trace=number, span=1, name="agent", attributes=root, tenant=tenant),
        an_event(trace=number, span=1, name="agent.artifact", attributes=made, index=1, tenant=tenant),
        ended(trace=number, span=2, parent=1, name="chat", attributes={**call, **(attributes or {})}, tenant=tenant),
        ended(trace=number, span=1, name="agent", attributes=root, seconds=9, tenant=tenant),
    ]


async def deliver(store: PostgresStore, sink: str = SINK) -> None:
    """Deliver everything that waits, with receipts as Slack's."""
    while claimed := await store.outbox.claim([sink], 50):
        for delivery in claimed:
            ref = {"channel": "C1", "ts": f"{delivery.id}.{delivery.attempt}"}
            await store.outbox.finish(delivery, Receipt(ref=ref))


async def act(store: PostgresStore, actor: Actor, number: int = 900) -> str:
    """Let a person approve a question of another's task, with a comment; return the task's name."""
    name = f"deployment {number}"
    await store.record([at_work(name, trace=number), asking(f"q{number}", f"Deploy {number}?", trace=number)])
    row = await the_question(store, f"q{number}")
    await store.interventions.intervene(an_act(Verb.APPROVE, row.key, actor=actor, text=COMMENT))
    await store.interventions.intervene(an_act(Verb.PAUSE, row.task_uid, actor=actor))
    await store.record([ended(trace=number, span=1, name="agent", attributes={"agent.task.name": name})])
    await store.interventions.intervene(an_act(Verb.RATE, row.task_uid, actor=actor, option="up", text=COMMENT))
    return name


async def erased(database: Any, directory: Path | None = None, **asked: Any) -> Report:
    """Erase by a connection of the owner; `directory`: that of the archives."""
    from spanpost.store import redaction_key
    from spanpost.store.connections import Transacting

    connection = database if isinstance(database, Transacting) else Transacting(database)
    key = await redaction_key.read(connection)
    return await erase(
        connection, Selection(**asked), actor="root@tests", reason="ticket 18", key=key, directory=directory
    )


async def found(database: Any, needles: Iterable[str] = NEEDLES) -> list[str]:
    """Return where the needles still stand: every column of every row of every table, decompressed."""
    sought = [needle.lower() for needle in needles]
    return [
        f"{column}: {needle}: {text[:300]}"
        async for column, text in columns(database)
        for needle in sought
        if needle in text.lower()
    ]
