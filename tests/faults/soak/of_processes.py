"""Faults of gateways, workers and agents: killed, frozen, restarted, without space for the spool."""

from __future__ import annotations

import signal
from typing import Any

from tests.eventually import eventually
from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.disk import empty, fill
from tests.faults.soak.world import STARTS_WITHIN, Gateway, World, now


class OfGateway(Fault):
    """A fault of one gateway; the others answer meanwhile."""

    part = "gateway"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = [self.victim]

    def gateway(self, world: World) -> Gateway:
        """Return the gateway."""
        return world.gateways[self.victim]

    def started(self, world: World) -> None:
        """Start the gateway again, and wait until it is ready.

        One that has no database while it starts ends: a service manager starts it again, and so do we.
        """
        gateway = self.gateway(world)
        self.lifted = now()
        gateway.start()

        def is_up() -> bool:
            if gateway.process.poll() in (1, 2):
                self.wait(1.0)
                gateway.start()
            return gateway.is_ready

        eventually(is_up, limit=STARTS_WITHIN)


@dealt
class GatewayKilled(OfGateway):
    """`kill -9` of a gateway with its workers."""

    name, tries, lasts, ends_gateways = "gateway killed", ("answered", "gateway-killed"), (0.1, 4.0), True

    def strike(self, world: World) -> None:
        self.gateway(world).kill()

    def lift(self, world: World) -> None:
        self.started(world)


@dealt
class GatewayRestarted(OfGateway):
    """SIGTERM of a gateway, and its next start: a rolling restart."""

    name, tries, lasts, ends_gateways = "gateway restarted", ("stop", "rolling-restart"), (0.0, 1.0), True

    def strike(self, world: World) -> None:
        code = world.gateways[self.victim].stop()
        if code not in (0, 1):  # 1: deliveries wait, which another delivers
            world.findings.append(f"gateway {self.victim} stopped with {code}")

    def lift(self, world: World) -> None:
        self.started(world)


@dealt
class GatewayFrozen(OfGateway):
    """SIGSTOP of a gateway with its workers, with locks and deliveries held, perhaps longer than its leases."""

    name, tries, lasts = "gateway frozen", ("frozen", "replica-frozen"), (2.0, 14.0)

    def strike(self, world: World) -> None:
        self.gateway(world).signal(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.gateway(world).signal(signal.SIGCONT)


@dealt
class WorkerKilled(OfGateway):
    """`kill -9` of one worker; its supervisor starts another."""

    name, tries, lasts, ends_gateways = "worker killed", ("answered", "gateway-killed"), (0.5, 1.0), True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.victim = 1
        self.touched = [1]

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if len(world.gateways) > 1 else "needs two gateways"

    def strike(self, world: World) -> None:
        world.gateways[self.victim].kill_worker(self.chance)


class OfAgent(Fault):
    """A fault of one agent's process; no gateway is touched."""

    part, actor = "agent", "durable agent"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []


@dealt
class AgentKilled(OfAgent):
    """`kill -9` of the agent with a spool, and its next start."""

    name, tries, lasts = "agent killed", ("spool", "agent-killed"), (0.1, 3.0)

    def strike(self, world: World) -> None:
        world.actors[self.actor].kill()

    def lift(self, world: World) -> None:
        world.actors[self.actor].start()


@dealt
class AskerKilled(AgentKilled):
    """`kill -9` of the agent that waits for an answer; started again, it asks the same."""

    name, tries, actor = "asking agent killed", ("stored-first", "agent-killed"), "asking agent"
    part = "asking agent"


@dealt
class AgentFrozen(OfAgent):
    """SIGSTOP of the agent that records by itself, with its transaction open."""

    name, tries, lasts = "agent frozen", ("frozen", "replica-frozen"), (2.0, 14.0)

    def strike(self, world: World) -> None:
        world.actors[self.actor].send(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        world.actors[self.actor].send(signal.SIGCONT)


@dealt
class SpoolDiskFull(OfAgent):
    """No space on the disk of the spool."""

    name, tries, lasts = "spool disk full", ("no-wait", "spool-disk-full"), (2.0, 6.0)

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if world.actors["durable agent"].has_small_disk else "a small disk is mounted by root on Linux"

    def strike(self, world: World) -> None:
        fill(world.actors["durable agent"].spool)

    def lift(self, world: World) -> None:
        empty(world.actors["durable agent"].spool)
