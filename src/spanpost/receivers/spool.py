"""The spool: writes telemetry to a file before the agent continues, so that a kill of the process loses nothing.

Rules
- One write(2) per record, in the agent's thread, after its item was queued and without any lock. The
  in-memory path continues beside it. A write that returned survives the end of the process at once, and the
  end of the machine after `SYNC_EVERY`.
- The keeper thread *finishes* a file when it is full or old: what a killed process repeats is young. A marker then
  goes through the queue, behind everything queued before. When the worker reaches the marker, everything in the file
  is recorded, and the file is deleted. If a record in the file did not go through the queue (it was full, or a batch
  was refused), the file is *unrecorded*: the worker reads it before that.
- A file that fails or is slow (`spool_disk`) is *bypassed*, counted by reason, until the keeper has opened
  another one. A record that bypasses the file is as safe as without a spool.
- A later file begins with the starts of the agents' open spans: the last file of a killed process names the
  spans it left open.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from secrets import token_hex
from threading import get_native_id
from typing import Any

from spanpost.model.observations import Observation
from spanpost.receivers import spool_files
from spanpost.receivers.spool_bypass import (
    FAILED,
    FULL,
    NO_SPACE,
    STALLED,
    TOO_LARGE,
    UNPACKABLE,
    BypassedRecords,
    reason_of,
)
from spanpost.receivers.spool_disk import HUNG, SLOW, SpoolDisk
from spanpost.receivers.spool_files import SpoolSettings
from spanpost.receivers.spool_keeper import SpoolKeeper
from spanpost.receivers.spool_packing import MAX_RECORD, RecordTooLarge, pack_event, pack_header, pack_log, pack_span
from spanpost.receivers.spool_writer import OURS, OwnFiles, SpoolFile, is_root_span

log = logging.getLogger("spanpost.receivers")

SYNC_EVERY = 0.05
#: Seconds after which a file that holds a record is finished; twice of it in a process without new records.
FINISH_AFTER = 30.0

#: Seconds between two watches of the disk that found nothing.
_WATCH_AGAIN = 0.5
_TRIES = 100
#: Idle ticks after which the keeper sleeps until it is woken.
_QUIET = 20
_RETRY = (SYNC_EVERY, 2.0)
_MEASURE_EVERY = 1.0
_MOST = 4 * MAX_RECORD


class Spool:
    """The spool of one process.

    The application makes it, `bind` connects it to its feed. `write_*` run in the agent's thread.
    """

    def __init__(self, settings: SpoolSettings, disk: SpoolDisk | None = None) -> None:
        self.settings = settings
        self._disk = disk or SpoolDisk()
        self._spool_file_size = max(4096, min(settings.spool_file_size, settings.max_size // 4))
        self._bind: tuple[Callable[[SpoolFile], None], Callable[[], Iterable[Any]], str] | None = None
        self.bypassed = BypassedRecords(settings.directory)
        self.begin()

    def begin(self) -> None:
        """Initialise the state of this process.

        A parent's files belong to the parent, and are closed here by now.
        """
        #: Why nothing is written at the moment; None: the file is written.
        self.bypass: str | None = None
        self.files = OwnFiles()
        self._spool_file: SpoolFile | None = None
        self.is_closed = False
        #: The native id of each writing thread: a system call for it costs a microsecond.
        self._local = threading.local()
        self._name = (
            f"{spool_files.fingerprint(self.settings.destination)}.{os.getpid()}.{int(time.time())}.{token_hex(4)}"
        )
        self._numbers = itertools.count(1)
        self._opening = threading.Lock()
        #: A write was slow since the keeper's last check.
        self._is_slow = False
        #: The number of the latest file, and the same when a record last bypassed it.
        self._latest = 0
        self._bypassed_at = -1
        self.size = 0
        self._disk.begin()
        self.bypassed.begin()
        self._keeper = SpoolKeeper(self._tend, SYNC_EVERY, FINISH_AFTER)
        self._pause, self._quiet = _RETRY[0], 0
        self._measure_at = self._watch_at = 0.0

    def bind(self, mark: Callable[[SpoolFile], None], live_spans: Callable[[], Iterable[Any]], producer: str) -> None:
        """Set the callback for a finished file, the source of the live spans, and the producer's id."""
        self._bind = (mark, live_spans, producer)

    # --- in the agent's thread ----------------------------------------------------------------------------------

    def write_start(self, span: Any, is_queued: bool) -> bool:
        """Write the start of a root span or agent span, or any start that was not queued.

        True: it is in the file.
        """
        try:
            if is_queued and not is_root_span(span):
                return False
            origin = span._resource, span._instrumentation_scope
            return self._write_record(pack_span, (span, False), origin, is_queued)
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_end(self, span: Any, is_cancelled: bool, is_queued: bool) -> bool:
        """Write an ended span with its events. True: it is in the file."""
        try:
            origin = span._resource, span._instrumentation_scope
            return self._write_record(pack_span, (span, True, is_cancelled), origin, is_queued)
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_event(self, span: Any, event: Any, index: int, is_queued: bool) -> bool:
        """Write an event of a live span. True: it is in the file."""
        try:
            origin = span._resource, span._instrumentation_scope
            return self._write_record(pack_event, (span, event, index), origin, is_queued)
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_log(self, data: Any, is_queued: bool) -> bool:
        """Write a log record. True: it is in the file."""
        try:
            resource = getattr(data, "resource", None) or getattr(data.log_record, "resource", None)
            return self._write_record(pack_log, (data,), (resource, data.instrumentation_scope), is_queued)
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def _write_record(
        self, pack: Callable[..., bytes], what: tuple[Any, ...], origin: tuple[Any, Any], is_queued: bool
    ) -> bool:
        tries, disk = 0, self._disk
        while True:
            if self.bypass is not None or self.is_closed:
                return self._count_bypassed(self.bypass or FAILED)
            spool_file = self._spool_file or self._open_first()
            if spool_file is None:  # another thread is opening it, in a fraction of a millisecond
                tries += 1
                if tries > _TRIES:
                    return self._count_bypassed(STALLED)
                time.sleep(SLOW / 10)
                continue
            number, head, new_origin = spool_file.origin(*origin)
            if number == OURS:
                return True
            try:
                payload = pack(number, *what)
            except RecordTooLarge:
                return self._count_bypassed(TOO_LARGE)
            if len(payload) > _MOST:
                return self._count_bypassed(TOO_LARGE)
            data = head + spool_files.frame(payload) if head else spool_files.frame(payload)
            busy = spool_file.busy
            begun = disk.clock()
            if busy and disk.is_behind(busy, begun):
                self._fail(spool_file, STALLED)
                continue
            try:
                entry = begun, self._local.thread
            except AttributeError:
                self._local.thread = get_native_id()
                entry = begun, self._local.thread
            busy.append(entry)
            try:
                if spool_file.is_finished:  # finished a moment ago: use the next file
                    continue
                if disk.write(spool_file.fd, data) != len(data):
                    self._fail(spool_file, NO_SPACE)
                    continue
            except OSError as error:
                self._fail(spool_file, reason_of(error))
                continue
            finally:
                # Set while still `busy`: these are final once a finished file is idle.
                if not is_queued:
                    spool_file.is_unrecorded = True
                busy.remove(entry)
            spool_file.is_dirty = True
            if new_origin is not None:
                spool_file.keep(new_origin)
            took = disk.clock() - begun
            if took > SLOW:
                self._is_slow = True
                if took > HUNG and disk.is_disk(begun):
                    self._fail(spool_file, STALLED)
            if self._keeper.is_idle:
                self._keeper.wake()
            return True

    def _count_bypassed(self, reason: str) -> bool:
        """Count a record that bypassed the file."""
        self.bypassed.count(reason)
        self._bypassed_at = self._latest
        return False

    def _fail(self, spool_file: SpoolFile, reason: str) -> None:
        """Bypass the file from now on; the keeper opens another one when it can."""
        self.bypass = reason
        spool_file.is_finished = True
        self._keeper.wake()

    def _open_first(self) -> SpoolFile | None:
        """Open the first file in the agent's thread: its very next record must already be durable."""
        if self._opening.acquire(blocking=False):
            try:
                if self._spool_file is None and self.bypass is None:
                    self._open()
            finally:
                self._opening.release()
        return self._spool_file

    def _open(self) -> bool:
        """Open the next file; False: it failed, and records bypass it."""
        assert self._bind is not None
        _, live_spans, producer = self._bind
        number = self._latest = next(self._numbers)
        settings = self.settings
        head = pack_header(spool_files.VERSION, settings.tenant, producer, settings.destination)
        try:
            fd, path = spool_files.create(settings.directory, f"{self._name}.{number:08}", spool_files.frame(head))
        except OSError as error:
            self.bypass = reason_of(error)
            self.bypassed.report(self.bypass, error)
            return False
        spool_file = SpoolFile(fd, path, number)
        self.files.add(spool_file)
        gap = self.bypassed.gap
        if number > 1 or gap is not None:
            with suppress(Exception):
                spool_file.write_head(self._disk.write, gap, live_spans())
        spool_file.begin()
        self.bypassed.gap = None
        self.bypass = None
        self._spool_file = spool_file
        return True

    def _finish(self, spool_file: SpoolFile) -> None:
        """Finish a file: its marker is queued behind everything queued before."""
        self._end(spool_file)
        assert self._bind is not None
        self._bind[0](spool_file)

    def _end(self, spool_file: SpoolFile) -> None:
        spool_file.is_finished = True
        if self._spool_file is spool_file:
            self._spool_file = None

    # --- in the worker's thread ---------------------------------------------------------------------------------

    def mark_unrecorded(self) -> bool:
        """Note that a batch was refused: all files must be read. True: the spool holds the whole batch."""
        # An item taken from the queue may still be written to the next file.
        oldest = self.files.mark_unrecorded(self._latest + 1)
        if oldest <= self._latest:
            self._keeper.wake()
        return oldest > self._bypassed_at + 1

    def flush(self, read: Callable[[SpoolFile], bool]) -> bool:
        """Delete what is recorded; read unrecorded files without waiting for their markers. True: none is left."""
        for spool_file in self.files.all():
            if spool_file.is_unrecorded:
                self._end(spool_file)
                self.files.on_marker(spool_file)
        return self.files.delete_recorded(read)

    def close(self, read: Callable[[SpoolFile], bool], interruptions: Sequence[Observation]) -> bool:
        """Stop: delete recorded files, leave the others for the next start. True: none is left.

        `interruptions` of open spans are those that could not be recorded.
        """
        self.is_closed = True
        with self._opening:
            spool_file = self._spool_file
            if spool_file is None and interruptions and self.bypass is None and self._open():
                spool_file = self._spool_file
            self._spool_file = None
        if spool_file is not None:
            if interruptions:
                spool_file.is_unrecorded = True
            with suppress(Exception):
                spool_file.write_last(self._disk.write, interruptions)
            spool_file.is_finished = True
        for one in self.files.all():
            self.files.on_marker(one)
        is_done = self.files.delete_recorded(read)
        if left := self.files.give_up():
            log.warning("%d files in %s are recorded at the next start", left, self.settings.directory)
        if self._keeper.stop(HUNG):
            self.files.close_deleted(is_last=True)
        return is_done

    # --- in the keeper's thread ---------------------------------------------------------------------------------

    def _tend(self) -> float | None:
        """Keep the files; return the seconds until the next time, None: until there is work."""
        if not self.is_closed:
            now = time.monotonic()
            if self._is_slow and now >= self._watch_at:
                self._is_slow = False
                self._watch()
                self._watch_at = time.monotonic() + _WATCH_AGAIN
            if now >= self._measure_at or self.bypass == FULL:
                self._measure_at = now + _MEASURE_EVERY
                self._measure()
            try:
                self._quiet = 0 if self._tick() else self._quiet + 1
            except Exception as error:
                self.bypassed.report(FAILED, error)
                self._quiet = 0
        self.files.close_deleted(is_last=self.is_closed)
        self._pause = min(self._pause * 2, _RETRY[1]) if self.bypass is not None else _RETRY[0]
        if self.bypass is not None:
            return self._pause
        return SYNC_EVERY if self._quiet < _QUIET else None

    def _tick(self) -> bool:
        """Sync, rotate, or end a bypass; False: nothing to do."""
        spool_file = self._spool_file
        if self.bypass is not None:
            self._reopen(self.bypass)
            return True
        if spool_file is None:
            return False
        worked = spool_file.is_dirty
        if spool_file.is_dirty:
            spool_file.is_dirty = False
            self._sync(spool_file)
        is_over = spool_file.is_unrecorded or spool_file.is_over(self._spool_file_size, FINISH_AFTER)
        if self.bypass is None and is_over:
            with self._opening:
                # The next file is open before this one ends.
                if self._spool_file is spool_file and not spool_file.is_finished and self._open():
                    self._finish(spool_file)
            worked = True
        return worked

    def _watch(self) -> None:
        """Bypass the file if a write in progress waits too long for the disk."""
        spool_file = self._spool_file
        if spool_file is not None and self._disk.watch(spool_file.busy, lambda: self.bypass is not None):
            self._fail(spool_file, STALLED)

    def _sync(self, spool_file: SpoolFile) -> None:
        try:
            self._disk.sync(spool_file.fd)
        except OSError as error:
            # The kernel may have dropped the data that it could not write: write nothing more to this file.
            self.bypassed.report(FAILED, error)
            self._fail(spool_file, FAILED)

    def _reopen(self, reason: str) -> None:
        """End a bypass: finish its file and open the next one, if that is possible."""
        self.bypassed.report(reason)
        with self._opening:
            if self._spool_file is not None:
                self._finish(self._spool_file)
            if reason == FULL and self.size >= self.settings.max_size:
                return
            if not spool_files.has_space(self.settings.directory):
                self.bypassed.report(NO_SPACE)
                return
            begun = self._disk.clock()
            is_open = self._open()
        if is_open and (spool_file := self._spool_file) is not None:
            self._sync(spool_file)
            if self._disk.clock() - begun > HUNG:
                self._fail(spool_file, STALLED)
        if self.bypass is None:
            self.bypassed.report_end(reason)
        else:
            self.bypassed.report(reason)

    def _measure(self) -> None:
        with suppress(OSError):
            self.size = spool_files.size(self.settings.directory)
        spool_file = self._spool_file
        if self.size >= self.settings.max_size and self.bypass is None and spool_file is not None:
            self._fail(spool_file, FULL)
            self.bypassed.report(FULL)
