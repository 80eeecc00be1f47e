"""The guard before all endpoints, alone: any host, origin, header and hop."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanpost.http.guard import (
    ENDPOINTS,
    READ,
    AllowedRequest,
    Credential,
    Guard,
    GuardedRequest,
    Refusal,
    client_of,
    endpoint_of,
    is_forwarded,
)
from spanpost.http.hosts import Host, host_of, is_loopback, origin_of

LOCAL = Guard()
BEYOND = Guard(is_beyond_loopback=True)
TOKENS = Guard(required=frozenset({Credential.SIGNATURE, Credential.TOKEN, Credential.OPERATOR}))
BEHIND = Guard(
    hosts=frozenset({Host("agents.example.com")}), trusted_proxies=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))
)

#: Paths below which requests go to an endpoint.
PATHS = [path if not path.endswith("/") or path == "/" else f"{path}x" for path in ENDPOINTS]
OTLP = {"content-type": "application/json"}


def a_request(path: str = "/v1/logs", method: str = "POST", /, **about: Any) -> GuardedRequest:
    headers = {"host": "127.0.0.1:4318", **about.pop("headers", {})}
    listed = {
        name: [value] if isinstance(value, str) else value for name, value in headers.items() if value is not None
    }
    if "origin" in about:
        listed["origin"] = [about.pop("origin")]
    return GuardedRequest(method=method, path=path, headers=listed, **{"peer": "127.0.0.1", "target": path, **about})


def status(verdict: AllowedRequest | Refusal) -> int:
    return verdict.status if isinstance(verdict, Refusal) else 200


def post(guard: Guard, path: str = "/v1/logs", **headers: Any) -> int:
    return status(guard.judge(a_request(path, headers={**OTLP, **headers})))


def get(guard: Guard, path: str = "/metrics", **headers: Any) -> int:
    return status(guard.judge(a_request(path, "GET", headers=headers)))


hosts = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A[\[\]0-9a-fA-F:.%@a-z/?# -]{0,40}\Z"),
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda one: f"[{one}]"),
    st.tuples(st.sampled_from(["localhost", "127.0.0.1", "[::1]", "127.9.9.9"]), st.text(max_size=12)).map("".join),
    st.tuples(st.text(max_size=12), st.sampled_from(["localhost", "127.0.0.1", "[::1]"])).map("".join),
)


@given(text=hosts)
@example("127.0.0.1:80@evil.example")
@example("[127.0.0.1]evil.example")
@example("[::1%evil.example]")
@example("[127.0.0.1]")
@example("localhost.evil.example")
@example("localhost.")
@example("127.0.0.1.")
@example("2130706433")
@example("0x7f000001")
@example("127.1")
@example("0177.0.0.1")
@example("localhost:99999")
@example("localhost:")
@example("\u212aocalhost")
@example("127.0.0.1\xa0")
@example("[::1]\n")
def test_what_passes_as_this_machine_is_this_machine(text: str) -> None:
    """A Host passes only if it is `localhost` or a loopback address by Python, with or without a port."""
    verdict = LOCAL.judge(a_request("/metrics", "GET", headers={"host": text}))
    assert status(verdict) in (200, 400, 403)
    if not isinstance(verdict, Refusal):
        name, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "0")
        assert port.isascii()
        assert 0 <= int(port) <= 65_535
        assert name.lower() == "localhost" or ip_address(name.strip("[]")).is_loopback


@given(text=st.one_of(hosts.map(lambda one: f"http://{one}"), st.text(max_size=40)))
@example("http://127.0.0.1:4318")
@example("HTTP://127.0.0.1:4318")
@example("https://127.0.0.1:4318")
@example("http://localhost:4318")
@example("http://127.0.0.1:4318/")
@example("http://127.0.0.1:4318@evil.example")
@example("null")
@example("")
def test_only_our_own_origin_passes(text: str) -> None:
    """Any Origin passes only if it has the scheme, host and port of the request."""
    verdict = status(LOCAL.judge(a_request(headers=OTLP, origin=text)))
    assert verdict == (200 if text.lower() == "http://127.0.0.1:4318" else 403)


@pytest.mark.parametrize("path", PATHS)
def test_a_rebound_name_gets_nothing(path: str) -> None:
    """H3: a page under a foreign name that resolves here is refused at every endpoint without tokens."""
    method = "GET" if endpoint_of(path).takes == READ else "POST"
    for more in ({}, {"origin": "http://evil.example"}, {"origin": "http://127.0.0.1:4318"}):
        headers = {**OTLP, "host": "evil.example:4318", **more}
        signed = endpoint_of(path).asks is Credential.SIGNATURE and not more
        assert status(LOCAL.judge(a_request(path, method, headers=headers))) == (200 if signed else 403)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("guard", [LOCAL, BEYOND, TOKENS, BEHIND], ids=["local", "beyond", "tokens", "behind"])
def test_a_page_of_elsewhere_gets_nothing(guard: Guard, path: str) -> None:
    """A page of another origin, of none (`null`) or of two is refused at every endpoint, with any token."""
    for origin in (
        "http://evil.example",
        "null",
        "",
        ["http://127.0.0.1:4318", "http://127.0.0.1:4318"],
        "http://127.0.0.1:3000",
    ):
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            headers = {**OTLP, "origin": origin, "authorization": "Bearer spt_x"}
            assert status(guard.judge(a_request(path, method, headers=headers))) == 403


def test_a_host_is_named_once() -> None:
    """A missing Host in HTTP/1.1, two, or another in the target is 400; HTTP/1.0 without Host is unknown."""
    assert get(LOCAL, host=[]) == get(LOCAL, host=["127.0.0.1", "127.0.0.1"]) == get(LOCAL, host="") == 400
    for target, wanted in {
        "http://127.0.0.1:4318/metrics": 200,
        "http://evil.example/metrics": 400,
        "http://127.0.0.1:4318@evil.example/metrics": 400,
        "http:/metrics": 400,
        "127.0.0.1:4318": 400,
        "": 400,
        "*": 200,
    }.items():
        assert status(LOCAL.judge(a_request("/metrics", "GET", target=target))) == wanted, target
    old = a_request("/health/live", "GET", http_version="1.0", headers={"host": []})
    assert [status(guard.judge(old)) for guard in (LOCAL, BEYOND, TOKENS)] == [403, 200, 200]


def test_names_of_ours() -> None:
    """Listed names pass with their port, a leading dot covers subdomains, and beyond loopback services pass."""
    listed = Guard(hosts=frozenset({Host("agents.example.com"), Host("other.example", 8443), Host(".svc")}))
    passes = [
        "AGENTS.example.com",
        "agents.example.com:1",
        "other.example:8443",
        "a.svc",
        "a.b.svc:4318",
        "localhost",
        "[::1]:4318",
    ]
    fails = [
        "other.example",
        "other.example:1",
        "svc",
        "agents.example.com.evil.example",
        "xagents.example.com",
        "asvc",
        "10.0.0.7",
        "a",
    ]
    assert {one for one in passes + fails if get(listed, host=one) == 200} == set(passes)
    assert (
        get(BEYOND, host="10.0.0.7:4318") == get(BEYOND, host="[fd00::7]") == get(BEYOND, host="spanpost:4318") == 200
    )
    assert get(BEYOND, host="evil.example") == get(BEYOND, host="2130706433") == get(BEYOND, host="0x7f000001") == 403


def test_where_a_token_is_asked_for_any_name_will_do() -> None:
    """An endpoint with a token accepts any name: collectors use names that are not listed, and a foreign
    page has no token.
    """
    assert [post(TOKENS, host="gateway.example.com"), get(TOKENS, host="gateway.example.com")] == [200, 200]
    assert get(TOKENS, "/health/ready", host="lb.example.com") == 200
    operators = Guard(required=frozenset({Credential.OPERATOR}))
    assert [get(operators, host="prometheus.example"), post(operators, host="prometheus.example")] == [200, 403]
    api = [
        get(TOKENS, "/api/me", host="gateway.example.com", **more) for more in ({}, {"authorization": "Bearer spt_x"})
    ]
    assert api == [403, 200]  # a session's cookie comes by itself
    assert (
        get(TOKENS, "/api/login", host="gateway.example.com")
        == get(TOKENS, "/elsewhere", host="gateway.example.com")
        == 403
    )


@pytest.mark.parametrize("path", PATHS)
def test_no_simple_request_has_an_effect(path: str) -> None:
    """M1: a request that browsers send cross-site without preflight is refused unless it must be signed."""
    takes = endpoint_of(path).takes
    for said in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "",
    ):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            verdict = status(
                LOCAL.judge(a_request(path, method, headers={"content-type": said, "content-length": "2"}))
            )
            assert verdict == (200 if "*/*" in takes else 405 if takes == READ else 415)
    twice = a_request(path, headers={"content-type": ["application/json", "text/plain"]})
    assert (status(LOCAL.judge(twice)) == 200) == ("*/*" in takes)
    none = status(LOCAL.judge(a_request(path)))
    assert (none == 200) == ("*/*" in takes or "" in takes)


def test_a_body_says_what_it_is() -> None:
    """An empty request needs no content type; a body without one is refused."""
    path = "/api/tasks/x/cancel"
    for headers, wanted in (
        ({}, 200),
        ({"content-length": "0"}, 200),
        ({"content-length": "2"}, 415),
        ({"transfer-encoding": "chunked"}, 415),
    ):
        assert status(LOCAL.judge(a_request(path, headers=headers))) == wanted
    assert (
        post(LOCAL, **{"content-type": "Application/JSON; charset=utf-8"})
        == post(LOCAL, **{"content-type": "application/x-protobuf"})
        == 200
    )
    assert post(LOCAL, "/alerts/grafana", **{"content-type": "application/x-protobuf"}) == 415


def test_a_browser_from_elsewhere_may_open_a_page() -> None:
    """A link from another site may open a page in a tab; frames, other requests and other ports may not."""
    opened = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    framed = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    asked = {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    for site in ("cross-site", "same-site", "unheard-of"):
        for path in ("/", "/board/tasks/x", "/api/login", "/api/login/callback", "/slack/install"):
            assert get(LOCAL, path, **opened, **{"sec-fetch-site": site}) == 200
            assert (
                get(LOCAL, path, **framed, **{"sec-fetch-site": site})
                == get(LOCAL, path, **asked, **{"sec-fetch-site": site})
                == 403
            )
        for path in ("/metrics", "/api/tasks", "/control/v1/tasks/x", "/health/live"):
            assert get(LOCAL, path, **opened, **{"sec-fetch-site": site}) == 403
        assert post(LOCAL, **opened, **{"sec-fetch-site": site}) == 403
    for site in ("same-origin", "none"):
        assert get(LOCAL, "/api/tasks", **{"sec-fetch-site": site}) == 200
    assert get(LOCAL, "/api/tasks", **{"sec-fetch-site": ["same-origin", "cross-site"]}) == 403


def test_origins_that_are_let_in_send_telemetry_and_nothing_else() -> None:
    """A page of `allowed_origins` may post to /v1 and gets the CORS headers; at any other endpoint it is
    refused.
    """
    shared = Guard(allowed_origins=frozenset({origin_of("https://shop.example.com")}))  # type: ignore[arg-type]
    headers = {**OTLP, "origin": "https://shop.example.com", "sec-fetch-site": "cross-site"}
    verdict = shared.judge(a_request(headers=headers))
    assert isinstance(verdict, AllowedRequest)
    assert verdict.shared_with == "https://shop.example.com"
    assert [
        status(shared.judge(a_request(path, headers=headers)))
        for path in ("/control/v1/budget", "/alerts/grafana", "/api/x")
    ] == [403] * 3
    assert post(shared, origin="http://shop.example.com") == post(shared, origin="https://shop.example.com:8443") == 403


PROXIED = [
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-forward-for",
    "x-real-ip", "via", "cf-connecting-ip", "cf-ray", "cdn-loop", "x-client-ip", "true-client-ip",
    "x-cluster-client-ip", "x-envoy-external-address", "x-envoy-expected-rq-timeout-ms", "x-amzn-trace-id",
    "x-amz-cf-id", "fly-client-ip", "fastly-client-ip", "tailscale-user-login", "x-original-url",
    "x-original-forwarded-for", "x-rewrite-url", "x-azure-clientip", "x-arr-log-id", "x-appengine-user-ip",
    "x-request-id", "x-cloud-trace-context", "ngrok-auth-user", "remote-user", "x-proxy-user", "proxy-connection",
    "x_forwarded_for", "x-remote-addr",
]  # fmt: skip
BROWSERS = [
    "host", "connection", "cache-control", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
    "upgrade-insecure-requests", "user-agent", "accept", "accept-encoding", "accept-language", "sec-fetch-site",
    "sec-fetch-mode", "sec-fetch-user", "sec-fetch-dest", "sec-purpose", "sec-gpc", "referer", "cookie", "origin",
    "authorization", "content-type", "content-length", "idempotency-key", "dnt", "last-event-id", "if-none-match",
    "priority", "te", "pragma", "traceparent", "tracestate", "baggage", "x-requested-with", "expect", "range",
    "transfer-encoding", "save-data", "device-memory", "downlink", "keep-alive", "date", "from", "upgrade",
    "http2-settings",
]  # fmt: skip


@pytest.mark.parametrize("header", PROXIED)
def test_what_came_by_a_proxy_is_not_of_this_machine(header: str) -> None:
    """M6: any header of a proxy marks a request as remote, whatever it says."""
    verdict = LOCAL.judge(a_request("/api/me", "GET", headers={header: ""}))
    assert isinstance(verdict, AllowedRequest)
    assert not verdict.is_this_machine


def test_what_is_of_this_machine() -> None:
    """No header of browsers marks a proxy; HTTP/1.0, another host and another address are not this machine."""
    assert not is_forwarded(BROWSERS)

    def is_here(guard: Guard = LOCAL, **about: Any) -> bool:
        verdict = guard.judge(a_request("/api/me", "GET", **about))
        assert isinstance(verdict, AllowedRequest)
        return verdict.is_this_machine

    assert is_here()
    assert is_here(peer="::1", headers={"host": "localhost:4318"})
    assert is_here(peer="::ffff:127.0.0.1")
    bearer = {"authorization": "Bearer spt_x"}
    for about in (
        {"http_version": "1.0"},
        {"peer": "10.0.0.7"},
        {"peer": ""},
        {"headers": {"host": "evil.example", **bearer}},
        {"headers": {"host": "spanpost", **bearer}},
    ):
        assert not is_here(BEYOND, **about), about
    assert not is_here(BEHIND, headers={"x-forwarded-for": "127.0.0.1"})


def test_headers_of_proxies_are_believed_of_trusted_ones_alone() -> None:
    """M6: scheme and host are taken from a trusted proxy; from any other sender the headers change nothing."""
    forwarded = {
        "x-forwarded-host": "agents.example.com",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "203.0.113.9",
    }
    acts = a_request("/api/x", headers={**OTLP, **forwarded}, origin="https://agents.example.com", peer="10.0.0.7")
    verdict = BEHIND.judge(acts)
    assert isinstance(verdict, AllowedRequest)
    assert (verdict.client, verdict.is_this_machine) == ("203.0.113.9", False)
    assert status(Guard(hosts=BEHIND.hosts).judge(acts)) == 403
    plain = {**forwarded, "x-forwarded-proto": "http"}
    assert (
        status(BEHIND.judge(a_request("/api/x", headers={**OTLP, **plain}, origin="https://agents.example.com"))) == 403
    )


def test_a_rebound_page_cannot_speak_as_a_trusted_proxy() -> None:
    """With a trusted proxy on this machine a browser has its address, so the Host must still be ours."""
    for more in (
        {"x-forwarded-host": "agents.example.com"},
        {"x-forwarded-host": "127.0.0.1"},
        {"x-forwarded-host": ""},
    ):
        assert get(BEHIND, "/control/v1/tasks/x", host="evil.example", **more) == 403
        assert get(BEHIND, "/control/v1/tasks/x", **{"x-forwarded-host": "evil.example"}) == 403
    assert get(BEHIND, "/control/v1/tasks/x", **{"x-forwarded-host": "a@b"}) == 400


TRUSTED = BEHIND.trusted_proxies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4:4711"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, , 10.0.0.2"], "10.0.0.2"),
        ("", ["6.6.6.6"], ""),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_not_trusted(peer: str, hops: list[str], client: str) -> None:
    """The client is the nearest untrusted hop; hops further left are forgeable, and an unreadable one ends
    the search.
    """
    assert client_of(peer, hops, TRUSTED) == client


@given(
    peer=st.ip_addresses().map(str),
    hops=st.lists(st.one_of(st.text(max_size=30), st.ip_addresses().map(str)), max_size=5),
)
def test_any_hops_give_an_address(peer: str, hops: list[str]) -> None:
    """A client always has an address; without trusted proxies it is the peer's."""
    ip_address(client_of(peer, hops, TRUSTED))
    assert ip_address(client_of(peer, hops, ())) == (getattr(ip_address(peer), "ipv4_mapped", None) or ip_address(peer))


@given(text=hosts)
def test_a_host_is_read_whole_or_not_at_all(text: str) -> None:
    """A parsed host, written again, equals the input."""
    found = host_of(text)
    if found is not None:
        name = f"[{found.name}]" if ":" in found.name else found.name
        again = name if found.port is None else f"{name}:{text.rpartition(':')[2]}"
        assert again == text.lower()
        assert is_loopback(found.name) == (found.name == "localhost" or _is_loopback(found.name))


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False
