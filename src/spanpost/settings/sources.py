"""Sources of settings besides the environment: ``spanpost.toml`` and ``DATABASE_URL``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic_settings import PydanticBaseSettingsSource

from spanpost.model.errors import ConfigError
from spanpost.settings.database_url import NotUnderstood, is_postgres, understood

CONFIG_VARIABLE: Final = "SPANPOST_CONFIG"
CONFIG_FILE: Final = "spanpost.toml"


class _Source(PydanticBaseSettingsSource):
    """Base of sources that return all their values at once."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


class DatabaseUrl(_Source):
    """``DATABASE_URL``, if it names a PostgreSQL. An application's MySQL is ignored: see
    `database_url.foreign`.
    """

    def __call__(self) -> dict[str, Any]:
        text = os.environ.get("DATABASE_URL", "")
        said = self.current_state.get("database")
        if not is_postgres(text) or (isinstance(said, dict) and said.get("url")):
            return {}
        try:
            return {"database": {"url": understood(text)}}
        except NotUnderstood as error:
            raise ConfigError(f"DATABASE_URL: {error}") from None


class Toml(_Source):
    """The configuration file, if there is one."""

    def __call__(self) -> dict[str, Any]:
        return read_config_file()


def config_path() -> Path | None:
    """Return the configuration file in use, or None. Raises `ConfigError` if a file was named that does not
    exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{CONFIG_VARIABLE}: there is no file {path}; name an existing file or unset it")
        return path
    path = Path(CONFIG_FILE)
    return path if path.is_file() else None


def read_config_file() -> dict[str, Any]:
    """Return the content of the configuration file; empty without one."""
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
