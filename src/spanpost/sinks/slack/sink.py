"""Slack's I/O: drives `flow` over a transport. Without a token the transport is a preview, which writes what it would post."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Protocol, TextIO

from spanpost.domain.deliveries import Budget, Call, Delivery, Receipt
from spanpost.domain.errors import Unavailable
from spanpost.sinks.slack import flow
from spanpost.sinks.slack.flow import Request, Response


class Transport(Protocol):
    """**Protocol:** makes a call of the Web API. Raises `Unavailable` when nothing was sent, `Unknown` when it may have been."""

    async def call(self, request: Request) -> Response: ...

    async def close(self) -> None: ...


class Preview:
    """Writes each call as a line of JSON and answers as Slack would: for people without a token."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._posted = 0

    async def call(self, request: Request) -> Response:
        """Write the call; posts get a made-up `ts`."""
        file = self._file or sys.stderr
        # ASCII only: nothing in it can steer a terminal that it may be shown on.
        said = json.dumps({"method": request.method, "arguments": request.arguments})
        try:
            file.write(said + "\n")
            file.flush()
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot write the preview: {error}", reason="closed") from error
        ts = request.arguments.get("ts")
        if ts is None:
            self._posted += 1
            ts = f"0.{self._posted:06d}"
        return Response(body={"ok": True, "channel": request.arguments["channel"], "ts": ts})

    async def close(self) -> None: ...


class SlackSink:
    """Posts to Slack: one root message per task, edited in place, news in its thread."""

    name = "slack"

    def __init__(self, *, channel: str = "", transport: Transport | None = None, workspace: str = "default") -> None:
        self._channel = channel or "#agents"
        self._transport = transport or Preview()
        self._workspace = workspace

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Make the calls that the flow asks for."""
        steps = flow.deliver(delivery, channel=self._address(delivery))
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._transport.call(request))
        except StopIteration as done:
            receipt: Receipt = done.value
            return receipt

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Say what had arrived. Of a preview nothing had: writing it twice costs nothing."""
        return {d.id: None for d in deliveries} if isinstance(self._transport, Preview) else {}

    def budgets(self, address: str, call: Call) -> tuple[Budget, ...]:
        """Name the method of the workspace."""
        method = "chat.update" if call is Call.EDIT else "chat.postMessage"
        return (Budget(key=f"slack:{self._workspace}:{method}"),)

    async def close(self) -> None:
        await self._transport.close()

    def _address(self, delivery: Delivery) -> str:
        # "workspace/#channel"; the workspace is chosen where several are set up.
        return delivery.address.rpartition("/")[2] or self._channel
