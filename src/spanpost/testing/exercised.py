"""What a suite of tests needs of a ledger beside its protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from spanpost.ledger.base import Ledger


class Exercised(ABC):
    """Suites that let time pass, or open a ledger twice, derive from it; who runs them says how."""

    @abstractmethod
    async def pass_time(self, ledger: Any, seconds: float) -> None:
        """Let time pass for a ledger: its clock goes on, or what it keeps grows older."""

    async def another(self, ledger: Any) -> Ledger | None:
        """Open the same ledger once more, as another process would; None where it is one process's."""
        return None
