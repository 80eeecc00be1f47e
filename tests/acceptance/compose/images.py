"""The images of a Compose project: for each its program on this system, and what its author set in it."""

from __future__ import annotations

import glob
import json
import pwd
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT, find

#: A user and group of an image: numbers.
User = tuple[int, int]
NOBODY: User = (65534, 65534)


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a container of an image starts with. `files` are bound from this system: target to source."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    user: User = (0, 0)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    #: Directories of the image that users other than root own: a new volume there is theirs.
    directories: Mapping[str, User] = field(default_factory=dict)
    working_dir: str = "/"
    health: tuple[str, ...] = ()


def postgres() -> Image:
    binaries = find("postgres")
    account = pwd.getpwnam("postgres")
    user = (account.pw_uid, account.pw_gid)
    return Image(
        entrypoint=("/image/docker-entrypoint.sh",),
        command=("postgres",),
        environment={"PATH": f"{binaries}:/usr/bin:/bin", "PGDATA": "/var/lib/postgresql/data"},
        files={"/image/docker-entrypoint.sh": str(Path(__file__).with_name("postgres-entrypoint.sh"))},
        directories={"/var/lib/postgresql/data": user, "/run/postgresql": user},
    )


def collector() -> Image:
    return Image(
        entrypoint=("/image/otelcol",),
        command=("--config", "/etc/otelcol-contrib/config.yaml"),
        user=(10001, 10001),
        files={"/image/otelcol": find("otelcol")},
    )


def prometheus() -> Image:
    return Image(
        entrypoint=("/image/prometheus",),
        command=("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"),
        user=NOBODY,
        files={"/image/prometheus": find("prometheus")},
        directories={"/prometheus": NOBODY},
        working_dir="/prometheus",
    )


def alertmanager() -> Image:
    return Image(
        entrypoint=("/image/alertmanager",),
        command=("--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"),
        user=NOBODY,
        files={"/image/alertmanager": find("alertmanager")},
        directories={"/alertmanager": NOBODY},
        working_dir="/alertmanager",
    )


#: The images that have a program here. Grafana has none in any registry of packages: it is not started.
PULLED: dict[str, Callable[[], Image]] = {
    "docker.io/library/postgres": postgres,
    "docker.io/otel/opentelemetry-collector-contrib": collector,
    "docker.io/prom/prometheus": prometheus,
    "docker.io/prom/alertmanager": alertmanager,
}
NOT_HERE = ("docker.io/grafana/grafana",)


def pulled(name: str) -> Image | None:
    """Return a published image by its name; None: this system has no program of it."""
    repository = name.rpartition(":")[0]
    return None if repository in NOT_HERE else PULLED[repository]()


def built(containerfile: Path) -> Image:
    """Return our image as its file describes it, with the packages of this environment in place of its own."""
    last = containerfile.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    said = dict(re.findall(r"^(ENV|USER|WORKDIR|HEALTHCHECK|ENTRYPOINT|CMD) +(.+)$", last, re.MULTILINE))
    uid, _, gid = said["USER"].partition(":")
    environment = dict(word.split("=", 1) for word in said.get("ENV", "").split())
    system = "/usr/local/bin:/usr/bin:/bin"
    environment["PATH"] = environment.get("PATH", "$PATH").replace("$PATH", system)
    [virtual] = re.findall(r"^COPY --from=build (/\S+) \1$", last, re.MULTILINE)
    python = {sys.prefix, sys.base_prefix, str(ROOT / "src"), *glob.glob(str(ROOT / "plugins" / "*" / "src"))}
    return Image(
        entrypoint=tuple(json.loads(said["ENTRYPOINT"])),
        command=tuple(json.loads(said["CMD"])),
        user=(int(uid), int(gid or uid)),
        environment=environment,
        files={virtual: sys.prefix, **{path: path for path in python}},
        working_dir=said.get("WORKDIR", "/"),
        health=("CMD", *json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])),
    )
