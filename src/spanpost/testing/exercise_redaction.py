"""What a tenant's rules take away is in no row and in no delivery: a class of tests beside `ExerciseStore`, with the
same fixture.
"""

from __future__ import annotations

import json
import re
import time
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from spanpost.model.launch_orders import Order, OrderQuery, Taken
from spanpost.readers.alerts import read as read_alert
from spanpost.readers.redaction import Redaction, RedactionRules, TenantRules
from spanpost.receivers.decode import decode_logs, decode_metrics, decode_traces
from spanpost.routing.routes import Routes
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.exercise_store import SINK, MakeStore, drain
from spanpost.testing.observed import ended
from spanpost.testing.planted import MARKER, Planted, planted
from spanpost.text.rules import RedactionAction, RedactionRule

PATTERN = r"MARK-[a-z]{1,20}-[0-9]{6}"
_BYTES = re.compile(r"base64:([A-Za-z0-9+/]+={0,2})")
_DECODE = {"traces": decode_traces, "logs": decode_logs, "metrics": decode_metrics}


def by_tenant(**rules: Iterable[RedactionRule]) -> FoldRules:
    """Return rules with those of redaction for each tenant; every checkpoint is delivered to `SINK`."""
    tenants = {tenant: TenantRules(rules=tuple(own)) for tenant, own in rules.items()}
    redaction = Redaction(RedactionRules(tenants=tenants))
    return FoldRules(routes=Routes(sinks=(SINK,)), stall_rules=NO_STALL, redaction=redaction, keeps_content=True)


async def record(store: Store, tenant: str, plants: Planted) -> None:
    """Record requests as a receiver of that tenant would."""
    for signal, bodies in plants.bodies.items():
        for body in bodies:
            await store.record(_DECODE[signal](body, tenant=tenant).observations)


class ExerciseRedaction(ABC):
    """How every store applies the rules of redaction."""

    @abstractmethod
    async def everything(self, store: Any) -> str:
        """Return all texts that a store holds, decompressed."""

    async def test_a_marker_in_any_text_is_in_no_row_and_no_delivery(self, make_store: MakeStore) -> None:
        """Every text of OTLP has a marker. Where a tenant hashes or drops it, no row and no delivery has it; those of
        a tenant without rules have many, so the search finds them.
        """
        actions = ("hash", "drop")
        rules = {one: [RedactionRule(action=RedactionAction(one), pattern=PATTERN, name="mark")] for one in actions}
        store = await make_store(by_tenant(**rules))
        plants = {tenant: planted(tenant, time.time_ns()) for tenant in (*actions, "plain")}
        for tenant, each in plants.items():
            await record(store, tenant, each)
        places = {marker: place for each in plants.values() for marker, place in each.places.items()}
        rows = await self.everything(store)
        found = {
            "rows": rows,
            "bytes in rows": "".join(b64decode(one).decode() for one in _BYTES.findall(rows)),
            "deliveries": repr(await drain(store)),
        }
        for where, text in found.items():
            of_rules = {marker: places[marker] for marker in MARKER.findall(text) if "-plain-" not in marker}
            assert of_rules == {}, where
        assert len(set(MARKER.findall(rows))) > 150
        assert len(set(MARKER.findall(found["deliveries"]))) > 50
        assert "[redacted:mark:" in rows
        assert "[redacted:mark]" in rows

    async def test_an_alert_and_an_incoming_request_hold_no_marker(self, make_store: MakeStore) -> None:
        """Names and values of an alert, headers and body of a webhook: the rules of its own tenant are applied, and
        those of no other.
        """
        rule = RedactionRule(action=RedactionAction.REDACT, pattern=PATTERN, name="mark")
        store = await make_store(by_tenant(ruled=[rule]))
        for tenant in ("ruled", "plain"):
            said = f"see MARK-{tenant}-000001"
            page = f"https://prometheus.example/{said[4:]}"
            given = {
                "status": "firing",
                "startsAt": "2026-11-23T10:00:00Z",
                "fingerprint": "f00d",
                "generatorURL": page,
                "labels": {"alertname": said, "severity": said, said: "x", "customer": said},
                "annotations": {"summary": said, "description": said, "runbook_url": page, said: said},
            }
            alert = read_alert(given, "alertmanager", tenant, external_url=page)
            await store.alerts.take(alert)
            document = {"event": said, said: [{"deep": said}], "text": f'{{"again": "{said}"}}'}
            order = Order(
                id=alert.id, tenant=tenant, carrier="hook:ci", source="hook", at=alert.starts_at,
                parameters={"user-agent": said, said: "x"}, body=json.dumps(document).encode(),
            )  # fmt: skip
            assert await store.launch_orders.place(order) is Taken.NEW
            [row] = await store.launch_orders.listed(OrderQuery(tenant=tenant))
            assert isinstance(json.loads(row.order.body), dict)  # what is left is JSON
        rows = await self.everything(store)
        shown = repr(await store.outbox.claim([SINK, "hook:ci"], 100))
        assert "MARK-ruled-" not in rows + shown
        assert "MARK-plain-" in rows
        assert "MARK-plain-" in shown
        assert "[redacted:mark]" in rows

    async def test_new_rules_hold_from_the_next_request_on(self, make_store: MakeStore) -> None:
        """Rules that replace others, as a reload of the settings does, concern everything recorded from then on."""
        store: Any = await make_store(by_tenant())
        for number, rules in enumerate(([], [RedactionRule(action=RedactionAction.DROP, pattern=PATTERN)], [])):
            store.rules = by_tenant(default=rules)
            noted = {"agent.task.name": f"MARK-reload-{number:06d}", "gen_ai.operation.name": "invoke_agent"}
            await store.record([ended(trace=number + 1, span=1, name="agent", attributes=noted)])
        rows = await self.everything(store)
        assert sorted(set(MARKER.findall(rows))) == ["MARK-reload-000000", "MARK-reload-000002"]
