"""An erasure that is interrupted goes on; one beside recorders misses nothing; no spelling of a person stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from spanpost.model.interventions import Actor
from spanpost.store.connections import Transacting
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import an_event
from tests.store.erasing_history import ALICE, a_task, act, deliver, erased, found
from tests.thorough import thorough

#: One server: `test_erasing` tries both.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]


class Cut(Transacting):
    """A connection that breaks after so many statements, as a killed command's does."""

    def __init__(self, connection: Any, left: int) -> None:
        super().__init__(connection)
        self.left = left

    async def _do(self, call: Callable[..., Any], asked: tuple[Any, ...]) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionResetError("killed")
        return await super()._do(call, asked)


@pytest.mark.proves("erased", "killed-at-each-step")
async def test_an_erasure_that_is_killed_again_and_again_ends_whole(store: PostgresStore, database: Any) -> None:
    """After each interruption the same command goes on, though the rows that led to the person's name are gone."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    await store.record(a_task(2, attributes={"user.id": "slack:T1:U0ALICE99"}))
    await act(store, ALICE)
    await deliver(store)
    statements, interrupted = 4, 0
    while True:
        try:
            report = await erased(Cut(database, statements), person=("alice@wonder.example",))
            break
        except ConnectionResetError:
            interrupted += 1
            statements += 4
    assert interrupted > 5
    assert report.state == "done"
    assert await found(database) == []
    assert await database.fetchval("SELECT count(*) FROM erasures") == 1


@pytest.mark.proves("erased")
async def test_recorders_at_work_bring_nothing_back(store: PostgresStore, database: Any) -> None:
    """While others record and repeat, an erased task does not come back, and no other row is lost."""
    await store.record(a_task(1))
    over = asyncio.Event()

    async def repeat() -> int:
        count = 0
        while not over.is_set():
            count += 1
            await store.record([*a_task(1), *a_task(100 + count)])
        return count

    senders = [asyncio.create_task(repeat()) for _ in range(2)]
    await asyncio.sleep(0)
    await erased(database, task="task-default-1")
    over.set()
    counts = await asyncio.gather(*senders)
    assert await database.fetchval("SELECT count(*) FROM agent_tasks WHERE task_id = 'task-default-1'") == 0
    assert await database.fetchval("SELECT count(*) FROM agent_tasks") == max(counts)
    rows = await database.fetch("SELECT name, resource, scope FROM agent_events")
    assert len(rows) == 4 * max(counts)
    # No row names an attribute set that is gone.
    assert all(row["name"] and row["resource"] and row["scope"] for row in rows)


ALPHABET = st.characters(categories=["Lu", "Ll", "Lo"], exclude_characters="ſıİẞ")
#: Names of two words; a quote, a backslash, a percent sign and an underscore are treated differently by JSON and SQL.
NAMES = st.builds(
    lambda *parts: "".join(parts),
    st.text(ALPHABET, min_size=4, max_size=8), st.sampled_from([" ", '"', "\\", "%", "_", "'"]),
    st.text(ALPHABET, min_size=4, max_size=8),
)  # fmt: skip
PLACES = st.sets(
    st.sampled_from(["requested", "user.id", "user.email", "langfuse.user.id", "session", "act", "said", "resource"]),
    min_size=1,
)


@pytest.mark.proves("erased")
def test_any_person_in_any_place_nothing_is_left(postgres_dsn: str) -> None:
    """For any spelling in any set of places, no column of any table holds the person after the erasure."""
    import asyncpg

    with asyncio.Runner() as runner:
        store = PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=2)
        runner.run(store.open())
        database = runner.run(asyncpg.connect(postgres_dsn))
        number = 0

        async def check(name: str, places: set[str]) -> None:
            nonlocal number
            number += 10
            email, id = f"person.{number}@wonder.example", f"U0PERSON{number:05}"
            actor = Actor(provider="slack", team="T1", id=id, name=name, email=email)
            await act(store, actor, number + 1)  # so that the id leads to the name
            if "requested" in places:
                await store.record(a_task(number + 2, requested_by=email))
            for i, key in enumerate(sorted(places & {"user.id", "user.email", "langfuse.user.id"}), 3):
                await store.record(a_task(number + i, attributes={key: f"slack:T1:{id}" if "id" in key else email}))
            if "session" in places:
                await store.record(a_task(number + 6, attributes={"user.account_uuid": email, "session.id": "s1"}))
            if "resource" in places:
                batch = a_task(number + 7)
                origin = msgspec.structs.replace(
                    batch[0].origin,
                    resource={"service.name": "cli", "user.email": email, "host.name": f"{email}-laptop"},
                )
                await store.record([msgspec.structs.replace(o, origin=origin) for o in batch])
            if "said" in places:
                text = f"asked by {email}; see <@{id}>, or {name}"
                reported = {"agent.checkpoint.text": text}
                await store.record(
                    [an_event(trace=number + 1, span=1, name="agent.checkpoint", attributes=reported, index=5)]
                )
            await deliver(store)
            await erased(database, person=(f"slack:T1:{id}",))
            assert await found(database, [name, email, id]) == []

        # Without shrinking: an example takes some tenths of a second.
        @settings(thorough(24), phases=(Phase.explicit, Phase.generate))
        # Characters whose lower case a database with the locale C does not know, and one that no normal form has.
        @example("Åsa-Märta Örn", {"said", "requested"})
        @example("\uaa14\ufa04bcd efgh", {"said", "act"})
        @given(NAMES, PLACES)
        def tried(name: str, places: set[str]) -> None:
            runner.run(check(name, places))

        tried()
        runner.run(database.close())
        runner.run(store.close())
