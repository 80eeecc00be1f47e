"""Contract of a launcher, for spanpost's own and for plugins. Its page is docs/reference/launcher-plugins.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from spanpost.model.deliveries import Receipt
from spanpost.model.findings import Finding
from spanpost.model.launch_orders import Order
from spanpost.plugins import PluginSettings

GROUP: Final = "spanpost.launchers"


@runtime_checkable
class Launcher(Protocol):
    """**Protocol:** starts work, and returns a receipt when the work is certain to begin.

    `launch` returns within 30 seconds: it hands the work on and does not wait for its end. It is called at
    least once for an order. A repeated call has the same `Order.id`, which it passes on so that the other
    side can detect the duplicate. It does not queue, retry or pace: the dispatcher does. It raises a
    `spanpost.model.errors.DeliveryError` to say what to do next: `Throttled`, `Unavailable`,
    `DeliveryRefused` and `Rejected` say that nothing was started, `DeliveryUncertain` that it may have been.
    Any other exception counts as `Unavailable`.
    """

    #: True: launch the same order again after `DeliveryUncertain` or a killed process. False: a person
    #: decides.
    retry_uncertain: bool

    async def launch(self, order: Order) -> Receipt: ...

    async def close(self) -> None: ...


@runtime_checkable
class CheckingLauncher(Protocol):
    """**Protocol:** a launcher that can check whether it could launch. Optional."""

    async def check(self) -> Sequence[Finding]:
        """Check without changing anything. Raises nothing: a failure is a finding."""
        ...


class LauncherSettings(PluginSettings):
    """Settings of every launcher; a launcher's own settings derive from it. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    enabled: bool = Field(default=True, description="`false`: nothing is started by it.")


S = TypeVar("S", bound=LauncherSettings)


@dataclass(frozen=True, kw_only=True)
class LauncherPlugin(Generic[S]):
    """A kind of launcher, as a value. Its module is imported on first use, and must be cheap to import."""

    #: Name of the entry point, and the value of ``kind``.
    kind: str
    settings: type[S]
    #: Creates a launcher by name, outside any event loop, once per process. Does no network I/O. Raises
    #: `ConfigError`.
    open: Callable[[str, S], Launcher]


#: Plugin of any launcher.
AnyPlugin = LauncherPlugin[Any]
