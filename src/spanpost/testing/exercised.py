"""What a suite of tests needs of a store beside its protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from spanpost.store.protocols import Store


class Exercised(ABC):
    """Suites that let time pass, or open a store twice, derive from it; who runs them says how."""

    @abstractmethod
    async def pass_time(self, store: Any, seconds: float) -> None:
        """Let time pass for a store: its clock goes on, or what it keeps grows older."""

    async def another(self, store: Any) -> Store | None:
        """Open the same store once more, as another process would; None where it is one process's."""
        return None
