"""The gateway's journal: rows are encrypted here, and their recordings are counted and their deliveries sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from spanpost.model.journal import Backlog, Opened
from spanpost.model.recorded import Recorded
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.request_parts import Body, RequestPart
from spanpost.runtime.pipeline import Pipeline
from spanpost.runtime.secret_files import kept_secret
from spanpost.settings import Settings
from spanpost.settings.gateway import GatewaySettings

if TYPE_CHECKING:
    from spanpost.store.postgres import PostgresStore

log = logging.getLogger("spanpost.runtime.gateway")


class PipelineJournal:
    """A `spanpost.receivers.journal.Journal` in the pipeline's loop, and the `Opener` of its rows."""

    def __init__(self, pipeline: Pipeline, store: PostgresStore, cipher: JournalCipher) -> None:
        self._pipeline = pipeline
        self._store = store
        self._cipher = cipher

    async def append(self, parts: Sequence[RequestPart[Body]], /) -> Mapping[str, int]:
        """Encrypt bodies and make them durable; return the bytes that were written, by tenant."""
        rows = await asyncio.to_thread(self._cipher.rows, parts)
        await self._store.append(rows)
        sizes: dict[str, int] = {}
        for row in rows:
            sizes[row.tenant] = sizes.get(row.tenant, 0) + len(row.body)
        return sizes

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        """Record waiting rows of a tenant."""
        await self._pipeline.prices.load()
        return await self._pipeline.counted(self._store.record_journal(tenant, most, self))

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        """Record the first row of a tenant."""
        return await self._pipeline.counted(self._store.record_journal_alone(tenant, self))

    async def depth(self) -> Sequence[Backlog]:
        """Return the backlog, by tenant."""
        return await self._store.journal_depth(self.keys)

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task."""
        await self._store.listen_anew()

    @property
    def keys(self) -> Sequence[bytes]:
        """Ids of the keys that decrypt rows."""
        return self._cipher.keys

    def open(self, tenant: str, key: bytes, body: bytes, /) -> Opened:
        """Return the contents of a row; raises ValueError if it is damaged."""
        return self._cipher.open(tenant, key, body)

    def count(self, opened: Opened, /) -> None:
        """Count the elements left out of a row."""
        if (metrics := self._pipeline.metrics) is not None:
            if opened.metric_points:
                metrics.count_ignored_points(opened.metric_points)
            for reason, count in opened.dropped.items():
                metrics.count_dropped("intake", reason, count)


async def journal_of(pipeline: Pipeline, settings: Settings, section: GatewaySettings) -> PipelineJournal | None:
    """Return the pipeline's journal; None, with a line in the log, if it can have none.

    With `journal_bytes` 0 its rows are recorded, and none is added.
    """
    store = pipeline.store
    if not hasattr(store, "record_journal"):
        return None
    try:
        cipher = await cipher_of(pipeline, settings, section)
    except ImportError as error:
        why = f"{error.name} is missing; install it with: pip install 'spanpost[gateway]'"
    except ValueError as error:
        why = f"there is no key to encrypt it with: {error}"
    else:
        log.info("the journal is encrypted with key %s", cipher.keys[0].hex())
        return PipelineJournal(pipeline, cast("PostgresStore", store), cipher)
    if section.journal_bytes:
        log.warning("there is no journal, so senders wait until their telemetry is recorded: %s", why)
    return None


async def cipher_of(pipeline: Pipeline, settings: Settings, section: GatewaySettings) -> JournalCipher:
    """Return the cipher of the journal. Raises ImportError, and ValueError without a secret."""
    secrets = _secrets(settings, section, getattr(pipeline.store, "password", ""))
    if not secrets:
        raise ValueError("set gateway.journal_keys")
    return await asyncio.to_thread(JournalCipher, secrets)


def _secrets(settings: Settings, section: GatewaySettings, password: str) -> list[str]:
    """Return the secrets of the journal's keys, the one that encrypts first: those of the settings, then the
    database's password, which all gateways of a database have; without either, a file of this machine.
    """
    secrets = [key.get_secret_value() for key in section.journal_keys]
    if password:
        secrets.append(password)
    if not secrets:
        data_dir = settings.database.data_dir.absolute()
        try:
            secrets.append(kept_secret(data_dir.with_name(f"{data_dir.name}-journal-key")))
        except OSError as error:
            log.warning("the journal's key cannot be kept: %s", error)
    return secrets
