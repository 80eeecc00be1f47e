"""More telemetry than the gateways can record."""

from __future__ import annotations

import threading
from http.client import HTTPException

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.acceptance.gateway_process import request
from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.senders import PROBE
from tests.faults.soak.sent import Row, span
from tests.faults.soak.world import World, now

#: Clients at each gateway that send again as soon as they are answered, and the spans of a request.
CLIENTS, SPANS = 8, 400
_TRACE = 0xACDC << 96


@dealt
class Overload(Fault):
    """Clients that ignore `Retry-After` send as fast as they can: some are answered 200, the others 503."""

    name, part, tries, lasts = "overload", "load", ("never-500", "overload"), (5.0, 40.0)

    @classmethod
    def why_not(cls, world: World) -> str:
        return "its burst would be taken for the growth that is looked for" if world.retention else ""

    def strike(self, world: World) -> None:
        """Begin; `figures` say what was offered and what was acknowledged."""
        self._over, self._began, self._counts = threading.Event(), now(), list[tuple[int, int]]()
        spans = [
            span(_TRACE, at + 1, "execute_tool probe", PROBE | {"soak.noise": self.chance.randbytes(100).hex()})
            for at in range(SPANS)
        ]
        body = encode_spans(spans)
        given = body.SerializeToString(), _TRACE.to_bytes(16, "big")
        self._threads = [
            threading.Thread(target=self._send, args=(world, gateway.url, self.chance.getrandbits(64), *given))
            for gateway in world.gateways
            for _ in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _send(self, world: World, url: str, first: int, body: bytes, was: bytes) -> None:
        number = taken = 0
        while not self._over.is_set():
            number += 1
            trace = ((first << 32) + number).to_bytes(16, "big")
            status, said = 0, b""
            try:
                status, said = request(
                    f"{url}/v1/traces", body.replace(was, trace), **{"content-type": "application/x-protobuf"}
                )
            except (OSError, HTTPException):  # another fault's
                self._over.wait(0.1)
            if status == 200:
                taken += 1
                rows: list[Row] = [(trace, (at + 1).to_bytes(8, "big"), 0, 0) for at in range(SPANS)]
                world.sent.acknowledge_rows(rows)
            elif status not in (0, 503):
                world.findings.append(f"an overloaded gateway answered {status}: {said[:200]!r}")
        self._counts.append((number * SPANS, taken * SPANS))

    def lift(self, world: World) -> None:
        self._over.set()
        self.lifted = now()
        world.figures["overload: seconds"] += round(self.lifted - self._began)
        for thread in self._threads:
            thread.join(60)
        for offered, taken in self._counts:
            world.figures["overload: spans offered"] += offered
            world.figures["overload: spans acknowledged"] += taken
