"""Faults of what stands before the gateways (Collectors, programs, Alertmanager), and of the gateway behind them."""

from __future__ import annotations

import signal
from typing import Any

from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.disk import empty, fill
from tests.faults.soak.of_processes import GatewayKilled
from tests.faults.soak.world import Gateway, World


class OfActor(Fault):
    """A fault of one of some actors, drawn by the dice; no gateway's answers are touched."""

    actors: tuple[str, ...]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.actor, self.touched = self.chance.choice(self.actors), []

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.actor}"

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if all(actor in world.actors for actor in cls.actors) else "its actors take no part"

    def of(self, world: World) -> Any:
        """Return the actor."""
        return world.actors[self.actor]


class OfCollector(OfActor):
    """A fault of a Collector."""

    part = "collector"
    actors = ("collector", "collector with our exporter")


@dealt
class CollectorKilled(OfCollector):
    """`kill -9` of a Collector, and its next start on the same queue."""

    name, tries, lasts = "collector killed", ("answered", "collector-killed"), (0.1, 4.0)

    def strike(self, world: World) -> None:
        self.of(world).collector.kill()

    def lift(self, world: World) -> None:
        self.of(world).collector.start()


@dealt
class CollectorFrozen(OfCollector):
    """SIGSTOP of a Collector, with requests to the gateway on their way."""

    name, tries, lasts = "collector frozen", ("outage", "replica-frozen"), (2.0, 14.0)

    def strike(self, world: World) -> None:
        self.of(world).send(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.of(world).send(signal.SIGCONT)


@dealt
class CollectorDiskFull(OfCollector):
    """No space on the disk of a Collector's queue."""

    name, tries, lasts = "collector queue full", ("outage", "spool-disk-full"), (2.0, 8.0)

    @classmethod
    def why_not(cls, world: World) -> str:
        if why := super().why_not(world):
            return why
        has_disk = all(world.actors[actor].has_small_disk for actor in cls.actors)
        return "" if has_disk else "a small disk is mounted by root on Linux"

    def strike(self, world: World) -> None:
        fill(self.of(world).queue)

    def lift(self, world: World) -> None:
        empty(self.of(world).queue)
        self.of(world).revive()


@dealt
class GatewayGone(GatewayKilled):
    """A gateway that is gone for longer than exporters try by themselves; a Collector keeps what it has."""

    name, tries, lasts = "gateway gone", ("outage", "gateway-down"), (6.0, 20.0)


class OfProgram(OfActor):
    """A fault of a program in another language."""

    part = "program"
    actors = ("typescript program", "go program")


@dealt
class ProgramKilled(OfProgram):
    """`kill -9` of a program, with spans in its batch processor, and its next start."""

    name, tries, lasts = "program killed", ("answered", "agent-killed"), (0.1, 3.0)

    def strike(self, world: World) -> None:
        self.of(world).kill()

    def lift(self, world: World) -> None:
        self.of(world).start()


@dealt
class ProgramFrozen(OfProgram):
    """SIGSTOP of a program, perhaps with a request half sent."""

    name, tries, lasts = "program frozen", ("one-stops-no-other", "slow-senders"), (2.0, 14.0)

    def strike(self, world: World) -> None:
        self.of(world).send(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.of(world).send(signal.SIGCONT)


class OfAlertmanager(OfActor):
    """A fault of Alertmanager."""

    part, actors = "alertmanager", ("alertmanager",)


@dealt
class AlertmanagerKilled(OfAlertmanager):
    """`kill -9` of Alertmanager, which forgets what it sent last, and its next start on the same files."""

    name, tries, lasts = "alertmanager killed", ("one-message", "alertmanager-killed"), (0.1, 4.0)

    def strike(self, world: World) -> None:
        self.of(world).kill()

    def lift(self, world: World) -> None:
        self.of(world).launch()


@dealt
class AlertmanagerFrozen(OfAlertmanager):
    """SIGSTOP of Alertmanager, which gives up answers that came meanwhile, and sends again."""

    name, tries, lasts = "alertmanager frozen", ("one-message", "alertmanager-killed"), (2.0, 14.0)

    def strike(self, world: World) -> None:
        self.of(world).process.send_signal(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.of(world).process.send_signal(signal.SIGCONT)


class OfKafka(OfActor):
    """A fault of the broker."""

    part, actors = "kafka", ("kafka",)


@dealt
class BrokerKilled(OfKafka):
    """`kill -9` of the broker, and its next start on the same files."""

    name, tries, lasts = "broker killed", ("kafka", "broker-killed"), (0.1, 4.0)

    def strike(self, world: World) -> None:
        self.of(world).broker.kill()

    def lift(self, world: World) -> None:
        self.of(world).broker.start()


@dealt
class BrokerFrozen(OfKafka):
    """SIGSTOP of the broker: it takes what is sent into its socket, and answers nothing."""

    name, tries, lasts = "broker frozen", ("kafka", "broker-killed"), (2.0, 10.0)

    def strike(self, world: World) -> None:
        self.of(world).broker.process.send_signal(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.of(world).broker.process.send_signal(signal.SIGCONT)


@dealt
class ConsumerKilled(GatewayKilled):
    """`kill -9` of a gateway that writes to the topics and records them: the other takes its partitions over."""

    name, tries, part = "consumer killed", ("kafka", "rebalance"), "kafka"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.victim, self.touched = self.chance.randrange(2), []

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if "kafka" in world.actors else "its actors take no part"

    def gateway(self, world: World) -> Gateway:
        return world.actors["kafka"].gateways[self.victim]
