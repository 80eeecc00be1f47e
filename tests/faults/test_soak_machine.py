"""The harness's faults of the machine: that they are what they say, and one short run with all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.soak.checker import DELIVERED_WITHIN
from tests.faults.soak.disk import Disk
from tests.faults.soak.machine import Machine, why_no_library
from tests.faults.soak.memory import MemoryGroup
from tests.faults.soak.run import fresh, run, table

#: Prints a line for each line that it reads: the time, by two clocks, how long a sync took, and whether `localhost` is
#: found.
_LOOKS = """
import os, socket, sys, time
from spanpost.store.steady_clock import steady_now
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for _ in sys.stdin:
    began = time.monotonic()
    os.fsync(file)
    took = time.monotonic() - began
    try:
        found = bool(socket.getaddrinfo("localhost", 1))
    except socket.gaierror:
        found = False
    print(time.time(), steady_now().timestamp(), took, found, flush=True)
"""


def must(why_not: str) -> None:
    """Skip a test that this machine cannot run; in CI fail."""
    if why_not and os.environ.get("CI") == "true":
        pytest.fail(why_not, pytrace=False)
    if why_not:
        pytest.skip(why_not)


@pytest.mark.proves("clocks", "clock-jumps")
def test_a_running_process_sees_another_machine(tmp_path: Path) -> None:
    """A process's clock jumps, and the one by which it waits until a retry does not; syncs and names change, too."""
    must(why_no_library())
    machine = Machine(tmp_path / "machine")
    with subprocess.Popen(
        [sys.executable, "-c", _LOOKS, tmp_path / "file"],
        env={**os.environ, **machine.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def looks() -> tuple[float, float, bool]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            now, steady, took, found = process.stdout.readline().split()
            assert abs(float(steady) - time.time()) < 60
            return round((float(now) - time.time()) / 100) * 100, float(took), found == "True"

        assert looks()[::2] == (0, True)
        machine.set(clock=600, sync=0.2, name=0)
        ahead, took, found = looks()
        assert (ahead, took >= 0.2, found) == (600, True, False)
        machine.set(clock=-600)
        assert looks()[::2] == (-600, True)
        machine.set()
        assert looks()[::2] == (0, True)


def _write_and_sync(to: int) -> None:
    for _ in range(100):
        os.write(to, b"z" * 1_000_000)
        os.fsync(to)


def test_a_disk_fills_up_and_fails(tmp_path: Path) -> None:
    """A full disk refuses a write; one that fails refuses the sync with EIO; what was synced before is on it."""
    disk = Disk(tmp_path)
    must(disk.why_not)
    try:
        disk.fill()
        to = os.open(disk.path / "file", os.O_CREAT | os.O_RDWR)
        with pytest.raises(OSError, match="No space left"):
            os.write(to, b"x" * 100_000)
        disk.empty()
        os.write(to, b"y" * 100_000)
        os.fsync(to)
        disk.fail()
        with pytest.raises(OSError, match=r"Input/output error|No space left|Read-only"):
            _write_and_sync(to)
        os.close(to)
        disk.mend()
        disk.unmount()
        disk.mount()
        assert (disk.path / "file").read_bytes()[:100_000] == b"y" * 100_000
    finally:
        disk.close()


def test_the_kernel_kills_what_takes_more_memory(tmp_path: Path) -> None:
    """A process that takes more than its group may is killed, and counted."""
    group = MemoryGroup()
    must(group.why_not)
    takes = "import sys; sys.stdin.readline(); x = bytearray(b'x') * (200 << 20)"
    with subprocess.Popen([sys.executable, "-c", takes], stdin=subprocess.PIPE) as process:
        group.hold([process.pid], 32)
        process.communicate(b"\n", timeout=60)
    assert (process.returncode, group.kills()) == (-9, 1)
    group.release()
    group.close()
    assert not group.group.exists()


#: Kinds that one run deals, each once.
KINDS = (
    "gateway clock jumps", "agent clock jumps", "Slack clock jumps", "memory limit", "names gone",
    "database disk fails", "syncs slow", "network swallows", "certificate expired",
)  # fmt: skip


@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.needs("postgres")
@pytest.mark.timeout(240 + DELIVERED_WITHIN)
@pytest.mark.proves("clocks", "clock-jumps")
@pytest.mark.proves("answered", "sync-fails", "sync-slow", "memory-limit")
@pytest.mark.proves("never-500", "database-hangs", "names-gone", "certificate-expired")
def test_each_fault_of_the_machine_once() -> None:
    """Clocks jump, the disk fails, packets, names and memory are gone: everything acknowledged is there, once."""
    home = fresh()
    try:
        result = run(home, 7, 3, only=KINDS, rate=60, is_each_once=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert result["findings"] == [], table(result)
    must("; ".join(result["not_dealt"].values()))
    assert result["faults"] == dict.fromkeys(KINDS, 1), table(result)
