"""Before anything is read: did Slack send this, to us, just now, and once?

After docs.slack.dev/authentication/verifying-requests-from-slack (v0): HMAC-SHA256 over ``v0:{timestamp}:{body}``. What is
missing, malformed or wrong in a header is one answer, 401; it never says which.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

#: Seconds by which a request's time may differ from ours.
WINDOW: Final = 300
#: Signatures are remembered for longer than they are valid, ahead and behind: seconds.
REMEMBERED: Final = 2 * WINDOW + 60
#: Bytes of a body. Slack's payloads carry the message, whose blocks are limited to some tens of kilobytes.
MOST_BODY: Final = 1024 * 1024
_STAMP: Final = re.compile(rb"^[0-9]{1,12}\Z")
_SIGNATURE: Final = re.compile(rb"^v0=[0-9a-f]{64}\Z")
#: Signatures that one process remembers at most: of ten minutes of the most that Slack sends to a workspace (30,000 an hour).
_MOST: Final = 20_000

Headers = Iterable[tuple[bytes, bytes]]


class Secret(msgspec.Struct, frozen=True):
    """A signing secret and what it proves: which installation a request is for."""

    installation: int
    secret: str


class Signed(msgspec.Struct, frozen=True):
    """What the headers say of a request; nothing of it is proven yet."""

    stamp: int
    stamp_as_sent: bytes
    signature: bytes


class SlackRefused(Exception):
    """A request that is answered with an error. `why` is a word for the metric, and is not told to the sender."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def read_headers(headers: Headers, now: float) -> Signed:
    """Return what was signed, if it can have been just now; raises `SlackRefused` (401)."""
    stamps, signatures = [], []
    for name, value in headers:
        match name.lower():
            case b"x-slack-request-timestamp":
                stamps.append(value)
            case b"x-slack-signature":
                signatures.append(value)
    if len(stamps) != 1 or len(signatures) != 1 or not _STAMP.match(stamps[0]) or not _SIGNATURE.match(signatures[0]):
        raise SlackRefused(401, "headers")
    if abs(now - int(stamps[0])) > WINDOW:
        raise SlackRefused(401, "timestamp")
    return Signed(int(stamps[0]), stamps[0], signatures[0])


def verify(signed: Signed, body: bytes, secrets: Sequence[Secret]) -> frozenset[int]:
    """Return the installations whose secret made the signature; raises `SlackRefused` (401) where none did."""
    base = b"v0:" + signed.stamp_as_sent + b":" + body
    proven = set()
    for each in secrets:  # all of them, each in constant time: how long it takes says nothing
        made = b"v0=" + hmac.new(each.secret.encode(), base, sha256).hexdigest().encode()
        if hmac.compare_digest(made, signed.signature):
            proven.add(each.installation)
    if not proven:
        raise SlackRefused(401, "signature")
    return frozenset(proven)


class SeenSignatures:
    """Remembers the signatures of one process, for as long as they could be sent again."""

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._at: OrderedDict[bytes, float] = OrderedDict()

    def is_first(self, signed: Signed) -> bool:
        """Say whether this signature was not heard before, and remember it."""
        now = self._clock()
        while self._at and (next(iter(self._at.values())) < now - REMEMBERED or len(self._at) >= self._most):
            self._at.popitem(last=False)
        if signed.signature in self._at:
            return False
        self._at[signed.signature] = now
        return True

    def forget(self, signed: Signed) -> None:
        """Let a request come again: it came to nothing."""
        self._at.pop(signed.signature, None)
