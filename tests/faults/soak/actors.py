"""Actors of a run: they begin with it, close when it closes, and say at the end what they know."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.conftest import COMPONENTS
from tests.faults.soak.machine import Machine
from tests.faults.soak.world import World

#: Actors by name, in the order of their start.
ACTORS: dict[str, type[Actor]] = {}


class Actor(ABC):
    """One of those who use spanpost. A subclass with a `name` of its own is part of each run."""

    name = ""
    #: Components that it consists of; it takes no part where one is missing.
    needs: ClassVar[Sequence[str]] = ()
    #: Takes part only if a run asks for it by name.
    is_extra = False
    #: Closes when no other actor makes work any more.
    is_last = False

    def __init_subclass__(cls) -> None:
        if cls.__dict__.get("name"):
            ACTORS[cls.name] = cls

    def __init__(self, world: World) -> None:
        self.world = world

    @classmethod
    def absence(cls, extra: Sequence[str]) -> str:
        """Return why it takes no part in a run here; empty if it does."""
        if cls.is_extra and cls.name not in extra:
            return f"takes part only with --with {cls.name}"
        return "; ".join(f"missing: {COMPONENTS[each][1]}" for each in cls.needs if COMPONENTS[each][0]() is None)

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def close(self) -> None:
        """End in order: what was begun is finished, nothing new begins. All faults are over."""

    def findings(self) -> Sequence[str]:
        """Return what is wrong with the end of the run, as this actor knows it."""
        return ()

    def notes(self) -> Sequence[str]:
        """Return what is worth a line of the result, after the findings were made."""
        return ()


class Threads(Actor):
    """An actor that is threads of this process."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._threads: list[threading.Thread] = []

    def begin(self, work: object, *given: object) -> None:
        """Run a function in a thread; an error in it is a finding."""

        def run() -> None:
            try:
                work(*given)  # type: ignore[operator]
            except Exception as error:
                self.world.findings.append(f"the harness: {self.name} ended by {error!r}")

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Wait for the threads, which look at `World.closing`."""
        for thread in self._threads:
            thread.join(120)
            if thread.is_alive():
                self.world.findings.append(f"the harness: {self.name} does not end")


class Process(Actor):
    """An actor that is a process of its own, killed and started again by faults."""

    module = ""
    #: Exit codes of a process that stopped as it should.
    good_codes: Sequence[int] = (0,)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.runs = 0
        self.directory = world.directory / self.name.replace(" ", "-")
        self.directory.mkdir()
        #: What it sees of its machine, if it is started with `machine.variables`.
        self.machine = Machine(self.directory / "machine")

    @abstractmethod
    def words(self) -> Sequence[str]:
        """Return the arguments of the next run."""

    @abstractmethod
    def variables(self) -> dict[str, str]:
        """Return its environment."""

    @property
    def log(self) -> Path:
        """Log of the current run."""
        return self.directory / f"run-{self.runs}.log"

    def start(self) -> None:
        """Start the next run."""
        self.runs += 1
        self.process = self.launch()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process of this run."""
        return self.world.spawn(self.module, self.log, *self.words(), **self.variables())

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it with -9."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Stop it in order."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            code = self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.world.findings.append(f"{self.name} does not end")
            return
        if code not in self.good_codes:
            self.world.findings.append(f"{self.name} ended with {code}: {self.log.read_text()[-500:]}")
