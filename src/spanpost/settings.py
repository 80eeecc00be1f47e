"""Settings: one model per room, from the environment and ``spanpost.toml``, refused at start when something is wrong.

What is said later wins: the defaults, ``DATABASE_URL``, ``spanpost.toml``, ``SPANPOST_<ROOM>__<FIELD>``, arguments. A room
without settings is off. The reference page is made from these models (``make reference``).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from spanpost.desk_settings import DeskSettings
from spanpost.domain.errors import ConfigError
from spanpost.gateway_settings import GatewaySettings
from spanpost.room import Duration as Duration
from spanpost.room import Room as Room
from spanpost.sinks import registry
from spanpost.sinks.plugin import SinkSettings

#: Settings of sinks, by the sink's name.
Models: TypeAlias = Mapping[str, type[SinkSettings]]

PREFIX: Final = "SPANPOST_"
CONFIG_VARIABLE: Final = "SPANPOST_CONFIG"
CONFIG_FILE: Final = "spanpost.toml"
#: No setting: where a shell script keeps the task that `spanpost emit` tells of.
TASK_VARIABLE: Final = "SPANPOST_TASK"
REFERENCE: Final = "docs/reference/settings.md"

_POSTGRES = re.compile(r"^postgres(ql)?(\+\w+)?://", re.IGNORECASE)
#: A header's name, as HTTP and gRPC both take it.
_HEADER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
# Kubernetes tells every pod of a service named "spanpost" in variables of these forms; they are nobody's mistake.
_KUBERNETES = re.compile(r"^SPANPOST_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")


class DatabaseSettings(Room):
    """Where the audit rows are kept."""

    url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL to use (`postgresql://user:password@host/name?sslmode=verify-full`). `DATABASE_URL` is read too. "
        "Without one, `attach()` keeps nothing and the command line uses the embedded PostgreSQL.",
    )
    embedded: bool = Field(
        default=False,
        description="Without a URL, use the embedded PostgreSQL in `attach()` too; the command line always does.",
    )
    pool_size: int = Field(default=4, ge=1, le=100, description="Connections that one process holds at most.")
    statement_cache: int = Field(
        default=100, ge=0, description="Prepared statements kept per connection; 0 behind a PgBouncer that pools by transaction."
    )
    data_dir: Path = Field(
        default_factory=lambda: default_data_dir(),
        description="Directory of the embedded PostgreSQL. By default `$XDG_DATA_HOME/spanpost` "
        "(`~/.local/share/spanpost`), as root `/var/lib/spanpost`.",
    )
    pg_bin: Path | None = Field(default=None, description="Directory of other server binaries, e.g. `/usr/lib/postgresql/17/bin`.")

    @field_validator("url", mode="before")
    @classmethod
    def _is_postgres(cls, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is None or text == "":
            return None
        if not isinstance(text, str) or not _POSTGRES.match(text):
            raise ValueError("must begin with postgresql://; other databases are not supported")
        # SQLAlchemy's way of naming a driver (postgresql+psycopg://) means the same server.
        return _POSTGRES.sub("postgresql://", text)

    @field_validator("data_dir", "pg_bin")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None


class AttachSettings(Room):
    """How an agent's process is joined: by `attach()`, and when OpenTelemetry loads spanpost by itself."""

    enabled: bool = Field(
        default=True, description="`false` switches spanpost off: it is installed and attached, and does nothing at all."
    )
    flush_on_sigterm: bool = Field(
        default=False,
        description="Flush at SIGTERM, then let the handler that was there go on. Without it a process that has no handler "
        "dies of the signal at once, with what was queued.",
    )


class IntakeSettings(Room):
    """What is taken in from an agent's process."""

    tenant: str = Field(default="default", min_length=1, max_length=200, description="Whose tasks these are in a shared database.")
    queue_size: int = Field(
        default=65_536, ge=64, description="Observations that wait in memory at most; what comes on top is lost and counted."
    )
    poll_interval: Duration = Field(
        default=timedelta(seconds=0.25), gt=timedelta(0), description="How often open spans are looked at for late attributes."
    )
    heartbeat_interval: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        description="How often a process with open spans says that it lives.",
    )
    capture_content: bool = Field(default=False, description="Keep prompts, completions and tool arguments in the audit rows.")
    durable: bool = Field(
        default=False,
        description="Write what is told to a file before the agent goes on, so that a kill takes none of it. Needs a database. "
        "Costs the agent's thread some microseconds a span, and the file holds prompts until they are recorded.",
    )
    spool_dir: Path | None = Field(
        default=None,
        description="Directory of those files, ours alone (mode 0700); setting it turns `durable` on. By default beside the "
        "database's `data_dir`, with `-spool` at its end.",
    )
    spool_max_bytes: int = Field(
        default=1024**3, ge=65_536, description="Size of that directory at most; beyond it nothing is written until there is room."
    )

    @field_validator("spool_dir")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None


class ForwardSettings(Room):
    """Send what happens to a gateway over OTLP, live, instead of recording it in the agent's process."""

    endpoint: str = Field(
        description="Where to send it, a Collector or `spanpost run`: `http://collector:4318`, `https://…`, `unix:///run/otlp.sock`. "
        "Set, the process has no database, sinks or metrics of its own.",
    )
    protocol: Literal["http", "grpc"] | None = Field(
        default=None, description="OTLP's transport. Not given: `grpc` for port 4317 and Unix sockets, else `http`."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token, sent as `Authorization: Bearer …`.")
    headers: dict[str, SecretStr] = Field(
        default={},
        description='Further headers, as JSON: `{"x-tenant": "acme"}`. Those of `OTEL_EXPORTER_OTLP_HEADERS` are not sent.',
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), description="What one request may take, its tries included."
    )
    spans: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Which finished spans are sent too. `auto`: those that no OTLP exporter of the application sends to the same "
        "host (and port, or the standard ports 4317 and 4318).",
    )
    certificate: Path | None = Field(default=None, description="CA certificates by which the receiver is known, a PEM file.")
    client_certificate: Path | None = Field(default=None, description="Certificate to show to the receiver, a PEM file.")
    client_key: Path | None = Field(default=None, description="Private key of that certificate, a PEM file.")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError as error:
            raise ValueError(f"is no address ({error}); write http://host:4318") from None
        if parts.username or parts.password:
            raise ValueError("must not hold a user or password; give a token or headers")
        if not (parts.scheme in ("http", "https") and has_host) and not (parts.scheme == "unix" and parts.path):
            raise ValueError("must be http://host:port, https://host:port or unix:///path")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if not _HEADER.match(name):
                raise ValueError(f"{name!r} is no name of a header")
            if not content.get_secret_value().isprintable() or not content.get_secret_value().isascii():
                raise ValueError(f"the value of {name} must be plain ASCII on one line")
        return value

    @field_validator("token")
    @classmethod
    def _is_token(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("must be plain ASCII without spaces (without the word Bearer)")
        return value if text else None

    @model_validator(mode="after")
    def _fits(self) -> ForwardSettings:
        if self.endpoint.startswith("unix:") and self.protocol == "http":
            raise ValueError("a Unix socket speaks gRPC here; leave protocol out, or give an http:// endpoint")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together; give both or neither")
        return self


class MetricsSettings(Room):
    """Prometheus metrics over HTTP. Off in `attach()` unless set; on in `run` and `demo`."""

    enabled: bool = Field(default=True, description="Serve them; a room that is named at all is on.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


class RouteSettings(Room):
    """Where news of some tasks goes: the first route of a sink whose conditions are all met. Not given: takes any."""

    sink: str = Field(min_length=1, description="Sink that it leads to, e.g. `console` or `slack`.")
    address: str = Field(default="", description="Where in the sink, e.g. `#deploys`; empty: the sink's own default.")
    tenant: str | None = Field(default=None, description="Takes tasks of this tenant.")
    agent: str | None = Field(default=None, description="Takes tasks of the agent with this name.")
    topic: str | None = Field(default=None, description="Takes tasks with this `agent.topic`.")
    environment: str | None = Field(default=None, description="Takes tasks of this `deployment.environment.name`.")
    status: str | None = Field(default=None, description="Takes tasks in this status, beside other routes.")
    verbosity: Literal["live", "milestones", "final", "mute"] | None = Field(
        default=None, description="How much is let through; not given: as the sink's own settings say."
    )


class LogSettings(Room):
    """What spanpost says of itself on stderr."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least severity that is written.")
    json_lines: bool = Field(default=False, description="Write JSON lines instead of text.")

    @field_validator("level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


Share = Annotated[float, Field(gt=0, lt=1)]


class ContextSettings(Room):
    """When a filling context window is warned of."""

    warn_at: tuple[Share, ...] = Field(
        default=(0.70, 0.85), description="Shares of the window at which to warn, ascending; `[]` for none."
    )
    warn_tokens: tuple[Annotated[int, Field(ge=1000)], ...] = Field(
        default=(), description="Tokens in use at which to warn too, whatever the window, ascending: `[150000]`."
    )
    ahead_calls: int = Field(
        default=3,
        ge=0,
        description="Warn ahead when the largest share, or a number of tokens, is forecast to be reached in so many model calls; 0: never.",
    )
    ahead: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(0),
        description="Warn ahead when it is forecast to be reached in this time; 0: never.",
    )
    windows: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default={}, description='Window in tokens by model name, over what spanpost knows: `{"my-model": 32000}`.'
    )
    default_window: int | None = Field(
        default=None, gt=0, description="Window in tokens of models of which nothing is known. Not given: nothing is warned of."
    )

    @field_validator("warn_at", "warn_tokens")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must be ascending, without repeats")
        return value


Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PriceSettings(BaseModel):
    """Prices of a model in US dollars of a million tokens. What is left out is priced as what it is part of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    reasoning: Dollars | None = None


class CostSettings(Room):
    """What model calls cost that do not say it themselves."""

    enabled: bool = Field(
        default=True, description="Compute it: from `prices`, and from `genai-prices` where that is installed (`spanpost[cost]`)."
    )
    prices: dict[str, PriceSettings] = Field(
        default={},
        description="Prices by model name, over what is published, in US dollars of a million tokens: "
        '`{"my-model": {"input": 2.5, "output": 10, "cache_read": 0.25, "cache_write": 3.1, "reasoning": 10}}`; the last three may be left out.',
    )

    @field_validator("prices")
    @classmethod
    def _have_names(cls, value: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        if any(not model.strip() for model in value):
            raise ValueError("a price is given for an empty model name; name the model")
        return value


class NewsSettings(Room):
    """What is still news."""

    max_age: Duration = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="News older than this is recorded and not posted. Seconds, or ISO 8601 (`PT15M`).",
    )


class SilenceSettings(Room):
    """How long silence is borne."""

    stall_after: Duration = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="A task of which nothing was heard for this long is shown as stalled.",
    )
    interrupt_after: Duration = Field(
        default=timedelta(minutes=1),
        gt=timedelta(0),
        description="A process whose heartbeats stopped for this long (and three of its intervals) is gone: its open tasks are "
        "interrupted, until something is heard of them again.",
    )
    open_call_after: Duration = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="How long a tool or model call that is known to be open explains a task's silence.",
    )


class Settings(BaseSettings):
    """All settings. Make it with `load`, which adds a room for each sink that is set and refuses misspelt names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    database: DatabaseSettings = Field(default_factory=lambda: DatabaseSettings())
    attach: AttachSettings = Field(default_factory=lambda: AttachSettings())
    intake: IntakeSettings = Field(default_factory=lambda: IntakeSettings())
    forward: ForwardSettings | None = None
    gateway: GatewaySettings | None = None
    desk: DeskSettings | None = None
    metrics: MetricsSettings | None = None
    routes: tuple[RouteSettings, ...] = Field(default=(), description="The routing table, in order.")
    log: LogSettings = Field(default_factory=lambda: LogSettings())
    context: ContextSettings = Field(default_factory=lambda: ContextSettings())
    cost: CostSettings = Field(default_factory=lambda: CostSettings())
    news: NewsSettings = Field(default_factory=lambda: NewsSettings())
    silence: SilenceSettings = Field(default_factory=lambda: SilenceSettings())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return who is asked, most important first."""
        return (init_settings, env_settings, _Toml(settings_cls), _DatabaseUrl(settings_cls))

    @property
    def dsn(self) -> str | None:
        """The database's URL in the clear, for those who connect; None without one."""
        return self.database.url.get_secret_value() if self.database.url else None

    @property
    def sinks(self) -> dict[str, SinkSettings]:
        """The sinks of which anything is set, by name, sorted."""
        return {name: room for name, room in sorted(self.__dict__.items()) if isinstance(room, SinkSettings)}


class _DatabaseUrl(PydanticBaseSettingsSource):
    """``DATABASE_URL``, where it names a PostgreSQL: an application's MySQL is not meant for us."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        url = os.environ.get("DATABASE_URL", "")
        return {"database": {"url": url}} if _POSTGRES.match(url) else {}


class _Toml(PydanticBaseSettingsSource):
    """The configuration file, where there is one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return read_config_file()


def load(**overrides: Any) -> Settings:
    """Read the settings; `overrides` by room win over all else. Raises `ConfigError` with every mistake and its next step."""
    document = read_config_file()
    sinks = _sinks_set(os.environ, document, overrides)
    mistakes = [*_misspelt_variables(os.environ, sinks), *_misspelt_keys(document, sinks)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    fields: dict[str, Any] = {name: (model | None, None) for name, model in sinks.items()}
    model = create_model("Settings", __base__=Settings, **fields) if fields else Settings
    try:
        return model(**overrides)
    except ValidationError as error:
        items = error.errors(include_input=False, include_url=False)
        raise ConfigError("\n".join(_explain(item, sinks) for item in items)) from None
    except SettingsError:
        raise ConfigError(f"{_not_json(os.environ, sinks)}: this is not JSON; write it so, or set it in {CONFIG_FILE}") from None


def _sinks_set(environment: Mapping[str, str], *documents: Mapping[str, Any]) -> Models:
    """Return the models of the sinks of which anything is said. Nothing of the others is imported."""
    said = {room.lower() for document in documents for room in document}
    for name in environment:
        room, parted, _ = name.upper().removeprefix(PREFIX).partition("__")
        if parted and name.upper().startswith(PREFIX):
            said.add(room.lower())
    said -= set(Settings.model_fields)
    # The installed packages are looked through only where something is left to be found there.
    found = sorted(said & set(registry.names())) if said else []
    for name in found:
        if hasattr(Settings, name):
            raise ConfigError(
                f"sink plugin {name!r} (of {registry.distribution(name)}): the name is taken; its author must rename it"
            )
    return {name: registry.find(name).settings for name in found}


def _models_installed() -> Models:
    """Return the models of every sink that can be had, to say which name was meant."""
    models: dict[str, type[SinkSettings]] = {}
    for name in registry.names():
        with suppress(ConfigError):
            models[name] = registry.find(name).settings
    return models


def is_sdk_disabled() -> bool:
    """Say whether ``OTEL_SDK_DISABLED`` is set: OpenTelemetry then does nothing, and neither do we."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def default_data_dir() -> Path:
    """Return where the embedded PostgreSQL lives when nobody says so."""
    named = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(named):
        return Path(named) / "spanpost"
    # PostgreSQL never runs as root, and the user it steps down to cannot look into root's home.
    if os.geteuid() == 0:
        return Path("/var/lib/spanpost")
    return Path(os.path.expanduser("~")) / ".local" / "share" / "spanpost"


def config_path() -> Path | None:
    """Return the configuration file in use, or None. Raises `ConfigError` when the one that was named is missing."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{CONFIG_VARIABLE}: there is no file {path}; name an existing file or unset it")
        return path
    path = Path(CONFIG_FILE)
    return path if path.is_file() else None


def read_config_file() -> dict[str, Any]:
    """Return what the configuration file says; empty without one."""
    path = config_path()
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: this is not TOML: {error}; mend that line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; mend the file or unset {CONFIG_VARIABLE}") from None


def room_model(name: str) -> type[BaseModel]:
    """Return the model behind a room's name, a sink's among them. Raises `ConfigError` for a sink that cannot be had."""
    if name not in Settings.model_fields:
        return registry.find(name).settings
    annotation = Settings.model_fields[name].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Room):
            return candidate
    raise KeyError(name)


def variable_names(sinks: Models | None = None) -> tuple[str, ...]:
    """Return every environment variable that is read, sorted; of these sinks, or of all that are installed."""
    names = {CONFIG_VARIABLE, TASK_VARIABLE, PREFIX + "ROUTES"}
    rooms: dict[str, type[BaseModel]] = {room: room_model(room) for room in Settings.model_fields if room != "routes"}
    for room, model in (rooms | dict(_models_installed() if sinks is None else sinks)).items():
        names.update(variable(room, field) for field in model.model_fields)
    return tuple(sorted(names))


def variable(room: str, field: str) -> str:
    """Return the environment variable of a room's field."""
    return f"{PREFIX}{room}__{field}".upper()


def _misspelt_variables(environment: Mapping[str, str], sinks: Models) -> Iterable[str]:
    known = variable_names(sinks)
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or _KUBERNETES.match(upper):
            continue
        if upper.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://")):
            continue
        yield f"{name}: there is no such setting{_nearest(upper, variable_names())}; rename or unset it ({REFERENCE} lists all)"


def _misspelt_keys(document: Mapping[str, Any], sinks: Models) -> Iterable[str]:
    for room, fields in document.items():
        if room not in Settings.model_fields and room not in sinks:
            near = _nearest(room, (*Settings.model_fields, *registry.names()))
            yield f"{CONFIG_FILE}: [{room}]: there is no such room{near}; rename or remove it ({REFERENCE} lists all)"
            continue
        known = tuple((sinks.get(room) or room_model(room)).model_fields)
        for table in fields if isinstance(fields, list) else [fields]:
            for key in table if isinstance(table, dict) else ():
                if key not in known:
                    yield (
                        f"{CONFIG_FILE}: {room}.{key}: there is no such setting{_nearest(key, known)}; "
                        f"rename or remove it ({REFERENCE} lists all)"
                    )


def _not_json(environment: Mapping[str, str], sinks: Models) -> str:
    """Return which variable was at fault: pydantic-settings names the room alone."""
    compound = {PREFIX + "ROUTES"}
    for room in (*Settings.model_fields, *sinks):
        for field, info in (sinks.get(room) or room_model(room)).model_fields.items():
            if re.search(r"\b(tuple|list|dict|set|frozenset|Sequence|Mapping)\[", str(info.annotation)):
                compound.add(variable(room, field))
    for name, value in sorted(environment.items()):
        if name.upper() in compound:
            try:
                json.loads(value)
            except ValueError:
                return name
    return " or ".join(sorted(compound))


def _nearest(name: str, known: Iterable[str]) -> str:
    # "_" for "__" is the commonest slip: compared without underscores, the right name comes first.
    squeezed = {one.replace("_", ""): one for one in known}
    found = difflib.get_close_matches(name.replace("_", ""), squeezed, n=1, cutoff=0.6)
    return f" (did you mean {squeezed[found[0]]}?)" if found else ""


def _explain(item: Any, sinks: Models) -> str:
    error = cast("dict[str, Any]", item)
    where = [str(part) for part in error["loc"]]
    name = ".".join(where) or "settings"
    reason = str(error["msg"]).removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if error["type"] == "extra_forbidden":
        known = _fields_of(where[0], sinks) if len(where) > 1 else (*Settings.model_fields, *_models_installed())
        reason = f"there is no such {'setting' if len(where) > 1 else 'room'}{_nearest(where[-1], known)}"
    if len(where) >= 2 and where[0] != "routes":
        return f"{name}: {reason}; mend {variable(where[0], where[1])} or [{where[0]}] in {CONFIG_FILE}"
    return f"{name}: {reason}; mend it in {CONFIG_FILE} ({REFERENCE} lists all)"


def _fields_of(room: str, sinks: Models) -> tuple[str, ...]:
    if room in sinks:
        return tuple(sinks[room].model_fields)
    if room in Settings.model_fields:
        return tuple(room_model(room).model_fields)
    return (*Settings.model_fields, *registry.names())
