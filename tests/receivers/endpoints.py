"""A gateway's receiver without a network: ASGI requests and a memory store that fails on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from starlette.requests import Request
from starlette.responses import Response

from spanpost.http.routing import HttpRoute, HttpRouter
from spanpost.http.tokens import SenderTokens
from spanpost.metrics.recorder import Metrics
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import OVER_BUDGET, Recorded
from spanpost.receivers.dealing import Dealer
from spanpost.receivers.journal import Journal
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.otlp_http import OtlpHttp, log_fault
from spanpost.receivers.receiver import Receiver
from spanpost.receivers.tenant_gate import TenantGate

PROTOBUF, JSON = "application/x-protobuf", "application/json"


def traces(*numbers: int, **attributes: str) -> bytes:
    """Return a traces request with one span for each number."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in numbers:
        span = spans.add(name=f"chat {number}", trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        span.start_time_unix_nano, span.end_time_unix_nano = 10**18 + number, 10**18 + number + 1000
        for key, value in {"gen_ai.operation.name": "chat", **attributes}.items():
            span.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
    return request.SerializeToString()


async def _live(request: Request) -> Response:
    """Answer with what the client accepts: as much as a test needs."""
    return Response(request.headers.get("accept", ""))


class Answer(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        return self.headers["content-type"] == JSON

    @property
    def said(self) -> str:
        """Return the message of a google.rpc.Status."""
        return str(json.loads(self.body)["message"]) if self.is_json else Status.FromString(self.body).message

    @property
    def retry_delay(self) -> int:
        """Return the seconds of the RetryInfo."""
        if self.is_json:
            [delay] = [one["retryDelay"] for one in json.loads(self.body)["details"] if "retryDelay" in one]
            return int(delay.removesuffix("s"))
        info = RetryInfo()
        assert any(detail.Unpack(info) for detail in Status.FromString(self.body).details)
        return info.retry_delay.seconds


class InteractionStore:
    """The endpoint's store: keeps what it receives; `fail` is an exception to raise, `gate` delays it."""

    def __init__(self) -> None:
        self.batches: list[list[Observation]] = []
        self.kept: list[tuple[str, str, str, bytes]] = []
        self.fail: Callable[[Sequence[Observation]], Exception | None] = lambda batch: None
        #: Which batches are delayed until `let_go`.
        self.is_held: Callable[[Sequence[Observation]], bool] = lambda batch: False
        self.let_go = asyncio.Event()
        #: Which observations are of a trace that takes too long.
        self.is_slow: Callable[[Observation], bool] = lambda o: False
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        self.entered.set()
        await self.gate.wait()
        if self.is_held(batch):
            await self.let_go.wait()
        slow = sum(self.is_slow(o) for o in batch)
        if slow and is_whole:
            raise OverBudget("it takes too long")
        error = self.fail(batch)
        if error is not None:
            raise error
        self.batches.append([o for o in batch if not self.is_slow(o)])
        return Recorded(dropped={OVER_BUDGET: slow} if slow else {})

    async def keep(self, tenant: str, source: str, error: str, body: bytes) -> None:
        if (failure := self.fail([])) is not None:
            raise failure
        self.kept.append((tenant, source, error, body))

    @property
    def recorded(self) -> list[Observation]:
        return [o for batch in self.batches for o in batch]

    @property
    def spans(self) -> list[int]:
        """Return the numbers of the recorded spans, sorted."""
        return sorted(int.from_bytes(o.span_id, "big") for o in self.recorded)


def away(batch: Sequence[Observation]) -> Exception:
    """Fail like an unreachable store."""
    return StoreUnavailable("the database does not take it")


class Endpoint:
    """The HTTP endpoint with its receiver."""

    def __init__(
        self,
        interaction_store: InteractionStore,
        receiver: Receiver,
        otlp: OtlpHttp,
        sender_tokens: SenderTokens,
        metrics: Metrics,
    ) -> None:
        self.interaction_store, self.receiver, self.otlp, self.sender_tokens, self.metrics = (
            interaction_store,
            receiver,
            otlp,
            sender_tokens,
            metrics,
        )
        self.app = HttpRouter([*otlp.routes, HttpRoute("/health/live", _live)], log_fault)

    async def ask(
        self,
        method: str,
        path: str,
        body: Iterable[bytes] | None = (),
        headers: Mapping[str, str] | None = None,
        query: bytes = b"",
    ) -> Answer:
        """Send a request whose body comes in pieces, the last of which says so. None: reading it is a
        mistake.
        """
        pieces = [] if body is None else list(body) or [b""]
        coming = iter(
            [{"type": "http.request", "body": p, "more_body": i < len(pieces) - 1} for i, p in enumerate(pieces)]
        )
        sent: list[Any] = []

        async def receive() -> Any:
            return next(coming)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        await self.app(scope, receive, send)
        start, end = sent
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(answered["content-length"]) == len(end["body"]) or method == "HEAD"
        return Answer(start["status"], answered, end["body"])

    async def post(
        self,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        content_type: str = PROTOBUF,
        encoding: str = "",
        **headers: str,
    ) -> Answer:
        """Send a body; its length is announced unless it comes in pieces."""
        sent = {"content-type": content_type} if content_type else {}
        if isinstance(body, bytes):
            sent["content-length"] = str(len(body))
        if encoding:
            sent["content-encoding"] = encoding
        pieces = [body] if isinstance(body, bytes) else body
        return await self.ask("POST", path, pieces, {**sent, **{n.replace("_", "-"): v for n, v in headers.items()}})


@dataclass(frozen=True, kw_only=True)
class SetLimits(AdmissionLimits):
    """Limits with constants that a test sets."""

    lingering: float = AdmissionLimits.lingering
    queue: float = AdmissionLimits.queue
    queue_bytes: int = AdmissionLimits.queue_bytes
    direct: float = AdmissionLimits.direct
    direct_bytes: int = AdmissionLimits.direct_bytes
    commit_timeout: float = AdmissionLimits.commit_timeout


@asynccontextmanager
async def opened(
    limits: AdmissionLimits | None = None,
    tokens: Sequence[tuple[str, str]] = (),
    operators: Sequence[str] = (),
    journal: Journal | None = None,
    dealer: Dealer | None = None,
    gate: TenantGate | None = None,
) -> AsyncIterator[Endpoint]:
    """Lend an endpoint whose receiver runs."""
    interaction_store, metrics = InteractionStore(), Metrics()
    receiver = Receiver(interaction_store.record, interaction_store.keep, metrics, limits, journal, dealer, gate)
    receiver.start()
    sender_tokens = SenderTokens("default", tokens, operators)

    otlp = OtlpHttp(receiver, sender_tokens, watch=metrics)
    try:
        yield Endpoint(interaction_store, receiver, otlp, sender_tokens, metrics)
    finally:
        interaction_store.gate.set()
        interaction_store.let_go.set()
        await receiver.close(5.0)
