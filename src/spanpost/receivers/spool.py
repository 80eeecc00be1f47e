"""The spool: writes telemetry to a file before the agent continues, so that a kill of the process loses
nothing.

Rules
- One write(2) per record, in the agent's thread, after its item was queued and without any lock. The
  in-memory path continues beside it. A write that returned survives the end of the process at once, and the
  end of the machine after `SYNC_EVERY`.
- The keeper thread *finishes* a file when it is full. A marker then goes through the queue, behind
  everything queued before. When the worker reaches the marker, everything in the file is recorded, and the
  file is deleted. If a record in the file did not go through the queue (it was full, or a batch was
  refused), the file is *unrecorded*: the worker reads it before that.
- A file that fails or is slow is *bypassed*, counted by reason, until the keeper has opened another one. A
  record that bypasses the file is as safe as without a spool. After a write that took 5 ms the keeper
  watches the writes in progress, and calls the disk slow when one waits for it for 20 ms. It asks the system
  whether a thread waits for the disk: by the clock, a thread that waits for the interpreter looks the same,
  and that happens often.
- A later file begins with the starts of the agents' open spans: the last file of a killed process names the
  spans it left open.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from threading import get_native_id
from typing import Any, NamedTuple

from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.queue import Counts
from spanpost.receivers.spool_writer import OURS, SpoolFile, is_root_span, waits_for_disk

log = logging.getLogger("spanpost.receivers")

SYNC_EVERY = 0.05
SPOOL_FILE_SIZE = 4 * 1024 * 1024
MAX_SIZE = 1024**3
VERSION = 1

_SLOW = 0.005
#: Seconds that a write may wait for the disk. A write during a sync waits for the sync, on good disks too.
_STALL = 0.02
_HUNG = 0.2
#: Seconds for which the keeper watches writes, and the pause between two watches that found nothing.
_WATCH, _WATCH_AGAIN = 0.1, 0.5
_TRIES = 100
#: Idle ticks after which the keeper sleeps until it is woken.
_QUIET = 20
_RETRY = (SYNC_EVERY, 2.0)
_MEASURE_EVERY = 1.0
_MAX_OPEN = 1000
_MOST = 4 * spool_packing.MAX_RECORD

#: Why a record bypassed the file: the label ``reason`` of ``spanpost_spool_bypassed_total``. A closed list.
STALLED, FULL, NO_SPACE, FAILED, TOO_LARGE, UNPACKABLE = (
    "stalled",
    "full",
    "no_space",
    "failed",
    "too_large",
    "unpackable",
)
_CURES = {
    STALLED: "the disk is slow",
    FULL: "it has reached SPANPOST_INTAKE__SPOOL_MAX_BYTES",
    NO_SPACE: "the disk is full",
    FAILED: "the file could not be written",
}


class SpoolSettings(NamedTuple):
    """Where a spool is kept, and for whom."""

    directory: Path
    #: The database, without secrets: files for another database are not imported.
    destination: str
    tenant: str = "default"
    max_size: int = MAX_SIZE
    spool_file_size: int = SPOOL_FILE_SIZE


class Spool:
    """The spool of one process.

    The application makes it, `bind` connects it to its feed. `write_*` run in the agent's thread.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        *,
        write: Callable[[int, bytes], int] = os.write,
        clock: Callable[[], float] = time.monotonic,
        waits_for_disk: Callable[[int], bool] | None = waits_for_disk,
    ) -> None:
        self.settings = settings
        self._write, self._clock = write, clock
        #: Whether a thread (native id) waits for a disk; None: the system cannot tell.
        self._waits = waits_for_disk
        self._spool_file_size = max(4096, min(settings.spool_file_size, settings.max_size // 4))
        self._bind: tuple[Callable[[SpoolFile], None], Callable[[], Iterable[Any]], str] | None = None
        self.bypassed = Counts()
        self.begin()

    def begin(self) -> None:
        """Initialise the state of this process.

        A parent's files belong to the parent, and are closed here by now.
        """
        #: Why nothing is written at the moment; None: the file is written.
        self.bypass: str | None = None
        self._spool_file: SpoolFile | None = None
        self._files: list[SpoolFile] = []
        #: Finished files whose marker has come: to be read if unrecorded, then deleted.
        self.to_delete: list[SpoolFile] = []
        #: Deleted files, for the keeper to close: beside the writers only the keeper uses a descriptor.
        self._deleted: deque[SpoolFile] = deque()
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
        #: When the current sync began, and when the last slow one ended.
        self._syncing: float | None = None
        self._slow_sync_at = -1.0
        self._gap: list[Any] | None = None
        #: The number of the latest file when a record last bypassed it.
        self._bypassed_at = -1
        self._latest = 0
        #: Files up to this number hold refused records.
        self._unrecorded_until = 0
        self._logged: set[str] = set()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._is_idle = True
        self._keeper: threading.Thread | None = None
        self.size = 0

    def bind(self, mark: Callable[[SpoolFile], None], live_spans: Callable[[], Iterable[Any]], producer: str) -> None:
        """Set the callback for a finished file, the source of the live spans, and the producer's id."""
        self._bind = (mark, live_spans, producer)

    # --- in the agent's thread ----------------------------------------------------------------------------------

    def write_start(self, span: Any, is_queued: bool) -> bool:
        """Write the start of a root span or agent span, or any start that was not queued.

        True: it is in the file.
        """
        try:
            attributes = getattr(span, "_attributes", None)
            if is_queued and not is_root_span(span, getattr(attributes, "_dict", attributes) or {}):
                return False
            return self._write_record(
                spool_packing.pack_span, (span, False), span._resource, span._instrumentation_scope, is_queued
            )
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_end(self, span: Any, is_cancelled: bool, is_queued: bool) -> bool:
        """Write an ended span with its events. True: it is in the file."""
        try:
            return self._write_record(
                spool_packing.pack_span,
                (span, True, is_cancelled),
                span._resource,
                span._instrumentation_scope,
                is_queued,
            )
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_event(self, span: Any, event: Any, index: int, is_queued: bool) -> bool:
        """Write an event of a live span. True: it is in the file."""
        try:
            return self._write_record(
                spool_packing.pack_event, (span, event, index), span._resource, span._instrumentation_scope, is_queued
            )
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def write_log(self, data: Any, is_queued: bool) -> bool:
        """Write a log record. True: it is in the file."""
        try:
            resource = getattr(data, "resource", None) or getattr(data.log_record, "resource", None)
            return self._write_record(spool_packing.pack_log, (data,), resource, data.instrumentation_scope, is_queued)
        except Exception:
            return self._count_bypassed(UNPACKABLE)

    def _write_record(
        self, pack: Callable[..., bytes], what: tuple[Any, ...], resource: Any, scope: Any, is_queued: bool
    ) -> bool:
        tries = 0
        while True:
            if self.bypass is not None or self.is_closed:
                return self._count_bypassed(self.bypass or FAILED)
            spool_file = self._spool_file or self._open_first()
            if spool_file is None:  # another thread is opening it, in a fraction of a millisecond
                tries += 1
                if tries > _TRIES:
                    return self._count_bypassed(STALLED)
                time.sleep(_SLOW / 10)
                continue
            number, head, new_origin = spool_file.origin(resource, scope)
            if number == OURS:
                return True
            try:
                payload = pack(number, *what)
            except spool_packing.RecordTooLarge:
                return self._count_bypassed(TOO_LARGE)
            if len(payload) > _MOST:
                return self._count_bypassed(TOO_LARGE)
            data = head + spool_files.frame(payload) if head else spool_files.frame(payload)
            busy = spool_file.busy
            begun = self._clock()
            if busy and self._is_behind(busy, begun):
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
                if self._write(spool_file.fd, data) != len(data):
                    self._fail(spool_file, NO_SPACE)
                    continue
            except OSError as error:
                self._fail(spool_file, NO_SPACE if error.errno in (28, 122) else FAILED, error)
                continue
            finally:
                # Set while still `busy`: these are final once a finished file is idle.
                if not is_queued:
                    spool_file.is_unrecorded = True
                busy.remove(entry)
            spool_file.is_dirty = True
            if new_origin is not None:
                spool_file.keep(new_origin)
            took = self._clock() - begun
            if took > _SLOW:
                self._is_slow = True
                if took > _HUNG and self._is_disk(begun):
                    self._fail(spool_file, STALLED)
            if self._is_idle:
                self._wake_keeper()
            return True

    def _count_bypassed(self, reason: str) -> bool:
        """Count a record that bypassed the file."""
        self.bypassed.count(reason)
        self._bypassed_at = self._latest
        gap, now = self._gap, time.time_ns()
        if gap is None:
            self._gap = [now, now, 1, reason]
        else:
            gap[1] = now
            gap[2] += 1
        return False

    def _is_behind(self, busy: deque[tuple[float, int]], now: float) -> bool:
        """Whether another thread's write hangs in the disk: this one would too."""
        try:
            since = busy[0][0]
        except IndexError:
            return False
        return now - since > _HUNG and self._is_disk(since)

    def _is_disk(self, since: float) -> bool:
        """Whether a long wait was for the disk, if the keeper could not watch: it is syncing, or the system
        cannot tell.
        """
        syncing = self._syncing
        return (
            self._waits is None
            or self._slow_sync_at >= since
            or (syncing is not None and self._clock() - syncing > _HUNG)
        )

    def _fail(self, spool_file: SpoolFile, reason: str, error: Exception | None = None) -> None:
        """Bypass the file from now on; the keeper opens another one when it can."""
        self.bypass = reason
        spool_file.is_finished = True
        self._wake_keeper()

    def _open_first(self) -> SpoolFile | None:
        """Open the first file in the agent's thread: its very next record must already be durable."""
        if self._opening.acquire(blocking=False):
            try:
                if self._spool_file is None and self.bypass is None:
                    self._open()
            finally:
                self._opening.release()
        return self._spool_file

    def _wake_keeper(self) -> None:
        self._is_idle = False
        if self._keeper is None and not self.is_closed:
            keeper = threading.Thread(target=self._keep, name="spanpost-spool", daemon=True)
            self._keeper = keeper
            try:
                keeper.start()
            except RuntimeError:  # the interpreter is shutting down; the records are already written
                self._keeper = None
        with suppress(RuntimeError):  # another thread woke it at the same moment
            self._wake.release()

    # --- opening and finishing ----------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Open the next file; False: it failed, and records bypass it."""
        assert self._bind is not None
        _, live_spans, producer = self._bind
        number = self._latest = next(self._numbers)
        head = spool_packing.encode(
            (spool_packing.HEADER, VERSION, self.settings.tenant, producer, self.settings.destination, os.getpid())
        )
        try:
            fd, path = spool_files.create(self.settings.directory, f"{self._name}.{number:08}", spool_files.frame(head))
        except OSError as error:
            self.bypass = NO_SPACE if error.errno in (28, 122) else FAILED
            self._log_bypass(self.bypass, error)
            return False
        spool_file = SpoolFile(fd, path, number)
        spool_file.is_unrecorded = number <= self._unrecorded_until
        self._files.append(spool_file)
        gap = self._gap
        if number > 1 or gap is not None:
            self._write_head(spool_file, live_spans, gap)
        self._gap = None
        self.bypass = None
        self._spool_file = spool_file
        return True

    def _write_head(
        self, spool_file: SpoolFile, live_spans: Callable[[], Iterable[Any]], gap: list[Any] | None
    ) -> None:
        """Write the head of a later file: the gap before it, and the starts of the agents' open spans."""
        with suppress(Exception):
            if gap is not None:
                self._write(spool_file.fd, spool_files.frame(spool_packing.encode((spool_packing.GAP, *gap))))
            for span in itertools.islice(live_spans(), _MAX_OPEN):
                attributes = getattr(span, "_attributes", None)
                if not is_root_span(span, getattr(attributes, "_dict", attributes) or {}):
                    continue
                origin, head, new_origin = spool_file.origin(span.resource, span.instrumentation_scope)
                if origin == OURS:
                    continue
                self._write(spool_file.fd, head + spool_files.frame(spool_packing.pack_span(origin, span, False)))
                if new_origin is not None:
                    spool_file.keep(new_origin)

    def _finish(self, spool_file: SpoolFile) -> None:
        """Finish a file: its marker is queued behind everything queued before."""
        spool_file.is_finished = True
        if self._spool_file is spool_file:
            self._spool_file = None
        assert self._bind is not None
        self._bind[0](spool_file)

    def mark_unrecorded(self) -> bool:
        """Note that a batch was refused: all files must be read. True: the spool holds the whole batch."""
        # An item taken from the queue may still be written to the next file.
        self._unrecorded_until = self._latest + 1
        files = list(self._files)
        for spool_file in files:
            spool_file.is_unrecorded = True
        if files:
            self._wake_keeper()
        return min((s.number for s in files), default=self._unrecorded_until) > self._bypassed_at + 1

    # --- in the worker's thread ---------------------------------------------------------------------------------

    def on_marker(self, spool_file: SpoolFile) -> None:
        """Handle the marker of a finished file: everything queued before it is recorded."""
        if spool_file in self._files and spool_file not in self.to_delete:
            self.to_delete.append(spool_file)

    def finish_unrecorded(self) -> None:
        """Finish unrecorded files without waiting for their markers, the open one too: they are read anyway."""
        for spool_file in list(self._files):
            if spool_file.is_unrecorded:
                spool_file.is_finished = True
                if self._spool_file is spool_file:
                    self._spool_file = None
                self.on_marker(spool_file)

    def delete_recorded(self, read: Callable[[SpoolFile], bool]) -> bool:
        """Delete the files whose marker has come; read the unrecorded ones first. True: none is left."""
        left = []
        for spool_file in self.to_delete:
            if spool_file.busy or (spool_file.is_unrecorded and not read(spool_file)):
                left.append(spool_file)
                continue
            spool_file.path.unlink(missing_ok=True)
            with suppress(ValueError):
                self._files.remove(spool_file)
            self._deleted.append(spool_file)
        self.to_delete = left
        return not left

    def close(
        self, read: Callable[[SpoolFile], bool], interrupted: Iterable[tuple[bytes, bytes, str, int, Any]]
    ) -> bool:
        """Stop: delete recorded files, leave the others for the next start. True: none is left.

        `interrupted`: (trace id, span id, name, time, origin) of open spans whose interruption could not be
        recorded.
        """
        self.is_closed = True
        open_spans = list(interrupted)
        with self._opening:
            spool_file = self._spool_file
            if spool_file is None and open_spans and self.bypass is None and self._open():
                spool_file = self._spool_file
            self._spool_file = None
        if spool_file is not None:
            if open_spans:
                spool_file.is_unrecorded = True
            self._write_last(spool_file, open_spans)
            spool_file.is_finished = True
        for one in list(self._files):
            self.on_marker(one)
        is_done = self.delete_recorded(read)
        if self.to_delete:
            log.warning("%d files in %s are recorded at the next start", len(self.to_delete), self.settings.directory)
        self._deleted += self.to_delete
        self._wake_keeper()
        if self._keeper is not None:
            self._keeper.join(_HUNG)
        if self._keeper is None or not self._keeper.is_alive():
            self._close_deleted()
        return is_done

    def _write_last(self, spool_file: SpoolFile, open_spans: list[tuple[bytes, bytes, str, int, Any]]) -> None:
        with suppress(Exception):
            for trace_id, span_id, name, at_ns, origin in open_spans:
                number = next(spool_file._numbers)
                head = spool_files.frame(
                    spool_packing.pack_origin(number, origin.resource, origin.scope, origin.scope_version)
                )
                self._write(
                    spool_file.fd,
                    head + spool_files.frame(spool_packing.pack_interruption(trace_id, span_id, name, at_ns, number)),
                )
            self._write(spool_file.fd, spool_files.frame(spool_packing.encode((spool_packing.CLOSED,))))

    # --- in the keeper's thread ---------------------------------------------------------------------------------

    def _keep(self) -> None:
        wake = self._wake
        pause, measure_at, watch_at, quiet = _RETRY[0], 0.0, 0.0, 0
        while not self.is_closed:
            if quiet >= _QUIET and self.bypass is None:
                self._is_idle = True
                if not ((spool_file := self._spool_file) is not None and spool_file.is_dirty):
                    wake.acquire()
                self._is_idle = False
                quiet = 0
            due = time.monotonic() + (SYNC_EVERY if self.bypass is None else pause)
            wake.acquire(timeout=max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if self._is_slow and now >= watch_at:
                self._is_slow = False
                if (spool_file := self._spool_file) is not None:
                    self._watch(spool_file)
                watch_at = time.monotonic() + _WATCH_AGAIN
            if now >= measure_at or self.bypass == FULL:
                measure_at = now + _MEASURE_EVERY
                self._measure()
            try:
                quiet = 0 if self._tick() else quiet + 1
            except Exception as error:
                self._log_bypass(FAILED, error)
                quiet = 0
            pause = min(pause * 2, _RETRY[1]) if self.bypass is not None else _RETRY[0]
            self._close_deleted()
        self._close_deleted()

    def _close_deleted(self) -> None:
        while self._deleted:
            spool_file = self._deleted.popleft()
            if self.is_closed:
                with suppress(OSError):
                    os.fdatasync(spool_file.fd)
            spool_files.release(spool_file.fd)

    def _tick(self) -> bool:
        """Sync, rotate, or end a bypass; False: nothing to do."""
        spool_file = self._spool_file
        if self.bypass is not None:
            return self._reopen(spool_file)
        if spool_file is None:
            return False
        worked = spool_file.is_dirty
        if spool_file.is_dirty:
            spool_file.is_dirty = False
            self._sync(spool_file)
        if self.bypass is None and (
            spool_file.is_unrecorded or os.fstat(spool_file.fd).st_size >= self._spool_file_size
        ):
            with self._opening:
                if (
                    self._spool_file is spool_file and not spool_file.is_finished and self._open()
                ):  # open the next file before this one ends
                    spool_file.is_finished = True
                    assert self._bind is not None
                    self._bind[0](spool_file)
            worked = True
        return worked

    def _watch(self, spool_file: SpoolFile) -> None:
        """Watch for `_WATCH` seconds whether a write in progress waits too long for the disk."""
        if self._waits is None:
            return
        waiting: dict[tuple[float, int], float] = {}
        now = self._clock()
        until = now + _WATCH
        while now < until and self.bypass is None:
            for entry in list(spool_file.busy):
                if not self._waits(entry[1]):
                    waiting.pop(entry, None)
                elif now - waiting.setdefault(entry, now) > _STALL:
                    self._fail(spool_file, STALLED)
                    return
            time.sleep(_SLOW / 5)
            now = self._clock()

    def _sync(self, spool_file: SpoolFile) -> None:
        begun = self._syncing = self._clock()
        try:
            os.fdatasync(spool_file.fd)
        except OSError as error:
            # The kernel may have dropped the data that it could not write: write nothing more to this file.
            self._log_bypass(FAILED, error)
            self._fail(spool_file, FAILED)
        finally:
            self._syncing = None
            if self._clock() - begun > _HUNG:
                self._slow_sync_at = self._clock()

    def _reopen(self, spool_file: SpoolFile | None) -> bool:
        reason = self.bypass
        assert reason is not None
        self._log_bypass(reason, None)
        with self._opening:
            if spool_file is not None:
                self._finish(spool_file)
            if reason == FULL and self.size >= self.settings.max_size:
                return True
            if not spool_files.has_space(self.settings.directory):
                self._log_bypass(NO_SPACE, None)
                return True
            begun = self._clock()
            is_open = self._open()
        if is_open and (spool_file := self._spool_file) is not None:
            self._sync(spool_file)
            if self._clock() - begun > _HUNG:
                self._fail(spool_file, STALLED)
        if self.bypass is None:
            log.info("the spool in %s is written again", self.settings.directory)
            self._logged.discard(reason)
        else:
            self._log_bypass(reason, None)
        return True

    def _measure(self) -> None:
        with suppress(OSError):
            self.size = spool_files.size(self.settings.directory)
        spool_file = self._spool_file
        if self.size >= self.settings.max_size and self.bypass is None and spool_file is not None:
            self._fail(spool_file, FULL)
            self._log_bypass(FULL, None)

    def _log_bypass(self, reason: str, error: Exception | None) -> None:
        if reason in self._logged:
            return
        self._logged.add(reason)
        why = f": {error}" if error is not None else ""
        log.error(
            "the spool in %s is bypassed, %s%s; until that is mended a kill of this process loses what waits in memory",
            self.settings.directory,
            _CURES.get(reason, reason),
            why,
        )
