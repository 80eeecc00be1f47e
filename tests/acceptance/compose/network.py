"""A network of Compose: one address for each service, a bridge between them, and published ports."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.eventually import eventually

#: Seconds that a command about namespaces may take.
_LIMIT = 30
#: The network namespace of this process.
HERE = f"/proc/{os.getpid()}/ns/net"


class Network:
    """Network namespaces of services by name, in a mount namespace of their own: none outlives this process."""

    def __init__(self, holder: int, services: Sequence[str]) -> None:
        self.holder = holder
        self.addresses = {name: f"172.30.0.{number}" for number, name in enumerate(services, 2)}

    @property
    def enter(self) -> list[str]:
        """The command that runs the rest of it where the namespaces have their names."""
        return ["nsenter", f"--target={self.holder}", "--mount"]

    def namespace(self, service: str = "") -> str:
        """Return the path of a service's network namespace, or the bridge's."""
        return f"/proc/{self.holder}/root/run/netns/{service}" if service else f"/proc/{self.holder}/ns/net"

    def run(self, script: str) -> None:
        """Run a script of the shell beside the bridge. Raises AssertionError with what it printed."""
        command = [*self.enter, "--net", "sh", "-euc", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def forwarded(self, mappings: Iterable[tuple[str, int, str, str, int]]) -> Iterator[None]:
        """Forward ports of loopback: (namespace, port) to (namespace, host, port)."""
        given = json.dumps([[ns, "127.0.0.1", port, *target] for ns, port, *target in mappings])
        command = [*mortal(), sys.executable, str(Path(__file__).with_name("forward.py")), given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield
            finally:
                process.kill()


def mortal() -> list[str]:
    """Return the command that ends the rest of it with this process, however that ends."""
    return ["setpriv", "--pdeathsig=KILL"]


@contextmanager
def network(services: Sequence[str], isolated: Iterable[str] = ()) -> Iterator[Network]:
    """Make a network of services; those of `isolated` have none."""
    command = [*mortal(), "unshare", "--net", "--mount", "sleep", "infinity"]
    own = os.readlink("/proc/self/ns/mnt")
    with subprocess.Popen(command) as holder:
        try:
            eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/mnt"), lambda found: found != own, _LIMIT)
            made = Network(holder.pid, services)
            lines = [
                "mount -t tmpfs tmpfs /run",
                "ip link add bridge type bridge",
                "ip address add 172.30.0.1/24 dev bridge",
                "ip link set bridge up",
            ]
            for number, (name, address) in enumerate(made.addresses.items()):
                quoted = shlex.quote(name)
                lines += [f"ip netns add {quoted}", f"ip -n {quoted} link set lo up"]
                if name not in isolated:
                    lines += [
                        f"ip link add veth{number} type veth peer name eth0 netns {quoted}",
                        f"ip link set veth{number} master bridge up",
                        f"ip -n {quoted} address add {address}/24 dev eth0",
                        f"ip -n {quoted} link set eth0 up",
                    ]
            made.run("\n".join(lines))
            yield made
        finally:
            holder.kill()
