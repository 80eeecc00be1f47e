"""``spanpost check`` of a routing gateway: whether each gateway of each cell answers, and trusts its token."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

from spanpost.control_protocol import TASKS
from spanpost.http.tokens import FORWARDED_TENANT, forwarded_tenant
from spanpost.model.errors import ConfigError
from spanpost.model.findings import Finding
from spanpost.runtime.router import cells_of, refuse_unfit
from spanpost.settings import Settings
from spanpost.settings.cells import CellSettings

#: Seconds for each answer.
_TIMEOUT: Final = 5.0


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
        ready = _status(cell, f"{url}/health/ready")
        # A task that no tenant has: 404 means that the cell believes the router.
        trusted = _status(cell, f"{url}{TASKS}spanpost-check", tenant="spanpost-check")
    except OSError as error:
        why = getattr(error, "reason", None) or error
        return Finding(
            ok=False, found=f"{where} does not answer: {why}", cure=f"start it, or mend cells.named.{name}.urls"
        )
    if trusted in (401, 403):
        cure = f"put the hash of cells.named.{name}.token into its gateway.router_tokens (`spanpost token new`)"
        return Finding(ok=False, found=f"{where} refuses this router's token", cure=cure)
    if ready != 200:
        return Finding(ok=False, found=f"{where} is not ready", cure=f"see {url}/health/ready")
    return Finding(ok=True, found=f"{where} is ready and knows this router", cure="")


def _status(cell: CellSettings, url: str, *, tenant: str = "") -> int:
    """Return the status of a page. Raises OSError."""
    headers = {"authorization": f"Bearer {cell.token.get_secret_value()}", FORWARDED_TENANT: forwarded_tenant(tenant)}
    request = urllib.request.Request(url, headers=headers if tenant else {})
    context = ssl.create_default_context(cafile=str(cell.ca)) if cell.ca is not None else None
    # No proxy of the environment: the router uses none either.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
