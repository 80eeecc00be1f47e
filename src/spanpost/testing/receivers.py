"""Receivers of observations in a process: one stores them, and one blocks its caller."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spanpost.model.observations import Observation, Part


class SeenRequest:
    """Stores every observation, and lets a test wait for one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.observations: list[Observation] = []

    def __call__(self, batch: list[Observation], /) -> None:
        with self._changed:
            self.observations.extend(batch)
            self._changed.notify_all()

    def wait_for(self, is_there: Callable[[list[Observation]], object], timeout: float = 60.0) -> bool:
        """Wait until `is_there` holds of what was seen; False when it does not within `timeout`."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(is_there(self.observations)), timeout)

    def of(self, part: Part, name: str | None = None) -> list[Observation]:
        """Return what was seen of a part, in order; of one name where given."""
        with self._changed:
            return [o for o in self.observations if o.part is part and name in (None, o.name)]


class Stuck(SeenRequest):
    """Blocks its caller until it is released, like a database that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.is_entered = threading.Event()
        self.released = threading.Event()

    def __call__(self, batch: list[Observation], /) -> None:
        self.is_entered.set()
        self.released.wait()
        super().__call__(batch)
