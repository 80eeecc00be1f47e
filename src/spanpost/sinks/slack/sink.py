"""Slack's I/O: drives `flow`, `lookup` and `check` over a transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt
from spanpost.domain.errors import DeliveryError, Refused, Unverifiable
from spanpost.fold.redact import line
from spanpost.sinks.base import Finding
from spanpost.sinks.slack import budgets, check, flow, lookup
from spanpost.sinks.slack.budgets import Rates
from spanpost.sinks.slack.calls import Place, Request, Response, Talk
from spanpost.sinks.slack.preview import PREVIEWED, Preview, Transport

log = logging.getLogger("spanpost.slack")
T = TypeVar("T")

#: What is told once is remembered so far; beyond that it may be told again.
_TOLD = 1_000


class SlackSink:
    """Posts to Slack: one root message per task, edited in place, news in its thread."""

    name = "slack"

    def __init__(
        self,
        *,
        channel: str = "",
        transport: Transport | None = None,
        workspace: str = "default",
        rates: Rates | None = None,
        settle: timedelta = timedelta(seconds=50),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._channel = channel or "#agents"
        self._transport = transport or Preview()
        self._workspace = workspace
        self._rates = rates or Rates()
        self._settle = settle
        self._clock = clock
        self._memory = lookup.Memory()
        self._told: set[str] = set()
        #: Told of each call and of what came of it.
        self.when_called: Callable[[str, str], None] | None = None

    @property
    def repeats(self) -> int:
        """How many messages stood twice in Slack and were deleted."""
        return self._memory.repeats

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Make the calls that the flow asks for."""
        delivery, place = self._real(delivery), self._place(delivery.address)
        receipt = await self._drive(flow.deliver(delivery, place))
        known = flow.known_of(delivery)
        if "ts" not in known and (channel := receipt.ref.get("channel")):
            self._memory.ids[place.channel] = str(channel)
        ended = receipt.ref.get("ended")
        if ended and not known.get("ended"):
            log.warning("task %s: %s; said once", line(delivery.task.task_id, 80), flow.WHY[str(ended)])
        elif known.get("ts") and receipt.ref.get("g", 0) != known.get("g", 0) and delivery.mode is Mode.STATE:
            log.warning(
                "task %s: its message was deleted in Slack, and it needs a person: posted anew", line(delivery.task.task_id, 80)
            )
        return receipt

    async def reconcile(self, deliveries: Sequence[Delivery]) -> lookup.Answers:
        """Say what had arrived. Of a preview nothing had: writing it twice costs nothing."""
        if isinstance(self._transport, Preview):
            return {d.id: None for d in deliveries}
        now = datetime.fromtimestamp(self._clock(), UTC)
        answers: lookup.Answers = {}
        repeats = self._memory.repeats
        failed: DeliveryError | None = None
        for group in lookup.groups((self._real(d), self._place(d.address)) for d in deliveries):
            try:
                answers |= await self._drive(lookup.settle(group, self._memory, patience=self._settle, now=now), failed)
            except DeliveryError as error:
                answers |= lookup.unanswered(group, error, now)
                if not isinstance(error, (Unverifiable, Refused)) or error.closes == group.place.whole:
                    failed = error  # of no use for the others either: Slack is away, asks for patience, or wants another token
        if self._memory.repeats > repeats:
            log.warning("slack: %d messages stood twice and were deleted", self._memory.repeats - repeats)
        for answer in answers.values():
            if isinstance(answer, Unverifiable):
                self._tell_once(answer)
        return answers

    def budgets(self, address: str, call: Call) -> tuple[Budget, ...]:
        """Name the workspace, the method and the channel."""
        return budgets.budgets(self._place(address), call, self._rates)

    async def check(self, addresses: Sequence[str] = ("",)) -> list[Finding]:
        """Look whether the token works, and whether it may post in the channels."""
        if isinstance(self._transport, Preview):
            return [check.NO_TOKEN]
        try:
            return await self._drive(check.check([self._place(address) for address in addresses], self._memory))
        except DeliveryError as error:
            return [check.of_error(error)]

    async def close(self) -> None:
        await self._transport.close()

    async def _drive(self, talk: Talk[T], forbidden: DeliveryError | None = None) -> T:
        """Hold the talk with Slack; raise `forbidden` where it comes to a call."""
        try:
            request = next(talk)
            while True:
                if forbidden is not None:
                    raise forbidden
                response = await self._called(request)
                if response.date is not None:
                    self._memory.ahead = response.date - self._clock()
                request = talk.send(response)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _called(self, request: Request) -> Response:
        """Make a call, and say what came of it."""
        outcome = "unknown"
        try:
            response = await self._transport.call(request)
            outcome = _outcome(response)
            return response
        except DeliveryError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            if self.when_called is not None:
                self.when_called(request.method, outcome)

    def _tell_once(self, error: DeliveryError) -> None:
        if len(self._told) >= _TOLD:
            self._told.clear()
        if str(error) not in self._told:
            self._told.add(str(error))
            log.error("slack: a letter is given up, said once: %s", error)

    def _real(self, delivery: Delivery) -> Delivery:
        """Forget a message that stands in a preview alone, once there is a token: it is posted now."""
        is_preview = isinstance(self._transport, Preview)
        if not is_preview and str(flow.known_of(delivery).get("ts", "")).startswith(PREVIEWED):
            return msgspec.structs.replace(delivery, lane_receipt=None)
        return delivery

    def _place(self, address: str) -> Place:
        # "workspace/#channel"; the workspace is chosen where several are set up.
        return Place(workspace=self._workspace, channel=address.rpartition("/")[2] or self._channel)


def _outcome(response: Response) -> str:
    """Return what came of a call in one word."""
    if response.status == 429:
        return "throttled"
    if response.status >= 500:
        return "unavailable"
    return "ok" if response.body.get("ok") else "rejected"
