"""`/alerts/`: other monitors repeat only after a 5xx, so an unreadable request is quarantined and answered
200.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http.routing import HttpRouter
from spanpost.http.tokens import SenderTokens, hash_of
from spanpost.model.alerts import Alert
from spanpost.model.errors import StoreUnavailable
from spanpost.receivers import alerts_http as endpoint
from spanpost.receivers.alerts_http import AlertsHttp, take_each
from tests.thorough import thorough

ALERTMANAGER, GRAFANA = "/alerts/alertmanager", "/alerts/grafana"
#: As Alertmanager 0.25 sent it.
FIRING: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "SpanpostTaskStalled", "agent": "coder", "severity": "warning", "tenant": "acme"},
    "annotations": {
        "dashboard": "/d/spanpost-fleet",
        "runbook_url": "https://example.org/r",
        "summary": "A task of coder is stalled",
    },
    "startsAt": "2026-11-21T10:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
    "fingerprint": "6f2b6fe36ba16d3e",
}


def body(*alerts: object, **more: Any) -> bytes:
    return json.dumps({"version": "4", "receiver": "spanpost", "status": "firing", "alerts": alerts, **more}).encode()


class Endpoint:
    """The endpoint, and what it received."""

    def __init__(self, sender_tokens: SenderTokens | None = None) -> None:
        self.taken: list[Alert] = []
        self.kept: list[tuple[str, str, str, bytes]] = []
        self.counted: list[tuple[str, ...]] = []
        self.fail: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.full = asyncio.Event()
        self.waiting = 0
        alerts = AlertsHttp(
            self.take,
            sender_tokens or SenderTokens("default"),
            keep=self.keep,
            watch=self,
            base="https://grafana.example/sub/",
        )
        self.app = HttpRouter(alerts.routes)

    async def take(self, alerts: Sequence[Alert], /, until: float) -> list[bool]:
        self.waiting += 1
        if self.waiting == endpoint.MOST:
            self.full.set()
        await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        new = [alert.id not in {known.id for known in self.taken} for alert in alerts]
        self.taken += alerts
        return new

    async def keep(self, tenant: str, source: str, error: str, body: bytes) -> None:
        if self.fail is not None:
            raise self.fail
        self.kept.append((tenant, source, error, body))

    def requested(self, endpoint: str, signal: str, answer: str) -> None:
        self.counted.append((endpoint, signal, answer))

    def alerted(self, source: str, outcome: str, n: int = 1) -> None:
        self.counted.append((source, outcome))

    async def post(
        self, sent: bytes, path: str = ALERTMANAGER, *, method: str = "POST", authorization: str = ""
    ) -> tuple[int, Any]:
        answered: list[Any] = []
        pieces = [sent[i : i + 4096] for i in range(0, len(sent), 4096)] or [b""]
        coming = iter(
            [{"type": "http.request", "body": p, "more_body": i < len(pieces) - 1} for i, p in enumerate(pieces)]
        )

        async def receive() -> Any:
            return next(coming)

        async def send(message: Any) -> None:
            answered.append(message)

        headers = [(b"authorization", authorization.encode())] if authorization else []
        await self.app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        return answered[0]["status"], json.loads(answered[1]["body"])


@pytest.mark.proves("one-row", "alerts")
async def test_alerts_are_taken_and_counted() -> None:
    """Firing, resolved and repeated alerts are answered 200 and counted by these outcomes."""
    endpoint = Endpoint()
    over = FIRING | {"status": "resolved", "endsAt": "2026-11-21T10:05:00Z", "fingerprint": "other"}
    assert await endpoint.post(body(FIRING, over)) == (200, {"taken": 2, "new": 2, "unreadable": 0})
    assert await endpoint.post(body(FIRING)) == (200, {"taken": 1, "new": 0, "unreadable": 0})
    first, second = endpoint.taken[:2]
    assert (first.name, first.severity, first.is_resolved, second.is_resolved) == (
        "SpanpostTaskStalled",
        "warning",
        False,
        True,
    )
    assert first.starts_at.isoformat() == "2026-11-21T10:00:00.123456+00:00"
    assert first.links == {
        "Runbook": "https://example.org/r",
        "Dashboard": "https://grafana.example/sub/d/spanpost-fleet",
        "Query": "http://prometheus:9090/graph?g0.expr=up",
    }
    counted = [one for one in endpoint.counted if len(one) == 2]
    assert counted == [("alertmanager", "firing"), ("alertmanager", "resolved"), ("alertmanager", "repeat")]


async def test_grafana_is_understood() -> None:
    """Grafana's webhook is understood with its own links; without a fingerprint its labels identify it."""
    endpoint = Endpoint()
    sent = {key: value for key, value in FIRING.items() if key != "fingerprint"}
    sent |= {
        "values": {"A": 1},
        "valueString": "[ ]",
        "silenceURL": "https://g.example/s",
        "dashboardURL": "",
        "panelURL": "https://g.example/p",
    }
    assert (await endpoint.post(body(sent, sent, title="x", state="alerting"), GRAFANA))[1] == {
        "taken": 2,
        "new": 2,
        "unreadable": 0,
    }
    one, other = endpoint.taken
    assert (one.source, one.id) == ("grafana", other.id)
    assert {"Silence", "Panel"} <= one.links.keys()


@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b"[]", b"null", b'{"alerts": {}}', b"\xff\xfe", b"[" * 100_000, b"x" * (endpoint.MOST_BODY + 1)],
    ids=["empty", "cut", "list", "null", "no-list", "binary", "deep", "large"],
)
async def test_a_body_that_nobody_can_read_is_kept(sent: bytes) -> None:
    """An unreadable body is quarantined with the reason, counted, and answered 200: a repeat would be no
    better.
    """
    endpoint = Endpoint()
    assert await endpoint.post(sent) == (200, {"taken": 0, "new": 0, "unreadable": 1})
    [(tenant, source, error, kept)] = endpoint.kept
    assert (tenant, source, bool(error), kept == sent[: len(kept)]) == ("default", "alerts/alertmanager", True, True)
    assert ("alertmanager", "unreadable") in endpoint.counted


@pytest.mark.proves("one-stops-no-other", "alerts")
async def test_very_many_unreadable_alerts_cost_little() -> None:
    """Of many unreadable alerts the first hundred are kept and all are counted; of too many none is read."""
    served = Endpoint()
    assert (await served.post(body(*[{}] * 1000, FIRING)))[1] == {"taken": 1, "new": 1, "unreadable": 1000}
    assert len(served.kept) == endpoint.MOST_UNREADABLE == 100
    assert served.counted.count(("alertmanager", "unreadable")) == 1000
    assert (await served.post(body(*[{}] * 10_001)))[1] == {"taken": 0, "new": 0, "unreadable": 1}
    assert served.kept[100][2] == "the body holds 10001 alerts, more than 10000"


async def test_unreadable_alerts_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over while unreadable alerts are kept, the sender is asked to repeat."""
    monkeypatch.setattr(endpoint, "LONGEST", -1.0)
    served = Endpoint()
    status, _ = await served.post(body({}))
    assert (status, len(served.kept)) == (503, 1)


@pytest.mark.proves("one-bad-span", "alerts")
@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("status", "on fire", "status"), ("startsAt", "yesterday", "startsAt"), ("startsAt", None, "startsAt"),
        ("startsAt", "2026-11-21T10:00:00", "startsAt"), ("startsAt", "0001-01-01T00:00:00Z", "startsAt"),
    ],
)  # fmt: skip
async def test_one_poisonous_alert_spoils_no_other(field: str, value: object, named: str) -> None:
    """One bad alert is quarantined with its wrong field, and the others of its group are recorded."""
    endpoint = Endpoint()
    assert (await endpoint.post(body(FIRING | {field: value}, FIRING)))[1] == {"taken": 1, "new": 1, "unreadable": 1}
    [(_, _, error, kept)] = endpoint.kept
    assert error.startswith(f"alerts[0]: {named}")
    assert json.loads(kept)["fingerprint"] == FIRING["fingerprint"]


@pytest.mark.slow
@pytest.mark.proves("one-bad-span", "alerts")
@thorough(150)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*FIRING, "alerts", "alertname", "task_id", "summary"]) | st.text(max_size=8),
                inner,
                max_size=8,
            )
        ),
        max_leaves=30,
    ),
    st.booleans(),
)
def test_any_json_gets_an_answer(said: Any, is_alert: bool) -> None:
    """Any JSON is recorded or quarantined, and answered 200."""

    async def ask() -> None:
        endpoint = Endpoint()
        sent = body(FIRING | said if isinstance(said, dict) else said) if is_alert else json.dumps(said).encode()
        status, result = await endpoint.post(sent)
        assert (status, result["unreadable"]) == (200, len(endpoint.kept))
        assert result["taken"] == len(endpoint.taken)
        for alert in endpoint.taken:
            assert "\0" not in repr(alert)

    asyncio.run(ask())


@pytest.mark.proves("never-500", "alerts")
@pytest.mark.parametrize("fault", [StoreUnavailable("away"), RuntimeError("a bug")])
async def test_while_the_store_is_down_senders_repeat(fault: Exception) -> None:
    """A store that is down gives 503 for alerts and for unreadable bodies alike, without the cause."""
    endpoint = Endpoint()
    endpoint.fail = fault
    for sent in (body(FIRING), b"{"):
        status, result = await endpoint.post(sent)
        assert (status, str(fault) in result["message"]) == (503, False)
    endpoint.fail = None
    assert (await endpoint.post(body(FIRING)))[1]["new"] == 1


async def test_too_many_at_once_come_back() -> None:
    """Beyond a few requests under way the next is answered 503, and no accepted one is harmed."""
    there = Endpoint()
    there.gate.clear()
    under_way = [asyncio.create_task(there.post(body(FIRING))) for _ in range(endpoint.MOST)]
    await there.full.wait()
    assert (await there.post(body(FIRING)))[0] == 503
    there.gate.set()
    assert {status for status, _ in await asyncio.gather(*under_way)} == {200}


async def test_what_takes_too_long_is_left_to_its_repeat() -> None:
    """After the time limit the recorded alerts stay recorded, and the sender is asked to repeat."""
    taken: list[int] = []

    async def take(alert: Any) -> bool:
        taken.append(alert)
        return True

    with pytest.raises(StoreUnavailable):
        await take_each([1, 2], take, until=time.monotonic() - 1)  # type: ignore[list-item]
    assert taken == []
    assert await take_each([1, 2], take, until=time.monotonic() + 60) == [True, True]  # type: ignore[list-item]


async def test_who_may_send() -> None:
    """A tenant's token, as Bearer or Basic password, sets the tenant; an operator's uses the label."""
    there = Endpoint(SenderTokens("default", [("globex", hash_of("tenants"))], [hash_of("operators")]))
    basic = b64encode(b"alertmanager:tenants").decode()
    for authorization in ("", "Bearer wrong", "Basic !!!", "Basic " + b64encode(b"tenants").decode(), "Negotiate x"):
        assert (await there.post(body(FIRING), authorization=authorization))[0] == 401
    assert there.taken == []
    for authorization in ("Bearer tenants", f"Basic {basic}", "Bearer operators"):
        assert (await there.post(body(FIRING), authorization=authorization))[0] == 200
    assert [alert.tenant for alert in there.taken] == ["globex", "globex", "acme"]
    assert len({alert.id for alert in there.taken}) == 2


async def test_other_paths_and_methods() -> None:
    """Other paths and methods get an answer with the valid ones."""
    there = Endpoint()
    assert (await there.post(b"", "/alerts/pagerduty"))[0] == 404
    status, result = await there.post(b"", method="GET")
    assert (status, result) == (405, {"code": 12, "message": "it takes POST", "details": result["details"]})
