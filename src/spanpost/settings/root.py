"""The settings of all sections in one model, and the names of their fields and variables."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from spanpost.model.errors import ConfigError
from spanpost.settings.alerts import AlertsSettings
from spanpost.settings.api import ApiSettings
from spanpost.settings.approvals import ApprovalsSettings, ControlSettings
from spanpost.settings.attach import AttachSettings
from spanpost.settings.budgets import BudgetSettings, are_different
from spanpost.settings.cells import CellsSettings
from spanpost.settings.context import ContextSettings
from spanpost.settings.cost import CostSettings
from spanpost.settings.database import DatabaseSettings
from spanpost.settings.evaluations import EvaluationsSettings
from spanpost.settings.forward import ForwardSettings
from spanpost.settings.gateway import GatewaySettings
from spanpost.settings.hooks import PermissionHooksSettings
from spanpost.settings.intake import IntakeSettings
from spanpost.settings.interactions import InteractionsSettings
from spanpost.settings.kafka import KafkaSettings
from spanpost.settings.launchers import LaunchersSettings
from spanpost.settings.limits import LimitSettings
from spanpost.settings.log import LogSettings
from spanpost.settings.loops import LoopSettings
from spanpost.settings.metrics import MetricsSettings
from spanpost.settings.oidc import OidcSettings
from spanpost.settings.outputs import ResultsSettings
from spanpost.settings.redaction import RedactionSettings
from spanpost.settings.retention import RetentionSettings
from spanpost.settings.routes import NotificationSettings, RouteSettings
from spanpost.settings.sealing import SealingSettings
from spanpost.settings.section import Section
from spanpost.settings.slack_oauth import SlackOauthSettings
from spanpost.settings.sources import CONFIG_VARIABLE, SECRETS_VARIABLE, DatabaseUrl, Toml, Variables
from spanpost.settings.stall import StallSettings
from spanpost.settings.tasks import TaskSettings
from spanpost.settings.webhooks import HooksSettings
from spanpost.sinks import registry
from spanpost.sinks.plugin import SinkSettings

#: Settings models by sink.
Models: TypeAlias = Mapping[str, type[SinkSettings]]

PREFIX: Final = "SPANPOST_"
#: Not a setting: the variable in which a shell script keeps the task of `spanpost emit`.
TASK_VARIABLE: Final = "SPANPOST_TASK"
#: Not a setting: the launch order that started an agent.
ORDER_VARIABLE: Final = "SPANPOST_ORDER"
#: Not settings: the gateway whose API the command line calls, and its token.
URL_VARIABLE: Final = "SPANPOST_URL"
TOKEN_VARIABLE: Final = "SPANPOST_TOKEN"


#: Sections that are lists of tables: ``[[routes]]``, ``SPANPOST_ROUTES``.
LISTS: Final = ("routes", "budgets")


class Settings(BaseSettings):
    """All settings. Make it with `load`, which adds a section for each sink that is set and refuses
    misspelt names.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    database: DatabaseSettings = Field(default_factory=lambda: DatabaseSettings())
    attach: AttachSettings = Field(default_factory=lambda: AttachSettings())
    intake: IntakeSettings = Field(default_factory=lambda: IntakeSettings())
    redaction: RedactionSettings = Field(default_factory=lambda: RedactionSettings())
    sealing: SealingSettings = Field(default_factory=lambda: SealingSettings())
    retention: RetentionSettings = Field(default_factory=lambda: RetentionSettings())
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings())
    forward: ForwardSettings | None = None
    gateway: GatewaySettings | None = None
    cells: CellsSettings | None = None
    kafka: KafkaSettings | None = None
    interactions: InteractionsSettings | None = None
    oidc: OidcSettings | None = None
    slack_oauth: SlackOauthSettings | None = None
    alerts: AlertsSettings = Field(default_factory=lambda: AlertsSettings())
    api: ApiSettings = Field(default_factory=lambda: ApiSettings())
    metrics: MetricsSettings | None = None
    routes: tuple[RouteSettings, ...] = Field(default=(), description="The routing table, in order.")
    budgets: Annotated[tuple[BudgetSettings, ...], AfterValidator(are_different)] = Field(
        default=(), max_length=100, description="The budgets of money and tokens."
    )
    log: LogSettings = Field(default_factory=lambda: LogSettings())
    context: ContextSettings = Field(default_factory=lambda: ContextSettings())
    cost: CostSettings = Field(default_factory=lambda: CostSettings())
    notifications: NotificationSettings = Field(default_factory=lambda: NotificationSettings())
    outputs: ResultsSettings = Field(default_factory=lambda: ResultsSettings())
    tasks: TaskSettings = Field(default_factory=lambda: TaskSettings())
    stall: StallSettings = Field(default_factory=lambda: StallSettings())
    loops: LoopSettings = Field(default_factory=lambda: LoopSettings())
    approvals: ApprovalsSettings = Field(default_factory=lambda: ApprovalsSettings())
    control: ControlSettings = Field(default_factory=lambda: ControlSettings())
    evaluations: EvaluationsSettings = Field(default_factory=lambda: EvaluationsSettings())
    hooks: PermissionHooksSettings = Field(default_factory=lambda: PermissionHooksSettings())
    launchers: LaunchersSettings = Field(default_factory=lambda: LaunchersSettings())
    webhooks: HooksSettings = Field(default_factory=lambda: HooksSettings())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, most important first."""
        return (init_settings, Variables(settings_cls), Toml(settings_cls), DatabaseUrl(settings_cls))

    @property
    def dsn(self) -> str | None:
        """The database URL with its password; None without one."""
        return self.database.url.get_secret_value() if self.database.url else None

    @property
    def read_dsn(self) -> str | None:
        """URL for reading: `database.read_url`, else `database.url`; None for the embedded database."""
        return self.database.read_url.get_secret_value() if self.database.read_url else self.dsn

    @property
    def has_database(self) -> bool:
        """True if rows are kept in a PostgreSQL, the embedded one included."""
        return self.dsn is not None or self.database.embedded

    @property
    def sinks(self) -> dict[str, SinkSettings]:
        """The sinks that have settings, by name, sorted."""
        return {name: section for name, section in sorted(self.__dict__.items()) if isinstance(section, SinkSettings)}


def models_installed() -> Models:
    """Return the models of all installed sinks that can be loaded, for suggestions in messages."""
    models: dict[str, type[SinkSettings]] = {}
    for name in registry.names():
        with suppress(ConfigError):
            models[name] = registry.find(name).settings
    return models


def section_model(name: str) -> type[BaseModel]:
    """Return the model of a section, of a sink too. Raises `ConfigError` for a sink that cannot be loaded."""
    if name not in Settings.model_fields:
        return registry.find(name).settings
    annotation = Settings.model_fields[name].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    raise KeyError(name)


def variable_names(sinks: Models | None = None) -> tuple[str, ...]:
    """Return every environment variable that is read, sorted; for these sinks, or for all that are installed."""
    names = {CONFIG_VARIABLE, SECRETS_VARIABLE, TASK_VARIABLE, ORDER_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE}
    names.update(f"{PREFIX}{section}".upper() for section in LISTS)
    sections: dict[str, type[BaseModel]] = {
        section: section_model(section) for section in Settings.model_fields if section not in LISTS
    }
    for section, model in (sections | dict(models_installed() if sinks is None else sinks)).items():
        names.update(variable(section, field) for field in model.model_fields)
    return tuple(sorted(names))


def variable(section: str, field: str) -> str:
    """Return the environment variable of a field."""
    return f"{PREFIX}{section}__{field}".upper()
