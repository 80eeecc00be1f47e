"""The objects of a directory in deploy/kubernetes, as kustomize resolves them, and what they allow."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.conftest import ROOT, find

KUBERNETES = ROOT / "deploy" / "kubernetes"


class Manifests:
    """Objects by kind and name."""

    def __init__(self, text: str) -> None:
        self.objects: list[dict[str, Any]] = [each for each in yaml.safe_load_all(text) if each]

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        """Return the only object of a kind, or the one with that name."""
        [found] = [each for each in self.objects if each["kind"] == kind and name in ("", each["metadata"]["name"])]
        return found

    def data(self, kind: str, name: str) -> dict[str, str]:
        """Return the contents of a ConfigMap or a Secret."""
        found = dict(self.one(kind, name)["data"])
        return {key: base64.b64decode(value).decode() for key, value in found.items()} if kind == "Secret" else found


def variables(path: Path) -> dict[str, str]:
    """Return the variables of an env file."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def built(
    directory: Path, writer: str, owner: str, more: Mapping[str, str] = MappingProxyType({})
) -> tuple[Manifests, dict[str, str]]:
    """Return the objects of the example in a copy, with the secrets that make-secrets makes, and their tokens.

    The gateways' secret has the variables of `more`, too.
    """
    shutil.copytree(KUBERNETES, directory, ignore=shutil.ignore_patterns("*.env"))
    example = directory / "overlays" / "example"
    urls = {"WRITER_URL": writer, "OWNER_URL": owner, "SLACK_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"}
    _run(directory / "make-secrets", example, **urls)
    gateway = example / "gateway.env"
    gateway.write_text("".join(f"{name}={value}\n" for name, value in (variables(gateway) | dict(more)).items()))
    found = Manifests(_run(Path(find("kustomize")), "build", example))
    return found, variables(example / "tokens.env") | variables(example / "metrics.env")


def _run(program: Path, *arguments: str | Path, **environment: str) -> str:
    """Return what a program prints. Raises AssertionError if it fails."""
    command = [program, *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Peer:
    """A pod by its labels and its namespace's, or an address outside the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "default"
    address: str = ""


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", ())
    assert all(one["operator"] == "In" for one in expressions), "teach this test the operator"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


def _is_peer(rule: Mapping[str, Any], peer: Peer, own_namespace: str) -> bool:
    if "ipBlock" in rule:
        if not peer.address:
            return False
        block, address = rule["ipBlock"], ip_address(peer.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(one) for one in block.get("except", ())
        )
    if peer.address:
        return False
    names = {"kubernetes.io/metadata.name": peer.namespace}
    is_there = (
        _selects(rule["namespaceSelector"], names) if "namespaceSelector" in rule else peer.namespace == own_namespace
    )
    return is_there and _selects(rule.get("podSelector", {}), peer.labels)


def allows(policy: Mapping[str, Any], direction: str, peer: Peer, port: int, ports: Mapping[str, int]) -> bool:
    """Return whether a NetworkPolicy lets traffic with that peer pass, by TCP. `ports` are the pod's, by name.

    By the rules of networking.k8s.io/v1: a direction that the policy names is closed but for its rules; a rule
    without peers, or without ports, holds for all of them.
    """
    spec, end = policy["spec"], {"Ingress": "from", "Egress": "to"}[direction]
    if direction not in spec["policyTypes"]:
        return True
    for rule in spec.get(direction.lower(), ()):
        numbers = [
            ports.get(one["port"], one["port"]) for one in rule.get("ports", ()) if one.get("protocol", "TCP") == "TCP"
        ]
        peers = rule.get(end, ())
        if (not rule.get("ports") or port in numbers) and (
            not peers or any(_is_peer(one, peer, policy["metadata"]["namespace"]) for one in peers)
        ):
            return True
    return False
