"""Read and check the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_settings import SettingsError

from spanpost.model.errors import ConfigError
from spanpost.settings.database_url import foreign
from spanpost.settings.mistakes import explain, misspelt_keys, misspelt_variables, not_json
from spanpost.settings.root import PREFIX, Models, Settings
from spanpost.settings.sources import CONFIG_FILE, read_config_file, variables
from spanpost.sinks import registry


def load(**overrides: Any) -> Settings:
    """Return the settings; `overrides` by section win over all other sources. Raises `ConfigError` with
    every mistake and its next step.
    """
    document, environment = read_config_file(), variables()
    sinks = _sinks_set(environment, document, overrides)
    mistakes = [*misspelt_variables(environment, sinks), *misspelt_keys(document, sinks)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    fields: dict[str, Any] = {name: (model | None, None) for name, model in sinks.items()}
    model = create_model("Settings", __base__=Settings, **fields) if fields else Settings
    try:
        return model(**overrides)
    except ValidationError as error:
        items = error.errors(include_input=False, include_url=False)
        raise ConfigError("\n".join(explain(item, sinks) for item in items)) from None
    except SettingsError:
        raise ConfigError(
            f"{not_json(environment, sinks)}: this is not JSON; write it so, or set it in {CONFIG_FILE}"
        ) from None


def _sinks_set(environment: Mapping[str, str], *documents: Mapping[str, Any]) -> Models:
    """Return the models of the sinks that have settings. No other sink is imported."""
    said = {section.lower() for document in documents for section in document}
    for name in environment:
        section, parted, _ = name.upper().removeprefix(PREFIX).partition("__")
        if parted and name.upper().startswith(PREFIX):
            said.add(section.lower())
    said -= set(Settings.model_fields)
    # Search the installed packages only if a section is left that may be a sink.
    found = sorted(said & set(registry.names())) if said else []
    for name in found:
        if hasattr(Settings, name):
            raise ConfigError(
                f"sink plugin {name!r} (of {registry.distribution(name)}): the name is taken; its author must rename it"
            )
    return {name: registry.find(name).settings for name in found}


def is_sdk_disabled() -> bool:
    """Return whether ``OTEL_SDK_DISABLED`` turns OpenTelemetry off, and spanpost with it."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def foreign_database() -> str:
    """Return the kind of database that ``DATABASE_URL`` names if it is not a PostgreSQL, without any part
    of the address; else empty.
    """
    return foreign(variables())
