"""Faults of local-slack, of the gateway that it talks to by Socket Mode, and of the agent that asks there."""

from __future__ import annotations

import signal

from tests.faults.soak.dealt import dealt
from tests.faults.soak.of_processes import AskerKilled, GatewayFrozen, GatewayKilled
from tests.faults.soak.of_senders import OfActor
from tests.faults.soak.world import Gateway, World


@dealt
class LocalSlackFrozen(OfActor):
    """SIGSTOP of local-slack: calls act when it wakes, long after their time, and the socket is silent.

    Its state is in memory, so it is not killed. After twenty seconds without an answer to its pings the gateway makes
    another connection.
    """

    name, tries, lasts = "local-slack frozen", ("in-doubt", "slack-answer-lost"), (1.0, 25.0)
    part, actors = "local-slack", ("local-slack",)

    def strike(self, world: World) -> None:
        self.of(world).process.send_signal(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self.of(world).process.send_signal(signal.SIGCONT)


class OfItsGateway(OfActor):
    """A fault of the gateway that posts to local-slack."""

    part, actors = "gateway of local-slack", ("local-slack",)

    def gateway(self, world: World) -> Gateway:
        gateway: Gateway = self.of(world).gateway
        return gateway


@dealt
class ItsGatewayKilled(OfItsGateway, GatewayKilled):
    """`kill -9` of that gateway, with presses on their way, and its next start."""

    name, tries = "gateway of local-slack killed", ("stored-first", "gateway-killed")


@dealt
class ItsGatewayFrozen(OfItsGateway, GatewayFrozen):
    """SIGSTOP of that gateway: presses wait in its socket, and people press again."""

    name, tries = "gateway of local-slack frozen", ("first-stands", "replica-frozen")


@dealt
class LocalSlackAskerKilled(OfActor, AskerKilled):
    """`kill -9` of the agent that waits for an answer from local-slack; started again, it asks the same."""

    name, part = "asking agent of local-slack killed", "asking agent of local-slack"
    actors = ("asking agent of local-slack",)
