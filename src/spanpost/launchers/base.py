"""The contract of a launcher: what everyone who starts work does, ours and strangers'. docs/reference/launcher-plugins.md is its page."""

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
    """**Protocol:** has work begun, and returns a receipt when it surely will be.

    `launch` returns within half a minute: it hands the work to who does it, and does not wait for its end. It is called at least
    once for an order; a repeat has the same `Order.id`, which it passes on so that its far side can tell. It does not queue, retry
    or pace: the dispatcher does. It raises one of `spanpost.model.errors.DeliveryError` to say what to do next: `Throttled`,
    `Unavailable`, `Refused` and `Rejected` say that nothing was begun, `Unknown` that it may have been; any other exception counts
    as `Unavailable`.
    """

    #: After `Unknown`, and where a process was killed in the midst of it: launch the same order again. Else a person decides.
    repeats: bool

    async def launch(self, order: Order) -> Receipt: ...

    async def close(self) -> None: ...


@runtime_checkable
class CheckingLauncher(Protocol):
    """**Protocol:** a launcher that can look whether it could launch. Optional."""

    async def check(self) -> Sequence[Finding]:
        """Look, and change nothing. Raises nothing: what fails is a finding."""
        ...


class LauncherSettings(PluginSettings):
    """What every launcher can be told; a launcher's own settings derive from it. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    enabled: bool = Field(default=True, description="`false`: nothing is started by it.")


S = TypeVar("S", bound=LauncherSettings)


@dataclass(frozen=True, kw_only=True)
class LauncherPlugin(Generic[S]):
    """A kind of launcher, as a value. Its module is imported once it is asked for, and must be cheap to import."""

    #: Of the entry point, and what ``kind`` says.
    kind: str
    settings: type[S]
    #: Makes the launcher of a name, outside any event loop, once per process. Does no network I/O. Raises `ConfigError`.
    open: Callable[[str, S], Launcher]


#: Any launcher's plugin.
AnyPlugin = LauncherPlugin[Any]
