"""Contract of a launcher, for spanpost's own and for plugins. Its page is docs/reference/launcher-plugins.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import Field, StringConstraints, field_validator, model_validator

from spanpost.model.deliveries import Receipt
from spanpost.model.findings import Finding
from spanpost.model.launch_orders import Order
from spanpost.plugins import PluginSettings
from spanpost.routing.parameters import Parameter, ParameterKind
from spanpost.sinks.redaction import SinkRule

GROUP: Final = "spanpost.launchers"
#: Slack shows 75 characters of a choice.
Choice = Annotated[str, StringConstraints(min_length=1, max_length=75, strip_whitespace=True)]


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


class ParameterSettings(PluginSettings, Parameter):
    """A parameter of a launcher, which every endpoint asks for and checks. It does not concern retries, rules and
    webhooks.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,59}$", description="Its name: `parameters.<name>`.")
    kind: ParameterKind = Field(default="text", description="`text`, `choice` or `number`.")
    label: str = Field(default="", max_length=150, description="Its name for people; empty: `name`.")
    hint: str = Field(default="", max_length=150, description="A line below the field.")
    required: bool = Field(default=False, description="Nothing is started without a value.")
    default: str = Field(default="", description="The value if a person gives none.")
    choices: tuple[Choice, ...] = Field(default=(), max_length=100, description="The values of a `choice`.")
    minimum: float | None = Field(default=None, description="Smallest `number`.")
    maximum: float | None = Field(default=None, description="Largest `number`.")

    @model_validator(mode="after")
    def _fit(self) -> ParameterSettings:
        if (self.kind == "choice") is not bool(self.choices):
            raise ValueError(f"{self.name}: a parameter has choices if its kind is `choice`, and only then")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"{self.name}: two choices are one")
        if self.kind != "number" and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"{self.name}: minimum and maximum are of a `number`")
        if self.default and (self.fault(self.default)) is not None:
            raise ValueError(f"{self.name}: the default is no value that it accepts")
        return self


class LauncherSettings(PluginSettings):
    """Settings of every launcher; a launcher's own settings derive from it. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    enabled: bool = Field(default=True, description="`false`: nothing is started by it.")
    parameters: tuple[ParameterSettings, ...] = Field(
        default=(), max_length=40, description="The parameters that it declares; without any it accepts all."
    )
    redact: tuple[SinkRule, ...] = Field(
        default=(),
        max_length=50,
        description="Text of orders that the launcher does not see: patterns, or rules with `pattern` and "
        "`attributes` (names of parameters).",
    )

    @field_validator("parameters")
    @classmethod
    def _are_different(cls, value: tuple[ParameterSettings, ...]) -> tuple[ParameterSettings, ...]:
        names = [one.name for one in value]
        if len(set(names)) < len(names):
            raise ValueError("two parameters have one name")
        return value


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
