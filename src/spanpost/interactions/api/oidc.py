"""Login of people: OpenID Connect, authorization code with PKCE.

Only claims signed by the provider's keys count.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from spanpost.http.errors import HttpError
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.claims import claim_of, first_of, unfit
from spanpost.interactions.api.oidc_terms import OidcTerms
from spanpost.interactions.api.sessions import Sessions
from spanpost.interactions.authorization import CallerRole

log = logging.getLogger("spanpost.interactions")

#: The login's cookie, and its seconds.
LOGIN: Final = "spanpost_login"
LOGIN_TIME: Final = 600.0
#: Seconds for which the provider's metadata is cached; for its answers.
_BELIEVED, _TIMEOUT = 3600.0, 10.0
_LEEWAY: Final = 60
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_MOST: Final = 1024 * 1024
#: Methods of client authentication, in the providers' words.
_BASIC, _POST = "client_secret_basic", "client_secret_post"
#: Further claims that are read.
_ABOUT: Final = ("preferred_username", "email_verified")


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True):
    """State of a login while the person is at the provider, kept in a signed cookie."""

    state: str
    nonce: str
    verifier: str
    next: str


class Oidc:
    """A provider, and the sessions of people who log in there."""

    def __init__(self, terms: OidcTerms, sessions: Sessions, *, tenant: str, client_secret: str = "") -> None:
        self.terms = terms
        self.sessions = sessions
        self._tenant = terms.tenant if terms.tenant is not None else tenant
        self._client_secret = client_secret
        self._metadata: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._keys: KeySet | None = None

    @property
    def is_secure(self) -> bool:
        """True if people use HTTPS: then cookies are sent only over HTTPS."""
        return self.terms.public_url.startswith("https://")

    @property
    def tenant(self) -> str:
        """The tenant of a person who is not known yet; empty where the provider names it."""
        return "" if self.terms.tenant_claim else self._tenant

    @property
    def _callback(self) -> str:
        return f"{self.terms.public_url}/api/login/callback"

    async def begin(self, then: str) -> tuple[str, str]:
        """Return the URL at the provider for a login, and its cookie. Raises `HttpError`."""
        asked = LoginRequest(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next=then,
        )
        challenge = urlsafe_b64encode(sha256(asked.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.terms.client_id,
            "redirect_uri": self._callback,
            "scope": " ".join(self.terms.scopes),
            "state": asked.state,
            "nonce": asked.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str((await self._provider())["authorization_endpoint"])
        signer = await self.sessions.signer(LOGIN)
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", signer.sign(asked, LOGIN_TIME)

    async def finish(self, code: str, state: str, cookie: str | None) -> tuple[Caller, str]:
        """Return the caller who came back from the provider, and their destination. Raises `HttpError`."""
        value = (await self.sessions.signer(LOGIN)).read(cookie)
        asked = msgspec.convert(value, LoginRequest) if value is not None else None
        if asked is None or not secrets.compare_digest(asked.state.encode(), state.encode()):
            raise HttpError(
                403, "login_failed", "this login was not begun here, or too long ago: begin anew at /api/login"
            )
        provider = await self._provider()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "code_verifier": asked.verifier,
        }
        tokens = await self._tokens(provider, form)
        claims = await self._claims(tokens, provider, asked.nonce)
        return self.person_of(claims | await self._more(tokens, provider, claims)), asked.next

    async def _tokens(self, provider: Mapping[str, Any], form: dict[str, str]) -> dict[str, Any]:
        """Exchange a code for tokens.

        The client's secret is sent in a header, else in the form (RFC 6749, 2.3.1).
        """
        terms = self.terms
        url = str(provider["token_endpoint"])
        own = {"client_id": terms.client_id}
        if not self._client_secret:
            return await _ask("POST", url, form | own)
        known = provider.get("token_endpoint_auth_methods_supported")
        methods = known if isinstance(known, list) else [_BASIC]
        if _BASIC in methods:
            try:
                return await _ask("POST", url, form, authorization=basic_of(terms.client_id, self._client_secret))
            except NotKnown:
                if _POST not in methods:
                    raise
        return await _ask("POST", url, form | own | {"client_secret": self._client_secret})

    async def _more(
        self, tokens: Mapping[str, Any], provider: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return missing claims from the provider's userinfo, if it is about the same person."""
        terms = self.terms
        wanted = {"name", "email", *(first_of(one) for one in (terms.roles_claim, terms.tenant_claim) if one)}
        url, token = provider.get("userinfo_endpoint"), tokens.get("access_token")
        if wanted <= claims.keys() or not isinstance(url, str) or not isinstance(token, str):
            return {}
        try:
            found = await _ask("GET", url, authorization=f"Bearer {token}")
        except HttpError as error:
            log.warning("oidc: userinfo cannot be read, so only the ID token's claims count: %s", error.message)
            return {}
        if found.get("sub") != claims["sub"]:
            raise HttpError(403, "login_failed", "the provider's userinfo is about another person than its ID token")
        # An address and its verification must come from the same source.
        known = claims.keys() | ({"email_verified"} if "email" in claims else set())
        return {name: value for name, value in found.items() if name in (*wanted, *_ABOUT) and name not in known}

    async def _claims(self, tokens: Mapping[str, Any], provider: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        token = tokens.get("id_token")
        if not isinstance(token, str):
            raise HttpError(503, "login_failed", "the provider gave no ID token; is the scope openid allowed?")
        if why := unfit(token):
            raise HttpError(403, "login_failed", f"the provider's ID token is not valid ({why})")
        for is_last in (False, True):
            if self._keys is None or is_last:
                # The keys may have been replaced since.
                self._keys = keys_of(await _ask("GET", str(provider["jwks_uri"])))
            try:
                found = jwt.decode(token, self._keys, algorithms=_ALGORITHMS)
                break
            except (JoseError, ValueError) as error:
                if is_last:
                    raise HttpError(
                        403, "login_failed", f"the provider's ID token is not valid ({type(error).__name__})"
                    ) from None
        claims = dict(found.claims)
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": str(provider["issuer"])},
            aud={"essential": True, "value": self.terms.client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise HttpError(
                403,
                "login_failed",
                f"the provider's ID token is for another client or another time ({error.description})",
            ) from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.terms.client_id:
            raise HttpError(
                403, "login_failed", "the provider's ID token is for several clients, and this one did not request it"
            )
        return claims

    def person_of(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller of claims. Raises `HttpError` for a person without a role or a tenant."""
        terms = self.terms
        said = claim_of(claims, terms.roles_claim)
        words = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
        given = {role for word in words for role in terms.roles.get(word, ())}.union(terms.default_roles)
        tenant = claim_of(claims, terms.tenant_claim) if terms.tenant_claim else self._tenant
        email = claims.get("email") if claims.get("email_verified") is True else None
        name = next(
            (one for key in ("name", "preferred_username", "email", "sub") if isinstance(one := claims.get(key), str)),
            "",
        )
        person = Caller(
            provider="oidc",
            id=str(claims["sub"])[:255],
            name=name[:200],
            email=email[:320] if isinstance(email, str) else "",
            tenant=tenant[:200] if isinstance(tenant, str) else "",
            roles=frozenset(given.intersection(CallerRole)),
        )
        if not person.roles:
            what = f"oidc.roles maps values of the claim {terms.roles_claim!r} to roles"
            raise NotAdmitted("no_role", f"{person.name} has no role here: {what}", person)
        if not person.tenant:
            said = f"the provider names no tenant for {person.name} (claim {terms.tenant_claim!r})"
            raise NotAdmitted("no_tenant", said, person)
        return person

    async def _provider(self) -> dict[str, Any]:
        at, said = self._metadata
        if not said or time.monotonic() - at > _BELIEVED:
            said = await _ask("GET", f"{self.terms.issuer}/.well-known/openid-configuration")
            missing = {"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"} - said.keys()
            if missing or str(said["issuer"]).rstrip("/") != self.terms.issuer:
                raise HttpError(
                    503,
                    "login_failed",
                    "oidc.issuer: its metadata is incomplete or names another issuer; check the setting",
                )
            self._metadata = (time.monotonic(), said)
        return said


class NotAdmitted(HttpError):
    """A person whom the provider knows, and who may do nothing here."""

    def __init__(self, reason: str, message: str, person: Caller) -> None:
        super().__init__(403, reason, message)
        self.person = person


class NotKnown(HttpError):
    """The provider does not accept our client id and secret."""


def keys_of(body: Mapping[str, Any]) -> KeySet:
    """Return the keys of a provider's answer. Raises `HttpError` if there is none, or one is broken."""
    try:
        return KeySet.import_key_set(body)  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HttpError(
            503, "login_failed", f"the provider's keys cannot be read ({type(error).__name__}); check oidc.issuer"
        ) from None


def basic_of(client_id: str, secret: str) -> str:
    """Return a client's id and secret as a header value."""
    return "Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


async def _ask(
    method: str, url: str, form: Mapping[str, str] | None = None, *, authorization: str = ""
) -> dict[str, Any]:
    """Return the provider's answer, never what was sent: it is secret. Raises `HttpError`, and `NotKnown`."""
    headers = {"accept": "application/json"} | ({"authorization": authorization} if authorization else {})
    # Loading certificates takes a while; the loop goes on recording.
    client = await asyncio.to_thread(httpx.AsyncClient, timeout=_TIMEOUT)
    try:
        async with client:
            answer = await client.request(method, url, data=form, headers=headers)
            if answer.status_code != 200 or len(answer.content) > _MOST:
                why = _error_of(answer)
                said = f"the provider answers {answer.status_code}{f' ({why})' if why else ''} at {urlsplit(url).path}"
                if why == "invalid_client":
                    raise NotKnown(503, "login_failed", f"{said}; check oidc.client_id and oidc.client_secret")
                if why == "invalid_grant":  # the browser's fault, and not the provider's
                    raise HttpError(
                        403, "login_failed", f"{said}: this login was used before, or is not this browser's"
                    )
                raise HttpError(503, "login_failed", said)
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise HttpError(503, "login_failed", f"the provider cannot be reached ({type(error).__name__})") from None
    if not isinstance(body, dict):
        raise HttpError(503, "login_failed", "the provider answers something else than JSON objects")
    return body


def _error_of(answer: httpx.Response) -> str:
    """Return the provider's error code (RFC 6749, 5.2); empty if there is none."""
    try:
        word = answer.json().get("error")
    except (ValueError, AttributeError):
        return ""
    return (
        word if isinstance(word, str) and word.isascii() and word.replace("_", "").isalnum() and len(word) <= 60 else ""
    )
