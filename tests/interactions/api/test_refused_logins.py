"""Rows of refused logins: the first at once, the rest of a minute in one, and few whatever is sent."""

from __future__ import annotations

import asyncio

from spanpost.interactions.api.refused_logins import RefusedLogins
from spanpost.model.acts import ActFilter, ActRow, Operation
from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Actor
from spanpost.store.memory import MemoryStore
from spanpost.store.protocols import Acts
from tests.eventually import eventually_async


def refused(address: str, message: str = "no login") -> Operation:
    by = Actor(provider="address", id=address, credential="login")
    return Operation("log_in", "root@db", "", "t", "oidc", "refused", message, by)


class Minutes:
    """The minutes of a test: each ends when it is asked for."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._over.wait()

    async def end(self, acts: Acts, rows: int) -> list[ActRow]:
        """End the minute; return the rows once there are so many."""
        self._over.set()

        async def has_rows() -> bool:
            return len((await acts.listed(ActFilter(), None, 100)).items) >= rows

        await eventually_async(has_rows)
        self._over.clear()
        return list(reversed((await acts.listed(ActFilter(), None, 100)).items))


async def test_one_row_at_once_and_one_for_the_rest_of_the_minute() -> None:
    """Each address has a row at once; the others of its minute are one row with their number; then it begins anew."""
    store, minutes = MemoryStore(), Minutes()
    logins = RefusedLogins(store.acts, sleep=minutes.sleep)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"):
        await logins.note(refused(address))
    first = (await store.acts.listed(ActFilter(), None, 100)).items
    assert [(one.actor_id, one.result, one.verb, one.tenant) for one in first] == [
        ("address:10.0.0.2", "refused", "log_in", "t"),
        ("address:10.0.0.1", "refused", "log_in", "t"),
    ]
    rows = await minutes.end(store.acts, 3)
    assert [(one.actor_id, one.detail) for one in rows[2:]] == [("address:10.0.0.1", "2 more in this minute")]
    await logins.note(refused("10.0.0.1"))
    assert len((await store.acts.listed(ActFilter(), None, 100)).items) == 4
    assert minutes.asked == [60.0]


async def test_a_flood_from_many_addresses_leaves_few_rows() -> None:
    """A thousand addresses in a minute have twenty rows, and two for all others."""
    store, minutes = MemoryStore(), Minutes()
    logins = RefusedLogins(store.acts, sleep=minutes.sleep)
    for number in range(1_000):
        await logins.note(refused(f"10.0.{number // 250}.{number % 250}"))
    rows = await minutes.end(store.acts, 22)
    assert [(one.actor_id, one.tenant, one.detail) for one in rows[20:]] == [
        ("address:others", "", ""),
        ("address:others", "", "979 more in this minute"),
    ]


async def test_a_login_stays_refused_when_the_database_is_down() -> None:
    """What cannot be recorded raises nothing: the login's own refusal is the answer."""

    class Down:
        async def note_operation(self, operation: Operation) -> None:
            raise StoreUnavailable("down")

    logins = RefusedLogins(Down(), sleep=Minutes().sleep)  # type: ignore[arg-type]
    await logins.note(refused("10.0.0.1"))
