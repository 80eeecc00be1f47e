"""The contract of a window: what every sink does, ours and strangers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError
from spanpost.model.findings import Finding as Finding
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route


@runtime_checkable
class Sink(Protocol):
    """**Protocol:** shows a delivery somewhere and returns a receipt.

    A sink does not queue, retry, batch, pace or count: the store's pump does, for all of them. It raises one of
    `spanpost.model.errors.DeliveryError` to say what to do next: `Throttled`, `Unavailable`, `Refused`, `Unknown`, `Rejected`; any
    other exception counts as `Unavailable` with the reason ``bug``. `deliver` may be called again with the same
    `Delivery.key` after `Unknown`; `reconcile` is asked first.
    """

    #: The name under which deliveries are addressed, e.g. ``console``.
    name: str

    async def deliver(self, delivery: Delivery) -> Receipt: ...

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        """Settle deliveries whose outcome is unknown, by `Delivery.id`: a receipt when it had arrived, None when it had not.

        Ids left out were looked for, stay unknown and are asked again later; `Delivery.sent_at` and `looks` say for how long
        that goes on. An error in place of an answer is what became of looking for that one; raised, of all. `Unverifiable`:
        looking is impossible.
        """
        ...

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Name the budgets that a call to that address draws on, the widest first. Often ``()``.

        Pure and cheap: it is asked for every round of the dispatcher. The store hands a delivery out only when each of them has a
        call left, so that the sink need not pace.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class CallingSink(Protocol):
    """**Protocol:** a sink that says of each call at its far side what came of it. Optional."""

    #: Set by whoever counts: (method, outcome), the outcome one of ok, throttled, refused, rejected, unavailable, unknown.
    #: Must not raise.
    when_called: Callable[[str, str], None] | None


@runtime_checkable
class Routed(Protocol):
    """**Protocol:** a sink whose messages depend on the route by which they came. Optional."""

    def routed(self, routes: Sequence[Route]) -> None:
        """Hear which routes lead to this sink, in order. Called once, before the first delivery."""
        ...


@runtime_checkable
class Restarts(Protocol):
    """**Protocol:** a sink that offers to start a task again. Optional."""

    def restarts(self, can: Callable[[Task], bool]) -> None:
        """Hear which tasks something can start again. Called once, before the first delivery."""
        ...


class TokenSource(Protocol):
    """**Protocol:** tokens of workspaces in which somebody installed the app; `spanpost.runtime.workspaces.Workspaces` is it."""

    async def token(self, team: str, *, refused: str = "") -> str:
        """Return the token for a workspace; not `refused`, if there is another. Raises `NoToken`, and `LedgerUnavailable`."""
        ...


class NoToken(Exception):
    """There is none for that workspace. The text says why; `cure` what a person does about it."""

    def __init__(self, why: str, cure: str) -> None:
        super().__init__(why)
        self.cure = cure


@runtime_checkable
class Installs(Protocol):
    """**Protocol:** a sink that posts where somebody installed its app. Optional."""

    def installed(self, tokens: TokenSource) -> None:
        """Hear whom to ask for tokens. Called once, before the first delivery, where apps can be installed."""
        ...


class AnsweringSink(Protocol):
    """**Protocol:** figures of a task that has ended; `spanpost.sinks.outputs.Figures` is it."""

    async def of(self, task: Task, once: str) -> tuple[str, ...]:
        """Return lines to be shown. Takes little time and raises nothing; `once` is what the end is known by."""
        ...


@runtime_checkable
class Figured(Protocol):
    """**Protocol:** a sink that shows figures with the end of a task. Optional."""

    def figured(self, figures: AnsweringSink) -> None:
        """Hear whom to ask. Called once, before the first delivery."""
        ...


@runtime_checkable
class CheckingSink(Protocol):
    """**Protocol:** a sink that can look whether its far side would take deliveries. Optional."""

    async def check(self, addresses: Sequence[str]) -> Sequence[Finding]:
        """Look, and change nothing. Raises nothing: what fails is a finding.

        `addresses` are those that routes lead to; empty is the sink's own default.
        """
        ...
