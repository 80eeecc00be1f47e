"""The spool file: reading damaged ones, and the agent's thread when the disk is slow or fails."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, TracerProvider

from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.observations import Observation, Part
from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.export import SdkSpanExporter
from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.receivers.spool import Spool
from spanpost.receivers.spool_disk import SpoolDisk
from spanpost.receivers.spool_files import SpoolSettings
from spanpost.receivers.spool_keeper import SpoolKeeper
from spanpost.receivers.spool_recovery import Recovery
from spanpost.receivers.spool_writer import SpoolFile
from spanpost.receivers.worker import Feed
from spanpost.testing.receivers import SeenRequest
from tests.eventually import eventually
from tests.thorough import thorough

_payloads = st.lists(st.binary(max_size=40), min_size=1, max_size=8)


@pytest.mark.proves("spool", "bit-flips")
@thorough(200)
@given(payloads=_payloads, cut=st.integers(0, 10**6))
def test_a_torn_end_is_cut(payloads: list[bytes], cut: int) -> None:
    """Wherever a file ends, its whole records are read, and none counts as damaged."""
    frames = [spool_files.frame(p) for p in payloads]
    data = b"".join(frames)
    data = data[: cut % (len(data) + 1)]
    whole = 0
    while sum(map(len, frames[: whole + 1])) <= len(data) and whole < len(frames):
        whole += 1
    read = spool_files.parse(data)
    assert (read.records, read.damaged) == (payloads[:whole], 0)
    assert read.torn == len(data) - sum(map(len, frames[:whole]))


@pytest.mark.proves("spool", "bit-flips")
@thorough(300)
@given(payloads=_payloads, where=st.integers(0, 10**6), bit=st.integers(0, 7))
@example(payloads=[bytes(2), bytes(6), b"x"], where=2, bit=4)  # the length then leads to the third record
def test_a_flipped_bit_costs_one_record(payloads: list[bytes], where: int, bit: int) -> None:
    """One bit flipped anywhere costs the record that it is in, and no other."""
    frames = [spool_files.frame(p) for p in payloads]
    data = bytearray(b"".join(frames))
    at = where % len(data)
    data[at] ^= 1 << bit
    hit = next(i for i in range(len(frames)) if sum(map(len, frames[: i + 1])) > at)
    read = spool_files.parse(bytes(data))
    assert read.records == payloads[:hit] + payloads[hit + 1 :]


class NoKeeper(SpoolKeeper):
    """A keeper that has no thread."""

    def wake(self) -> None:
        pass


class Unkept(Spool):
    """A spool whose keeper is the test."""

    def begin(self) -> None:
        super().begin()
        self._keeper = NoKeeper(self._tend, 0.0, 0.0)


class Disk:
    """A disk that can be slow, fail, or hang, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 0.0
        self.error = 0
        self.writes = 0
        self.hangs: threading.Event | None = None
        self.is_hanging = threading.Event()
        self.waiting: set[int | None] = set()

    def waits(self, thread: int) -> bool:
        self.now += 0.002
        return thread in self.waiting

    def write(self, fd: int, data: bytes) -> int:
        self.writes += 1
        if self.hangs is not None:
            hangs, self.hangs = self.hangs, None
            self.is_hanging.set()
            hangs.wait()
        self.now += self.takes
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return os.write(fd, data)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def spool(tmp_path: Path, disk: Disk) -> Iterator[Unkept]:
    directory = tmp_path / "spool"
    spool_files.prepare(directory)
    spool = Unkept(SpoolSettings(directory, "somewhere"), SpoolDisk(disk.write, disk.clock, disk.waits))
    spool.marked: list[SpoolFile] = []  # type: ignore[misc]
    spool.bind(spool.marked.append, list, "p")  # type: ignore[attr-defined]
    yield spool
    spool.close(lambda spool_file: True, ())


def span(name: str = "s") -> Any:
    made = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent").start_span(name)
    made.end()
    return made


def tell(spool: Spool, number: int = 1, *, is_queued: bool = True) -> list[bool]:
    return [spool.write_end(span(), False, is_queued) for _ in range(number)]


@pytest.mark.proves("no-wait", "sync-slow")
def test_a_slow_disk_is_bypassed(spool: Unkept, disk: Disk) -> None:
    """While a write waits for the disk, further spans bypass the file and are counted until it answers."""
    tell(spool)
    disk.hangs = hangs = threading.Event()
    thread = threading.Thread(target=tell, args=(spool,))
    thread.start()
    disk.is_hanging.wait()
    disk.waiting = {thread.native_id}
    spool._watch()
    assert tell(spool, 2) == [False, False]
    assert (spool.bypass, spool.bypassed.totals()) == ("stalled", {"stalled": 2})
    hangs.set()
    thread.join()
    spool._tick()
    assert (spool.bypass, tell(spool)) == (None, [True])


def test_a_thread_that_waits_for_the_interpreter(spool: Unkept, disk: Disk) -> None:
    """A write that took long for another reason is no stall, however often: nothing bypasses the file."""
    disk.takes = 1.0
    assert tell(spool, 5) == [True] * 5
    disk.hangs = hangs = threading.Event()
    thread = threading.Thread(target=tell, args=(spool,))
    thread.start()
    disk.is_hanging.wait()
    spool._watch()
    assert tell(spool) == [True]
    hangs.set()
    thread.join()
    assert spool.bypassed.totals() == {}


@pytest.mark.proves("no-wait", "sync-slow")
def test_no_thread_waits_for_a_disk_that_hangs_for_the_keeper_too(spool: Unkept, disk: Disk) -> None:
    """With both a write and a sync hanging, another thread's spans bypass the file at once."""
    tell(spool)
    disk.hangs = hangs = threading.Event()
    thread = threading.Thread(target=tell, args=(spool,))
    thread.start()
    disk.is_hanging.wait()
    spool._disk.syncing = disk.now
    disk.now += 1.0
    assert tell(spool, 2) == [False, False]
    assert spool.bypass == "stalled"
    hangs.set()
    thread.join()


def test_where_nobody_can_tell_what_a_thread_waits_for(tmp_path: Path, disk: Disk) -> None:
    """On a system that does not show why a thread waits, a write of a fifth of a second is enough."""
    spool_files.prepare(tmp_path / "spool")
    spool = Unkept(SpoolSettings(tmp_path / "spool", "somewhere"), SpoolDisk(disk.write, disk.clock, None))
    spool.bind(lambda spool_file: None, list, "p")
    disk.takes = 0.1
    assert tell(spool, 3) == [True] * 3
    disk.takes = 0.3
    assert tell(spool, 2) == [True, False]
    spool.close(lambda spool_file: True, ())


@pytest.mark.proves("no-wait", "sync-fails", "spool-disk-full")
@pytest.mark.parametrize(
    ("error", "reason"),
    [(errno.ENOSPC, "no_space"), (errno.EDQUOT, "no_space"), (errno.EIO, "failed"), (errno.EROFS, "failed")],
)
def test_a_disk_that_fails(spool: Unkept, disk: Disk, error: int, reason: str) -> None:
    """A disk error does not reach the agent: it is counted by reason, and a new file is begun later."""
    tell(spool)
    disk.error = error
    assert tell(spool, 3) == [False] * 3
    assert spool.bypassed.totals() == {reason: 3}
    disk.error = 0
    spool._tick()
    assert tell(spool) == [True]
    first, second = spool_files.found(spool.settings.directory)
    gap = [
        row
        for row in map(spool_packing.decode, spool_files.parse(second.path.read_bytes()).records)
        if row[0] == spool_packing.GAP
    ]
    assert [(row[3], row[4]) for row in gap] == [(3, reason)]
    assert (first.number, second.number) == (1, 2)


@pytest.mark.proves("no-wait", "sync-fails")
def test_a_sync_that_fails(spool: Unkept, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync nothing more goes into that file: the kernel may have discarded what it could not
    write.
    """
    tell(spool)
    before = spool._spool_file

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fdatasync", fail)
    spool._tick()
    assert spool.bypass == "failed"
    monkeypatch.undo()
    spool._tick()
    assert spool.bypass is None
    assert spool._spool_file is not before


def test_what_cannot_be_packed(spool: Unkept) -> None:
    """A record without a form in the file, or too large for it, bypasses it alone: the next one is written."""
    odd, large = span(), span("s")
    odd._name = object()
    large._attributes = {"v": "x" * (spool_packing.MAX_RECORD + 1)}
    assert [spool.write_end(s, False, True) for s in (odd, large, span())] == [False, False, True]
    assert spool.bypassed.totals() == {"unpackable": 1, "too_large": 1}


def test_a_full_file_is_replaced(tmp_path: Path, disk: Disk) -> None:
    """A full file is finished; it is deleted when it is recorded, and read before if it is unrecorded."""
    spool_files.prepare(tmp_path / "spool")
    spool = Unkept(SpoolSettings(tmp_path / "spool", "somewhere", spool_file_size=4096), SpoolDisk(disk.write))
    marked: list[SpoolFile] = []
    spool.bind(marked.append, list, "p")
    tell(spool, 20)
    spool._tick()
    assert [s.number for s in marked] == [1]
    tell(spool, 20, is_queued=False)
    spool._tick()
    assert [(s.number, s.is_unrecorded) for s in marked] == [(1, False), (2, True)]
    read: list[int] = []
    for spool_file in marked:
        spool.files.on_marker(spool_file)
    assert not spool.files.delete_recorded(lambda spool_file: bool(read.append(spool_file.number)))
    assert [s.number for s in spool_files.found(tmp_path / "spool")] == [2, 3]
    assert spool.files.delete_recorded(lambda spool_file: True)
    assert (read, [s.number for s in spool_files.found(tmp_path / "spool")]) == ([2], [3])
    spool.close(lambda spool_file: True, ())


def test_an_old_file_is_replaced_once_it_holds_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that holds a record is finished when it is old, and one that holds its head alone never."""
    monkeypatch.setattr("spanpost.receivers.spool.FINISH_AFTER", 0.0)
    spool_files.prepare(tmp_path / "spool")
    spool = Unkept(SpoolSettings(tmp_path / "spool", "somewhere"))
    marked: list[SpoolFile] = []
    open_span = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent").start_span("root")
    spool.bind(marked.append, lambda: [open_span], "p")
    for numbers in ([1], [1, 2]):
        tell(spool, 1)
        spool._tick()
        spool._tick()
        assert [s.number for s in marked] == numbers
    spool.close(lambda spool_file: True, ())


def test_an_idle_keeper_looks_after_its_longest_sleep() -> None:
    """A keeper that nobody wakes again still looks at its files."""
    looks: list[float] = []

    def tend() -> None:
        looks.append(time.monotonic())

    keeper = SpoolKeeper(tend, 0.0, 0.001)
    keeper.wake()
    eventually(lambda: len(looks) > 20)
    assert keeper.stop(10)


def test_a_later_file_names_open_spans(tmp_path: Path) -> None:
    """A later file begins with the starts of the agents' open spans, and of no others."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("an.agent")
    root = tracer.start_span("root")
    from opentelemetry.trace import set_span_in_context

    inner = tracer.start_span("inner", set_span_in_context(root))
    agent = tracer.start_span("agent", set_span_in_context(root), attributes={"gen_ai.operation.name": "invoke_agent"})
    spool_files.prepare(tmp_path / "spool")
    spool = Unkept(SpoolSettings(tmp_path / "spool", "somewhere", spool_file_size=4096))
    spool.bind(lambda spool_file: None, lambda: [root, inner, agent], "p")
    tell(spool, 20)
    spool._tick()
    last = spool_files.found(tmp_path / "spool")[-1]
    rows = [spool_packing.decode(raw) for raw in spool_files.parse(last.path.read_bytes()).records]
    assert [row[4] for row in rows if row[0] == spool_packing.START] == ["root", "agent"]
    spool.close(lambda spool_file: True, ())


class Store(SeenRequest):
    """A receiver that can be down."""

    is_away = False

    def __call__(self, batch: list[Observation], /) -> None:
        if self.is_away:
            raise StoreUnavailable("it is away")
        super().__call__(batch)


def ended(seen: SeenRequest) -> list[str]:
    return sorted(o.name for o in seen.of(Part.ENDED))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a closing spool wait for its keeper, which a busy machine's sync keeps: open files cannot be read."""
    monkeypatch.setattr("spanpost.receivers.spool.HUNG", 60.0)


def followed(
    tmp_path: Path, receive: Callable[[list[Observation]], object]
) -> tuple[TracerProvider, Feed, SpoolSettings]:
    settings = SpoolSettings(tmp_path / "spool", "somewhere")
    spool_files.prepare(settings.directory)
    feed = Feed(receive, spool=Spool(settings))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SdkSpanProcessor(feed))
    return provider, feed, settings


def test_a_refused_batch_is_read_again(tmp_path: Path) -> None:
    """A batch that the receiver refused is read again by the next flush, and nothing counts as lost."""
    seen = Store()
    provider, feed, _ = followed(tmp_path, seen)
    tracer = provider.get_tracer("an.agent")
    seen.is_away = True
    tracer.start_span("a").end()
    assert not provider.force_flush()
    seen.is_away = False
    tracer.start_span("b").end()
    assert provider.force_flush()
    assert set(ended(seen)) == {"a", "b"}
    assert feed.losses.totals() == {}
    provider.shutdown()
    assert spool_files.found(tmp_path / "spool") == []


@pytest.mark.usefixtures("patient")
def test_what_is_refused_at_the_end_waits(tmp_path: Path) -> None:
    """Observations refused to the end stay in the directory for the next process: open ones as interrupted,
    once.
    """
    seen = Store()
    provider, _, settings = followed(tmp_path, seen)
    seen.is_away = True
    provider.get_tracer("an.agent").start_span("a").end()
    left = provider.get_tracer("an.agent").start_span("left")
    provider.shutdown()
    assert left.is_recording()
    assert seen.observations == []
    after = SeenRequest()
    for _ in range(2):
        Recovery(settings, after).scan()
    assert ended(after) == ["a"]
    assert [o.name for o in after.of(Part.LOG)] == ["agent.span.interrupted"]
    assert spool_files.found(settings.directory) == []


@pytest.mark.usefixtures("patient")
def test_a_recovery_that_is_cut_short(tmp_path: Path) -> None:
    """While the store is down the directory is untouched; a file that the store refuses is set aside."""
    seen = Store()
    provider, _, settings = followed(tmp_path, seen)
    seen.is_away = True
    provider.get_tracer("an.agent").start_span("a").end()
    provider.shutdown()
    with pytest.raises(StoreUnavailable):
        Recovery(settings, seen).scan()
    assert len(spool_files.found(settings.directory)) == 1

    def refuse(batch: list[Observation]) -> None:
        raise ValueError("no")

    recovery = Recovery(settings, refuse)
    for _ in range(5):
        assert recovery.scan() == 0
    assert spool_files.found(settings.directory) == []
    assert len(list(settings.directory.glob("*.aside"))) == 1
    assert recovery.dropped.totals().keys() == {"refused"}


def test_one_imports_at_a_time(tmp_path: Path) -> None:
    """While one process imports, another finds nothing to do; files of a later version are left for it."""
    settings = SpoolSettings(tmp_path / "spool", "somewhere")
    spool_files.prepare(settings.directory)
    head = spool_files.frame(spool_packing.encode((spool_packing.HEADER, 99, "t", "p", "somewhere", 1)))
    fd, path = spool_files.create(settings.directory, f"{spool_files.fingerprint('somewhere')}.1.1.a.00000001", head)
    spool_files.release(fd)
    seen = SeenRequest()
    with spool_files.import_lock(settings.directory) as is_ours:
        assert is_ours
        assert Recovery(settings, seen).scan() == 0
    assert Recovery(settings, seen).scan() == 0
    assert path.exists()


@pytest.mark.usefixtures("patient")
def test_an_exporter_alone_writes_too(tmp_path: Path) -> None:
    """An exporter without a processor writes its spans to the file."""
    seen = Store()
    settings = SpoolSettings(tmp_path / "spool", "somewhere")
    spool_files.prepare(settings.directory)
    exporter = SdkSpanExporter(Feed(seen, spool=Spool(settings)))
    seen.is_away = True
    exporter.export([span("exported")])
    exporter.shutdown()
    after = SeenRequest()
    Recovery(settings, after).scan()
    assert ended(after) == ["exported"]


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """A path that is a file, or below one, is refused with the next step."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="name a directory"):
            spool_files.prepare(path)


def test_a_span_of_ours_is_never_written(tmp_path: Path) -> None:
    """Spanpost's own spans are in no file, as they are in no table."""
    seen = Store()
    provider, _, settings = followed(tmp_path, seen)
    seen.is_away = True
    ours: Span = provider.get_tracer("spanpost.store").start_span("ours")  # type: ignore[assignment]
    ours.add_event("e")
    ours.end()
    provider.shutdown()
    after = SeenRequest()
    Recovery(settings, after).scan()
    assert ended(after) == []
