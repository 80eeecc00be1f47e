"""Checks before a request is read: is it from Slack, for us, recent, and no replay?

After docs.slack.dev/authentication/verifying-requests-from-slack (v0): HMAC-SHA256 over
``v0:{timestamp}:{body}``. Missing, malformed and wrong headers have one answer, 401, which never says
which.
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
#: Seconds for which signatures are remembered: longer than they are valid, ahead and behind.
REMEMBERED: Final = 2 * WINDOW + 60
#: Bytes of a body. Slack's payloads hold the message, whose blocks are limited to some tens of kilobytes.
MOST_BODY: Final = 1024 * 1024
_STAMP: Final = re.compile(rb"^[0-9]{1,12}\Z")
_SIGNATURE: Final = re.compile(rb"^v0=[0-9a-f]{64}\Z")
#: Signatures in the memory of one process: ten minutes at Slack's highest rate for a workspace (30,000 an
#: hour).
_MOST: Final = 20_000

Headers = Iterable[tuple[bytes, bytes]]


class Secret(msgspec.Struct, frozen=True):
    """A signing secret, and the installation that it proves."""

    installation: int
    secret: str


class Signed(msgspec.Struct, frozen=True):
    """The signed parts of a request's headers, not verified yet."""

    stamp: int
    stamp_as_sent: bytes
    signature: bytes


class SlackRefused(Exception):
    """A request that is answered with an error. `why` is the metric's outcome; the sender does not see it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def read_headers(headers: Headers, now: float) -> Signed:
    """Return what was signed, if its time is near now. Raises `SlackRefused` (401)."""
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
    """Return the installations whose secret made the signature. Raises `SlackRefused` (401) if none did."""
    base = b"v0:" + signed.stamp_as_sent + b":" + body
    proven = set()
    for each in secrets:  # all of them, each in constant time: the duration reveals nothing
        made = b"v0=" + hmac.new(each.secret.encode(), base, sha256).hexdigest().encode()
        if hmac.compare_digest(made, signed.signature):
            proven.add(each.installation)
    if not proven:
        raise SlackRefused(401, "signature")
    return frozenset(proven)


class SeenSignatures:
    """The signatures that this process saw, for as long as they could be sent again."""

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._at: OrderedDict[bytes, float] = OrderedDict()

    def is_first(self, signed: Signed) -> bool:
        """Remember a signature; False if it was seen before."""
        now = self._clock()
        while self._at and (next(iter(self._at.values())) < now - REMEMBERED or len(self._at) >= self._most):
            self._at.popitem(last=False)
        if signed.signature in self._at:
            return False
        self._at[signed.signature] = now
        return True

    def forget(self, signed: Signed) -> None:
        """Forget a failed request, so that it may be sent again."""
        self._at.pop(signed.signature, None)
