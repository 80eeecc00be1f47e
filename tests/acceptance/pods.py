"""Pods of resolved manifests, run on this machine as the kubelet runs them, and a Service before them.

A container has the manifests' arguments, environment, files, identity, probes and stop. Pods share this machine's
address, so each has ports of its own in place of those that its settings name.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from tests.acceptance.manifests import Manifests
from tests.conftest import ROOT
from tests.eventually import free_port

#: The variable that sets the port of each name.
PORTS = {
    "http": "SPANPOST_GATEWAY__HTTP_PORT",
    "otlp-grpc": "SPANPOST_GATEWAY__GRPC_PORT",
    "metrics": "SPANPOST_METRICS__PORT",
}


@dataclass(frozen=True)
class Container:
    """What a runtime starts: of the manifests all that it needs to know."""

    name: str
    args: Sequence[str]
    environment: Mapping[str, str]
    #: Directories of this machine by their place in the container, and whether they are read-only there.
    mounts: Mapping[str, tuple[Path, bool]]
    security: Mapping[str, Any]
    directory: Path


class Runtime(Protocol):
    """**Protocol:** starts a container; SIGTERM to what it returns reaches the container's process."""

    def start(self, container: Container) -> subprocess.Popen[bytes]: ...

    def terminate(self, container: Container, process: subprocess.Popen[bytes]) -> None: ...


class Checkout:
    """Runs this checkout's `spanpost` as a process, with its files below a directory in place of the root."""

    def start(self, container: Container) -> subprocess.Popen[bytes]:
        home = container.directory / "home"
        home.mkdir()
        environment = {name: self._here(value, container) for name, value in container.environment.items()}
        environment |= {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", "from spanpost.cli import main; main()", *container.args]
        with (container.directory / "log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @staticmethod
    def _here(value: str, container: Container) -> str:
        """Return where a path of the container is on this machine; any other value unchanged."""
        for place, (source, _) in container.mounts.items():
            if value.startswith(f"{place}/"):
                return f"{source}{value.removeprefix(place)}"
        return value

    def terminate(self, container: Container, process: subprocess.Popen[bytes]) -> None:
        process.terminate()


class Pod:
    """A pod of a template, with one running container at a time."""

    def __init__(
        self, manifests: Manifests, template: Mapping[str, Any], directory: Path, runtime: Runtime, **more: str
    ) -> None:
        directory.mkdir(parents=True)
        self._manifests, self.spec, self._directory = manifests, template["spec"], directory
        self._runtime, self._more = runtime, more
        self.ports = {one["name"]: free_port() for one in self.spec["containers"][0].get("ports", ())}
        self.process: subprocess.Popen[bytes] | None = None
        self._container: Container | None = None

    @property
    def log(self) -> str:
        assert self._container is not None
        return (self._container.directory / "log").read_text()

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if key in source:
                    found |= self._manifests.data(kind, source[key]["name"])
        found |= {one["name"]: one["value"] for one in container.get("env", ())}
        return found | {PORTS[name]: str(port) for name, port in self.ports.items()} | self._more

    def _mounts(self, container: Mapping[str, Any], directory: Path) -> dict[str, tuple[Path, bool]]:
        volumes = {one["name"]: one for one in self.spec.get("volumes", ())}
        found = {}
        for mount in container.get("volumeMounts", ()):
            volume, path = volumes[mount["name"]], directory / mount["name"]
            path.mkdir()
            if "configMap" in volume:
                for name, text in self._manifests.data("ConfigMap", volume["configMap"]["name"]).items():
                    (path / name).write_text(text)
            else:
                assert "emptyDir" in volume, volume
                path.chmod(0o777)
            found[mount["mountPath"]] = (path, bool(mount.get("readOnly")))
        return found

    def start(self, container: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Start one of its containers."""
        directory = self._directory / container["name"]
        directory.mkdir()
        security = {**self.spec["securityContext"], **container["securityContext"]}
        self._container = Container(
            container["name"],
            container["args"],
            self._environment(container),
            self._mounts(container, directory),
            security,
            directory,
        )
        self.process = self._runtime.start(self._container)
        return self.process

    def complete(self) -> None:
        """Run its containers one after the other. Raises AssertionError at the first that fails."""
        for container in (*self.spec.get("initContainers", ()), *self.spec["containers"]):
            assert self.start(container).wait(120) == 0, self.log

    def serve(self) -> None:
        """Start it, and return when its startup probe and its readiness probe have succeeded."""
        [container] = self.spec["containers"]
        process = self.start(container)
        self._probe(container["startupProbe"], process)
        self._probe(container["readinessProbe"], process)

    def _probe(self, probe: Mapping[str, Any], process: subprocess.Popen[bytes]) -> None:
        asked = probe["httpGet"]
        url = f"http://127.0.0.1:{self.ports[asked['port']]}{asked['path']}"
        for _ in range(probe["failureThreshold"]):
            request = urllib.request.Request(url, headers={"User-Agent": "kube-probe/1.34"})
            with suppress(OSError), urllib.request.urlopen(request, timeout=probe["timeoutSeconds"]) as answer:
                if answer.status < 400:
                    return
            # Until the next try, or its end.
            with suppress(subprocess.TimeoutExpired):
                process.wait(probe["periodSeconds"])
                raise AssertionError(f"it ended: {self.log}")
        raise AssertionError(f"{url} fails: {self.log}")

    def is_alive(self) -> bool:
        """Ask the liveness probe once."""
        probe = self.spec["containers"][0]["livenessProbe"]["httpGet"]
        url = f"http://127.0.0.1:{self.ports[probe['port']]}{probe['path']}"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def terminate(self) -> int:
        """Stop it after the wait of its preStop, within its grace; return the exit code.

        No Service sends to it any more: that is what preStop waits for.
        """
        assert self.process is not None
        assert self._container is not None
        waits = self.spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        self._runtime.terminate(self._container, self.process)
        return self.process.wait(self.spec["terminationGracePeriodSeconds"] - waits)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None and self.process.poll() is None:
            assert self._container is not None
            self._runtime.terminate(self._container, self.process)
            self.process.wait(60)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Service:
    """Gives each connection to the next of its ready pods."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self._next = 0

    async def _connect(self, port: str) -> Streams:
        self._next += 1
        return await asyncio.open_connection("127.0.0.1", self.pods[self._next % len(self.pods)].ports[port])

    def listen(self, service: Mapping[str, Any]) -> AbstractContextManager[dict[str, int]]:
        """Listen on a port of this machine for each port of the object; return them by name."""
        return forwarding({one["name"]: partial(self._connect, one["targetPort"]) for one in service["spec"]["ports"]})


@contextmanager
def over_tcp(dsn: str) -> Iterator[str]:
    """Return a DSN by TCP for one by a Unix socket, which a container does not reach."""
    parts = urlsplit(dsn)
    asked = parse_qs(parts.query)
    socket = f"{asked['host'][0]}/.s.PGSQL.{asked.get('port', ['5432'])[0]}"
    with forwarding({"postgres": lambda: asyncio.open_unix_connection(socket)}) as ports:
        yield f"postgresql://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{ports['postgres']}{parts.path}"


@contextmanager
def forwarding(targets: Mapping[str, Callable[[], Awaitable[Streams]]]) -> Iterator[dict[str, int]]:
    """Forward connections to targets, from ports of this machine, in a thread: tests block their own loop."""
    ports, over = {name: free_port() for name in targets}, asyncio.Event()
    listening: Future[asyncio.AbstractEventLoop] = Future()

    async def forward(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            there, back = await targets[name]()
            with closing(back):
                await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async def run() -> None:
        for name, port in ports.items():
            await asyncio.start_server(partial(forward, name), "127.0.0.1", port)
        listening.set_result(asyncio.get_running_loop())
        await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    loop = listening.result(60)
    try:
        yield ports
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
