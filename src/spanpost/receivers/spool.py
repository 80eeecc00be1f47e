"""The spool: what the agent told, in a file of this process before the agent goes on, so that a kill takes none of it.

Rules
- One write(2) a record, in the agent's thread, after its item was queued and without any lock. The in-memory path goes on
  beside it. A write that has returned survives the end of the process at once, and of the machine after `SYNC_EVERY`.
- A segment is *sealed* by the keeper thread when it is full. Behind everything queued before, a marker then goes through the
  queue; when the worker comes to it, all that the segment holds is recorded, and it is deleted. Whatever was in a segment and
  did not go that way (the queue was full, a batch was refused) makes it *owed*: the worker reads the file instead.
- A file that fails or is slow is *bypassed*, by reason and counted, until the keeper has opened another one; what went past it
  is as safe as without a spool. After a write that took 5 ms the keeper watches those under way, and calls the disk slow when
  one waits for it for 20 ms: by the system's word, because a thread that waits for the interpreter looks the same by
  the clock, and does so often.
- A segment begins with the starts of the agents' spans that are open: the last one of a killed process names what it left.
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
#: What a write may wait for the disk: a write that meets a sync waits as long as the disk takes for that, on honest disks too.
_STALL = 0.02
_HUNG = 0.2
#: Seconds for which the keeper watches writes, and between two such watches that found nothing.
_WATCH, _WATCH_AGAIN = 0.1, 0.5
_TRIES = 100
#: Ticks without work after which the keeper sleeps until it is woken.
_QUIET = 20
_RETRY = (SYNC_EVERY, 2.0)
_MEASURE_EVERY = 1.0
_MAX_OPEN = 1000
_MOST = 4 * spool_packing.MAX_RECORD

#: Why something went past the file: the label ``reason`` of ``spanpost_spool_bypassed_total``. A closed list.
STALLED, FULL, NO_SPACE, FAILED, TOO_LARGE, UNPACKABLE = "stalled", "full", "no_space", "failed", "too_large", "unpackable"
REASONS = (STALLED, FULL, NO_SPACE, FAILED, TOO_LARGE, UNPACKABLE)
_CURES = {
    STALLED: "the disk is slow",
    FULL: "it has reached SPANPOST_INTAKE__SPOOL_MAX_BYTES",
    NO_SPACE: "the disk is full",
    FAILED: "the file could not be written",
}


class SpoolSettings(NamedTuple):
    """Where a spool is kept, and for whom."""

    directory: Path
    #: What is recorded to, without secrets: segments for another one are not imported.
    destination: str
    tenant: str = "default"
    max_size: int = MAX_SIZE
    spool_file_size: int = SPOOL_FILE_SIZE


class Spool:
    """The spool of one process. Made by the application; `bind` joins it to its feed. All of `told_*` runs in the agent's thread."""

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
        #: Says of a thread whether it waits for a disk; None where nobody knows.
        self._waits = waits_for_disk
        self._spool_file_size = max(4096, min(settings.spool_file_size, settings.max_size // 4))
        self._bind: tuple[Callable[[SpoolFile], None], Callable[[], Iterable[Any]], str] | None = None
        self.bypassed = Counts()
        self.begin()

    def begin(self) -> None:
        """Set up what belongs to this process alone; what a parent had open is the parent's, and closed by now."""
        #: Why nothing is written now; None while all is well.
        self.bypass: str | None = None
        self._spool_file: SpoolFile | None = None
        self._unsettled: list[SpoolFile] = []
        #: Sealed, passed by their marker, and not recorded by it: to be read.
        self.owed: list[SpoolFile] = []
        #: Settled: the keeper closes them, who alone uses a descriptor beside the writers.
        self._done: deque[SpoolFile] = deque()
        self.is_closed = False
        #: The native id of each thread that writes: asking the system each time costs a microsecond.
        self._this = threading.local()
        self._name = f"{spool_files.fingerprint(self.settings.destination)}.{os.getpid()}.{int(time.time())}.{token_hex(4)}"
        self._numbers = itertools.count(1)
        self._opening = threading.Lock()
        #: A write was slow since the keeper looked last.
        self._is_slow = False
        #: When the sync under way began, and when the last slow one ended.
        self._syncing: float | None = None
        self._slow_sync_at = -1.0
        self._gap: list[Any] | None = None
        #: The number of the latest segment when something last went past the file.
        self._past_at = -1
        self._latest = 0
        #: Segments up to this number hold what was refused.
        self._owed_until = 0
        self._is_said: set[str] = set()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._is_idle = True
        self._keeper: threading.Thread | None = None
        self.size = 0

    def bind(self, mark: Callable[[SpoolFile], None], living: Callable[[], Iterable[Any]], producer: str) -> None:
        """Say who is told that a segment is sealed, which spans live, and who produces."""
        self._bind = (mark, living, producer)

    # --- in the agent's thread ----------------------------------------------------------------------------------

    def told_start(self, span: Any, is_queued: bool) -> bool:
        """Write a start that is worth it (or was not queued). True when it is in the file."""
        try:
            attributes = getattr(span, "_attributes", None)
            if is_queued and not is_root_span(span, getattr(attributes, "_dict", attributes) or {}):
                return False
            return self._tell(spool_packing.pack_span, (span, False), span._resource, span._instrumentation_scope, is_queued)
        except Exception:
            return self._past(UNPACKABLE)

    def told_end(self, span: Any, is_cancelled: bool, is_queued: bool) -> bool:
        """Write an ended span with its events. True when it is in the file."""
        try:
            return self._tell(spool_packing.pack_span, (span, True, is_cancelled), span._resource, span._instrumentation_scope, is_queued)
        except Exception:
            return self._past(UNPACKABLE)

    def told_event(self, span: Any, event: Any, index: int, is_queued: bool) -> bool:
        """Write an event of a living span. True when it is in the file."""
        try:
            return self._tell(spool_packing.pack_event, (span, event, index), span._resource, span._instrumentation_scope, is_queued)
        except Exception:
            return self._past(UNPACKABLE)

    def told_log(self, data: Any, is_queued: bool) -> bool:
        """Write a log record. True when it is in the file."""
        try:
            resource = getattr(data, "resource", None) or getattr(data.log_record, "resource", None)
            return self._tell(spool_packing.pack_log, (data,), resource, data.instrumentation_scope, is_queued)
        except Exception:
            return self._past(UNPACKABLE)

    def _tell(self, pack: Callable[..., bytes], what: tuple[Any, ...], resource: Any, scope: Any, is_queued: bool) -> bool:
        tries = 0
        while True:
            if self.bypass is not None or self.is_closed:
                return self._past(self.bypass or FAILED)
            spool_file = self._spool_file or self._first()
            if spool_file is None:  # another thread is at it, for a fraction of a millisecond
                tries += 1
                if tries > _TRIES:
                    return self._past(STALLED)
                time.sleep(_SLOW / 10)
                continue
            number, head, fresh = spool_file.origin(resource, scope)
            if number == OURS:
                return True
            try:
                payload = pack(number, *what)
            except spool_packing.RecordTooLarge:
                return self._past(TOO_LARGE)
            if len(payload) > _MOST:
                return self._past(TOO_LARGE)
            data = head + spool_files.frame(payload) if head else spool_files.frame(payload)
            busy = spool_file.busy
            begun = self._clock()
            if busy and self._is_behind(busy, begun):
                self._fail(spool_file, STALLED)
                continue
            try:
                entry = begun, self._this.thread
            except AttributeError:
                self._this.thread = get_native_id()
                entry = begun, self._this.thread
            busy.append(entry)
            try:
                if spool_file.is_encrypted:  # in this moment: to the next one
                    continue
                if self._write(spool_file.fd, data) != len(data):
                    self._fail(spool_file, NO_SPACE)
                    continue
            except OSError as error:
                self._fail(spool_file, NO_SPACE if error.errno in (28, 122) else FAILED, error)
                continue
            finally:
                # Still `busy` here: whoever finds a sealed segment idle can rely on these.
                if not is_queued:
                    spool_file.is_owed = True
                busy.remove(entry)
            spool_file.is_dirty = True
            if fresh is not None:
                spool_file.keep(fresh)
            took = self._clock() - begun
            if took > _SLOW:
                self._is_slow = True
                if took > _HUNG and self._is_disk(begun):
                    self._fail(spool_file, STALLED)
            if self._is_idle:
                self._rouse()
            return True

    def _past(self, reason: str) -> bool:
        """Count what went past the file."""
        self.bypassed.count(reason)
        self._past_at = self._latest
        gap, now = self._gap, time.time_ns()
        if gap is None:
            self._gap = [now, now, 1, reason]
        else:
            gap[1] = now
            gap[2] += 1
        return False

    def _is_behind(self, busy: deque[tuple[float, int]], now: float) -> bool:
        """Say whether another thread's write hangs in the disk: this one would too."""
        try:
            since = busy[0][0]
        except IndexError:
            return False
        return now - since > _HUNG and self._is_disk(since)

    def _is_disk(self, since: float) -> bool:
        """Say whether a long wait was for the disk, where the keeper could not watch: it waits as well, or cannot tell."""
        syncing = self._syncing
        return self._waits is None or self._slow_sync_at >= since or (syncing is not None and self._clock() - syncing > _HUNG)

    def _fail(self, spool_file: SpoolFile, reason: str, error: Exception | None = None) -> None:
        """Go past the file from now on; the keeper opens another one when it can."""
        self.bypass = reason
        spool_file.is_encrypted = True
        self._rouse()

    def _first(self) -> SpoolFile | None:
        """Open this process's first segment, in the agent's thread: what it tells next is promised already."""
        if self._opening.acquire(blocking=False):
            try:
                if self._spool_file is None and self.bypass is None:
                    self._open()
            finally:
                self._opening.release()
        return self._spool_file

    def _rouse(self) -> None:
        self._is_idle = False
        if self._keeper is None and not self.is_closed:
            keeper = threading.Thread(target=self._keep, name="spanpost-spool", daemon=True)
            self._keeper = keeper
            try:
                keeper.start()
            except RuntimeError:  # the interpreter is shutting down: what is written is written
                self._keeper = None
        with suppress(RuntimeError):  # somebody else did in this moment
            self._wake.release()

    # --- opening and sealing ------------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Open the next segment; False, and bypassed, where that cannot be."""
        assert self._bind is not None
        _, living, producer = self._bind
        number = self._latest = next(self._numbers)
        head = spool_packing.encode((spool_packing.HEADER, VERSION, self.settings.tenant, producer, self.settings.destination, os.getpid()))
        try:
            fd, path = spool_files.create(self.settings.directory, f"{self._name}.{number:08}", spool_files.frame(head))
        except OSError as error:
            self.bypass = NO_SPACE if error.errno in (28, 122) else FAILED
            self._say(self.bypass, error)
            return False
        spool_file = SpoolFile(fd, path, number)
        spool_file.is_owed = number <= self._owed_until
        self._unsettled.append(spool_file)
        gap = self._gap
        if number > 1 or gap is not None:
            self._write_head(spool_file, living, gap)
        self._gap = None
        self.bypass = None
        self._spool_file = spool_file
        return True

    def _write_head(self, spool_file: SpoolFile, living: Callable[[], Iterable[Any]], gap: list[Any] | None) -> None:
        """Write what a later segment begins with: the gap before it, and the starts of the agents' spans that are open."""
        with suppress(Exception):
            if gap is not None:
                self._write(spool_file.fd, spool_files.frame(spool_packing.encode((spool_packing.GAP, *gap))))
            for span in itertools.islice(living(), _MAX_OPEN):
                attributes = getattr(span, "_attributes", None)
                if not is_root_span(span, getattr(attributes, "_dict", attributes) or {}):
                    continue
                origin, head, fresh = spool_file.origin(span.resource, span.instrumentation_scope)
                if origin == OURS:
                    continue
                self._write(spool_file.fd, head + spool_files.frame(spool_packing.pack_span(origin, span, False)))
                if fresh is not None:
                    spool_file.keep(fresh)

    def _encryption(self, spool_file: SpoolFile) -> None:
        """End a segment: a marker follows what was queued before."""
        spool_file.is_encrypted = True
        if self._spool_file is spool_file:
            self._spool_file = None
        assert self._bind is not None
        self._bind[0](spool_file)

    def owe(self) -> bool:
        """Say that a batch was refused: whatever is not settled has to be read. True when the spool holds all of it."""
        # What was taken from the queue may be on its way to the next segment still.
        self._owed_until = self._latest + 1
        unsettled = list(self._unsettled)
        for spool_file in unsettled:
            spool_file.is_owed = True
        if unsettled:
            self._rouse()
        return min((s.number for s in unsettled), default=self._owed_until) > self._past_at + 1

    # --- in the worker's thread ---------------------------------------------------------------------------------

    def passed(self, spool_file: SpoolFile) -> None:
        """Take a sealed segment whose marker came through the queue: everything queued before it is recorded."""
        if spool_file in self._unsettled and spool_file not in self.owed:
            self.owed.append(spool_file)

    def encryption_owed(self) -> None:
        """Take the segments that are owed although no marker came yet, the open one too: they are read, so none is needed."""
        for spool_file in list(self._unsettled):
            if spool_file.is_owed:
                spool_file.is_encrypted = True
                if self._spool_file is spool_file:
                    self._spool_file = None
                self.passed(spool_file)

    def settle(self, read: Callable[[SpoolFile], bool]) -> bool:
        """Delete the segments that were passed; those owed are read before. True when none is left behind."""
        left = []
        for spool_file in self.owed:
            if spool_file.busy or (spool_file.is_owed and not read(spool_file)):
                left.append(spool_file)
                continue
            spool_file.path.unlink(missing_ok=True)
            with suppress(ValueError):
                self._unsettled.remove(spool_file)
            self._done.append(spool_file)
        self.owed = left
        return not left

    def close(self, read: Callable[[SpoolFile], bool], interrupted: Iterable[tuple[bytes, bytes, str, int, Any]]) -> bool:
        """End: delete what is recorded, leave what is not for the next start. True when nothing is left.

        `interrupted`: (trace id, span id, name, time, origin) of the spans that were open and could not be told of.
        """
        self.is_closed = True
        told = list(interrupted)
        with self._opening:
            spool_file = self._spool_file
            if spool_file is None and told and self.bypass is None and self._open():
                spool_file = self._spool_file
            self._spool_file = None
        if spool_file is not None:
            if told:
                spool_file.is_owed = True
            self._write_last(spool_file, told)
            spool_file.is_encrypted = True
        for one in list(self._unsettled):
            self.passed(one)
        is_done = self.settle(read)
        if self.owed:
            log.warning("%d files in %s are recorded at the next start", len(self.owed), self.settings.directory)
        self._done += self.owed
        self._rouse()
        if self._keeper is not None:
            self._keeper.join(_HUNG)
        if self._keeper is None or not self._keeper.is_alive():
            self._let_go()
        return is_done

    def _write_last(self, spool_file: SpoolFile, told: list[tuple[bytes, bytes, str, int, Any]]) -> None:
        with suppress(Exception):
            for trace_id, span_id, name, at_ns, origin in told:
                number = next(spool_file._numbers)
                head = spool_files.frame(spool_packing.pack_origin(number, origin.resource, origin.scope, origin.scope_version))
                self._write(spool_file.fd, head + spool_files.frame(spool_packing.pack_interruption(trace_id, span_id, name, at_ns, number)))
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
                self._say(FAILED, error)
                quiet = 0
            pause = min(pause * 2, _RETRY[1]) if self.bypass is not None else _RETRY[0]
            self._let_go()
        self._let_go()

    def _let_go(self) -> None:
        while self._done:
            spool_file = self._done.popleft()
            if self.is_closed:
                with suppress(OSError):
                    os.fdatasync(spool_file.fd)
            spool_files.release(spool_file.fd)

    def _tick(self) -> bool:
        """Sync, rotate, and come back from a bypass; False when there was nothing to do."""
        spool_file = self._spool_file
        if self.bypass is not None:
            return self._come_back(spool_file)
        if spool_file is None:
            return False
        worked = spool_file.is_dirty
        if spool_file.is_dirty:
            spool_file.is_dirty = False
            self._sync(spool_file)
        if self.bypass is None and (spool_file.is_owed or os.fstat(spool_file.fd).st_size >= self._spool_file_size):
            with self._opening:
                if self._spool_file is spool_file and not spool_file.is_encrypted and self._open():  # the next one stands before this ends
                    spool_file.is_encrypted = True
                    assert self._bind is not None
                    self._bind[0](spool_file)
            worked = True
        return worked

    def _watch(self, spool_file: SpoolFile) -> None:
        """Look for a while whether a write under way waits for the disk, and for how long."""
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
            # What the kernel could not write it may have thrown away: not one more record into this file.
            self._say(FAILED, error)
            self._fail(spool_file, FAILED)
        finally:
            self._syncing = None
            if self._clock() - begun > _HUNG:
                self._slow_sync_at = self._clock()

    def _come_back(self, spool_file: SpoolFile | None) -> bool:
        reason = self.bypass
        assert reason is not None
        self._say(reason, None)
        with self._opening:
            if spool_file is not None:
                self._encryption(spool_file)
            if reason == FULL and self.size >= self.settings.max_size:
                return True
            if not spool_files.has_space(self.settings.directory):
                self._say(NO_SPACE, None)
                return True
            begun = self._clock()
            is_open = self._open()
        if is_open and (spool_file := self._spool_file) is not None:
            self._sync(spool_file)
            if self._clock() - begun > _HUNG:
                self._fail(spool_file, STALLED)
        if self.bypass is None:
            log.info("the spool in %s is written again", self.settings.directory)
            self._is_said.discard(reason)
        else:
            self._say(reason, None)
        return True

    def _measure(self) -> None:
        with suppress(OSError):
            self.size = spool_files.size(self.settings.directory)
        spool_file = self._spool_file
        if self.size >= self.settings.max_size and self.bypass is None and spool_file is not None:
            self._fail(spool_file, FULL)
            self._say(FULL, None)

    def _say(self, reason: str, error: Exception | None) -> None:
        if reason in self._is_said:
            return
        self._is_said.add(reason)
        why = f": {error}" if error is not None else ""
        log.error(
            "the spool in %s is bypassed, %s%s; until that is mended a kill of this process loses what waits in memory",
            self.settings.directory,
            _CURES.get(reason, reason),
            why,
        )
