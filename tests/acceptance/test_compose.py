"""deploy/compose as a whole: its file read by Docker Compose's own library, its services run without containers.

Programs, files, users, networks, variables and ports are those of the file; only the versions are of this system
(PostgreSQL, Prometheus, Alertmanager), and Grafana's files are checked without Grafana. About 40 s.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from spanpost.http.tokens import hash_of
from spanpost.settings import load, variable_names
from tests.acceptance.asking_agent import AskingAgent
from tests.acceptance.compose.grafana import Provisioned
from tests.acceptance.compose.network import HERE
from tests.acceptance.compose.project import Project, Refused, read, up
from tests.acceptance.features import Deployment, record, settings, surroundings, walk
from tests.acceptance.gateway_process import request
from tests.acceptance.prometheus import Prometheus
from tests.conftest import ROOT
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import LocalSlack

COMPOSE = ROOT / "deploy" / "compose"
#: Written beside the file by a person, and by `make-secrets`.
OWN = (".env", ".env.new", "secrets", "spanpost.env")

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("compose-config", "openssl")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return deploy/compose of a new checkout."""
    checkout = tmp_path / "checkout"
    (checkout / "deploy").mkdir(parents=True)
    for name in ("collector-config", "grafana", "deploy/container", "src"):
        (checkout / name).symlink_to(ROOT / name)
    return Path(shutil.copytree(COMPOSE, checkout / "deploy" / "compose", ignore=shutil.ignore_patterns(*OWN)))


def make_secrets(directory: Path) -> dict[str, str]:
    """Run the script; return what it wrote into .env."""
    done = subprocess.run([directory / "make-secrets"], capture_output=True, text=True, check=True)
    made = dict(line.split("=", 1) for line in (directory / ".env").read_text().splitlines())
    assert [value for value in made.values() if value in done.stdout + done.stderr] == []
    return made


def without_comments(text: str) -> str:
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def test_nothing_starts_without_a_secret(directory: Path) -> None:
    """Compose refuses to start when any password or token is missing or empty, and has none of its own."""
    with pytest.raises(Refused):
        read(directory)
    made = make_secrets(directory)
    read(directory)
    used = set(re.findall(r"\$\{(\w+)", without_comments((directory / "compose.yaml").read_text())))
    assert used | {"OPERATOR_TOKEN", "BOARD_TOKEN"} == made.keys()
    for name in used:
        for rest in (made.keys() - {name}, made.keys()):
            (directory / ".env").write_text("".join(f"{n}={made[n] if n != name else ''}\n" for n in rest))
            with pytest.raises(Refused, match=f"{name} is missing a value: run ./make-secrets"):
                read(directory)
    (directory / ".env").write_text("".join(f"{n}={value}\n" for n, value in made.items()))
    (directory / "secrets" / "operator-token").unlink()
    with pytest.raises(Refused, match="operator-token"):
        read(directory)


def test_the_file_for_development_lies_over_the_other(directory: Path) -> None:
    """The override changes what it names and nothing else, opens no port beyond this machine, and is no default."""
    make_secrets(directory)
    plain = read(directory)
    shutil.copy(directory / "compose.dev.yaml", directory / "compose.override.yaml")
    both = read(directory)
    assert both["services"].keys() == plain["services"].keys()
    changed = {name for name, service in both["services"].items() if service != plain["services"][name]}
    assert changed == {"spanpost", "postgres", "grafana"}
    assert both["services"]["spanpost"]["environment"].items() > plain["services"]["spanpost"]["environment"].items()
    assert both["services"]["spanpost"]["environment"]["SPANPOST_SLACK__DRY_RUN"] == "true"
    ports = [port for service in both["services"].values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert len(published) == len(set(published))
    assert "compose.override.yaml" in (ROOT / ".gitignore").read_text()


def test_secrets_are_made_once_and_for_their_owner(directory: Path) -> None:
    """The script's files are closed to other users, each secret is another, and a second run changes nothing."""
    made = make_secrets(directory)
    assert len(set(made.values())) == len(made)
    assert all(len(value) >= 48 for value in made.values())
    modes = {name: stat.S_IMODE((directory / name).stat().st_mode) for name in (".env", "secrets")}
    assert modes == {".env": 0o600, "secrets": 0o700}
    again = subprocess.run([directory / "make-secrets"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert dict(line.split("=", 1) for line in (directory / ".env").read_text().splitlines()) == made


def test_the_quick_start_is_five_lines_that_work(directory: Path) -> None:
    """The lines of the README run one after another, start Compose, and print the board's address with its token."""
    [lines] = re.findall(r"## Compose\n.+?```bash\n(.+?)```", (ROOT / "deploy" / "README.md").read_text(), re.DOTALL)
    assert len(lines.splitlines()) == 5
    docker = directory / "docker"
    docker.write_text('#!/bin/sh\necho "$PWD: $@" >started\n')
    docker.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=directory.parents[1], env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (directory / "started").read_text() == f"{directory}: compose up --build --detach\n"
    services = read(directory)["services"]
    [port] = [port["published"] for port in services["spanpost"]["ports"]]
    [line] = done.stdout.splitlines()
    assert (match := re.fullmatch(rf"http://127.0.0.1:{port}/#token=(spt_\w+)", line)), line
    assert hash_of(match[1]) in services["spanpost"]["environment"]["SPANPOST_INTERACTIONS__TOKENS"]


def test_its_services_are_confined(directory: Path) -> None:
    """Images are pinned, ports are published to this machine alone, and nothing keeps privileges or runs as root.

    The exceptions: PostgreSQL's image begins as root, and the service without a network that changes an owner.
    """
    make_secrets(directory)
    services = read(directory)["services"]
    images = [service["image"] for service in services.values() if "image" in service]
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", image)] == []
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    roots = {name for name, service in services.items() if str(service.get("user", "")).startswith("0")}
    assert roots == {"queue-owner"}
    assert services["queue-owner"]["network_mode"] == "none"
    confined = {name for name, one in services.items() if one.get("cap_drop") == ["ALL"] and one.get("security_opt")}
    assert services.keys() - confined == {"postgres"}
    assert {name for name in confined if not services[name].get("read_only")} == {"grafana"}


def test_every_setting_of_the_example_is_explained(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    """Each setting of the example has a sentence above it, exists, and is valid as it stands there."""
    lines = (COMPOSE / "spanpost.env.example").read_text().splitlines()
    found = {}
    for before, line in pairwise(lines):
        if match := re.fullmatch(r"#(\w+)=(.+)", line):
            assert re.fullmatch(r"# [A-Z].*[.]", before), line
            found[match[1]] = match[2]
        else:
            assert re.fullmatch(r"|#( .*)?", line), line
    assert found.keys() <= set(variable_names())
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    read_back = load(gateway={})
    assert read_back.budgets[0].name == "all"


@contextmanager
def running(directory: Path, work: Path, variables: dict[str, str], outside: list[int]) -> Iterator[Project]:
    """Start what a person starts with `docker compose up`."""
    (directory / "spanpost.env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    work.mkdir()
    with up(read(directory), work, outside) as project:
        yield project


async def scraped(project: Project, deployment: Deployment, agent: str) -> None:
    """Prometheus scrapes spanpost with its token, has this repository's rules, and knows Alertmanager."""
    prometheus = Prometheus(project.ports["9090"])
    await eventually_async(lambda: asyncio.to_thread(prometheus.value, 'up{job="spanpost"}'), lambda value: value == 1)
    query = f'spanpost_tasks_started_total{{agent="{agent}"}}'
    await eventually_async(lambda: asyncio.to_thread(prometheus.instant, query))
    [shipped] = [yaml.safe_load((ROOT / "grafana" / "rules" / "spanpost.yml").read_text())["groups"]]
    groups = (await asyncio.to_thread(prometheus.get, "rules"))["groups"]
    names = {group["name"]: [rule["name"] for rule in group["rules"]] for group in groups}
    assert names == {
        group["name"]: [rule.get("alert") or rule["record"] for rule in group["rules"]] for group in shipped
    }
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    known = (await asyncio.to_thread(prometheus.get, "alertmanagers"))["activeAlertmanagers"]
    assert [one["url"] for one in known] == ["http://alertmanager:9093/api/v2/alerts"]


async def the_board_acts(to: Deployment, agent: AskingAgent) -> None:
    """The board's page may act with its token, as a browser sees its address; a page of another address may not."""
    url = f"{to.gateway}/api/tasks/{agent.trace[:8]}/cancel"
    headers = {
        "authorization": f"Bearer {to.reader}",
        "content_type": "application/json",
        "sec_fetch_site": "same-origin",
    }
    for origin, expected in (("http://evil.example", 403), (to.gateway, 200)):
        status, body = await asyncio.to_thread(request, url, b"{}", origin=origin, **headers)
        assert status == expected, body


async def an_alert_comes_home(slack: LocalSlack, agent: AskingAgent) -> None:
    """A rule fires on what an agent sent to the Collector, and its alert is in the thread of that task."""

    async def thread() -> list[str]:
        messages = await slack.messages()
        roots = [m["ts"] for m in messages if not m.get("thread_ts") and agent.name in str(m)]
        return [str(m) for m in messages if m.get("thread_ts") in roots]

    await eventually_async(thread, lambda texts: any("SpanpostContextNearlyFull" in text for text in texts))


async def grafana_reaches(project: Project) -> None:
    """Grafana finds its files; their addresses, user and password work from its container, as do alerts' queries."""
    files = Provisioned(project.services["grafana"])
    assert files.datasources.keys() == {"spanpost-prometheus", "spanpost-postgres", "spanpost-traces"}
    assert len(files.dashboards) == 4
    assert files.alerts
    prometheus, database = files.datasources["spanpost-prometheus"], files.datasources["spanpost-postgres"]
    ports = [free_port(), free_port()]
    mappings = []
    for port, address in zip(ports, (urlsplit(prometheus["url"]).netloc, database["url"]), strict=True):
        host, _, target = address.partition(":")
        mappings.append(
            (HERE, port, project.network.namespace("grafana"), project.network.addresses[host], int(target))
        )
    with project.network.forwarded(mappings):
        server = Prometheus(ports[0])
        for rule in files.alerts:
            await asyncio.to_thread(server.instant, rule["data"][0]["model"]["expr"])
        connection = await asyncpg.connect(
            host="127.0.0.1", port=ports[1], user=database["user"], database=database["jsonData"]["database"],
            password=database["secureJsonData"]["password"], ssl=database["jsonData"]["sslmode"],
        )  # fmt: skip
        assert await connection.fetchval("SELECT count(*) FROM grafana_annotations") > 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE agent_tasks SET name = NULL")
        await connection.close()


@pytest.mark.timeout(600)
@pytest.mark.needs("namespaces", "postgres", "psql", "otelcol", "prometheus", "alertmanager", "local-slack")
async def test_compose_as_a_whole(directory: Path, tmp_path: Path) -> None:
    """Every feature works in the services of the file, telemetry enters at the Collector, and no log has a secret.

    Prometheus has the rules, and a rule that fires is posted in its task's thread. Grafana could read its data.
    """
    secrets = make_secrets(directory)
    async with surroundings(tmp_path) as (slack, webhooks):
        outside = [urlsplit(url).port or 0 for url in (slack.url, webhooks.url)]
        with running(directory, tmp_path / "work", settings(slack, webhooks), outside) as project:
            assert project.absent == ["grafana"]
            port = free_port()
            database: Any = (project.network.namespace(), project.network.addresses["postgres"], 5432)
            with project.network.forwarded([(HERE, port, *database)]):
                deployment = Deployment(
                    gateway=project.url(4320),
                    otlp_http=project.url(4318),
                    otlp_grpc=project.url(4317),
                    alertmanager=project.url(9093),
                    dsn=f"postgresql://spanpost_reader:{secrets['READER_PASSWORD']}@127.0.0.1:{port}/spanpost",
                    slack=slack,
                    webhooks=webhooks,
                    token=secrets["AGENTS_TOKEN"],
                    operator=secrets["OPERATOR_TOKEN"],
                    reader=secrets["BOARD_TOKEN"],
                )
                context = {"agent.context.used_tokens": 190_000.0, "agent.context.window_tokens": 200_000.0}
                kind = {"gen_ai.operation.name": "invoke_agent", "agent.name": "filler"}
                agent = AskingAgent(deployment.otlp_http, "Fill the window", **kind, **context).start()
                results = await walk(deployment)
                failed = {name: said for name, said in results.items() if said != "yes"}
                assert not failed, f"{failed}\n{project.logs(['spanpost'])[-4000:]}"
                await scraped(project, deployment, "filler")
                await an_alert_comes_home(slack, agent)
                await the_board_acts(deployment, agent)
                await grafana_reaches(project)
            codes = project.stop()
            logs = project.logs()
    assert set(codes.values()) == {0}, codes
    assert [name for name, value in secrets.items() if value in logs] == []
    more = ("Prometheus with our rules", "alerts sent by Alertmanager", "Grafana's files and queries")
    record(
        "compose",
        "The services of compose.yaml as processes in namespaces of their own, with its files, users, variables and "
        "ports; PostgreSQL, Prometheus and Alertmanager in Debian's versions, Grafana's files without Grafana.",
        results | dict.fromkeys(more, "yes"),
    )
