"""Orders as Celery tasks."""

from __future__ import annotations

from spanpost import Launcher, LauncherPlugin
from spanpost_celery.settings import CelerySettings


def _open(name: str, settings: CelerySettings) -> Launcher:
    from spanpost_celery.launcher import CeleryLauncher  # imported here: Celery is not needed to read the settings

    return CeleryLauncher(name, settings)


plugin = LauncherPlugin(kind="celery", settings=CelerySettings, open=_open)
