"""Annotations in Grafana: created once, edited in place, looked up by their tag before one is created again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spanpost.http.retry_after import retry_after_seconds
from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError, DeliveryRefused, DeliveryUncertain, Rejected, Throttled, Unavailable
from spanpost.sinks.base import Finding
from spanpost.sinks.grafana.api import Api, Apis, GrafanaRequest, Legacy, Made
from spanpost.sinks.grafana.render import Note, mark_of_delivery, note
from spanpost.sinks.grafana.settings import GrafanaSettings
from spanpost.sinks.grafana.transport import GrafanaAnswer, Wire

#: Wait after an answer 429 or 503 without a readable `Retry-After`.
RETRY_AFTER: Final = timedelta(seconds=30)
#: Receipt of an annotation that a person deleted: it stays deleted.
_DELETED: Final = {"ended": "deleted"}
#: Edits allowed per annotation created: most edits change nothing and make no call.
_EDITS: Final = 20.0


class GrafanaSink:
    """Creates annotations over HTTP.

    A receipt's `ref` holds ``id``, ``print`` (a hash of the shown content) and ``until`` (ms; only of a
    region that ended).
    """

    name = "grafana"

    def __init__(self, settings: GrafanaSettings, wire: Wire, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._wire = wire
        self._clock = clock
        self._api: Api = Apis(settings.namespace) if settings.api == "apis" else Legacy()
        #: Receives the method and outcome of each call.
        self.when_called: Callable[[str, str], None] | None = None

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Create the annotation, or edit it in place; delete one of an erased task."""
        if delivery.mode is Mode.ERASE:
            ref = delivery.receipt.ref if delivery.receipt is not None else {}
            await self._call(self._api.delete(str(ref.get("id", ""))), allowed=frozenset({404}))
            return Receipt()
        note_ = self._note(delivery)
        known = _known(delivery)
        if note_ is None:
            return Receipt(ref=known, skipped="it is no annotation")
        if known.get("ended"):
            return Receipt(ref=known, skipped="it was deleted in Grafana")
        if "id" not in known:
            return Receipt(ref=await self._post(note_))
        if known.get("print") == note_.print and not delivery.is_unknown:
            return Receipt(ref=known, skipped="unchanged")
        return Receipt(ref=await self._change(str(known["id"]), known, note_))

    async def _post(self, note_: Note) -> dict[str, Any]:
        request = self._api.post(note_)
        answer = await self._call(request, allowed=self._api.exists)
        id = self._api.made(note_, answer.body)
        if not id:
            raise DeliveryUncertain("Grafana's answer names no annotation", reason="bad_answer")
        return _ref(id, note_)

    async def _change(self, id: str, known: Mapping[str, Any], note_: Note) -> dict[str, Any]:
        if not self._api.moves_end and known.get("until") != note_.until_ms:
            made = await self._post(note_)  # the name is ours: a repeat is the same annotation
            if made["id"] != id:
                await self._call(self._api.delete(id), allowed=frozenset({404}))
            return made
        answer = await self._call(self._api.patch(id, note_), allowed=frozenset({404}))
        return dict(_DELETED) if answer.status == 404 else _ref(id, note_)

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | DeliveryError | None]:
        """Look up uncertain annotations by their tags; of several with one tag all but one are deleted."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        answers: dict[int, Receipt | DeliveryError | None] = {}
        for delivery in deliveries:
            known = _known(delivery)
            if known.get("ended") or ("id" in known and self._api.moves_end):
                # To edit it again is harmless. Without the hash it is edited in any case.
                answers[delivery.id] = Receipt(ref={k: v for k, v in known.items() if k != "print"})
                continue
            try:
                found = await self._find(mark_of_delivery(delivery))
            except DeliveryError as error:
                answers[delivery.id] = error
                continue
            if found:
                until = {"until": found[0].until_ms} if found[0].until_ms else {}
                answers[delivery.id] = Receipt(ref={"id": found[0].id} | until)
            elif _elapsed(delivery, now) >= self._settings.reconcile_timeout and delivery.lookups >= 1:
                answers[delivery.id] = None
        return answers

    async def _find(self, mark: str) -> list[Made]:
        answer = await self._call(self._api.find(mark))
        try:
            found = self._api.found(mark, answer.body)
        except ValueError:
            raise Unavailable("Grafana's answer to a search is none", reason="bad_answer") from None
        for repeat in found[1:]:
            await self._call(self._api.delete(repeat.id), allowed=frozenset({404}))
        return found

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the limits of Grafana as a whole, and of annotations per minute."""
        whole, rate = RateLimit(key=self.name, is_breaker=True), self._settings.per_minute / 60
        match call:
            case SinkCall.POST:
                return (whole, RateLimit(key=f"{self.name}:post", rate=rate, burst=20, reserve=5))
            case SinkCall.EDIT | SinkCall.DELETE:
                return (whole, RateLimit(key=f"{self.name}:edit", rate=rate * _EDITS, burst=50, reserve=10))
            case SinkCall.RECONCILE:
                return (whole, RateLimit(key=f"{self.name}:reconcile", rate=rate, burst=10, reserve=2))

    async def check(self, addresses: Sequence[str] = ("",)) -> list[Finding]:
        """Check that the token may read annotations and that the dashboards exist.

        Grafana accepts annotations for a dashboard that does not exist, and shows them nowhere.
        """
        try:
            await self._call(self._api.probe())
        except DeliveryError as error:
            return [
                Finding(
                    ok=False,
                    found=str(error),
                    cure=getattr(error, "cure", "") or "is grafana.url right, and Grafana up?",
                )
            ]
        found = [Finding(ok=True, found=f"annotations can be read ({self._settings.api})")]
        for uid in sorted({address or self._settings.dashboard for address in addresses} - {""}):
            try:
                answer = await self._call(
                    GrafanaRequest(method="GET", path=f"/api/dashboards/uid/{uid}"), allowed=frozenset({404})
                )
            except DeliveryError as error:
                found.append(Finding(ok=False, found=f"dashboard {uid}: {error}", cure=getattr(error, "cure", "")))
                continue
            if answer.status == 404:
                cure = (
                    "Grafana would accept its annotations and show them nowhere: correct grafana.dashboard, or the "
                    "route's address"
                )
                found.append(Finding(ok=False, found=f"there is no dashboard {uid!r}", cure=cure))
            else:
                found.append(Finding(ok=True, found=f"dashboard {uid} is there"))
        return found

    async def close(self) -> None:
        await self._wire.close()

    def _note(self, delivery: Delivery) -> Note | None:
        return note(delivery, dashboard=delivery.address or self._settings.dashboard, tags=self._settings.tags)

    async def _call(self, request: GrafanaRequest, allowed: frozenset[int] = frozenset()) -> GrafanaAnswer:
        """Make a call, report its outcome, and raise the error that its answer means."""
        method, outcome = request.method.lower(), "unknown"
        try:
            answer = await self._wire.call(request)
            error = (
                None
                if 200 <= answer.status < 300 or answer.status in allowed
                else meaning(answer, request, now=self._clock())
            )
            outcome = "ok" if error is None else type(error).__name__.lower()
        except DeliveryError as raised:
            outcome = type(raised).__name__.lower()
            raise
        finally:
            if self.when_called is not None:
                self.when_called(method, outcome)
        if error is not None:
            raise error
        return answer


def meaning(answer: GrafanaAnswer, request: GrafanaRequest, *, now: float) -> DeliveryError:
    """Return the error that an unwanted status means. The one table of statuses."""
    status = answer.status
    message = f"Grafana answered {status} to {request.method}"
    if status == 429 or (status == 503 and answer.retry_after):
        return Throttled(message, retry_after=_retry_after(answer.retry_after, now), reason="throttled")
    if status in (401, 403):
        cure = "set SPANPOST_GRAFANA__TOKEN to a service account's that may read and write annotations (role Editor)"
        return DeliveryRefused(message, cure=cure, reason="token")
    if status in (404, 405) or 300 <= status < 400:
        cure = "set SPANPOST_GRAFANA__URL to Grafana's own address and path, and grafana.api to the API that it has"
        return DeliveryRefused(message, cure=cure, reason="no_api")
    if status >= 500 or status in (408, 425):
        return Unavailable(message, reason="server") if request.is_safe else DeliveryUncertain(message, reason="server")
    return Rejected(message, reason="refused")


def _retry_after(value: str, now: float) -> timedelta:
    seconds = retry_after_seconds(value, now)
    return RETRY_AFTER if seconds is None else timedelta(seconds=seconds)


def _known(delivery: Delivery) -> dict[str, Any]:
    receipt = delivery.message_receipt if delivery.mode is Mode.STATE else delivery.receipt
    return receipt.ref if receipt is not None else {}


def _ref(id: str, note_: Note) -> dict[str, Any]:
    return {"id": id, "print": note_.print} | ({"until": note_.until_ms} if note_.until_ms is not None else {})


def _elapsed(delivery: Delivery, now: datetime) -> timedelta:
    at = delivery.claimed_at or now
    return max(at - delivery.sent_at, timedelta(0)) if delivery.sent_at is not None else timedelta.max
