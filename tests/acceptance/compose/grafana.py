"""What Grafana would read in its container, without Grafana: its provisioning by its own rules."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

PROVISIONING = "/etc/grafana/provisioning"


class Provisioned:
    """The datasources, dashboards and alert rules of a service of Compose."""

    def __init__(self, service: Mapping[str, Any]) -> None:
        self._mounts = {one["target"]: one["source"] for one in service["volumes"] if one["type"] == "bind"}
        environment: dict[str, str] = service["environment"]

        def expanded(match: re.Match[str]) -> str:
            return environment[match[1]]

        def read(kind: str, key: str, expand: bool = True) -> list[Any]:
            texts = [path.read_text() for path in self.files(f"{PROVISIONING}/{kind}", (".yml", ".yaml"))]
            texts = [re.sub(r"\$\{(\w+)\}", expanded, text) if expand else text for text in texts]
            return [one for text in texts for one in yaml.safe_load(text).get(key, ())]

        self.datasources: dict[str, dict[str, Any]] = {one["uid"]: one for one in read("datasources", "datasources")}
        #: Grafana expands nothing in a rule's annotations: `$labels` there is a template's.
        self.alerts = [rule for group in read("alerting", "groups", expand=False) for rule in group["rules"]]
        self.dashboards = {
            str(path.name): json.loads(path.read_text())
            for provider in read("dashboards", "providers")
            for path in self.files(provider["options"]["path"], (".json",))
        }

    def files(self, directory: str, suffixes: tuple[str, ...]) -> list[Path]:
        """Return files of a directory of the container, which is or is below a mount."""
        for target, source in self._mounts.items():
            if PurePosixPath(directory).is_relative_to(target):
                here = Path(source, PurePosixPath(directory).relative_to(target))
                return sorted(path for path in here.rglob("*") if path.suffix in suffixes)
        raise AssertionError(f"nothing is mounted at {directory}")
