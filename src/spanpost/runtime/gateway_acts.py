"""Rows of what a gateway did: started, stopped, read its settings again. Values of settings are never in them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel, SecretStr

from spanpost.model.acts import GATEWAY, Operation
from spanpost.model.errors import SpanpostError, StoreUnavailable
from spanpost.runtime import workers
from spanpost.settings import Settings
from spanpost.settings.sources import config_path
from spanpost.store.system_user import system_user

if TYPE_CHECKING:
    from spanpost.runtime.pipeline import Pipeline

log = logging.getLogger("spanpost.gateway")

#: Seconds between attempts to record a row while the database is down, and for the row of the stop.
_PAUSE: Final = 5.0
_STOP: Final = 2.0
#: Most changed keys that are named.
_KEYS: Final = 50
#: Most rows that wait for a database that is down.
_WAITING: Final = 20


class GatewayActs:
    """Records what a gateway did, as acts of the system's user. A database that is down stops no reload."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._waiting: list[Future[None]] = []
        #: Keeps the rows in the order of what happened.
        self._turn = asyncio.Lock()

    def started(self, settings: Settings) -> None:
        """Record the start."""
        self._note("start_gateway", f"{self._who()}; settings {self._hash(settings)}; {_file()}")

    def reloaded(self, before: Settings, after: Settings) -> None:
        """Record that new settings apply, with the names of those that changed."""
        self._note("reload_settings", self._changes(before, after))

    def refused(self, before: Settings, after: Settings | None, error: Exception) -> None:
        """Record that new settings were refused. `after`: None if they could not be read."""
        detail = self._changes(before, after) if after is not None else f"{self._who()}; {_file()}"
        self._note("reload_settings", detail, result="refused", refusal=str(error)[:4_000])

    def stopped(self, settings: Settings, *, is_done: bool) -> None:
        """Record the stop, if the database answers soon. Waits for the row."""
        rest = "" if is_done else "; not everything was finished"
        self._note("stop_gateway", f"{self._who()}; settings {self._hash(settings)}{rest}")
        for one in self._waiting:
            try:
                one.result(_STOP)
            except Exception:  # a stop does not wait for a database that is down
                one.cancel()
                log.warning("an act of the gateway is not recorded: the database does not answer")
                return

    def _changes(self, before: Settings, after: Settings) -> str:
        changed = changed_keys(before, after)
        named = ", ".join(changed[:_KEYS]) + (f" and {len(changed) - _KEYS} more" if len(changed) > _KEYS else "")
        hashes = f"settings {self._hash(before)} -> {self._hash(after)}"
        return f"{self._who()}; {hashes}; {_file()}; changed: {named or 'nothing'}"

    def _hash(self, settings: Settings) -> str:
        return settings_hash(settings, self._pipeline.store.hash_key)

    @staticmethod
    def _who() -> str:
        worker = workers.current
        place = f", worker {worker.number + 1} of {worker.total}" if worker is not None else ""
        return f"spanpost {version('spanpost')}, process {os.getpid()}{place}"

    def _note(self, what: str, detail: str, result: str = "done", refusal: str = "") -> None:
        self._waiting = [one for one in self._waiting if not one.done()]
        if len(self._waiting) >= _WAITING:
            log.error("an act of the gateway is not recorded: the database is down: %s: %s", what, detail)
            return
        try:
            self._waiting.append(self._pipeline.begin(self._in_turn(what, detail, result, refusal)))
        except StoreUnavailable as error:
            log.warning("an act of the gateway is not recorded: %s", error)

    async def _in_turn(self, *act: str) -> None:
        async with self._turn:
            await self._until_recorded(*act)

    async def _until_recorded(self, what: str, detail: str, result: str, refusal: str) -> None:
        operation = Operation(what, system_user(), detail, source=GATEWAY, result=result, refusal=refusal)
        while True:
            try:
                acts = self._pipeline.store.acts
                return await acts.note_operation(operation)
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE)
            except SpanpostError as error:
                log.error("an act of the gateway is not recorded: %s", error)
                return


def settings_hash(settings: Settings, key: bytes) -> str:
    """Return a hash of all settings, keyed: nobody can try secrets against it without the database's key.

    The same settings have the same hash in every gateway of a database.
    """
    document = msgspec.json.encode(sorted(_flat(settings).items()))
    return blake2b(document, key=key[:64], digest_size=16).hexdigest()


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the names of the settings that differ, without their values."""
    one, other = _flat(before), _flat(after)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _flat(settings: BaseModel) -> dict[str, str]:
    """Return each setting as text by its name: ``section.name``. Lists are one setting."""
    found: dict[str, str] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, BaseModel):
            value = {field: getattr(value, field) for field in type(value).model_fields}
        if isinstance(value, Mapping) and value:
            for field, one in value.items():
                walk(f"{name}.{field}" if name else str(field), one)
        elif value is not None:
            found[name] = _text(value)

    walk("", settings)
    return found


def _text(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return _joined(f"{field}={_text(getattr(value, field))}" for field in type(value).model_fields)
        case Mapping():
            return _joined(sorted(f"{name}={_text(one)}" for name, one in value.items()))
        case set() | frozenset():
            return _joined(sorted(map(_text, value)))
        case list() | tuple():
            return _joined(map(_text, value))
        case timedelta():
            return f"{value.total_seconds()}s"
    return repr(value)


def _joined(parts: Iterable[str]) -> str:
    return msgspec.json.encode(list(parts)).decode()


def _file() -> str:
    try:
        path = config_path()
    except SpanpostError:
        return "the named file is missing"
    return f"file {path.resolve()}" if path is not None else "no file"
