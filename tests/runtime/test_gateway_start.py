"""A gateway whose start fails: before it listens nothing is accepted, after that it stops in order."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.model.errors import StoreUnavailable
from spanpost.runtime.gateway import Gateway
from spanpost.runtime.gateway_acts import GatewayActs
from spanpost.settings import load
from spanpost.store.memory import MemoryStore


def started(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> tuple[Gateway, list[str]]:
    """Start a gateway of which `method` finds no database; return it, and the order of what it did."""
    order: list[str] = []

    def fails(*_: Any, **__: Any) -> Any:
        order.append(method)
        raise StoreUnavailable("the database does not take it")

    opens, stops = Gateway._open, Gateway._close_receiver

    async def opened(self: Gateway, listener: Any) -> None:
        order.append("open")
        await opens(self, listener)

    async def closed(self: Gateway) -> bool:
        order.append("close")
        assert self._health is not None
        assert self._health.why_not() == "stopping"
        return await stops(self)

    monkeypatch.setattr(owner, method, fails)
    monkeypatch.setattr(Gateway, "_open", opened)
    monkeypatch.setattr(Gateway, "_close_receiver", closed)
    gateway = Gateway(load(console={}, gateway={"http_port": 0, "grpc_port": 0}))
    with pytest.raises(StoreUnavailable):
        gateway.start()
    return gateway, order


@pytest.mark.proves("never-500", "connections-cut")
def test_a_start_without_its_database_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that goes away during the start ends it before a request can come in and be answered 500."""
    gateway, order = started(monkeypatch, MemoryStore, "listen_anew")
    assert order == ["listen_anew"]
    assert gateway.pipeline.is_shut


@pytest.mark.proves("stop", "connections-cut")
def test_a_start_that_fails_late_answers_what_came_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it listens, a start that fails stops as a gateway does: requests are answered, and then it closes."""
    gateway, order = started(monkeypatch, GatewayActs, "started")
    assert order == ["open", "started", "close"]
    assert gateway.pipeline.is_shut
