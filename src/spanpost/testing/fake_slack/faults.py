"""Faults of the fake Slack: by script, or random from a seed."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from enum import StrEnum


class Fault(StrEnum):
    """A fault before the call had an effect, or after it, when only the answer is lost."""

    #: 429 with `Retry-After`.
    THROTTLE = "throttle"
    ERROR_BEFORE = "500 before"
    ERROR_AFTER = "500 after"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"
    HANG_BEFORE = "hang before"
    HANG_AFTER = "hang after"
    #: HTTP 200 with ``ok: false, error: internal_error``.
    INTERNAL_BEFORE = "internal_error before"
    INTERNAL_AFTER = "internal_error after"
    #: HTTP 200 with half a JSON.
    TORN_AFTER = "torn JSON after"
    #: HTTP 200 with a page of HTML.
    HTML_AFTER = "HTML after"
    #: HTTP 200 with JSON that is no object.
    LIST_AFTER = "list after"

    @property
    def is_after(self) -> bool:
        """True when the call had its effect."""
        return self.value.endswith("after")


#: The kinds of calls that odds are given for.
KINDS = {"chat.postMessage": "posts", "chat.update": "updates"}


def kind_of(method: str) -> str:
    """Return posts, updates, or lookups for all that reads."""
    return KINDS.get(method, "lookups" if method.startswith("conversations.") else "others")


class Faults:
    """Decides the fault of each call.

    `odds` is by kind (``posts``, ``updates``, ``lookups``): ``{"posts": {Fault.RESET_AFTER: 0.07}}``. A
    `script` goes before the dice: for each method what becomes of its next calls, None for nothing.
    """

    def __init__(self, odds: Mapping[str, Mapping[Fault, float]] | None = None, *, seed: int = 0) -> None:
        self.odds = {kind: dict(each) for kind, each in (odds or {}).items()}
        self._random = random.Random(seed)
        self._script: dict[str, deque[Fault | None]] = {}
        #: How often each fault occurred.
        self.dealt: Counter[str] = Counter()

    def script(self, method: str, faults: Iterable[Fault | None]) -> None:
        """Append faults of the next calls of a method."""
        self._script.setdefault(method, deque()).extend(faults)

    def clear(self) -> None:
        """Stop all faults."""
        self.odds.clear()
        self._script.clear()

    def next(self, method: str) -> Fault | None:
        """Return the fault of a call, if any."""
        fault = self._next(method)
        if fault is not None:
            self.dealt[fault.value] += 1
        return fault

    def _next(self, method: str) -> Fault | None:
        script = self._script.get(method)
        if script:
            return script.popleft()
        dice = self._random.random()
        for fault, share in self.odds.get(kind_of(method), {}).items():
            dice -= share
            if dice < 0:
                return fault
        return None
