"""The behavioural suite for launchers, built in and third-party: the rules that the dispatcher relies on.

    import pytest
    from spanpost.testing.exercise_launcher import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    async def test_it_behaves_as_a_launcher(check):
        await check(lambda: MyLauncher(...))

or all at once: ``await exercise_launcher(lambda: MyLauncher(...))``. Each check makes its own launcher and
closes it. A launcher may answer any order with a `DeliveryError`; it may not raise anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import msgspec

from spanpost.launchers.base import Launcher
from spanpost.model.deliveries import Receipt
from spanpost.model.errors import DeliveryError
from spanpost.model.launch_orders import Order
from spanpost.testing.exercise_sink import HOSTILE
from spanpost.testing.nouns import NOON

MakeLauncher: TypeAlias = Callable[[], Launcher]
Check: TypeAlias = Callable[[MakeLauncher], Awaitable[None]]
_SPACE = UUID("0f3f5b0a-7e8b-4ef1-9d0a-3b7f61d0c5aa")


def an_order(key: str = "order-1", **fields: Any) -> Order:
    """Return an order; equal keys give equal ids."""
    given: dict[str, Any] = {
        "id": uuid5(_SPACE, key),
        "tenant": "default",
        "carrier": "launch:fix",
        "text": "Fix the build",
        "parameters": {"repo": "acme/shop"},
        "retry_of": "task-1",
        "source": "slack",
        "by": "alice",
        "at": NOON,
    }
    return Order(**(given | fields))


@asynccontextmanager
async def _open(make: MakeLauncher) -> AsyncIterator[Launcher]:
    launcher = make()
    try:
        yield launcher
    finally:
        await launcher.close()


async def _launch(launcher: Launcher, order: Order) -> Receipt | None:
    """Return the receipt, or None when the launcher answered with a `DeliveryError`."""
    try:
        async with asyncio.timeout(60):
            receipt = await launcher.launch(order)
    except DeliveryError as raised:
        error = raised
    else:
        assert isinstance(receipt, Receipt), f"launch returned {receipt!r}, which is no Receipt"
        return receipt
    assert error.reason, f"{type(error).__name__} carries no reason: metrics and rows need one"
    return None


async def it_is_a_launcher(make: MakeLauncher) -> None:
    """A launcher has the methods of the protocol, and says whether an uncertain launch is repeated."""
    async with _open(make) as launcher:
        assert isinstance(launcher, Launcher), "a method of the Launcher protocol is missing"
        assert isinstance(launcher.retry_uncertain, bool), "retry_uncertain must be True or False"


async def it_returns_a_receipt(make: MakeLauncher) -> None:
    """Launching returns a receipt whose `ref` survives being stored as JSON."""
    async with _open(make) as launcher:
        receipt = await _launch(launcher, an_order())
        if receipt is not None:
            stored = msgspec.json.decode(msgspec.json.encode(receipt.ref))
            assert stored == receipt.ref, f"the ref changes when it is stored as JSON: {receipt.ref!r}"


async def it_launches_again(make: MakeLauncher) -> None:
    """The same order is accepted again like the first time: the dispatcher delivers at least once."""
    async with _open(make) as launcher:
        first = await _launch(launcher, an_order())
        again = await _launch(launcher, an_order())
        assert (first is None) is (again is None)


async def it_takes_an_order_of_nothing(make: MakeLauncher) -> None:
    """An order without text, parameters or person is accepted or refused."""
    async with _open(make) as launcher:
        await _launch(launcher, Order(id=uuid5(_SPACE, "bare"), tenant="default", carrier="launch:fix", at=NOON))


async def it_accepts_hostile_text(make: MakeLauncher) -> None:
    """Any text in any field is accepted or refused by a `DeliveryError`; nothing else is raised."""
    async with _open(make) as launcher:
        for number, text in enumerate((*HOSTILE, "--help", "; rm -rf /", "$(id)", "a\nb", "'\"")):
            said = dict.fromkeys(("text", "retry_of", "caused_by", "by", "by_id", "tenant", "source", "rule"), text)
            await _launch(launcher, an_order(f"hostile-{number}", parameters={text[:100]: text}, **said))


async def it_launches_several_at_once(make: MakeLauncher) -> None:
    """Orders are launched concurrently."""
    async with _open(make) as launcher:
        await asyncio.gather(*(_launch(launcher, an_order(f"o{i}")) for i in range(8)))


async def it_closes_twice(make: MakeLauncher) -> None:
    """Closing is safe to repeat, used or not."""
    launcher = make()
    await launcher.close()
    await launcher.close()
    used = make()
    await _launch(used, an_order())
    await used.close()
    await used.close()


#: Every check, for `pytest.mark.parametrize`.
CHECKS: tuple[Check, ...] = (
    it_is_a_launcher,
    it_returns_a_receipt,
    it_launches_again,
    it_takes_an_order_of_nothing,
    it_accepts_hostile_text,
    it_launches_several_at_once,
    it_closes_twice,
)


async def exercise_launcher(make: MakeLauncher) -> None:
    """Run every check. Raises AssertionError with the first broken rule."""
    for check in CHECKS:
        await check(make)
