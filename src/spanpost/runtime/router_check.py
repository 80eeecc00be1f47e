"""``spanpost check`` of a routing gateway: whether each gateway of each cell answers, and trusts its token."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from spanpost.control_protocol import VERSION
from spanpost.http.redirects import NoRedirect
from spanpost.http.tenancy import FORWARDED_TENANT
from spanpost.http.tokens import forwarded_tenant
from spanpost.model.errors import ConfigError
from spanpost.model.findings import Finding
from spanpost.runtime.router import cells_of, refuse_unfit
from spanpost.settings import Settings
from spanpost.settings.cells import CellSettings

#: Seconds for each answer, and bytes that are read of it.
_TIMEOUT, _MOST = 5.0, 65_536
#: A tenant that a cell believes of the router alone.
_TENANT: Final = "spanpost-check"


def examined(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for the assignment, and for each gateway of each cell."""
    try:
        refuse_unfit(settings)
    except ConfigError as error:
        yield Finding(ok=False, found=str(error), cure="")  # the message says what to do
        return
    section = cells_of(settings)
    for name, cell in section.named.items():
        tenants = [tenant for tenant, of in section.tenants.items() if of == name]
        more = ", and all others" if section.default == name else ""
        yield Finding(ok=True, found=f"cell {name} has {len(tenants)} named tenants{more}", cure="")
        for url in cell.urls:
            yield _examined(name, cell, url)
    for tenant in section.held:
        yield Finding(ok=True, found=f"tenant {tenant} is held: its requests are answered 503", cure="")


def _examined(name: str, cell: CellSettings, url: str) -> Finding:
    where = f"cell {name} at {url}"
    try:
        ready, _ = _answer(cell, f"{url}/health/ready")
        trusted, said = _answer(cell, f"{url}{VERSION}", tenant=_TENANT)
    except OSError as error:
        why = getattr(error, "reason", None) or error
        return Finding(
            ok=False, found=f"{where} does not answer: {why}", cure=f"start it, or mend cells.named.{name}.urls"
        )
    if trusted in (401, 403):
        cure = f"put the hash of cells.named.{name}.token into its gateway.router_tokens (`spanpost token new`)"
        return Finding(ok=False, found=f"{where} refuses this router's token", cure=cure)
    if not (trusted == 200 and isinstance(said, dict) and said.get("tenant") == _TENANT):
        cure = f"mend cells.named.{name}.urls: it is another program's, or that of a gateway of another release"
        return Finding(ok=False, found=f"{where} answers {trusted}, and not as a gateway of spanpost's", cure=cure)
    if ready != 200:
        return Finding(ok=False, found=f"{where} is not ready", cure=f"see {url}/health/ready")
    return Finding(ok=True, found=f"{where} is ready and knows this router", cure="")


def _answer(cell: CellSettings, url: str, *, tenant: str = "") -> tuple[int, Any]:
    """Return the status and the JSON of a page, None if it has none. Raises OSError."""
    headers = {"authorization": f"Bearer {cell.token.get_secret_value()}", FORWARDED_TENANT: forwarded_tenant(tenant)}
    request = urllib.request.Request(url, headers=headers if tenant else {})
    context = ssl.create_default_context(cafile=str(cell.ca)) if cell.ca is not None else None
    # No proxy of the environment: the router uses none either.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), NoRedirect
    )
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            status, body = int(answer.status), answer.read(_MOST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None
