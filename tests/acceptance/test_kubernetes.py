"""The objects in deploy/kubernetes: what the API accepts, who reaches whom, and that they fit one another."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from spanpost.http.guard import AllowedRequest, GuardedRequest
from spanpost.runtime import gateway as gateway_module
from spanpost.settings import load, variable_names
from spanpost.settings.guards import gateway_guard
from tests.acceptance.manifests import KUBERNETES, Manifests, Peer, allows, built, variables

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("kustomize")]

#: Seconds in which a gateway stops: docs/how-to/run-the-gateway.md.
STOP = 10
WRITER, OWNER = "postgresql://spanpost_writer:w@db.example.com/spanpost", "postgresql://owner:o@db.example.com/spanpost"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Return the example's objects."""
    return built(tmp_path_factory.mktemp("example") / "kubernetes", WRITER, OWNER)[0]


def secret(objects: Manifests, name: str) -> dict[str, str]:
    """Return a Secret by the beginning of its name."""
    [found] = [one for one in objects.objects if one["kind"] == "Secret" and one["metadata"]["name"].startswith(name)]
    return objects.data("Secret", found["metadata"]["name"])


def template(of: dict[str, Any]) -> dict[str, Any]:
    return dict(of["spec"]["template"])


def containers(of: dict[str, Any]) -> list[dict[str, Any]]:
    spec = template(of)["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def settings_file(objects: Manifests) -> str:
    """Return the settings that the Deployment mounts."""
    [volume] = [one for one in template(objects.one("Deployment"))["spec"]["volumes"] if "configMap" in one]
    return objects.data("ConfigMap", volume["configMap"]["name"])["spanpost.toml"]


def test_kubernetes_accepts_the_objects(objects: Manifests) -> None:
    """Each object matches the API's own schema in an old version and a new one, unknown fields refused."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    of_operator = [one for one in objects.objects if one["apiVersion"].startswith("monitoring.coreos.com/")]
    for version in ("1.30", "1.36"):
        for one in objects.objects:
            if one not in of_operator:
                kubernetes_validate.validate(one, version, strict=True)
    assert sorted(one["kind"] for one in of_operator) == ["PrometheusRule", "ServiceMonitor"]
    assert sorted(one["kind"] for one in objects.objects if one not in of_operator) == [
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "Namespace", "NetworkPolicy",
        "NetworkPolicy", "PodDisruptionBudget", "Secret", "Secret", "Secret", "Service", "Service", "ServiceAccount",
    ]  # fmt: skip


def test_objects_find_one_another(objects: Manifests) -> None:
    """Services, budget, policies, monitor and autoscaler select the pods they mean, and ports have existing names."""
    deployment, job = objects.one("Deployment"), objects.one("Job")
    gateway, migration = (template(one)["metadata"]["labels"] for one in (deployment, job))
    ports = {port["name"]: port["containerPort"] for port in containers(deployment)[0]["ports"]}
    services = [objects.one("Service", name) for name in ("spanpost", "spanpost-headless")]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        objects.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        objects.one("NetworkPolicy", "spanpost-gateway")["spec"]["podSelector"]["matchLabels"],
        *(one["spec"]["selector"] for one in services),
        *(one["labelSelector"]["matchLabels"] for one in template(deployment)["spec"]["topologySpreadConstraints"]),
    ):
        assert selector == gateway
    assert objects.one("NetworkPolicy", "spanpost-migration")["spec"]["podSelector"]["matchLabels"] == migration
    for service in services:
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    monitor = objects.one("ServiceMonitor")["spec"]
    selected = [
        one for one in services if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert [one["metadata"]["name"] for one in selected] == ["spanpost"]
    assert {one["authorization"]["credentials"]["name"] for one in monitor["endpoints"]} == {"spanpost-metrics"}
    assert secret(objects, "spanpost-metrics")["token"].startswith("spt_")
    assert {one["port"] for one in monitor["endpoints"]} <= {port["name"] for port in services[0]["spec"]["ports"]}
    assert objects.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert yaml.safe_load((KUBERNETES / "base" / "gateway.yaml").read_text().split("---\n")[1])["spec"]["replicas"] == 2


def test_ports_are_those_of_the_settings(objects: Manifests) -> None:
    """The container's ports are those that the settings in the ConfigMap open."""
    container = containers(objects.one("Deployment"))[0]
    settings = tomllib.loads(settings_file(objects))
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "otlp-grpc": settings["gateway"]["grpc_port"],
        "http": settings["gateway"]["http_port"],
        "metrics": settings["metrics"]["port"],
    }


def test_secrets_are_referenced_only(objects: Manifests) -> None:
    """No container has a secret in its own text, the gateway never has the owner's, and every variable is a setting."""
    given = {
        one["name"]: [each["secretRef"]["name"] for each in one["envFrom"]]
        for kind in ("Deployment", "Job")
        for one in containers(objects.one(kind))
    }
    assert {name: [re.sub(r"-\w{10}$", "", each) for each in refs] for name, refs in given.items()} == {
        "gateway": ["spanpost-gateway"],
        "upgrade": ["spanpost-owner"],
        "grant": ["spanpost-owner"],
    }
    example = KUBERNETES / "overlays" / "example"
    for name in ("gateway", "owner", "metrics"):
        assert secret(objects, f"spanpost-{name}").keys() == variables(example / f"{name}.env.example").keys()
    assert secret(objects, "spanpost-gateway")["DATABASE_URL"] == WRITER
    assert secret(objects, "spanpost-owner") == {"DATABASE_URL": OWNER}
    named = {one["name"] for one in containers(objects.one("Deployment"))[0]["env"]}
    assert (named | secret(objects, "spanpost-gateway").keys()) - {"DATABASE_URL"} - set(variable_names()) == set()
    texts = [path.read_text() for path in KUBERNETES.rglob("*.yaml")]
    assert [text for text in texts if re.search(r"postgresql://|xox[bp]-|xapp-|spt_", text)] == []


def test_pods_are_confined(objects: Manifests) -> None:
    """Every pod runs without root, privileges, capabilities, a writable root and a token of the API server."""
    for kind in ("Deployment", "Job"):
        spec = template(objects.one(kind))["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in containers(objects.one(kind)):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert {"requests", "limits"} <= one["resources"].keys()
    labels = objects.one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_stop_fits_into_the_grace(objects: Manifests) -> None:
    """The grace period holds the wait of preStop and the whole stop of a gateway, with seconds to spare."""
    spec = template(objects.one("Deployment"))["spec"]
    waits = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway_module.__doc__ is not None
    assert "at most ten seconds" in " ".join(gateway_module.__doc__.split())
    assert waits + STOP < spec["terminationGracePeriodSeconds"]


COLLECTOR = {"app.kubernetes.io/name": "opentelemetry-collector"}
OPERATED = {"app.kubernetes.io/component": "opentelemetry-collector", "app.kubernetes.io/name": "agents-collector"}
GATEWAY = {"app.kubernetes.io/name": "spanpost", "app.kubernetes.io/component": "gateway"}


@pytest.mark.parametrize(
    ("who", "labels", "ports"),
    [
        ("a Collector", COLLECTOR, {4317, 4318}),
        ("a Collector of the operator", OPERATED, {4317, 4318}),
        ("an agent that forwards or waits", {"spanpost-client": "true"}, {4317, 4318}),
        ("Alertmanager", {"app.kubernetes.io/name": "alertmanager"}, {4318}),
        ("Slack and people, through ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}, {4318}),
        ("Slack and people, through Traefik", {"app.kubernetes.io/name": "traefik"}, {4318}),
        ("Prometheus", {"app.kubernetes.io/name": "prometheus"}, {9464}),
        ("another gateway", GATEWAY, set()),
        ("an agent that says no", {"spanpost-client": "false"}, set()),
        ("Grafana", {"app.kubernetes.io/name": "grafana"}, set()),
        ("a pod without labels", {}, set()),
    ],
)
def test_who_reaches_a_gateway(objects: Manifests, who: str, labels: dict[str, str], ports: set[int]) -> None:
    """The policy lets each kind of pod reach the ports that it needs, from any namespace, and no other port."""
    policy = objects.one("NetworkPolicy", "spanpost-gateway")
    named = {one["name"]: one["containerPort"] for one in containers(objects.one("Deployment"))[0]["ports"]}
    for namespace in ("spanpost", "elsewhere"):
        reached = {
            port for port in (22, 4317, 4318, 9464) if allows(policy, "Ingress", Peer(labels, namespace), port, named)
        }
        assert reached == ports, who


def test_nobody_outside_the_cluster_reaches_a_gateway(objects: Manifests) -> None:
    """No address outside the cluster reaches a gateway, and nothing at all reaches the migration."""
    for name in ("spanpost-gateway", "spanpost-migration"):
        policy = objects.one("NetworkPolicy", name)
        assert not any(
            allows(policy, "Ingress", Peer(address=address), port, {"http": 4318, "otlp-grpc": 4317, "metrics": 9464})
            for address in ("203.0.113.7", "10.0.0.1", "2001:db8::7")
            for port in (4317, 4318, 9464)
        )
    assert not allows(objects.one("NetworkPolicy", "spanpost-migration"), "Ingress", Peer(COLLECTOR), 4318, {})


DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")


@pytest.mark.parametrize(
    ("where", "peer", "gateway", "migration"),
    [
        ("names", DNS, {53}, {53}),
        ("PostgreSQL or Slack outside", Peer(address="203.0.113.7"), {443, 5432, 6432}, {5432, 6432}),
        ("by IPv6", Peer(address="2001:db8::7"), {443, 5432, 6432}, {5432, 6432}),
        ("PostgreSQL in the cluster", Peer(address="10.3.2.1"), {443, 5432, 6432}, {5432, 6432}),
        ("the node's metadata", Peer(address="169.254.169.254"), set(), set()),
        ("the node's metadata by IPv6", Peer(address="fd00:ec2::254"), set(), set()),
    ],
)
def test_what_a_pod_reaches(objects: Manifests, where: str, peer: Peer, gateway: set[int], migration: set[int]) -> None:
    """Gateways reach names, databases and HTTPS, the migration names and databases, and neither the node's metadata."""
    for name, ports in (("spanpost-gateway", gateway), ("spanpost-migration", migration)):
        policy = objects.one("NetworkPolicy", name)
        reached = {port for port in (22, 53, 80, 443, 5432, 6432, 8080) if allows(policy, "Egress", peer, port, {})}
        assert reached == ports, where


@pytest.fixture
def judge(
    objects: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: Path
) -> Callable[..., bool]:
    """Lend the guard of a gateway with the example's settings: does it accept this request?"""
    config = tmp_path / "spanpost.toml"
    config.write_text(settings_file(objects))
    monkeypatch.setenv("SPANPOST_CONFIG", str(config))
    for name, value in secret(objects, "spanpost-gateway").items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.gateway is not None
    guard = gateway_guard(settings, settings.gateway)

    def accepts(url: str, method: str = "GET", peer: str = "10.1.0.9", **headers: str) -> bool:
        parts = urlsplit(url)
        given = {"host": [parts.netloc], "content-type": ["application/json"]}
        given |= {name.replace("_", "-"): [value] for name, value in headers.items()}
        asked = GuardedRequest(method=method, path=parts.path, target=parts.path, peer=peer, headers=given)
        return isinstance(guard.judge(asked), AllowedRequest)

    return accepts


def test_the_guard_accepts_the_cluster(objects: Manifests, judge: Callable[..., bool]) -> None:
    """Probes, agents, Alertmanager and the ingress controller pass the guard, and a foreign page does not."""
    container = containers(objects.one("Deployment"))[0]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: (one["path"], one["port"]) for name, one in probes.items()} == {
        "startupProbe": ("/health/live", "http"),
        "readinessProbe": ("/health/ready", "http"),
        "livenessProbe": ("/health/live", "http"),
    }
    for address in ("10.1.2.3", "[fd00::3]"):
        assert judge(f"http://{address}:4318/health/ready")
    for name in ("spanpost", "spanpost.spanpost.svc", "spanpost.spanpost.svc.cluster.local", "10.1.2.3"):
        for path in ("/v1/traces", "/control/v1/budget", "/alerts/alertmanager"):
            assert judge(f"http://{name}:4318{path}", "POST", authorization="Bearer spt_x"), name
    proxied = {"x_forwarded_for": "203.0.113.7", "x_forwarded_proto": "https", "x_forwarded_host": "agents.example.com"}
    for path in ("/", "/board/static/board.js", "/api/tasks"):
        assert judge(f"http://agents.example.com{path}", **proxied), path
    assert not judge("http://agents.example.com/api/tasks", "POST", origin="https://evil.example", **proxied)


def test_the_ingress_shows_what_people_need(objects: Manifests) -> None:
    """The board, the API, Slack and webhooks are reached from outside, and all other endpoints are not."""
    [rule] = objects.one("Ingress")["spec"]["rules"]

    def leads(path: str) -> bool:
        return any(
            path == one["path"] if one["pathType"] == "Exact" else f"{path}/".startswith(one["path"].rstrip("/") + "/")
            for one in rule["http"]["paths"]
        )

    for path in (
        "/",
        "/board/",
        "/board/static/board.js",
        "/docs",
        "/api/tasks",
        "/api/login",
        "/slack/events",
        "/hooks/github",
    ):
        assert leads(path), path
    for path in ("/v1/traces", "/control/v1/budget", "/alerts/alertmanager", "/metrics", "/health/detailed", "/apis"):
        assert not leads(path), path
    for one in rule["http"]["paths"]:
        assert one["backend"]["service"] == {"name": "spanpost", "port": {"name": "http"}}
    assert rule["host"] in objects.one("Ingress")["spec"]["tls"][0]["hosts"]


def test_rules_are_those_of_prometheus(objects: Manifests) -> None:
    """The operator gets the rules that promtool tests."""
    rules = yaml.safe_load((KUBERNETES.parents[1] / "grafana" / "rules" / "spanpost.yml").read_text())
    assert objects.one("PrometheusRule")["spec"] == rules
