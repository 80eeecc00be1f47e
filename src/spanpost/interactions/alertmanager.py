"""Client of Alertmanager's API v2: silences an alert, and ends a silence.

A silence is set for an alert that Alertmanager itself has, with exactly the same labels: so a made-up alert
silences nothing, and a redacted label is noticed. It carries the alert's id in its comment: asked for again
after a lost answer or by another gateway, it is the same silence. No error holds address or credentials.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from spanpost.model.alerts import Alert, Silence, SilenceFailure
from spanpost.model.errors import ConfigError

#: Maximum size of an answer that is read, bytes.
MOST: Final = 4_000_000
_MOST_COMMENT: Final = 4_000
_PLAIN_NAME: Final = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*\Z")


class SilenceError(Exception):
    """Alertmanager did not do it."""

    def __init__(self, failure: SilenceFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Alertmanager:
    """One Alertmanager. `authorization` is the value of the header; empty: none."""

    def __init__(self, url: str, *, authorization: str = "", timeout: timedelta = timedelta(seconds=5)) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise ConfigError(
                f"alerts.alertmanagers: {error.name} is missing; install it with: pip install 'spanpost[slack]'"
            ) from error
        self._http = aiohttp
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "spanpost"}
        if authorization:
            self._headers["Authorization"] = authorization
        self._timeout = timeout.total_seconds()

    async def silence(self, alert: Alert, silence: Silence, now: datetime) -> str:
        """Silence an alert; return the silence's id. Safe to repeat. Raises `SilenceError`."""
        # The filters make answers small; labels are compared here.
        filters = "&".join(f"filter={quote(one)}" for one in _filters(alert))
        async with self._session() as session:
            known = await self._call(session, "GET", f"/api/v2/alerts?{filters}")
            if not alert.labels or not any(_labels(one) == alert.labels for one in _listed(known)):
                raise SilenceError(SilenceFailure.UNKNOWN_ALERT)
            mark = _mark(alert)
            silences = _listed(await self._call(session, "GET", f"/api/v2/silences?{filters}"))
            ours = [one for one in silences if _is_live(one) and str(one.get("comment", "")).endswith(mark)]
            body = {
                **({"id": ours[0]["id"]} if ours else {}),
                "matchers": [
                    {"name": name, "value": value, "isRegex": False, "isEqual": True}
                    for name, value in sorted(alert.labels.items())
                ],
                "startsAt": now.astimezone(UTC).isoformat(),
                "endsAt": silence.until.astimezone(UTC).isoformat(),
                "createdBy": silence.by[:200] or "spanpost",
                "comment": f"{silence.comment[:_MOST_COMMENT]} {mark}".strip(),
            }
            answer = await self._call(session, "POST", "/api/v2/silences", body)
        id = answer.get("silenceID") if isinstance(answer, dict) else None
        if not isinstance(id, str) or not id:
            raise SilenceError(SilenceFailure.REFUSED)
        return id[:200]

    async def unsilence(self, id: str) -> None:
        """End a silence; one that has ended is as good. Raises `SilenceError`."""
        path = f"/api/v2/silence/{quote(id, safe='')}"
        async with self._session() as session:
            known = await self._call(session, "GET", path, missing=True)
            if known is not None and _is_live(known):
                await self._call(session, "DELETE", path, missing=True)

    def _session(self) -> Any:
        connect = min(2.0, self._timeout)
        timeout = self._http.ClientTimeout(total=self._timeout, sock_connect=connect)
        return self._http.ClientSession(headers=self._headers, timeout=timeout, trust_env=True)

    async def _call(self, session: Any, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        """Return the parsed answer; None for a 404 where that is allowed. Redirects are not followed."""
        from yarl import URL

        try:
            url = URL(self._url + path, encoded=True)
            async with session.request(method, url, json=body, allow_redirects=False) as answer:
                read = await answer.content.read(MOST)
                while len(read) < MOST and (more := await answer.content.read(MOST - len(read))):
                    read += more
        except TimeoutError:
            raise SilenceError(SilenceFailure.TIMEOUT) from None
        except (self._http.ClientError, OSError, ValueError):
            raise SilenceError(SilenceFailure.UNREACHABLE) from None
        if answer.status == 404 and missing:
            return None
        if answer.status in (401, 403):
            raise SilenceError(SilenceFailure.CREDENTIALS)
        if answer.status >= 500 or answer.status == 429:
            raise SilenceError(SilenceFailure.UNREACHABLE)
        if answer.status != 200:
            raise SilenceError(SilenceFailure.REFUSED)
        try:
            return json.loads(read) if read else {}
        except (ValueError, RecursionError):
            raise SilenceError(SilenceFailure.REFUSED) from None


def _filters(alert: Alert) -> Iterator[str]:
    """Return matchers in Alertmanager's own notation, of the labels that every version of it reads alike."""
    for name, value in sorted(alert.labels.items()):
        if _PLAIN_NAME.match(name) and value.isprintable():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            yield f'{name}="{escaped}"'


def _mark(alert: Alert) -> str:
    return f"[spanpost {alert.id}]"


def _listed(answer: Any) -> list[dict[str, Any]]:
    return [one for one in answer if isinstance(one, dict)] if isinstance(answer, list) else []


def _labels(alert: dict[str, Any]) -> Any:
    return alert.get("labels")


def _is_live(silence: Any) -> bool:
    status = silence.get("status") if isinstance(silence, dict) else None
    return isinstance(status, dict) and status.get("state") in ("active", "pending") and bool(silence.get("id"))
