"""What answers on the gateway's HTTP port beside OTLP: a table of prefixes and applications, made by the modules of this package.

Each module is one door: its ``doors(house)`` returns what it opens, nothing where its settings or packages are missing; it may have ``prepare(settings)``, which imports what takes long. A new
room adds a module here and touches no other.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from spanpost.asgi import Application, Receive, Scope, Send

if TYPE_CHECKING:
    from spanpost.intake.tokens import Doorkeeper
    from spanpost.pipeline import Pipeline
    from spanpost.settings import Settings


class House(msgspec.Struct, frozen=True, kw_only=True):
    """What a door is given of the gateway that it is in."""

    pipeline: Pipeline
    settings: Settings
    doorkeeper: Doorkeeper
    #: As it is reached: scheme, host, port.
    url: str


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """An application and where it answers. All of it is called in the pipeline's loop."""

    #: Ends with a slash: whatever begins so. Else, and of ``/``: this path alone. The longest that fits answers.
    prefix: str
    application: Application
    #: Goes by other settings from now on. Raises `ConfigError`, and then nothing has changed.
    reload: Callable[[Settings], None] | None = None
    #: The gateway stops: answer who waits, end streams, at once.
    end: Callable[[], None] | None = None


class Doors:
    """The application that hands each request to the door it is for; `rest` takes what is for none."""

    def __init__(self, doors: Iterable[Door], rest: Application) -> None:
        self._doors = tuple(doors)
        self._exact = {door.prefix: door.application for door in self._doors if not _is_under(door)}
        ordered = sorted((d for d in self._doors if _is_under(d)), key=lambda d: -len(d.prefix))
        self._under = tuple((door.prefix, door.application) for door in ordered)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope["path"] if scope["type"] == "http" else "")(scope, receive, send)

    def _application(self, path: str) -> Application:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((application for prefix, application in self._under if path.startswith(prefix)), self._rest)

    def reload(self, settings: Settings) -> None:
        """Have all doors go by other settings."""
        for door in self._doors:
            if door.reload is not None:
                door.reload(settings)

    def end(self) -> None:
        """Tell all doors that the gateway stops."""
        for door in self._doors:
            if door.end is not None:
                door.end()


def _is_under(door: Door) -> bool:
    return door.prefix.endswith("/") and door.prefix != "/"


def prepare(settings: Settings) -> None:
    """Import what the doors need, before there is a loop that it would hold up."""
    for module in _modules():
        if hasattr(module, "prepare"):
            module.prepare(settings)


def doors_of(house: House) -> list[Door]:
    """Open all doors that there are. Raises `ConfigError`."""
    return [door for module in _modules() for door in module.doors(house)]


def _modules() -> list[Any]:
    found = sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    return [import_module(f"{__name__}.{module.name}") for module in found]
