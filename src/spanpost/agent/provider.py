"""The source of people's answers in this process: the attached pipeline, else the gateway of the
environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spanpost.agent import gateway
from spanpost.control_protocol import (
    ApprovalAnswer,
    BudgetAnswer,
    ReservationAnswer,
    ReservationQuestion,
    TaskAnswer,
)


class Control(Protocol):
    """**Protocol:** a source of people's answers: a gateway, or the pipeline of this process.

    Raises `Unreachable`: the caller tries again.
    """

    wait: float

    async def ask(
        self, said: Mapping[str, Any], trace_id: int, span_id: int, at_ns: int, resource: Mapping[str, Any]
    ) -> None: ...

    async def approval(self, id: str, mark: str, trace_id: int, wait: float) -> ApprovalAnswer | None: ...

    async def task(self, ref: str, after: int, wait: float) -> TaskAnswer | None: ...

    async def budget(self, ref: str, attributes: Mapping[str, Any]) -> BudgetAnswer: ...

    async def reserve(self, asked: ReservationQuestion) -> ReservationAnswer: ...

    async def give_back(self, id: str) -> None: ...


_installed: Control | None = None


def install(control: Control | None) -> None:
    """Use this source from now on; `spanpost.attach` calls it. None: use the gateway of the environment."""
    global _installed
    _installed = control


def control() -> Control:
    """Return the source of answers. Raises `ControlUnavailable` if there is none."""
    return _installed if _installed is not None else gateway.find()
