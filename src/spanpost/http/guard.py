"""The guard before every HTTP endpoint decides which requests pass. Pure: it reads a request's head and
opens nothing.

Its rules, in this order:

1. A request names one host, once (400). An absolute request target must name the same host.
2. If an endpoint asks for no credential, the host must be one of ours (403). A web page whose name was made
   to point here (DNS rebinding) sends that name as the host.
3. A web page must be of our own origin (403). Programs send no ``HttpOrigin``.
4. ``Sec-Fetch-Site`` of another site may open a page in a tab, and nothing else (403).
5. A body is JSON, or another type that the endpoint takes (415). A browser sends no such type to another
   origin unasked.
6. Headers of proxies are believed if a trusted proxy sends them. A request with such a header is never of
   this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from spanpost.http.hosts import (
    DEFAULT_PORTS,
    Address,
    Host,
    HttpOrigin,
    address_of,
    host_of,
    is_loopback,
    origin_at,
    origin_of,
)

Network: TypeAlias = IPv4Network | IPv6Network
Headers: TypeAlias = Mapping[str, Sequence[str]]

JSON: Final = "application/json"
PROTOBUF: Final = ("application/x-protobuf", "application/protobuf")
#: A request without a body needs no content type.
NOTHING: Final = ""
ANYTHING: Final = "*/*"
#: An endpoint without request bodies.
READ: Final[frozenset[str]] = frozenset()
_READS: Final = ("GET", "HEAD", "OPTIONS")


class Credential(StrEnum):
    """The credential of an endpoint, if the settings require it."""

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


class EndpointRules(msgspec.Struct, frozen=True, kw_only=True):
    """The guard's rules for one endpoint."""

    #: Accepted content types.
    takes: frozenset[str] = frozenset({JSON})
    asks: Credential = Credential.NONE
    #: A browser may open it from another site, by a link or a provider's redirect.
    is_page: bool = False
    #: Pages of `allowed_origins` may send here.
    is_shared: bool = False


_PAGE: Final = EndpointRules(takes=READ, asks=Credential.TOKEN, is_page=True)
#: A login sets a cookie: never under a host that is not ours.
_LOGIN: Final = EndpointRules(takes=READ, is_page=True)
_HEALTH: Final = EndpointRules(takes=READ, asks=Credential.TOKEN)
_OPERATORS: Final = EndpointRules(takes=READ, asks=Credential.OPERATOR)
_SIGNED: Final = EndpointRules(takes=frozenset({ANYTHING}), asks=Credential.SIGNATURE)
#: By path. A path that ends with a slash covers all below it, ``/`` only itself. The longest match wins.
ENDPOINTS: Final[Mapping[str, EndpointRules]] = MappingProxyType(
    {
        "/v1/": EndpointRules(takes=frozenset({JSON, *PROTOBUF}), asks=Credential.TOKEN, is_shared=True),
        "/control/": EndpointRules(takes=READ, asks=Credential.TOKEN),
        "/control/v1/budget": EndpointRules(asks=Credential.TOKEN),
        "/control/v1/budget/": EndpointRules(asks=Credential.TOKEN),
        "/control/v1/hooks/": EndpointRules(asks=Credential.TOKEN),
        "/alerts/": EndpointRules(asks=Credential.TOKEN),
        "/hooks/": _SIGNED,
        "/slack/events": _SIGNED,
        "/slack/install": _LOGIN,
        "/slack/oauth_redirect": _LOGIN,
        "/api/": EndpointRules(takes=frozenset({JSON, NOTHING}), asks=Credential.BEARER),
        "/api/login": _LOGIN,
        "/api/login/callback": _LOGIN,
        "/": _PAGE,
        "/board/": _PAGE,
        "/docs": _PAGE,
        "/metrics": _OPERATORS,
        "/health/detailed": _OPERATORS,
        "/health": _HEALTH,
        "/health/live": _HEALTH,
        "/health/ready": _HEALTH,
    }
)
#: Any other path.
UNKNOWN: Final = EndpointRules()
_UNDER: Final = sorted((path for path in ENDPOINTS if path.endswith("/") and path != "/"), key=len, reverse=True)

#: A header is a proxy's if a word of its name is one of these, begins with "forward" or "prox", or ends with
#: "ip".
_PROXY_WORDS: Final = frozenset(
    {
        "akamai", "amz", "amzn", "appengine", "arr", "azure", "cdn", "cf", "cloud", "cloudfront", "cluster", "envoy",
        "fastly", "fly", "ngrok", "original", "real", "remote", "surrogate", "tailscale", "traefik", "varnish",
        "vercel", "via",
    }
)  # fmt: skip
_PROXY_NAMES: Final = frozenset(
    {"x-request-id", "x-request-start", "x-rewrite-url", "x-scheme", "x-host", "max-forwards"}
)

#: A name that only the local network resolves: a service of Kubernetes or Compose.
_SERVICE: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)


class GuardedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a request. `headers`: by name in lower case, values in order."""

    method: str
    path: str
    #: As in the request line.
    target: str = "/"
    http_version: str = "1.1"
    scheme: str = "http"
    #: Address of the connection's other end; empty: unknown.
    peer: str = ""
    headers: Headers = {}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The response to a request that may not pass."""

    status: int
    #: One word of a closed list, for metrics.
    why: str
    message: str
    headers: Mapping[str, str] = {}


class AllowedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may pass: its client, and where it came from."""

    #: Address of the client; behind trusted proxies, the nearest address that is no trusted proxy.
    client: str
    #: Nothing indicates that it came from elsewhere. That alone allows nothing: a proxy may add no header.
    is_this_machine: bool
    #: Scheme and host by which the client reached us, or reached the trusted proxy; empty: unknown.
    scheme: str = ""
    host: str = ""
    #: The other origin, listed in `allowed_origins`; empty: none.
    shared_with: str = ""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one server, from its settings."""

    #: Our host names besides loopback. Without a port: any port. With a leading dot: all subdomains.
    hosts: frozenset[Host] = frozenset()
    #: Origins of our own pages, as far as known: each `public_url`.
    own_origins: frozenset[HttpOrigin] = frozenset()
    #: Other origins that may send telemetry.
    allowed_origins: frozenset[HttpOrigin] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()
    #: The server listens beyond loopback: then addresses, and names without a dot, count as ours.
    is_beyond_loopback: bool = False
    #: Credentials that endpoints which ask for them require of every request.
    required: frozenset[Credential] = frozenset({Credential.SIGNATURE})
    #: Names of settings in refusal messages.
    hosts_setting: str = "gateway.hosts"
    tokens_setting: str = "gateway.tokens"

    def judge(self, request: GuardedRequest) -> AllowedRequest | Refusal:
        """Judge a request: return it as allowed, or a refusal."""
        endpoint, headers = endpoint_of(request.path), request.headers
        sent_host = _host(request)
        is_behind = _is_in(address_of(request.peer), self.trusted_proxies)
        forwarded_host = _last(headers, "x-forwarded-host") if is_behind else ""
        host = host_of(forwarded_host) if forwarded_host else sent_host
        if isinstance(sent_host, Refusal) or isinstance(host, Refusal) or (forwarded_host and host is None):
            return _NO_HOST
        # Both hosts must be known: a browser at a trusted address can send proxy headers for a page with a
        # rebound name.
        is_known = self._knows(sent_host) and self._knows(host)
        if not is_known and not self._is_proven(endpoint, headers):
            return self._unknown(host if self._knows(sent_host) else sent_host)
        scheme = _last(headers, "x-forwarded-proto").lower() if is_behind else ""
        scheme = scheme if scheme in DEFAULT_PORTS else request.scheme
        shared = self._page(endpoint, request, origin_at(scheme, host) if host is not None and is_known else None)
        refused = shared if isinstance(shared, Refusal) else _body(endpoint, request)
        if refused is not None:
            return refused
        client = client_of(request.peer, headers.get("x-forwarded-for", ()), self.trusted_proxies)
        is_named_here = sent_host is not None and is_loopback(sent_host.name)
        is_here = is_loopback(client) and is_named_here and request.http_version == "1.1" and not is_forwarded(headers)
        named = forwarded_host or "".join(headers.get("host", ()))
        return AllowedRequest(
            client=client, is_this_machine=is_here, scheme=scheme, host=named, shared_with=str(shared)
        )

    def _is_proven(self, endpoint: EndpointRules, headers: Headers) -> bool:
        """Whether the endpoint refuses every request without a credential, which no web page has."""
        if endpoint.asks is Credential.BEARER:
            return "authorization" in headers
        return endpoint.asks in self.required

    def _knows(self, host: Host | None) -> bool:
        if host is None:  # HTTP/1.0: no browser sends that
            return self.is_beyond_loopback
        if is_loopback(host.name) or host in self.hosts or Host(host.name) in self.hosts:
            return True
        if any(
            known.name.startswith(".") and host.name.endswith(known.name) and known.port in (None, host.port)
            for known in self.hosts
        ):
            return True
        return self.is_beyond_loopback and (
            address_of(host.name) is not None or _SERVICE.fullmatch(host.name) is not None
        )

    def _unknown(self, host: Host | None) -> Refusal:
        named = f"the host {host.name!r} is" if host is not None else "a request without a host is"
        return Refusal(
            status=403,
            why="host",
            message=f"{named} not known here: use 127.0.0.1 or localhost, name the host in "
            f"{self.hosts_setting}, or send a token where {self.tokens_setting} asks for one",
        )

    def _page(self, endpoint: EndpointRules, request: GuardedRequest, ours: HttpOrigin | None) -> str | Refusal:
        """Return the allowed foreign origin (empty: our own page, or a program), or a refusal."""
        origins = request.headers.get("origin", ())
        origin = origin_of(origins[0]) if len(origins) == 1 else None
        if origin is not None and endpoint.is_shared and origin in self.allowed_origins:
            return origins[0]
        if origins and (origin is None or not (origin == ours or origin in self.own_origins)):
            return _foreign(
                "a page of another origin sent this: only our own pages may, as they are reached (behind a proxy "
                "gateway.trusted_proxies must name it); gateway.allowed_origins lets others send telemetry"
            )
        sites = set(request.headers.get("sec-fetch-site", ()))
        if sites <= {"same-origin"} or sites <= {"none"} or (endpoint.is_page and _is_opened(request)):
            return ""
        return _foreign("a page of another site sent this: open it in a tab of its own")


def endpoint_of(path: str) -> EndpointRules:
    """Return the rules of the endpoint at a path."""
    found = ENDPOINTS.get(path)
    if found is None:
        found = next((ENDPOINTS[prefix] for prefix in _UNDER if path.startswith(prefix)), UNKNOWN)
    return found


def client_of(peer: str, forwarded_for: Sequence[str], trusted: Iterable[Network]) -> str:
    """Return a client's address: the peer's, or behind trusted proxies the right-most hop that is not one of
    them.
    """
    networks, client = tuple(trusted), peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and _is_in(address_of(client), networks):
        text = hops.pop()
        host = host_of(text)
        hop = address_of(text) or (address_of(host.name) if host is not None else None)
        if hop is None:
            break  # the proxy hides the address: use the proxy's own
        client = str(hop)
    address = address_of(client)
    return str(address) if address is not None else client


def is_forwarded(headers: Iterable[str]) -> bool:
    """Whether any header was added by a proxy."""
    return any(name in _PROXY_NAMES or any(map(_is_proxy_word, name.replace("_", "-").split("-"))) for name in headers)


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return headers by name in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))
    return found


_ALLOWED: Final = "spanpost.allowed"


def mark(scope: Any, allowed: AllowedRequest) -> None:
    """Store the guard's result in the request's scope."""
    scope[_ALLOWED] = allowed


def allowed_request(scope: Mapping[str, Any]) -> AllowedRequest:
    """Return the guard's result; for a request without a guard, no header is trusted."""
    peer = scope.get("client") or ("",)
    return scope.get(_ALLOWED) or AllowedRequest(client=peer[0], is_this_machine=False)


def client_address(scope: Mapping[str, Any]) -> str:
    """Return the address of a request's client, also behind trusted proxies; empty: unknown."""
    return allowed_request(scope).client


_NO_HOST: Final = Refusal(
    status=400,
    why="host",
    message="one Host header is needed, with a host and perhaps a port, as in 127.0.0.1:4318, and no other in "
    "the target",
)


def _host(request: GuardedRequest) -> Host | Refusal | None:
    """Return the host that a request names; None: an HTTP/1.0 client named none."""
    values = request.headers.get("host", ())
    if not values and request.http_version != "1.1":
        return None
    host = host_of(values[0]) if len(values) == 1 else None
    if host is not None and not request.target.startswith("/") and request.target != "*":
        found = _ABSOLUTE.match(request.target)
        if found is None or host_of(found[1]) != host:
            host = None
    return host if host is not None else _NO_HOST


def _body(endpoint: EndpointRules, request: GuardedRequest) -> Refusal | None:
    """Return the refusal of a body's type or method; None: accepted."""
    if request.method in _READS:
        return None
    takes = endpoint.takes
    if takes == READ:
        return Refusal(status=405, why="method", message="it takes GET", headers={"allow": "GET, HEAD"})
    values = request.headers.get("content-type", ())
    types = {value.partition(";")[0].strip().lower() for value in values}
    if ANYTHING in takes or (len(values) == 1 and types <= takes - {NOTHING}):
        return None
    if not values and NOTHING in takes and _is_empty(request.headers):
        return None
    wanted = " or ".join(sorted(takes - {NOTHING}))
    given = f"content type {values[0][:80]!r} is" if values else "a request without content type is"
    return Refusal(status=415, why="content_type", message=f"{given} not understood; send {wanted}")


def _is_empty(headers: Headers) -> bool:
    return "transfer-encoding" not in headers and set(headers.get("content-length", ())) <= {"0", ""}


def _is_opened(request: GuardedRequest) -> bool:
    """Whether a browser opens this as a page."""
    values = [request.headers.get(f"sec-fetch-{name}", ()) for name in ("mode", "dest")]
    return request.method == "GET" and [list(value) for value in values] == [["navigate"], ["document"]]


def _is_proxy_word(word: str) -> bool:
    return word in _PROXY_WORDS or word.startswith(("forward", "prox")) or word.endswith("ip")


def _foreign(message: str) -> Refusal:
    return Refusal(status=403, why="origin", message=message)


def _last(headers: Headers, name: str) -> str:
    """Return the nearest proxy's value of a header; empty: none."""
    values = headers.get(name, ())
    return values[-1].rpartition(",")[2].strip() if values else ""


def _is_in(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
