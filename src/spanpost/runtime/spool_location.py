"""Location of the spool: from the settings to `spanpost.receivers.spool`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from spanpost.model.errors import ConfigError
from spanpost.receivers import spool_files
from spanpost.receivers.spool import Spool
from spanpost.receivers.spool_files import SpoolSettings
from spanpost.settings import Settings

#: Options of a URL that identify the database.
_WHERE = ("host", "hostaddr", "port", "dbname", "service")


def spool_settings(settings: Settings) -> SpoolSettings | None:
    """Return the settings of the spool; None if it is off. Raises `ConfigError` if it could not keep its
    promise.
    """
    intake = settings.intake
    if not intake.durable and intake.spool_dir is None:
        return None
    if settings.forward is not None:
        raise ConfigError(
            "intake.durable: a process that forwards to a gateway has no spool; put a Collector with a persistent "
            "queue in between, or unset SPANPOST_INTAKE__DURABLE and SPANPOST_INTAKE__SPOOL_DIR"
        )
    if settings.dsn is None and not settings.database.embedded:
        raise ConfigError(
            "intake.durable: there is no database to record the spool in; set DATABASE_URL or "
            "SPANPOST_DATABASE__EMBEDDED=true, or unset SPANPOST_INTAKE__DURABLE and SPANPOST_INTAKE__SPOOL_DIR"
        )
    return SpoolSettings(
        directory=(intake.spool_dir or _beside(settings.database.data_dir)).absolute(),
        destination=destination(settings),
        tenant=intake.tenant,
        max_size=intake.spool_max_bytes,
    )


def open_spool(found: SpoolSettings) -> Spool:
    """Prepare the directory and return a spool in it. Raises `ConfigError`."""
    spool_files.prepare(found.directory)
    return Spool(found)


def destination(settings: Settings) -> str:
    """Return the database that is recorded to, without user and password."""
    if settings.dsn is None:
        return f"embedded {settings.database.data_dir.absolute()}"
    url = urlsplit(settings.dsn)
    where = urlencode([(name, value) for name, value in parse_qsl(url.query) if name in _WHERE])
    return url.netloc.rpartition("@")[2] + url.path + (f"?{where}" if where else "")


def _beside(data_dir: Path) -> Path:
    return data_dir.with_name(data_dir.name + "-spool")
