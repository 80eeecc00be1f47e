"""The guard in a gateway that listens: every endpoint, with good requests and with foreign ones."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from spanpost.http.guard import ENDPOINTS, READ, UNKNOWN, endpoint_of
from spanpost.http.tokens import hash_of
from spanpost.metrics.recorder import Metrics
from spanpost.settings import load
from spanpost.settings.guards import metrics_guard
from tests.interactions.api.served import Served

HOOK = {"named": {"fix": {"kind": "command", "command": ["/bin/true"]}}}
LOG = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "agent.approval.resolved"}]}]}]})
ALERT = json.dumps(
    {"alerts": [{"status": "firing", "labels": {"alertname": "Hot"}, "startsAt": "2026-03-01T12:00:00Z"}]}
)
#: A correct request of each endpoint, and its status; readable ones have no body.
GOOD: dict[str, tuple[str, int]] = {
    "/v1/traces": ('{"resourceSpans": []}', 200),
    "/v1/logs": (LOG, 200),
    "/v1/metrics": ('{"resourceMetrics": []}', 200),
    "/v1/other": ("{}", 404),
    "/control/v1/budget": ('{"attributes": {}}', 200),
    "/control/v1/approvals/release-1.4": ("", 404),
    "/control/v1/tasks/t": ("", 404),
    "/alerts/alertmanager": (ALERT, 200),
    "/alerts/grafana": (ALERT, 200),
    "/hooks/own": ("{}", 401),
    "/slack/events": ("{}", 404),
    "/slack/install": ("", 404),
    "/api/me": ("", 401),
    "/api/tasks": ("", 401),
    "/api/events": ("", 401),
    "/api/logout": ("{}", 204),
    "/api/tasks/x/cancel": ("{}", 401),
    "/api/login": ("", 404),
    "/": ("", 200),
    "/board/history": ("", 200),
    "/board/static/now/main.js": ("", 200),
    "/metrics": ("", 200),
    "/health/live": ("", 200),
    "/health": ("", 200),
    "/health/ready": ("", 200),
    "/docs": ("", 200),
    "/health/detailed": ("", 200),
    "/favicon.ico": ("", 404),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with default settings: on loopback, without tokens. It keeps rows in memory."""
    webhooks = {"providers": {"own": {"scheme": "github", "secret": "hush-hush-hush-hush", "does": [{"start": "fix"}]}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("gateway"))
        with Served(None, interactions=None, launchers=HOOK, webhooks=webhooks) as served:
            yield served


def ask(served: Served, path: str, method: str = "", **headers: str) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    body = GOOD[path][0]
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    given = {"host": f"{host}:{port}"} | ({"content-type": "application/json"} if body else {})
    if path == "/api/logout":
        given["origin"] = served.url
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method or ("POST" if body else "GET"), path, body or None, given)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def _no_effect(gateway: Served, request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that a refused request changes nothing."""
    before = _rows(gateway)
    yield
    if "good" not in request.node.name:
        assert _rows(gateway) == before


def _rows(served: Served) -> tuple[Any, ...]:
    store: Any = served.gateway.pipeline.store
    return served.gateway.pipeline.ask(store.counts()), set(store._tables.alerts)


@pytest.mark.slow
@pytest.mark.parametrize("path", GOOD)
def test_a_good_request_is_answered(gateway: Served, path: str) -> None:
    """Each endpoint answers as documented, and every answer forbids content sniffing."""
    status, headers, _ = ask(gateway, path)
    assert (status, headers["x-content-type-options"]) == (GOOD[path][1], "nosniff")


@pytest.mark.parametrize("path", GOOD)
def test_a_page_of_elsewhere_is_refused(gateway: Served, path: str) -> None:
    """H3: with a rebound name, a page's origin or both, every endpoint answers 403 with the remedy."""
    evil = {"host": "evil.example", "origin": "http://evil.example"}
    for headers in (evil, {"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        for method in ("", "OPTIONS"):
            status, found, body = ask(gateway, path, method, **headers)
            assert (status, found["content-type"], found["x-content-type-options"]) == (
                403,
                "application/json",
                "nosniff",
            )
            said = json.loads(body)
            assert (said["code"], bool(said["message"])) == (7, True)
    if endpoint_of(path).asks != "signature":
        status, _, body = ask(gateway, path, host="evil.example")
        assert (status, "gateway.hosts" in json.loads(body)["message"]) == (403, True)


@pytest.mark.parametrize("path", [path for path in GOOD if endpoint_of(path).takes != READ and GOOD[path][0]])
def test_a_simple_request_is_refused(gateway: Served, path: str) -> None:
    """M1: a body that a browser sends without preflight is 415 wherever no signature proves it."""
    status, _, body = ask(gateway, path, content_type="text/plain")
    if endpoint_of(path).asks == "signature":
        assert status == GOOD[path][1]
    else:
        assert (status, json.loads(body)["code"]) == (415, 3)


@pytest.mark.parametrize("path", GOOD)
def test_a_host_that_is_none_is_refused(gateway: Served, path: str) -> None:
    """L4: hosts that can be read in two ways are 400 at every endpoint."""
    for host in ("127.0.0.1:80@evil.example", "[127.0.0.1]evil.example", "[::1%evil.example]", ""):
        assert ask(gateway, path, host=host)[0] == 400


def test_every_endpoint_is_known_to_the_guard(gateway: Served) -> None:
    """No endpoint falls under the guard's rule for unknown paths."""
    paths = gateway.gateway._endpoints.router.paths  # type: ignore[union-attr]
    assert {
        "/v1/traces",
        "/alerts/grafana",
        "/api/",
        "/",
        "/board/",
        "/control/v1/budget",
        "/hooks/",
        "/metrics",
    } <= set(paths)
    assert [path for path in paths if endpoint_of(path) == UNKNOWN and path not in ENDPOINTS] == []
    assert {endpoint_of(path) for path in GOOD if path != "/favicon.ico"} == set(ENDPOINTS.values())


def test_pages_that_are_let_in_send_telemetry(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web app in `gateway.allowed_origins` may send telemetry, and a reload can change the list."""
    monkeypatch.chdir(tmp_path)
    section = {"http_port": 0, "grpc_port": -1}
    shop = {"origin": "https://shop.example.com", "sec_fetch_site": "cross-site"}
    with Served(
        None, interactions=None, gateway={**section, "allowed_origins": ["https://shop.example.com"]}
    ) as served:
        status, headers, _ = ask(served, "/v1/traces", "OPTIONS", access_control_request_method="POST", **shop)
        assert (status, headers["access-control-allow-origin"]) == (204, "https://shop.example.com")
        assert "content-type" in headers["access-control-allow-headers"]
        status, headers, _ = ask(served, "/v1/traces", **shop)
        assert (status, headers["access-control-allow-origin"], headers["vary"]) == (
            200,
            "https://shop.example.com",
            "origin",
        )
        assert ask(served, "/alerts/grafana", **shop)[0] == 403
        assert served.reload(gateway=section)
        assert ask(served, "/v1/traces", **shop)[0] == 403


def test_refusals_are_counted(gateway: Served) -> None:
    """Requests that the guard refuses are counted, for operators whose telemetry does not arrive."""
    ask(gateway, "/metrics", host="evil.example")
    page = ask(gateway, "/metrics")[2].decode()
    [line] = [one for one in page.splitlines() if one.startswith("spanpost_requests_total{") and 'status="403"' in one]
    assert 'signal="guard"' in line


def test_a_reload_loosens_nothing_that_holds_until_the_next_start(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload with another `gateway.host` or `client_ca` changes no listening socket; new tokens count at once."""
    monkeypatch.chdir(tmp_path)
    section: dict[str, Any] = {"http_port": 0, "grpc_port": -1}
    with Served(None, interactions=None, gateway=section) as served:
        assert served.reload(gateway={**section, "host": "0.0.0.0", "allow_insecure": True})
        assert ask(served, "/metrics", host="10.0.0.7")[0] == 403
        assert served.reload(gateway={**section, "tokens": [{"tenant": "a", "sha256": [hash_of("spt_a")]}]})
        assert ask(served, "/v1/logs", host="gateway.example.com")[0] == 401
        assert ask(served, "/v1/logs", host="gateway.example.com", authorization="Bearer spt_a")[0] == 200
        assert ask(served, "/v1/logs", origin="http://evil.example", authorization="Bearer spt_a")[0] == 403


def scrape(port: int, **headers: str) -> int:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", None, {n.replace("_", "-"): v for n, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as page:
            assert page.headers["x-content-type-options"] == "nosniff"
            return int(page.status)
    except urllib.error.HTTPError as refused:
        answer = refused
    assert json.loads(answer.read())["message"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return int(answer.code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "cases"),
    [
        ({}, {"": 200, "evil.example": 403, "10.0.0.7": 403, "127.0.0.1:80@evil.example": 400}),
        ({"hosts": ["app.example"]}, {"app.example:9464": 200, "evil.example": 403}),
        ({"host": "0.0.0.0"}, {"": 200, "10.0.0.7:9464": 200, "app:9464": 200, "evil.example": 403}),
        ({"tokens": [hash_of("spt_scraper")]}, {"": 401, "evil.example": 401}),
    ],
    ids=["loopback", "listed", "beyond", "tokens"],
)
def test_the_port_of_metrics_has_the_same_guard(section: dict[str, Any], cases: dict[str, int]) -> None:
    """H3, L9: a rebound name or foreign page reads no metrics; with tokens a known one does by any name."""
    made = load(metrics={**section, "port": 0}).metrics
    assert made is not None
    metrics, tokens = Metrics(), [bytes.fromhex(one) for one in made.tokens]
    port = metrics.serve(made.host, 0, guard=metrics_guard(made), tokens=tokens)
    try:
        for host, status in cases.items():
            assert scrape(port, **({"host": host} if host else {})) == status, host
        assert scrape(port, origin="http://evil.example") == scrape(port, sec_fetch_site="cross-site") == 403
        if tokens:
            assert scrape(port, host="any.example", authorization="Bearer spt_scraper") == 200
            assert scrape(port, authorization="Bearer spt_other") == scrape(port, authorization="spt_scraper") == 401
    finally:
        metrics.close()


def test_metrics_for_everybody_are_warned_of() -> None:
    """L9: metrics beyond loopback without a token cause a warning with what to do."""
    found = {
        host: load(metrics={"host": host}).metrics.exposure for host in ("127.0.0.1", "::1", "0.0.0.0", "10.0.0.7")
    }  # type: ignore[union-attr]
    assert [host for host, said in found.items() if "metrics.tokens" in said] == ["0.0.0.0", "10.0.0.7"]
    assert load(metrics={"host": "0.0.0.0", "tokens": [hash_of("spt_x")]}).metrics.exposure == ""  # type: ignore[union-attr]
