"""What a request brings to prove its tenant, in the words of the tests."""

from __future__ import annotations

from typing import Any

from spanpost.http.tenancy import RequestClaims
from spanpost.http.tokens import SenderTokens
from spanpost.model.access_tokens import TokenScope


def tenant_of(
    senders: SenderTokens,
    authorization: str | None,
    forwarded: str | None = None,
    *,
    scope: TokenScope = TokenScope.SEND,
    **more: Any,
) -> str | None:
    """Return the tenant of a request with these headers; None: it proves none."""
    grant = senders.grant(RequestClaims(authorization=authorization, forwarded=forwarded, **more), (scope,))
    return grant.tenant if grant is not None else None
