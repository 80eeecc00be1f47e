"""Faults: what one is, and the registry from which the plan of a seed draws."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.faults.soak.world import World, now

#: Faults by name.
FAULTS: dict[str, type[Fault]] = {}


def dealt(fault: type[Fault]) -> type[Fault]:
    """Register a fault, so that plans deal it."""
    FAULTS[fault.name] = fault
    return fault


class Fault(ABC):
    """One fault, dealt once. What it does is decided by the dice that it is made with, and by nothing else."""

    name: ClassVar[str]
    #: What it breaks: `gateway`, `database`, `network`, `slack`, `agent`. One fault of a part at a time.
    part: ClassVar[str]
    #: The promise that it tries, and the fault of `tests/promises.toml` that it is.
    tries: ClassVar[tuple[str, str]]
    #: Shortest and longest duration in seconds.
    lasts: ClassVar[tuple[float, float]] = (1.0, 6.0)
    #: A process of a gateway ends by it, with its counters.
    ends_gateways: ClassVar[bool] = False

    def __init__(self, chance: random.Random, gateways: int) -> None:
        self.seconds = round(chance.uniform(*self.lasts), 1)
        self.victim = chance.randrange(gateways)
        self.chance = random.Random(chance.getrandbits(32))
        #: When it began and was over, and the gateways that it touched.
        self.struck = self.lifted = 0.0
        self.touched: Sequence[int] = range(gateways)

    def __str__(self) -> str:
        where = f" {self.victim}" if self.part == "gateway" else ""
        return f"{self.name}{where} for {self.seconds} s"

    @classmethod
    def why_not(cls, world: World) -> str:
        """Return why this machine cannot do it, which a run's result says; empty: it can."""
        return ""

    def deal(self, world: World) -> None:
        """Do it and lift it. `lifted` is when nothing was broken any more."""
        self.strike(world)
        self.wait(self.seconds)
        self.lift(world)
        self.lifted = self.lifted or now()

    @abstractmethod
    def strike(self, world: World) -> None:
        """Begin."""

    def lift(self, world: World) -> None:  # noqa: B027 (what ends by itself needs no more)
        """End it."""

    def wait(self, seconds: float) -> None:
        """Let it last."""
        threading.Event().wait(seconds)  # a fault has a duration; nothing is waited for
