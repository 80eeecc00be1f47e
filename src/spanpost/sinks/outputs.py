"""Figures of a task that has ended, queried from Prometheus: a business figure, or one before and after.

All queries of an end run once, together, outside any transaction and with a short timeout; missing answers
are left out. After a failure there is a pause without queries: an end must not wait for a Prometheus that is
down.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.fields import NAME, attributes_of, values
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.results")

_FIELD: Final = re.compile(rf"\$\{{({NAME})\}}")
#: A comment or a quoted text of PromQL; `matcher` stands before a text that is a regular expression.
_TEXT: Final = re.compile(
    r"""#[^\n]*|(?P<matcher>[=!]~(?:\s|#[^\n]*\n)*)?(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)"""
)
_METACHARACTER: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
#: Pause after a failure, seconds; concurrent ends; remembered answers.
PAUSE, AT_ONCE, REMEMBERED = 60.0, 3, 256
#: Maximum size of an answer, bytes: a figure is short.
_MOST: Final = 1_000_000


#: Beginning and end of what is asked about; None: there was none.
Moments = tuple[datetime | None, datetime | None]


@dataclass(frozen=True, kw_only=True)
class OutputQuery:
    """The query of one figure, and whether it is also queried at the task's start."""

    query: str
    compare: bool = False
    unit: str = ""
    currency: str = ""

    def shown(self, value: float) -> str:
        """Write a value: of money with its currency in front and two decimals."""
        if self.currency:
            return f"{'-' if value < 0 else ''}{self.currency}{abs(value):,.2f}"
        return labels.figure(value)

    def of(self, task: Task) -> str | None:
        """Return the query for a task, its fields filled in as quoted strings; None if a field is unknown."""
        return self.filled(values(task))

    def filled(self, known: Mapping[str, str]) -> str | None:
        """Return the query with these values as quoted strings; None if a field of it has none."""
        if any(not known.get(name) for name in _FIELD.findall(self.query)):
            return None
        return _TEXT.sub(lambda text: _filled(text, known), self.query)

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return attributes_of(_FIELD.findall(self.query))


@dataclass(frozen=True, kw_only=True)
class EntityCommand:
    """A word of `/agents` that answers with figures of one entity."""

    queries: Mapping[str, OutputQuery]
    what: str = ""
    tenant: str | None = None
    #: Launchers with a button below the answer, and the work that each is given: ``{entity}`` is the entity.
    start: Mapping[str, str] = field(default_factory=dict)


class Figures:
    """Queries a Prometheus. Use it in one event loop."""

    def __init__(
        self,
        url: str,
        queries: Mapping[str, OutputQuery],
        *,
        token: str = "",
        timeout: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._queries = dict(queries)
        self._token = token
        self._timeout = timeout
        self._clock = clock
        self._not_before = float("-inf")
        self._free = AT_ONCE
        self._known: dict[str, tuple[str, ...]] = {}

    async def of(self, task: Task, once: str) -> tuple[str, ...]:
        """Return the figures of a task that has ended: ``p99 840 → 310 ms``. `once` identifies the end."""
        if once in self._known:
            return self._known[once]
        # An end that would have to wait goes without figures: other deliveries wait behind it.
        if self._free <= 0 or self._clock() < self._not_before or task.ended_at is None:
            return ()
        moments = (task.started_at, task.ended_at)
        found = await self._asked(self._queries, values(task), moments)
        if found is None:
            return ()
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[once] = found
        return found

    async def now(self, queries: Mapping[str, OutputQuery], known: Mapping[str, str]) -> tuple[str, ...] | None:
        """Return the figures of an entity as of now; None if there is no answer, or too many are awaited."""
        if self._free <= 0 or self._clock() < self._not_before:
            return None
        return await self._asked(queries, known, (None, datetime.now(UTC)))

    async def _asked(
        self, queries: Mapping[str, OutputQuery], known: Mapping[str, str], moments: Moments
    ) -> tuple[str, ...] | None:
        self._free -= 1
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(queries, known, moments)
        except Exception as error:  # no failure may cost the end
            self._not_before = self._clock() + PAUSE
            log.warning(
                "outputs: no answer (%s: %s); not asked again for %.0f s",
                type(error).__name__,
                line(str(error), 200),
                PAUSE,
            )
            return None
        finally:
            self._free += 1

    async def _ask(
        self, queries: Mapping[str, OutputQuery], known: Mapping[str, str], moments: Moments
    ) -> tuple[str, ...]:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async with aiohttp.ClientSession(headers=headers) as session:
            asked = (self._one(session, name, query, known, moments) for name, query in queries.items())
            answers = await asyncio.gather(*asked)
        return tuple(answer for answer in answers if answer)

    async def _one(
        self, session: Any, name: str, query: OutputQuery, known: Mapping[str, str], moments: Moments
    ) -> str:
        said = query.filled(known)
        if said is None:
            return ""
        found = [await self._value(session, said, at) for at in (moments if query.compare else moments[1:])]
        if all(value is None for value in found):
            return ""
        shown = " → ".join("?" if value is None else query.shown(value) for value in found)
        return f"{name} {shown}{f' {query.unit}' if query.unit else ''}"

    async def _value(self, session: Any, query: str, at: datetime | None) -> float | None:
        if at is None:
            return None
        form = {"query": query, "time": f"{at.timestamp():.3f}"}
        async with session.post(self._url, data=form, allow_redirects=False) as response:
            body = await response.content.read(_MOST)
            if response.status >= 500:
                raise ConnectionError(f"HTTP {response.status}")
        return value_of(body)


def value_of(body: bytes) -> float | None:
    """Return the value in an answer of Prometheus, the first of a vector; None if there is none."""
    try:
        answer = msgspec.json.decode(body)
        data = answer["data"]
        found = data["result"] if data["resultType"] == "scalar" else data["result"][0]["value"]
        value = float(found[1])
    except (msgspec.DecodeError, LookupError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def is_quoted(query: str) -> bool:
    """Tell whether all fields of a query stand in quoted texts, out of which no value can break."""
    return "${" not in _TEXT.sub(" ", query)


def _filled(text: re.Match[str], known: Mapping[str, str]) -> str:
    """Return a quoted text of a query with its fields filled; of a regular expression they match literally."""
    if text["text"] is None:
        return text[0]  # a comment
    mark = text["text"][0]

    def value(field: re.Match[str]) -> str:
        said = known[field[1]].encode("utf-8", "replace").decode()
        if text["matcher"] is not None:
            said = _METACHARACTER.sub(r"\\\g<0>", said)
        if mark == "`":
            return said.replace("`", "")  # it has no escapes
        return said.replace("\\", "\\\\").replace(mark, f"\\{mark}").replace("\n", "\\n")

    return _FIELD.sub(value, text[0])
