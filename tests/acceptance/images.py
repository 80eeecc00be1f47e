"""An image in an OCI archive, run by runc as a container of a pod: its own root, identity and mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from tests.acceptance.pods import Container


class Image:
    """**Runtime** of `pods`: containers of one image. They share this machine's network, and nothing else."""

    def __init__(self, archive: Path, directory: Path) -> None:
        layout, self._bundle, self._state = directory / "layout", directory / "bundle", directory / "runc"
        self._ids = count(1)
        self._names: dict[int, str] = {}
        layout.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
        command = ["umoci", "unpack", "--image", f"{layout}:latest", self._bundle]
        subprocess.run(command, check=True, capture_output=True)
        self._unpacked: dict[str, Any] = json.loads((self._bundle / "config.json").read_text())
        #: The image's configuration: `Entrypoint`, `Env`, `User`, `Labels`.
        self.config = _config(layout)

    @property
    def root(self) -> Path:
        return self._bundle / "rootfs"

    def bundle(self, container: Container) -> dict[str, Any]:
        """Return the OCI configuration of a container."""
        security = container.security
        assert security["capabilities"] == {"drop": ["ALL"]}, security
        image = dict(one.split("=", 1) for one in self.config["Env"])
        process = {
            "terminal": False,
            # HOME as every runtime sets it for a user without a name.
            "env": [f"{name}={value}" for name, value in ({"HOME": "/"} | image | dict(container.environment)).items()],
            "args": [*self.config["Entrypoint"], *container.args],
            "cwd": self.config["WorkingDir"],
            "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": not security["allowPrivilegeEscalation"],
        }
        mounts = [one for one in self._unpacked["mounts"] if one["destination"] != "/sys/fs/cgroup"]
        for place, (source, is_read_only) in container.mounts.items():
            options = ["rbind", "nosuid", "nodev", "ro" if is_read_only else "rw"]
            mounts.append({"destination": place, "type": "bind", "source": str(source), "options": options})
        namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        paths = {name: self._unpacked["linux"][name] for name in ("maskedPaths", "readonlyPaths")}
        return {
            "ociVersion": "1.0.0",
            "process": process,
            "root": {"path": str(self.root), "readonly": security["readOnlyRootFilesystem"]},
            "mounts": mounts,
            "linux": {"namespaces": namespaces, **paths},
        }

    def start(self, container: Container) -> subprocess.Popen[bytes]:
        bundle = container.directory / "bundle"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self.bundle(container)))
        name = f"spanpost-{os.getpid()}-{next(self._ids)}"
        with (container.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*self._runc, "run", "--bundle", bundle, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._names[process.pid] = name
        return process

    def terminate(self, container: Container, process: subprocess.Popen[bytes]) -> None:
        subprocess.run([*self._runc, "kill", self._names[process.pid], "TERM"], check=True)

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._state)]


def _config(layout: Path) -> Mapping[str, Any]:
    """Return the configuration of the only image in an OCI layout."""

    def read(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

    [manifest] = json.loads((layout / "index.json").read_text())["manifests"]
    found: Mapping[str, Any] = read(read(manifest["digest"])["config"]["digest"])["config"]
    return found


def missing() -> str:
    """Return which program is missing to run an image; empty if none is."""
    return next((name for name in ("umoci", "runc", "tar") if shutil.which(name) is None), "")
