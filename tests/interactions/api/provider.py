"""A small OpenID Connect provider: code flow with PKCE by RFC 6749, 7636 and OpenID Connect Core."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.eventually import free_port


class Provider:
    """Listens on a free port: ``with Provider() as provider``. `claims` are those of the next login."""

    client_id, client_secret = "spanpost", "s3cret-of-the-client"

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
        #: Signs in place of `key`, which stays the published one: a forger's.
        self.forged: RSAKey | None = None
        self.claims: dict[str, Any] = {"sub": "u1", "name": "Ann", "email": "ann@example.com", "email_verified": True}
        #: Replaces claims of the token.
        self.lies: dict[str, Any] = {}
        #: Replaces the token: anything at all.
        self.token: Any = None
        #: Replaces the published keys.
        self.published: Any = None
        #: Further fields of its metadata; None removes a field.
        self.metadata: dict[str, Any] = {}
        #: The answer of userinfo; without it there is no such endpoint.
        self.userinfo: Any = None
        #: Bearer tokens of requests to userinfo.
        self.shown: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._token(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Provider:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        if parts.path == "/.well-known/openid-configuration":
            document: dict[str, Any] = {
                "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }  # fmt: skip
            if self.userinfo is not None:
                document["userinfo_endpoint"] = f"{self.url}/userinfo"
            document |= self.metadata
            self._tell(request, 200, {name: value for name, value in document.items() if value is not None})
        elif parts.path == "/keys":
            keys = {"keys": [self.key.as_dict(private=False)]} if self.published is None else self.published
            self._tell(request, 200, keys)
        elif parts.path == "/userinfo" and self.userinfo is not None:
            self.shown.append(request.headers["authorization"])
            self._tell(request, 200, self.userinfo)
        elif parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            assert asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256"
            code = secrets.token_urlsafe(8)
            self._codes[code] = asked
            request.send_response(302)
            request.send_header(
                "location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
            )
            request.send_header("content-length", "0")
            request.end_headers()
        else:
            self._tell(request, 404, {})

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            self._tell(
                request, 401, {"error": "invalid_client"}
            )  # like a client that is registered to send it in the body
            return
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
            .decode()
            .rstrip("=")
        )
        if asked is None or challenge != asked["code_challenge"] or form.get("redirect_uri") != asked["redirect_uri"]:
            self._tell(request, 400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.claims,
            **self.lies,
        }
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.forged or self.key)
        if self.token is not None:
            token = self.token(claims) if callable(self.token) else self.token
        self._tell(request, 200, {"access_token": "the-access-token", "token_type": "Bearer", "id_token": token})

    @staticmethod
    def _tell(request: BaseHTTPRequestHandler, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
