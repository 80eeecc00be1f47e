"""OTLP over gRPC at a routing gateway: a message is passed on to its cell as the body of an OTLP/HTTP request.

Both transports carry the same bytes (opentelemetry-proto, "OTLP/HTTP"), compressed or not. So a cell has one kind
of connection, credential and answer, whichever way its telemetry came in.
"""

from __future__ import annotations

import math
import time
from typing import Final

import grpc

from spanpost.http.guard import PROTOBUF, AllowedRequest
from spanpost.http.retry_after import retry_after_seconds
from spanpost.http.shares import Sender
from spanpost.http.status import code_of, message_of
from spanpost.http.tenancy import TenantGrant
from spanpost.receivers.admission import Busy
from spanpost.receivers.cells.cell import CellRequest, CellUnavailable
from spanpost.receivers.cells.headers import of_tenant
from spanpost.receivers.cells.passing import Cells, refuse_distrust, refuse_foreign, under_way, whole
from spanpost.receivers.otlp_grpc import GrpcRefused, ReadMessage, encoding_of

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class CellGrpc:
    """Takes messages for the cells; see `spanpost.receivers.otlp_grpc.TakesMessages`."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    async def __call__(self, signal: str, grant: TenantGrant, sender: Sender, read: ReadMessage) -> bytes:
        """Return the cell's answer to a message. Raises `Busy` and `GrpcRefused`."""
        name = self._cells.assignment.of_tenant(sender.tenant)
        try:
            return await self._answer(signal, sender, read)
        except CellUnavailable as error:
            self._cells.count(name or "none", error.reason)
            raise Busy(str(error), error.retry_after) from None

    async def _answer(self, signal: str, sender: Sender, read: ReadMessage) -> bytes:
        cell = self._cells.of_tenant(sender.tenant)
        cell.refuse_down()  # before anything is read
        cell.admission.check_memory(sender, 1)
        reservation = cell.admission.reservation(sender)
        try:
            body = await read()
            reservation.grow(len(body))
            encoding = encoding_of(body)
            given = [(b"content-type", PROTOBUF[0].encode())]
            given += [(b"content-encoding", encoding.encode())] if encoding else []
            allowed = AllowedRequest(client=sender.address, is_this_machine=False)
            request = CellRequest(
                method="POST",
                target=f"/v1/{signal}",
                headers=of_tenant(given, allowed, sender.tenant, cell.token),
                body=body,
                is_safe=True,
                timeout=self._cells.timeout,
            )
            response = await under_way(cell, sender, cell.send(request), None, is_wait=False)
            async with response:
                refuse_distrust(cell, response.status)
                refuse_foreign(cell, response, PROTOBUF[0])
                answer = await whole(cell, response)
        finally:
            reservation.leave()
        self._cells.count(cell.name, f"{response.status // 100}xx")
        if response.status == 200:
            return answer
        wait = retry_after_seconds(response.headers.get("retry-after", ""), time.time()) or 0.0
        raise GrpcRefused(_CODES[code_of(response.status)], message_of(answer), math.ceil(wait))
