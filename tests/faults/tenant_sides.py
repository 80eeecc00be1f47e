"""A gateway of hostile tenants on a database of its own, and what they see of it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.http.tokens import hash_of
from tests.acceptance.gateway_process import Gateway
from tests.faults.hostile_telemetry import Sent
from tests.faults.posted import settings
from tests.faults.tenant_claims import STRANGER, Certificates, Claim

OPERATOR = "spt_operator"
#: Series about the process, time or the machine.
_NO_FIGURE = re.compile(
    "process_|python_|_created|_seconds|_info|_bytes|_up|_requests_total|in_flight|queue_length|sink_calls|retried|"
    "coalesced|deliveries_total|waiting|rate_limit|circuit|commit|duplicate_observations|health_score"
)
_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_ID = re.compile(r'"(traceId|spanId|parentSpanId)": "([0-9a-f]+)"')
#: Status of HTTP for that of gRPC.
_STATUSES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
}
_SERVICES = {
    "/v1/traces": ("trace.v1.TraceService", ExportTraceServiceRequest),
    "/v1/logs": ("logs.v1.LogsService", ExportLogsServiceRequest),
}
#: A task that waits for a person is not called stalled within a run.
_STALL = "[stall]\nstall_after = 72000\nopen_call_after = 72000"


def _toml(channels: dict[str, str], certificates: Certificates) -> str:
    parts = [
        f'[gateway]\noperator_tokens = ["{hash_of(OPERATOR)}"]\n{certificates.settings()}\n'
        f"[intake]\ncapture_content = true\n{_STALL}"
    ]
    for tenant, channel in channels.items():
        parts += [
            f'[[routes]]\nsink = "slack"\naddress = "#{channel}"\ntenant = "{tenant}"',
            f'[[interactions.tokens]]\nname = "person"\ntenant = "{tenant}"\nsha256 = ["{hash_of(f"api_{tenant}")}"]\n'
            'roles = ["viewer", "operator", "approver", "auditor"]',
        ]
    parts.append('[[budgets]]\nname = "all"\nperiod = "month"\nlimit_tokens = 1000000000\nper = ["person"]')
    return "\n".join(parts)


class Side:
    """A gateway on a database of its own, with what its tenants saw."""

    def __init__(
        self, dsn: str, home: Path, slack: str, tenants: tuple[str, ...], channel: str, certificates: Certificates
    ) -> None:
        self.dsn, self.tenants, self._certificates = dsn, tenants, certificates
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.channels = {tenant: f"{tenant}{channel}" for tenant in tenants}
        home.mkdir()
        self.gateway = Gateway(dsn, home, _toml(self.channels, certificates), **settings(slack))
        #: By the client's certificate, and whether it is a stranger.
        self._clients = {
            (name, is_strange): httpx.AsyncClient(
                timeout=90,
                transport=httpx.AsyncHTTPTransport(
                    verify=context,
                    limits=httpx.Limits(max_connections=8),
                    local_address=STRANGER if is_strange else "127.0.0.1",
                ),
            )
            for name, context in certificates.contexts().items()
            for is_strange in (False, True)
        }
        self.client = self._clients[Claim("").certificate, False]
        #: What the stream of each tenant's token said.
        self.streams: dict[str, list[str]] = {tenant: [] for tenant in tenants}
        self.url = ""

    async def ask(self, claim: Claim, sent: Sent) -> tuple[int, str]:
        """Send a request; return status and body; of gRPC, the status of HTTP. A busy gateway is asked again."""
        while claim.is_grpc:
            status, said = await self._by_grpc(claim, sent)
            if status != 503:
                return status, said
            await asyncio.sleep(1)
        client = self._clients[claim.certificate, claim.is_strange]
        headers = {"content-type": "application/json", **claim.headers, **sent.headers}
        content = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body)
        while True:
            if sent.body is None:
                answer = await client.get(self.url + sent.path, headers=headers)
            else:
                answer = await client.post(self.url + sent.path, content=content, headers=headers)
            if answer.status_code != 503:
                return answer.status_code, answer.text
            await asyncio.sleep(1)

    async def _by_grpc(self, claim: Claim, sent: Sent) -> tuple[int, str]:
        """Send telemetry by gRPC; return what HTTP calls its status, and what was said."""
        if claim.certificate not in self._channels:
            credentials = self._certificates.grpc_credentials(claim.certificate)
            target = self.gateway.grpc.removeprefix("https://")
            self._channels[claim.certificate] = grpc.aio.secure_channel(target, credentials)
        service, kind = _SERVICES[sent.path]
        text = _ID.sub(lambda m: f'"{m[1]}": "{base64.b64encode(bytes.fromhex(m[2])).decode()}"', json.dumps(sent.body))
        call = self._channels[claim.certificate].unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
        metadata = tuple({**claim.headers, **sent.headers}.items())
        try:
            answer = await call(Parse(text, kind()).SerializeToString(), metadata=metadata, timeout=90)
        except grpc.aio.AioRpcError as error:
            return _STATUSES[error.code()], error.details() or ""
        return 200, bytes(answer).decode(errors="replace")

    async def close(self) -> None:
        """Close its connections."""
        for client in self._clients.values():
            await client.aclose()
        for channel in self._channels.values():
            await channel.close()

    async def follow(self, tenant: str) -> None:
        """Read the tenant's stream until cancelled; it goes on where it ended."""
        last: dict[str, str] = {}
        while True:
            headers = {"authorization": f"Bearer api_{tenant}", **last}
            with suppress(httpx.HTTPError):
                async with self.client.stream("GET", f"{self.url}/api/events", headers=headers, timeout=None) as lines:
                    async for line in lines.aiter_lines():
                        if line.startswith("id: "):
                            last = {"last-event-id": line[4:]}
                        self.streams[tenant].append(line)

    async def figures(self) -> dict[tuple[str, str], float]:
        """Return the figures of telemetry: by name and labels."""
        answer = await self.client.get(f"{self.url}/metrics", headers={"authorization": f"Bearer {OPERATOR}"})
        found = {}
        for line in answer.text.splitlines():
            match = _SERIES.match(line)
            if match and not _NO_FIGURE.search(match[1]):
                found[match[1], match[2] or ""] = float(match[3])
        return found
