"""Records the spool files of killed processes: at the start, and every few seconds by any process of the
machine.

Recording ignores duplicates, so that a file is imported whole, even if parts of it were recorded before. The
file is deleted only after that; if this process is killed in between, the next one imports the file again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from spanpost.model.errors import StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.queue import Counts
from spanpost.receivers.spool_files import VERSION, SpoolSettings
from spanpost.receivers.spool_unpacking import Unpacked, Unpacker
from spanpost.receivers.spool_writer import SpoolFile

log = logging.getLogger("spanpost.receivers")

SCAN_INTERVAL = 10.0
_BATCH = 512
_TRIES = 5

#: Why records were dropped. `GAP` is an upper limit: these bypassed the file, and may have been recorded
#: from memory.
DAMAGED, REFUSED, GAP = "damaged", "refused", "gap"


def read_own(spool_file: SpoolFile, unpacker: Unpacker, receive: Callable[[list[Observation]], object]) -> None:
    """Pass on the contents of this process's own file. Raises what `receive` raises, and `OSError`."""
    _pass_on(unpacker.unpack(spool_files.parse(spool_file.path.read_bytes()).records).observations, receive)


def _pass_on(observations: list[Observation], receive: Callable[[list[Observation]], object]) -> None:
    for start in range(0, len(observations), _BATCH):
        receive(observations[start : start + _BATCH])


class Recovery:
    """Imports the files of dead processes.

    `record` runs in a thread of its own and returns when a batch is committed.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        record: Callable[[list[Observation]], object],
        *,
        scan_interval: float = SCAN_INTERVAL,
    ) -> None:
        self._settings = settings
        self._record = record
        self._scan_interval = scan_interval
        self._destination = spool_files.fingerprint(settings.destination)
        self.dropped = Counts()
        #: Number of imported files.
        self.imported = 0
        self._has_scanned = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tries: dict[Path, int] = {}
        self._logged: set[str] = set()

    def start(self) -> None:
        """Start the thread that scans now and then every `scan_interval` seconds."""
        self._thread = threading.Thread(target=self._run, name="spanpost-recovery", daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait until the first scan is complete, the store included; False on timeout."""
        return self._has_scanned.wait(max(0.0, timeout))

    def stop(self, timeout: float) -> None:
        """Stop after the current batch."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))

    def _run(self) -> None:
        while True:
            try:
                self.scan()
                self._has_scanned.set()
            except StoreUnavailable as error:
                self._log_once("away", "the store is down, the spool's files wait: %s", error)
            except Exception as error:
                self._log_once("look", "the spool in %s cannot be searched: %s", self._settings.directory, error)
                self._has_scanned.set()
            if self._stop.wait(self._scan_interval):
                return

    def scan(self) -> int:
        """Import abandoned files; return how many. Raises `StoreUnavailable`: the remaining files stay."""
        before = self.imported
        directory = self._settings.directory
        with spool_files.import_lock(directory) as is_ours:
            if not is_ours:
                return 0
            spool_files.sweep(directory)
            files = spool_files.found(directory)
            others = [s for s in files if s.destination != self._destination]
            if others:
                self._log_once(
                    "others",
                    "%d files in %s wait for another database: they are recorded when a process with that database "
                    "starts with this spool",
                    len(others),
                    directory,
                )
            for _, group in groupby((s for s in files if s.destination == self._destination), key=lambda s: s.process):
                self._import(list(group))
        return self.imported - before

    def _import(self, group: list[spool_files.SpoolContents]) -> None:
        """Import the files of one process, the oldest first."""
        unpacker: Unpacker | None = None
        for spool_file in group:
            if self._stop.is_set():
                return
            with spool_files.abandoned(spool_file.path) as is_free:
                if not is_free:
                    continue
                read = spool_files.parse(spool_file.path.read_bytes())
                head = _head(read.records)
                if head is not None and head[1] != VERSION:
                    self._log_once(
                        "version",
                        "%s is of another version of spanpost: it waits for one that can read it",
                        spool_file.path.name,
                    )
                    continue
                if unpacker is None:  # with a damaged head only the producer is unknown
                    unpacker = Unpacker(head[2], head[3]) if head is not None else Unpacker(self._settings.tenant, "")
                unpacked = unpacker.unpack(read.records)
                observations = unpacked.observations
                if spool_file is group[-1]:
                    observations = observations + unpacker.interruptions(unpacked)
                try:
                    _pass_on(observations, self._record_or_stop)
                except _Stopped:
                    return
                except StoreUnavailable:
                    raise
                except Exception as error:
                    self._note_refusal(spool_file.path, len(observations), error)
                    continue
                spool_file.path.unlink(missing_ok=True)
                self._tries.pop(spool_file.path, None)
                self.imported += 1
                self._log_imported(spool_file.path, read, unpacked, len(observations))

    def _record_or_stop(self, batch: list[Observation]) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._record(batch)

    def _log_imported(self, path: Path, read: spool_files.Read, unpacked: Unpacked, number: int) -> None:
        log.info("recorded the spool of a process that ended: %d observations of %s", number, path.name)
        bad = read.damaged + unpacked.bad
        if bad:
            self.dropped.count(DAMAGED, bad)
            log.warning("%d records of %s were damaged and are lost", bad, path.name)
        for begun, ended, count, reason in unpacked.gaps:
            self.dropped.count(GAP, count)
            log.warning(
                "between %s and %s %d spans and events went past the spool (%s): of these, those that waited in memory "
                "when the process ended is lost",
                _clock(begun), _clock(ended), count, reason,
            )  # fmt: skip

    def _note_refusal(self, path: Path, number: int, error: Exception) -> None:
        tries = self._tries[path] = self._tries.get(path, 0) + 1
        log.warning("%s could not be recorded, try %d of %d: %s", path.name, tries, _TRIES, error)
        if tries >= _TRIES:
            self.dropped.count(REFUSED, number)
            self._set_aside(path, "it was refused again and again")

    def _set_aside(self, path: Path, why: str) -> None:
        with suppress(OSError):
            path.rename(path.with_suffix(".aside"))
        log.error("%s is set aside as %s: %s", path.name, path.with_suffix(".aside").name, why)

    def _log_once(self, about: str, text: str, *values: Any) -> None:
        if about not in self._logged:
            self._logged.add(about)
            log.warning(text, *values)


class _Stopped(Exception):
    """This process is stopping."""


def _head(records: list[bytes]) -> list[Any] | None:
    for raw in records[:1]:
        with suppress(Exception):
            head: list[Any] = spool_packing.decode(raw)
            if head[0] == spool_packing.HEADER and all(type(x) is str for x in head[2:4]):
                return head
    return None


def _clock(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns / 1e9))
