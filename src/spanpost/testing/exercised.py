"""Methods that a suite of tests needs beside the store's protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from spanpost.store.protocols import Store


class Exercised(ABC):
    """Base of suites that let time pass, or open a store twice. The subclass implements both."""

    @abstractmethod
    async def pass_time(self, store: Any, seconds: float) -> None:
        """Let time pass for a store: advance its clock, or age its rows."""

    async def another(self, store: Any) -> Store | None:
        """Open the same store again, as another process would; None where it belongs to one process."""
        return None
