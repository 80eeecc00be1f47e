"""Faults of clocks: ten minutes ahead or behind, from the start or by jumps while the process runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.machine import Machine, why_no_library
from tests.faults.soak.of_processes import OfGateway
from tests.faults.soak.world import World, now

#: Seconds that a clock is wrong by: what a person mistypes, ten minutes, and a leap.
OFFSETS = (-3 * 3600.0, -600.0, -600.0, -30.0, -1.0, 1.0, 30.0, 600.0, 600.0, 3 * 3600.0)


class ClockJumps(Fault):
    """A clock that jumps at the beginning, in the middle and at the end."""

    tries, lasts = ("clocks", "clock-jumps"), (2.0, 12.0)
    by: ClassVar[Sequence[float]] = OFFSETS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.offsets = [self.chance.choice(self.by) for _ in range(self.chance.randrange(1, 4))]

    def __str__(self) -> str:
        return f"{super().__str__()}, by {', '.join(f'{offset:+g}' for offset in self.offsets)} s"

    @classmethod
    def why_not(cls, world: World) -> str:
        return why_no_library()

    def machine(self, world: World) -> Machine:
        """Return the machine whose clock it is."""
        raise NotImplementedError

    def deal(self, world: World) -> None:
        """Jump from one offset to the next, and back to the right time."""
        for offset in self.offsets:
            self.offset = offset
            self.strike(world)
            self.wait(self.seconds / len(self.offsets))
        self.lift(world)
        self.lifted = self.lifted or now()

    def strike(self, world: World) -> None:
        self.machine(world).set(clock=self.offset)

    def lift(self, world: World) -> None:
        self.machine(world).set()


@dealt
class GatewayClockJumps(ClockJumps, OfGateway):
    """A running gateway's clock jumps, with its workers', back and forth."""

    name = "gateway clock jumps"

    def machine(self, world: World) -> Machine:
        return world.gateways[self.victim].machine


@dealt
class GatewayClockWrong(ClockJumps, OfGateway):
    """A gateway that is killed and started with a wrong clock, and in the end with the right one."""

    name, ends_gateways = "gateway clock wrong", True

    def machine(self, world: World) -> Machine:
        return world.gateways[self.victim].machine

    def strike(self, world: World) -> None:
        world.gateways[self.victim].kill()
        super().strike(world)
        self.started(world)

    def lift(self, world: World) -> None:
        world.gateways[self.victim].kill()
        super().lift(world)
        self.started(world)


@dealt
class AgentClockJumps(ClockJumps):
    """The clock of the agent with a spool jumps: the times of its spans do."""

    name, part = "agent clock jumps", "agent"
    actor = "durable agent"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []

    def machine(self, world: World) -> Machine:
        made: Machine = world.actors[self.actor].machine
        return made


@dealt
class AskerClockJumps(AgentClockJumps):
    """The clock of the agent that waits for an answer jumps."""

    name, part, actor = "asking agent clock jumps", "asking agent", "asking agent"


@dealt
class SlackClockJumps(ClockJumps):
    """Slack's clock, which is hours off in most runs, jumps by seconds: so do the times by which posts are found."""

    name, part = "Slack clock jumps", "Slack's clock"
    by = (-20.0, -1.0, 1.0, 20.0)  # a look-up begins a minute before; that Slack leaps by more is not promised against

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []

    def machine(self, world: World) -> Machine:
        return world.slack_machine

    def strike(self, world: World) -> None:
        self.machine(world).set(clock=world.slack_ahead + self.offset)

    def lift(self, world: World) -> None:
        self.machine(world).set(clock=world.slack_ahead)
