"""Turns at what only a few may do at once."""

from __future__ import annotations

import asyncio

import pytest

from spanpost.http.shares import Sender
from spanpost.receivers.turns import Turns


class Held:
    """A turn that is had until it is given back, or ended."""

    def __init__(self, turns: Turns, tenant: str, order: list[str]) -> None:
        self.has_begun = asyncio.Event()
        self.give_back = asyncio.Event()
        self.task = asyncio.create_task(self._have(turns, tenant, order))

    async def _have(self, turns: Turns, tenant: str, order: list[str]) -> None:
        async with turns.wait(Sender(tenant, "")):
            order.append(tenant)
            self.has_begun.set()
            await self.give_back.wait()


async def settled() -> None:
    """Let all tasks go on until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_tenant_that_keeps_its_turns_loses_one_to_another() -> None:
    """Who comes with fewer turns than another has one at once: the longest of the other ends with
    TimeoutError."""
    turns, order = Turns(3), list[str]()
    greedy = [Held(turns, "greedy", order) for _ in range(5)]
    await settled()
    honest = Held(turns, "honest", order)
    await honest.has_begun.wait()
    assert order == ["greedy"] * 3 + ["honest"]
    with pytest.raises(TimeoutError):
        await greedy[0].task
    assert not any(each.task.done() for each in greedy[1:])
    for each in (honest, *greedy):
        each.give_back.set()
    await asyncio.gather(*(each.task for each in (honest, *greedy[1:])))
    assert order == ["greedy"] * 3 + ["honest"] + ["greedy"] * 2


async def test_who_waits_is_served_by_tenant_and_who_gives_up_is_forgotten() -> None:
    """With one turn nobody is ended; tenants have it one after the other, and one that was cancelled while
    it waited has none."""
    turns, order = Turns(1), list[str]()
    first = Held(turns, "greedy", order)
    await settled()
    waiting = [Held(turns, tenant, order) for tenant in ("greedy", "greedy", "greedy", "honest", "honest", "gone")]
    await settled()
    waiting[-1].task.cancel()
    for each in (first, *waiting):
        each.give_back.set()
    await asyncio.gather(first.task, *(each.task for each in waiting[:-1]))
    assert order == ["greedy", "greedy", "honest", "greedy", "honest", "greedy"]


async def test_a_turn_that_was_given_to_one_who_gave_up_is_passed_on() -> None:
    """One that is cancelled in the moment in which its turn comes does not keep it."""
    turns, order = Turns(1), list[str]()
    first = Held(turns, "a", order)
    await settled()
    second, third = Held(turns, "b", order), Held(turns, "c", order)
    await settled()
    first.give_back.set()
    await asyncio.sleep(0)
    assert first.task.done()
    assert not second.has_begun.is_set()
    second.task.cancel()
    third.give_back.set()
    await third.task
    assert order == ["a", "c"]
