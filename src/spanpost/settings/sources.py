"""Sources of settings: variables of the environment and of secret files, ``spanpost.toml``, ``DATABASE_URL``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

from spanpost.model.errors import ConfigError
from spanpost.settings.database_url import NotUnderstood, is_postgres, understood

CONFIG_VARIABLE: Final = "SPANPOST_CONFIG"
CONFIG_FILE: Final = "spanpost.toml"
#: Names the directory of secret files.
SECRETS_VARIABLE: Final = "SPANPOST_SECRETS"
DATABASE_VARIABLE: Final = "DATABASE_URL"
#: Bytes of a secret file, at most.
_LONGEST: Final = 1024 * 1024


def variables() -> dict[str, str]:
    """Return the variables: those of the environment, and the files of `SECRETS_VARIABLE`. Raises `ConfigError`.

    A file is named as the variable that it holds (``SPANPOST_SLACK__TOKEN``); files of other names are ignored. The
    environment of a running process never changes, a file does.
    """
    named = os.environ.get(SECRETS_VARIABLE)
    return {**os.environ, **_secrets_in(Path(named).expanduser())} if named else dict(os.environ)


def _secrets_in(directory: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    said = {name.upper() for name in os.environ}
    try:
        for path in sorted(directory.iterdir()):
            name = path.name
            if not name.startswith("SPANPOST_") and name != DATABASE_VARIABLE:
                continue
            if name.upper() in said:
                raise ConfigError(
                    f"{name}: it is set in the environment and by a file of {SECRETS_VARIABLE}: unset one of them"
                )
            with path.open("rb") as file:
                text = file.read(_LONGEST + 1)
            if len(text) > _LONGEST:
                raise ConfigError(f"{path}: a file of {SECRETS_VARIABLE} has at most {_LONGEST} bytes")
            found[name] = text.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: a file of {SECRETS_VARIABLE} must be UTF-8 text") from None
    except OSError as error:
        raise ConfigError(
            f"{SECRETS_VARIABLE}: {error.filename} cannot be read ({error.strerror}): name a directory whose files "
            "this user may read, or unset it"
        ) from None
    return found


class Variables(EnvSettingsSource):
    """The variables."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in variables().items()}


class _Source(PydanticBaseSettingsSource):
    """Base of sources that return all their values at once."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


class DatabaseUrl(_Source):
    """``DATABASE_URL``, if it names a PostgreSQL. An application's MySQL is ignored: see
    `database_url.foreign`.
    """

    def __call__(self) -> dict[str, Any]:
        text = variables().get(DATABASE_VARIABLE, "")
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
