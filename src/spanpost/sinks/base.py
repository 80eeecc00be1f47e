"""Contract of a sink, for spanpost's own and for plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from spanpost.model.alerts import Alert
from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError
from spanpost.model.findings import Finding as Finding
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route


@runtime_checkable
class Sink(Protocol):
    """**Protocol:** shows a delivery somewhere and returns a receipt.

    A sink does not queue, retry, batch, pace or count: the dispatcher does, for all sinks. It raises a
    `spanpost.model.errors.DeliveryError` to say what to do next: `Throttled`, `Unavailable`,
    `DeliveryRefused`, `DeliveryUncertain`, `Rejected`. Any other exception counts as `Unavailable` with the
    reason ``bug``. `deliver` may be called again with the same `Delivery.key` after `DeliveryUncertain`;
    `reconcile` is called first.
    """

    #: The name that addresses deliveries to it, e.g. ``console``.
    name: str

    async def deliver(self, delivery: Delivery) -> Receipt: ...

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        """Find out which uncertain deliveries arrived, by `Delivery.id`: a receipt if it arrived, None if it
        did not.

        Ids left out stay uncertain and are asked again later; `Delivery.sent_at` and `lookups` say for how
        long that goes on. An error as a value concerns that delivery; a raised one concerns all.
        `Unverifiable`: it is impossible to find out.
        """
        ...

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the rate limits of a call to that address, the widest first. Often ``()``.

        Pure and cheap: the dispatcher calls it every round. The store hands out a delivery only when each
        limit has a call left, so that the sink need not pace.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class CallingSink(Protocol):
    """**Protocol:** a sink that reports the outcome of each call to its service. Optional."""

    #: Callback that receives (method, outcome): ok, throttled, refused, rejected, unavailable or unknown.
    #: Must not raise.
    when_called: Callable[[str, str], None] | None


@runtime_checkable
class Routed(Protocol):
    """**Protocol:** a sink whose messages depend on the route of the delivery. Optional."""

    def routed(self, routes: Sequence[Route]) -> None:
        """Set the routes that lead to this sink, in order. Called once, before the first delivery."""
        ...


@runtime_checkable
class Restarts(Protocol):
    """**Protocol:** a sink that offers to start a task again. Optional."""

    def restarts(self, can: Callable[[Task], bool]) -> None:
        """Set the predicate of tasks that can be started again. Called once, before the first delivery."""
        ...


@runtime_checkable
class Silences(Protocol):
    """**Protocol:** a sink that offers to silence an alert. Optional."""

    def silences(self, can: Callable[[Alert], bool]) -> None:
        """Set the predicate of alerts that can be silenced. Called once, before the first delivery."""
        ...


class TokenSource(Protocol):
    """**Protocol:** tokens of workspaces where the app is installed. `spanpost.runtime.workspaces` implements it."""

    async def token(self, team: str, *, refused: str = "") -> str:
        """Return a workspace's token, another than `refused` if there is one.

        Raises `NoToken` and `StoreUnavailable`.
        """
        ...


class NoToken(Exception):
    """The workspace has no token. The text says why; `cure` says what an operator does about it."""

    def __init__(self, why: str, cure: str) -> None:
        super().__init__(why)
        self.cure = cure


@runtime_checkable
class Installs(Protocol):
    """**Protocol:** a sink that posts to workspaces where its app was installed. Optional."""

    def installed(self, tokens: TokenSource) -> None:
        """Set the source of tokens. Called once, before the first delivery, if apps can be installed."""
        ...


class FigureSource(Protocol):
    """**Protocol:** figures of a task that has ended; `spanpost.sinks.outputs.Figures` is one."""

    async def of(self, task: Task, once: str) -> tuple[str, ...]:
        """Return the lines to show. Takes little time and raises nothing. `once` identifies the end."""
        ...


@runtime_checkable
class Figured(Protocol):
    """**Protocol:** a sink that shows figures with the end of a task. Optional."""

    def figured(self, figures: FigureSource) -> None:
        """Set the source of figures. Called once, before the first delivery."""
        ...


@runtime_checkable
class Linking(Protocol):
    """**Protocol:** a sink that links tasks to the board and mentions the people for whom they run. Optional."""

    def links_to(self, public_url: str, people: Mapping[str, str]) -> None:
        """Set the board's address (empty: unknown) and user ids by name, in lower case.

        Called once, before the first delivery.
        """
        ...


@runtime_checkable
class CheckingSink(Protocol):
    """**Protocol:** a sink that can check whether its service would accept deliveries. Optional."""

    async def check(self, addresses: Sequence[str]) -> Sequence[Finding]:
        """Check without changing anything. Raises nothing: a failure is a finding.

        `addresses` are those that routes lead to; an empty one is the sink's own default.
        """
        ...
