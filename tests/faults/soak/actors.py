"""Actors of a run: they begin with it, close when it closes, and say at the end what they know."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.faults.soak.machine import Machine
from tests.faults.soak.world import World

#: Actors by name, in the order of their start.
ACTORS: dict[str, type[Actor]] = {}


class Actor(ABC):
    """One of those who use spanpost. A subclass with a `name` is part of each run."""

    name = ""

    def __init_subclass__(cls) -> None:
        if cls.name:
            ACTORS[cls.name] = cls

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def close(self) -> None:
        """End in order: what was begun is finished, nothing new begins. All faults are over."""

    def findings(self) -> Sequence[str]:
        """Return what is wrong with the end of the run, as this actor knows it."""
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
        self.process: subprocess.Popen[bytes] = self.world.spawn(
            self.module, self.log, *self.words(), **self.variables()
        )

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
        if code:
            self.world.findings.append(f"{self.name} ended with {code}: {self.log.read_text()[-500:]}")
