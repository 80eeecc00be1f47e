"""The guard before every HTTP endpoint decides which requests pass. Pure: it reads a request's head and opens nothing.

Its rules, in this order:

1. A request names one host, once (400). An absolute request target must name the same host.
2. If an endpoint asks for no credential, the host must be one of ours (403). A web page whose name was made to point here
   (DNS rebinding) sends that name as the host.
3. A web page must be of our own origin (403). Programs send no ``HttpOrigin``.
4. ``Sec-Fetch-Site`` of another site may open a page in a tab, and nothing else (403).
5. A body is JSON, or another type that the endpoint takes (415). A browser sends no such type to another origin unasked.
6. Headers of proxies are believed if a trusted proxy sends them. A request with such a header is never of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from spanpost.http.hosts import DEFAULT_PORTS, Address, Host, HttpOrigin, address_of, host_of, is_loopback, origin_at, origin_of

Network: TypeAlias = IPv4Network | IPv6Network
Headers: TypeAlias = Mapping[str, Sequence[str]]

JSON: Final = "application/json"
PROTOBUF: Final = ("application/x-protobuf", "application/protobuf")
#: A request without a body needs no content type.
NOTHING: Final = ""
ANYTHING: Final = "*/*"
#: Nothing is sent there: it is read.
READ: Final[frozenset[str]] = frozenset()
_READS: Final = ("GET", "HEAD", "OPTIONS")


class Credential(StrEnum):
    """What an endpoint asks for, if the settings require it."""

    #: Nothing.
    NONE = "none"
    #: A tenant's token, or a client certificate.
    TOKEN = "token"
    #: An operator's token.
    OPERATOR = "operator"
    #: A bearer token, or a session. An unknown token is refused, whatever comes with it.
    BEARER = "bearer"
    #: A signature over the body.
    SIGNATURE = "signature"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard knows of an endpoint."""

    #: Content types that it takes.
    takes: frozenset[str] = frozenset({JSON})
    asks: Credential = Credential.NONE
    #: A browser may come here from another site, by a link or sent by a provider.
    is_page: bool = False
    #: Pages of `allowed_origins` may send here.
    is_shared: bool = False


_PAGE: Final = Endpoint(takes=READ, asks=Credential.TOKEN, is_page=True)
#: A login sets a cookie: never under a host that is not ours.
_LOGIN: Final = Endpoint(takes=READ, is_page=True)
_HEALTH: Final = Endpoint(takes=READ, asks=Credential.TOKEN)
_OPERATORS: Final = Endpoint(takes=READ, asks=Credential.OPERATOR)
_SIGNED: Final = Endpoint(takes=frozenset({ANYTHING}), asks=Credential.SIGNATURE)
#: By path; one that ends with a slash stands for all below it, ``/`` for itself alone. The longest that fits holds.
ENDPOINTS: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        "/v1/": Endpoint(takes=frozenset({JSON, *PROTOBUF}), asks=Credential.TOKEN, is_shared=True),
        "/control/": Endpoint(takes=READ, asks=Credential.TOKEN),
        "/control/v1/budget": Endpoint(asks=Credential.TOKEN),
        "/alerts/": Endpoint(asks=Credential.TOKEN),
        "/hooks/": _SIGNED,
        "/slack/events": _SIGNED,
        "/slack/install": _LOGIN,
        "/slack/oauth_redirect": _LOGIN,
        "/api/": Endpoint(takes=frozenset({JSON, NOTHING}), asks=Credential.BEARER),
        "/api/login": _LOGIN,
        "/api/login/callback": _LOGIN,
        "/": _PAGE,
        "/board/": _PAGE,
        "/metrics": _OPERATORS,
        "/health/detailed": _OPERATORS,
        "/health/live": _HEALTH,
        "/health/ready": _HEALTH,
    }
)
#: Of any other path.
UNKNOWN: Final = Endpoint()
_UNDER: Final = sorted((path for path in ENDPOINTS if path.endswith("/") and path != "/"), key=len, reverse=True)

#: A header is a proxy's where a word of its name is one of these, begins with "forward" or "prox", or ends with "ip".
_PROXY_WORDS: Final = frozenset(
    {
        "akamai", "amz", "amzn", "appengine", "arr", "azure", "cdn", "cf", "cloud", "cloudfront", "cluster", "envoy", "fastly", "fly",
        "ngrok", "original", "real", "remote", "surrogate", "tailscale", "traefik", "varnish", "vercel", "via",
    }
)  # fmt: skip
_PROXY_NAMES: Final = frozenset({"x-request-id", "x-request-start", "x-rewrite-url", "x-scheme", "x-host", "max-forwards"})

#: A name that only a resolver of one's own network knows: a service's, of Kubernetes or Compose.
_SERVICE: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)


class GuardedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a request. `headers` by name in lower case, each with its values in their order."""

    method: str
    path: str
    #: As it stood in the request line.
    target: str = "/"
    http_version: str = "1.1"
    scheme: str = "http"
    #: Address of the other end of the connection; empty: not known.
    peer: str = ""
    headers: Headers = {}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that may not pass."""

    status: int
    #: One word of a closed list, for metrics.
    why: str
    message: str
    headers: Mapping[str, str] = {}


class AllowedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request that may pass."""

    #: Address of the client: behind trusted proxies the nearest one that is none of them.
    client: str
    #: Nothing in the request says that it came from elsewhere. That alone allows nothing: a proxy may say nothing.
    is_this_machine: bool
    #: Another origin that `allowed_origins` lets in; empty: none.
    shared_with: str = ""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """The rules, as one server's settings make them."""

    #: Names of ours beside loopback. Without a port: with any. One that begins with a dot: all below it.
    hosts: frozenset[Host] = frozenset()
    #: Origins of our own pages, where they are known: each `public_url`.
    own_origins: frozenset[HttpOrigin] = frozenset()
    #: Other origins that may send telemetry.
    allowed_origins: frozenset[HttpOrigin] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()
    #: The server listens beyond loopback: addresses, and names without a dot, are names of ours then.
    is_beyond_loopback: bool = False
    #: Credentials that the settings require of every request to an endpoint that asks for them.
    required: frozenset[Credential] = frozenset({Credential.SIGNATURE})
    #: Settings that a refusal names.
    hosts_setting: str = "gateway.hosts"
    tokens_setting: str = "gateway.tokens"

    def judge(self, request: GuardedRequest) -> AllowedRequest | Refusal:
        """Return what is known of a request that may pass, or why it may not."""
        endpoint, headers = endpoint_of(request.path), request.headers
        sent_to = _host(request)
        is_behind = _is_in(address_of(request.peer), self.trusted_proxies)
        told = _last(headers, "x-forwarded-host") if is_behind else ""
        host = host_of(told) if told else sent_to
        if isinstance(sent_to, Refusal) or isinstance(host, Refusal) or (told and host is None):
            return _NO_HOST
        # Both must be known: a browser at a trusted address can send a proxy's headers for a page whose name was rebound.
        is_known = self._knows(sent_to) and self._knows(host)
        if not is_known and not self._is_proven(endpoint, headers):
            return self._unknown(host if self._knows(sent_to) else sent_to)
        scheme = _last(headers, "x-forwarded-proto").lower() if is_behind else ""
        scheme = scheme if scheme in DEFAULT_PORTS else request.scheme
        shared = self._page(endpoint, request, origin_at(scheme, host) if host is not None and is_known else None)
        refused = shared if isinstance(shared, Refusal) else _body(endpoint, request)
        if refused is not None:
            return refused
        client = client_of(request.peer, headers.get("x-forwarded-for", ()), self.trusted_proxies)
        is_named_here = sent_to is not None and is_loopback(sent_to.name)
        is_here = is_loopback(client) and is_named_here and request.http_version == "1.1" and not is_forwarded(headers)
        return AllowedRequest(client=client, is_this_machine=is_here, shared_with=str(shared))

    def _is_proven(self, endpoint: Endpoint, headers: Headers) -> bool:
        """Tell whether the endpoint itself refuses every request without a credential, which a web page cannot have."""
        if endpoint.asks is Credential.BEARER:
            return "authorization" in headers
        return endpoint.asks in self.required

    def _knows(self, host: Host | None) -> bool:
        if host is None:  # HTTP/1.0: no browser sends that
            return self.is_beyond_loopback
        if is_loopback(host.name) or host in self.hosts or Host(host.name) in self.hosts:
            return True
        if any(one.name.startswith(".") and host.name.endswith(one.name) and one.port in (None, host.port) for one in self.hosts):
            return True
        return self.is_beyond_loopback and (address_of(host.name) is not None or _SERVICE.fullmatch(host.name) is not None)

    def _unknown(self, host: Host | None) -> Refusal:
        named = f"the host {host.name!r} is" if host is not None else "a request without a host is"
        return Refusal(
            status=403,
            why="host",
            message=f"{named} not known here: use 127.0.0.1 or localhost, name the host in {self.hosts_setting}, or send a token where "
            f"{self.tokens_setting} asks for one",
        )

    def _page(self, endpoint: Endpoint, request: GuardedRequest, ours: HttpOrigin | None) -> str | Refusal:
        """Return the other origin that may send here, empty for our own and for programs; or why a page may not."""
        origins = request.headers.get("origin", ())
        origin = origin_of(origins[0]) if len(origins) == 1 else None
        if origin is not None and endpoint.is_shared and origin in self.allowed_origins:
            return origins[0]
        if origins and (origin is None or not (origin == ours or origin in self.own_origins)):
            return _foreign("a page of another origin sent this: only our own pages may, as they are reached (behind a proxy "
                            "gateway.trusted_proxies must name it); gateway.allowed_origins lets others send telemetry")  # fmt: skip
        sites = set(request.headers.get("sec-fetch-site", ()))
        if sites <= {"same-origin"} or sites <= {"none"} or (endpoint.is_page and _is_opened(request)):
            return ""
        return _foreign("a page of another site sent this: open it in a tab of its own")


def endpoint_of(path: str) -> Endpoint:
    """Return what is known of the endpoint at a path."""
    found = ENDPOINTS.get(path)
    if found is None:
        found = next((ENDPOINTS[one] for one in _UNDER if path.startswith(one)), UNKNOWN)
    return found


def client_of(peer: str, forwarded_for: Sequence[str], trusted: Iterable[Network]) -> str:
    """Return the address of a client: the peer's, or behind trusted proxies the right-most hop that is none of them."""
    networks, client = tuple(trusted), peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and _is_in(address_of(client), networks):
        said = hops.pop()
        host = host_of(said)
        hop = address_of(said) or (address_of(host.name) if host is not None else None)
        if hop is None:
            break  # the proxy does not tell the address: it stands for that client itself
        client = str(hop)
    address = address_of(client)
    return str(address) if address is not None else client


def is_forwarded(headers: Iterable[str]) -> bool:
    """Tell whether a header is among them by which proxies say that they stand between."""
    return any(name in _PROXY_NAMES or any(map(_is_proxy_word, name.replace("_", "-").split("-"))) for name in headers)


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return headers by name in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))
    return found


_PASSED: Final = "spanpost.passed"


def mark(scope: Any, passed: AllowedRequest) -> None:
    """Keep with a request what the guard knows of it."""
    scope[_PASSED] = passed


def passed_of(scope: Mapping[str, Any]) -> AllowedRequest:
    """Return what the guard knows of a request; of one that passed none, nothing is believed."""
    peer = scope.get("client") or ("",)
    return scope.get(_PASSED) or AllowedRequest(client=peer[0], is_this_machine=False)


def client_address(scope: Mapping[str, Any]) -> str:
    """Return the address of a request's client, behind trusted proxies too; empty where it is not known."""
    return passed_of(scope).client


_NO_HOST: Final = Refusal(
    status=400,
    why="host",
    message="one Host header is needed, with a host and perhaps a port, as in 127.0.0.1:4318, and no other in the target",
)


def _host(request: GuardedRequest) -> Host | Refusal | None:
    """Return the host that a request is for; None where an old client names none."""
    said = request.headers.get("host", ())
    if not said and request.http_version != "1.1":
        return None
    host = host_of(said[0]) if len(said) == 1 else None
    if host is not None and not request.target.startswith("/") and request.target != "*":
        found = _ABSOLUTE.match(request.target)
        if found is None or host_of(found[1]) != host:
            host = None
    return host if host is not None else _NO_HOST


def _body(endpoint: Endpoint, request: GuardedRequest) -> Refusal | None:
    """Return why what is sent is not taken; None where it is."""
    if request.method in _READS:
        return None
    takes = endpoint.takes
    if takes == READ:
        return Refusal(status=405, why="method", message="it takes GET", headers={"allow": "GET, HEAD"})
    said = request.headers.get("content-type", ())
    types = {one.partition(";")[0].strip().lower() for one in said}
    if ANYTHING in takes or (len(said) == 1 and types <= takes - {NOTHING}):
        return None
    if not said and NOTHING in takes and _is_empty(request.headers):
        return None
    wanted = " or ".join(sorted(takes - {NOTHING}))
    given = f"content type {said[0][:80]!r} is" if said else "a request without content type is"
    return Refusal(status=415, why="content_type", message=f"{given} not understood; send {wanted}")


def _is_empty(headers: Headers) -> bool:
    return "transfer-encoding" not in headers and set(headers.get("content-length", ())) <= {"0", ""}


def _is_opened(request: GuardedRequest) -> bool:
    """Tell whether a person's browser opens this as a page."""
    said = [request.headers.get(f"sec-fetch-{name}", ()) for name in ("mode", "dest")]
    return request.method == "GET" and [list(one) for one in said] == [["navigate"], ["document"]]


def _is_proxy_word(word: str) -> bool:
    return word in _PROXY_WORDS or word.startswith(("forward", "prox")) or word.endswith("ip")


def _foreign(message: str) -> Refusal:
    return Refusal(status=403, why="origin", message=message)


def _last(headers: Headers, name: str) -> str:
    """Return what the nearest proxy said; empty where it said nothing."""
    values = headers.get(name, ())
    return values[-1].rpartition(",")[2].strip() if values else ""


def _is_in(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
