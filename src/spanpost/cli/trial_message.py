"""``spanpost check --send``: a test message to each place that routes lead to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.errors import DeliveryError, DeliveryRefused
from spanpost.model.findings import Finding
from spanpost.model.tasks import Task
from spanpost.sinks.base import Sink
from spanpost.text.sanitise import line


async def send(sink: Sink, addresses: Sequence[str], tenant: str) -> list[Finding]:
    """Deliver a task that has ended, made up for this, to each address; a failure is a finding."""
    return [await _send(sink, address, tenant) for address in addresses]


async def _send(sink: Sink, address: str, tenant: str) -> Finding:
    uid, now = uuid4(), datetime.now(UTC)
    task = Task(
        uid=uid,
        tenant=tenant,
        task_id=str(uid),
        name="Test message of spanpost check",
        is_named=True,
        status="complete",
        started_at=now,
        ended_at=now,
        last_checkpoint="Messages of spanpost arrive here.",
    )
    key = f"check|{uid}"
    delivery = Delivery(
        tenant=tenant, sink=sink.name, address=address, ordering_key=key, key=key, mode=Mode.STATE, task=task,
        born_at=now, claimed_at=now,
    )  # fmt: skip
    where = address or "its default place"
    try:
        receipt = await sink.deliver(delivery)
    except DeliveryError as error:
        cure = error.cure if isinstance(error, DeliveryRefused) else "see why, and try again"
        return Finding(ok=False, found=f"no test message to {where}: {line(str(error), 300)}", cure=cure)
    if receipt.skipped or receipt.diverted:
        return Finding(ok=True, found=f"a test message to {where}: {line(receipt.skipped or receipt.diverted, 200)}")
    return Finding(ok=True, found=f"a test message was sent to {where}")
