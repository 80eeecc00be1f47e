"""A version beside the next one: the schema is upgraded under load, and a gateway of the newer version joins in."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from tests.acceptance.gateway_process import request
from tests.eventually import eventually
from tests.faults.rollout import newer_source, upgrade
from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.sent import sent_task
from tests.faults.soak.world import PORTS, STARTS_WITHIN, Gateway, World, free_port, now


@dealt
class NewerBeside(Fault):
    """A gateway of the next version on the upgraded database, beside the others; then it is stopped again.

    It is this source with one more revision of the schema. The first time upgrades the database, under load.
    """

    name, tries, lasts, part = "newer version beside", ("stop", "rolling-restart"), (4.0, 15.0), "version"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []

    @classmethod
    def why_not(cls, world: World) -> str:
        return "archives would be restored into tables of the newer version" if world.retention else ""

    def strike(self, world: World) -> None:
        if "newer" not in world.shared:
            world.shared["newer"], _ = newer_source(world.directory)
        source = world.shared["newer"]
        if not world.shared.get("is upgraded"):
            eventually(lambda: self._is_upgraded(world, source), limit=STARTS_WITHIN)
            world.shared["is upgraded"] = True
        directory = world.directory / f"newer-{now():.0f}"
        directory.mkdir()
        (directory / "spanpost.toml").write_text((world.directory / "gateway-0" / "spanpost.toml").read_text())
        variables = world.settings() | world.variables | {"PYTHONPATH": str(source)}
        ports = {"http": free_port(PORTS), "grpc": free_port(PORTS)}
        self._gateway = Gateway(world.database.dsn, directory, **ports, **variables)
        world.on_end(self._gateway.kill)
        self._until_ready()
        self._probe(world)

    def _is_upgraded(self, world: World, source: Path) -> bool:
        with suppress(subprocess.CalledProcessError):  # the database is away
            return bool(upgrade(world.database.dsn, source))
        self.wait(1.0)
        return False

    def _until_ready(self) -> None:
        """One that starts while the database is away ends with 2: a service manager starts it again, and so do we."""

        def is_up() -> bool:
            if self._gateway.process.poll() is not None:
                self.wait(1.0)
                self._gateway.start()
            return self._gateway.is_ready

        eventually(is_up, limit=STARTS_WITHIN)

    def _probe(self, world: World) -> None:
        """Send it tasks, which count as all others do: half of each goes to a gateway of this version."""
        for number in range(5):
            task = sent_task(f"{world.seed}-newer-{now():.0f}-{number}", self.chance)
            halves = [(self._gateway, task.spans[::2]), (self.chance.choice(world.gateways), task.spans[1::2])]
            if all(self._sent(world, gateway, spans) for gateway, spans in halves):
                world.sent.complete(task)

    def _sent(self, world: World, gateway: Gateway, spans: Sequence[ReadableSpan]) -> bool:
        until = now() + 60
        while now() < until:
            with suppress(OSError, http.client.HTTPException):
                body = encode_spans(spans).SerializeToString()
                headers = {"content-type": "application/x-protobuf"}
                status, said = request(f"{gateway.url}/v1/traces", body, timeout=5, **headers)
                if status == 200:
                    world.sent.acknowledge(spans)
                    return True
                if status != 503:
                    world.findings.append(f"beside the newer version: {status} {said[:200]!r}")
                    return False
            self.wait(0.2)
        return False

    def lift(self, world: World) -> None:
        code = self._gateway.stop()
        if code not in (0, 1):
            world.findings.append(f"the newer gateway stopped with {code}: {self._gateway.log[-500:]}")
        if "Traceback (most recent call last)" in self._gateway.log:
            world.findings.append(f"the newer gateway logged a traceback: {self._gateway.log[-1500:]}")
