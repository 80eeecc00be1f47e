"""Turns for work of which only a few may run at once."""

from __future__ import annotations

import asyncio

import pytest

from spanpost.http.shares import Sender
from spanpost.receivers.turns import Turns


class Held:
    """A turn that is held until it is released, or ended."""

    def __init__(self, turns: Turns, tenant: str, order: list[str]) -> None:
        self.has_begun = asyncio.Event()
        self.give_back = asyncio.Event()
        self.task = asyncio.create_task(self._have(turns, tenant, order))

    async def _have(self, turns: Turns, tenant: str, order: list[str]) -> None:
        async with turns.wait(Sender(tenant, "")):
            order.append(tenant)
            self.has_begun.set()
            await self.give_back.wait()


async def loop_is_idle() -> None:
    """Let all tasks go on until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_tenant_that_keeps_its_turns_loses_one_to_another() -> None:
    """A tenant with fewer turns gets one at once: the longest of the other ends with TimeoutError."""
    turns, order = Turns(3), list[str]()
    greedy = [Held(turns, "greedy", order) for _ in range(5)]
    await loop_is_idle()
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


async def test_waiting_tenants_take_turns_and_cancelled_ones_are_forgotten() -> None:
    """With one turn nobody is ended; tenants have it in order, and one cancelled while waiting has none."""
    turns, order = Turns(1), list[str]()
    first = Held(turns, "greedy", order)
    await loop_is_idle()
    waiting = [Held(turns, tenant, order) for tenant in ("greedy", "greedy", "greedy", "honest", "honest", "gone")]
    await loop_is_idle()
    waiting[-1].task.cancel()
    for each in (first, *waiting):
        each.give_back.set()
    await asyncio.gather(first.task, *(each.task for each in waiting[:-1]))
    assert order == ["greedy", "greedy", "honest", "greedy", "honest", "greedy"]


async def test_the_turn_of_a_cancelled_waiter_is_passed_on() -> None:
    """A waiter that is cancelled in the moment of its turn does not keep it."""
    turns, order = Turns(1), list[str]()
    first = Held(turns, "a", order)
    await loop_is_idle()
    second, third = Held(turns, "b", order), Held(turns, "c", order)
    await loop_is_idle()
    first.give_back.set()
    await asyncio.sleep(0)
    assert first.task.done()
    assert not second.has_begun.is_set()
    second.task.cancel()
    third.give_back.set()
    await third.task
    assert order == ["a", "c"]
