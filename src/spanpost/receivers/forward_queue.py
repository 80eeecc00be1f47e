"""Encoded requests that wait to be sent, bounded in bytes. Pure: the time is an argument, and nothing locks.

Rules:

1. A request joins the last waiting one of its signal as long as both fit into one request (protobuf joins
   repeated fields), so that an outage leaves few large requests, not many small ones.
2. What does not fit into the memory bound is not taken. Live records may use half of it: a finished span
   holds its events too.
3. Requests are sent in order. One that failed three times in a row goes behind the others, so that it does
   not hold them up.
4. After a failure its signal waits: as long as the endpoint asks for, at most `LONGEST_WAIT`, otherwise
   `_PAUSES`. The other signal goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Final

#: First and longest pause between two attempts, seconds.
_PAUSES: Final = (0.5, 5.0)
#: Longest wait that an endpoint may ask for, seconds.
LONGEST_WAIT: Final = 60.0
_TRIES: Final = 3


class WaitingRequest:
    """An encoded request, as parts that equal it when joined, and the number of its spans or records.

    `number` orders requests of both signals; `until`: when it is given up.
    """

    __slots__ = ("count", "failures", "number", "parts", "size", "until")

    def __init__(self, number: int, body: bytes, count: int, until: float) -> None:
        self.number = number
        self.parts = [body]
        self.size = len(body)
        self.count = count
        self.until = until
        self.failures = 0

    def body(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class _Signal:
    """The requests of one signal. The first is being sent if `is_sending`."""

    __slots__ = ("due_at", "failures", "is_sending", "requests", "size")

    def __init__(self) -> None:
        self.requests: deque[WaitingRequest] = deque()
        self.size = 0
        self.due_at = 0.0
        self.failures = 0
        self.is_sending = False


class ForwardQueue:
    """Waiting requests of logs and traces."""

    def __init__(self, most_bytes: int, most_per_request: int, retry_time: float) -> None:
        self.most_bytes = most_bytes
        self.most_per_request = most_per_request
        self.retry_time = retry_time
        self._signals = {"traces": _Signal(), "logs": _Signal()}
        self._number = 0
        self._random = Random()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(signal.size for signal in self._signals.values())

    @property
    def newest(self) -> int:
        """The number of the request that was put last."""
        return self._number

    @property
    def oldest(self) -> int | None:
        """The smallest number of a waiting request; None: nothing waits."""
        return min((each.number for signal in self._signals.values() for each in signal.requests), default=None)

    def put(self, name: str, body: bytes, count: int, now: float) -> bool:
        """Add a request; False: it does not fit."""
        signal = self._signals[name]
        if self.size + len(body) > self.most_bytes or (
            name == "logs" and signal.size + len(body) > self.most_bytes / 2
        ):
            return False
        self._number += 1
        last = signal.requests[-1] if len(signal.requests) > signal.is_sending else None
        if last is not None and not last.failures and last.size + len(body) <= self.most_per_request:
            last.parts.append(body)
            last.size += len(body)
            last.count += count
        else:
            signal.requests.append(WaitingRequest(self._number, body, count, now + self.retry_time))
        signal.size += len(body)
        return True

    def take(self, now: float, *, is_ending: bool = False) -> tuple[str, WaitingRequest] | None:
        """Return the next request that is due, which stays in the queue until it is resolved; with `is_ending`
        no pause is kept.
        """
        for name, signal in self._signals.items():
            if signal.requests and not signal.is_sending and (is_ending or now >= signal.due_at):
                signal.is_sending = True
                return name, signal.requests[0]
        return None

    def wait(self, now: float) -> float | None:
        """Return the seconds until a request is due; None: nothing waits."""
        dues = [each.due_at for each in self._signals.values() if each.requests and not each.is_sending]
        return max(0.0, min(dues) - now) if dues else None

    def resolve(self, name: str) -> WaitingRequest:
        """Remove the request that was sent: it was accepted or is given up."""
        signal = self._signals[name]
        signal.is_sending = False
        signal.failures = 0
        signal.due_at = 0.0
        done = signal.requests.popleft()
        signal.size -= done.size
        return done

    def replace(self, name: str, parts: Iterable[tuple[bytes, int]]) -> None:
        """Put smaller requests, which are next, in the place of the one that was sent."""
        done = self.resolve(name)
        signal = self._signals[name]
        for body, count in reversed(list(parts)):
            signal.requests.appendleft(WaitingRequest(done.number, body, count, done.until))
            signal.size += len(body)

    def put_off(self, name: str, now: float, wait: float | None) -> None:
        """Keep the request that was sent for another try."""
        signal = self._signals[name]
        signal.is_sending = False
        pause = min(_PAUSES[0] * 2 ** min(signal.failures, 8), _PAUSES[1]) * self._random.uniform(0.7, 1.0)
        signal.due_at = now + (min(wait, LONGEST_WAIT) if wait is not None else pause)
        signal.failures += 1
        first = signal.requests[0]
        first.failures += 1
        if first.failures % _TRIES == 0:
            signal.requests.rotate(-1)

    def give_up(self) -> int:
        """Forget everything; return the number of spans and records that waited."""
        count = sum(each.count for signal in self._signals.values() for each in signal.requests)
        self._signals = {name: _Signal() for name in self._signals}
        return count
