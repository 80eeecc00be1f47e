"""Receivers for the in-process door: one that remembers, and one that keeps its caller waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spanpost.model.observations import Observation, Part


class SeenRequest:
    """Remembers every observation it is handed, and lets a test wait for one."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.observations: list[Observation] = []

    def __call__(self, batch: list[Observation], /) -> None:
        with self._news:
            self.observations.extend(batch)
            self._news.notify_all()

    def wait_for(self, is_there: Callable[[list[Observation]], object], timeout: float = 60.0) -> bool:
        """Wait until `is_there` holds of what was seen; False when it does not within `timeout`."""
        with self._news:
            return self._news.wait_for(lambda: bool(is_there(self.observations)), timeout)

    def of(self, part: Part, name: str | None = None) -> list[Observation]:
        """Return what was seen of a part, in order; of one name where given."""
        with self._news:
            return [o for o in self.observations if o.part is part and name in (None, o.name)]


class Stuck(SeenRequest):
    """Keeps its caller waiting until it is released, as a database that hangs does."""

    def __init__(self) -> None:
        super().__init__()
        self.is_entered = threading.Event()
        self.released = threading.Event()

    def __call__(self, batch: list[Observation], /) -> None:
        self.is_entered.set()
        self.released.wait()
        super().__call__(batch)
