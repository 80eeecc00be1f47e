"""Faults of the machine of a gateway: its memory is used up, names are not found, more is sent than it can record."""

from __future__ import annotations

import threading
from http.client import HTTPException
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.acceptance.gateway_process import request
from tests.faults.soak.dealt import dealt
from tests.faults.soak.machine import why_no_library
from tests.faults.soak.memory import MemoryGroup
from tests.faults.soak.of_processes import OfGateway
from tests.faults.soak.senders import PROBE
from tests.faults.soak.sent import span
from tests.faults.soak.world import World, now

#: Senders of large requests, and the spans of one, each with so many characters.
LARGE, SPANS, CHARACTERS = 6, 200, 8_000


@dealt
class MemoryLimit(OfGateway):
    """A limit that large requests exceed: the kernel kills the gateway, or one of its workers."""

    name, tries, lasts, ends_gateways = "memory limit", ("answered", "memory-limit"), (2.0, 6.0), True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.mib = self.chance.choice((2, 8, 24, 64))

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.mib} MiB"

    @classmethod
    def why_not(cls, world: World) -> str:
        made = MemoryGroup()
        made.close()
        return made.why_not

    def strike(self, world: World) -> None:
        gateway = world.gateways[self.victim]
        self.group = MemoryGroup()
        self.group.hold([gateway.process.pid, *gateway.workers()], self.mib)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(world, self.chance.getrandbits(64)), daemon=True)
            for _ in range(LARGE)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, world: World, first: int) -> None:
        """Send large requests until the fault is over; what is acknowledged must be there."""
        number = 0
        while not self._over.is_set():
            number += 1
            large = PROBE | {"gen_ai.tool.call.result": "x" * CHARACTERS}
            spans = [span((first << 32) + number, at + 1, "execute_tool probe", large) for at in range(SPANS)]
            body = encode_spans(spans).SerializeToString()
            try:
                url = f"{world.gateways[self.victim].url}/v1/traces"
                status, _ = request(url, body, **{"content-type": "application/x-protobuf"})
            except (OSError, HTTPException):
                status = 0
            if status == 200:
                world.sent.acknowledge(spans)
            elif status not in (0, 503):
                world.findings.append(f"gateway {self.victim} without memory answered {status}")
            else:
                world.sent.refuse(len(spans))
            self._over.wait(0.2)

    def lift(self, world: World) -> None:
        self._over.set()
        gateway = world.gateways[self.victim]
        world.figures["killed by the kernel"] += self.group.kills()
        self.group.release()
        self.lifted = now()
        if gateway.process.poll() is not None:
            gateway.kill()  # with what it left
            self.started(world)
        for thread in self._threads:
            thread.join(30)
        self.group.close()


@dealt
class NamesGone(OfGateway):
    """`localhost`, the name of Slack and of the first gateway's database, is not found, at once or after seconds."""

    name, tries, lasts = "names gone", ("never-500", "names-gone"), (2.0, 15.0)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.each = self.chance.choice((0.0, 1.0, 5.0, 20.0))

    def __str__(self) -> str:
        return f"{super().__str__()}, after {self.each:g} s"

    @classmethod
    def why_not(cls, world: World) -> str:
        return why_no_library()

    def strike(self, world: World) -> None:
        gateway = world.gateways[self.victim]
        gateway.machine.set(name=self.each)
        if self.victim == 0:  # connections that are open need no name
            world.network.cut()

    def lift(self, world: World) -> None:
        world.gateways[self.victim].machine.set()
