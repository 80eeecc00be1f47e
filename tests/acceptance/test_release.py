"""What `make release` builds, in use: an empty environment gets `spanpost[server]` from the wheels, and its gateway
is walked.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from tests.acceptance.features import FEATURES, Deployment, record, settings, surroundings, walk
from tests.acceptance.gateways import run_gateway
from tests.conftest import ROOT
from tests.docs.test_code_blocks import blocks

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(600)]

#: What no server imports: agents' frameworks, an agent's exporter (the extra `forward`), archives (`archive`), tests.
NOT_OF_A_SERVER = {
    "agents", "duckdb", "langgraph.types", "pyarrow", "pyarrow.compute", "pyarrow.csv", "pyarrow.dataset",
    "pyarrow.parquet", "pydantic_ai", "requests", "google.rpc", "hypothesis", "pytest",
    "opentelemetry.exporter.otlp.proto.common._log_encoder", "opentelemetry.exporter.otlp.proto.common.trace_encoder",
}  # fmt: skip


def clean(**more: str) -> dict[str, str]:
    """Return the environment of a user: nothing of this checkout or of its settings."""
    ours = ("SPANPOST_", "PYTEST_", "PYTHONPATH", "VIRTUAL_ENV", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command; return its output. Without a package index skip, but not in CI."""
    done = subprocess.run(
        command,
        env=clean(**environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and re.search("error sending request|Failed to fetch", done.stderr) and "CI" not in os.environ:
        pytest.skip(f"no packages are to be had: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return scripts/release as a module."""
    spec = spec_from_loader("release_script", SourceFileLoader("release_script", str(ROOT / "scripts" / "release")))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dist(open_dir: Callable[[], Path]) -> Path:
    """Build a release; return its directory."""
    directory = open_dir()
    run(sys.executable, ROOT / "scripts" / "release", directory)
    return directory


@pytest.fixture(scope="module")
def uv() -> str:
    return run(ROOT / "scripts" / "install-frameworks", "--uv").strip()


@pytest.fixture(scope="module")
def python(dist: Path, uv: str, open_dir: Callable[[], Path]) -> Path:
    """Install `spanpost[server]` alone into an empty environment; return its interpreter."""
    venv = open_dir() / "venv"
    run(uv, "venv", "--quiet", "--python", sys.executable, venv)
    [wheel] = dist.glob("spanpost-*.whl")
    run(
        uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", "--find-links", dist,
        "--constraints", ROOT / "requirements-dev.lock", f"spanpost[server] @ {wheel.as_uri()}",
    )  # fmt: skip
    return venv / "bin" / "python"


def imported() -> set[str]:
    """Return every module of others that a module of spanpost imports, at any place, except for types alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module))
        elif not isinstance(node, ast.expr):
            waiting += ast.iter_child_nodes(node)
    return {name for name in found if name.partition(".")[0] not in {*sys.stdlib_module_names, "spanpost"}}


def test_every_import_of_a_server_is_installed(python: Path) -> None:
    """In an environment with `spanpost[server]` alone, every import is found, except what no server uses."""
    names = json.dumps(sorted(imported()))
    look = (
        "import importlib.util, json, sys\n"
        "def there(name):\n"
        "    try: return importlib.util.find_spec(name) is not None\n"
        "    except ModuleNotFoundError: return False\n"
        "print(json.dumps([name for name in json.loads(sys.argv[1]) if not there(name)]))\n"
    )
    assert set(json.loads(run(python, "-c", look, names))) == NOT_OF_A_SERVER


@pytest.mark.needs("postgres", "local-slack")
async def test_a_server_has_every_feature(python: Path, dsn: str, tmp_path: Path) -> None:
    """The gateway of an environment with `spanpost[server]` alone has every feature, on a real PostgreSQL."""
    command = (str(python.parent / "spanpost"),)
    async with surroundings(tmp_path) as (slack, webhooks):
        with run_gateway(dsn, tmp_path, command=command, **settings(slack, webhooks)) as gateway:
            results = await walk(
                Deployment(
                    gateway=gateway.url,
                    dsn=dsn,
                    slack=slack,
                    webhooks=webhooks,
                    command=command,
                    otlp_grpc=f"http://127.0.0.1:{gateway.grpc}",
                )
            )
    record("package", "`pip install 'spanpost[server]'` from the built wheels, PostgreSQL and local-slack.", results)
    assert results == dict.fromkeys(FEATURES, "yes")


def test_a_release_is_complete(dist: Path) -> None:
    """Each package has a source package and a wheel; all files have their sums, and packages their provenance."""
    sums = dict(reversed(line.split("  ")) for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if path.name != "SHA256SUMS"
    }
    kinds = {re.sub(r"-[\d.]+(-py3-none-any)?(?=\.\w+(\.gz|\.json)?$)", "", name) for name in sums}
    packages = {"spanpost", "spanpost_apprise", "spanpost_celery", "spanpost_webhook"}
    built = {f"{name}{kind}" for name in packages for kind in (".whl", ".tar.gz")}
    assert kinds == {*built, "spanpost.cdx.json", "spanpost.intoto.json"}
    [statement] = dist.glob("*.intoto.json")
    subjects = {one["name"]: one["digest"]["sha256"] for one in json.loads(statement.read_text())["subject"]}
    assert subjects == {name: sums[name] for name in sums if name != statement.name}


def test_the_bill_of_materials(dist: Path, python: Path) -> None:
    """It names every distribution that a server's environment has, in its version, and what needs it."""
    [file] = dist.glob("*.cdx.json")
    bill = json.loads(file.read_text())
    named = {one["name"]: one["version"] for one in (*bill["components"], bill["metadata"]["component"])}
    listed = "from importlib.metadata import distributions as all; print(*(f'{d.name}=={d.version}' for d in all()))"
    has = dict(each.lower().replace("_", "-").split("==") for each in run(python, "-c", listed).split())
    assert {name: version for name, version in has.items() if named.get(name) != version} == {}
    needed = {need for one in bill["dependencies"] for need in one.get("dependsOn", ())}
    assert {one["bom-ref"] for one in bill["components"]} == needed - {bill["metadata"]["component"]["bom-ref"]}


def rewritten(wheel: Path, into: Path, old: str, new: str) -> Path:
    """Return a copy of a wheel with other metadata."""
    with zipfile.ZipFile(wheel) as given, zipfile.ZipFile(into / wheel.name, "w") as made:
        for name in given.namelist():
            body = given.read(name)
            made.writestr(name, body.replace(old.encode(), new.encode()) if name.endswith("METADATA") else body)
    return into / wheel.name


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("https://www.standardwebhooks.com", "../standards.md", "links that lead nowhere on the package's page: ../"),
        ("Classifier: Typing :: Typed", "Classifier: Typing :: Never", "no such classifiers: Typing :: Never"),
        ("Requires-Dist: spanpost<1,>=0.1", "Requires-Dist: spanpost<0.1", "it needs spanpost<0.1, which"),
        ("License-Expression: Apache-2.0", "License-Expression: Apache-9", "license-expression"),
        ("Version: 0.1.0", "Version: 0.0.9", "its version is 0.0.9"),
    ],
)
def test_a_bad_package_is_not_released(
    dist: Path, script: ModuleType, tmp_path: Path, old: str, new: str, why: str
) -> None:
    """A package that an index would refuse, or show with dead links, stops the release with the reason."""
    [wheel] = dist.glob("spanpost_webhook-*.whl")
    script.check(wheel, "0.1.0")
    with pytest.raises(script.NotReleasable, match=re.escape(why)):
        script.check(rewritten(wheel, tmp_path, old, new), "0.1.0")


def test_a_tag_fits_its_commit(script: ModuleType) -> None:
    """A tag of another version, and a version that the changelog lacks, stop the release with the cure."""
    version = script.one_version()
    for tag, cure in ((version, f"the tag of this version is v{version}"), ("v9", f"is v{version}")):
        with pytest.raises(script.NotReleasable, match=re.escape(cure)):
            script.fits(tag, version)
    with pytest.raises(script.NotReleasable, match="give the part"):
        script.fits("v9.9", "9.9")


def test_a_release_has_its_proofs(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marked test without a recorded result stops a tagged release, which names it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    made = importlib.import_module("reference.guarantees")
    monkeypatch.setattr(made, "unproven", list)
    script.is_proven()
    monkeypatch.setattr(made, "unproven", lambda: ["tests/test_x.py::test_y: no recorded result"])
    with pytest.raises(script.NotReleasable, match="test_y: no recorded result"):
        script.is_proven()


def test_the_workflow_publishes_what_the_command_built() -> None:
    """The forge's workflow builds with `make release` for a tag, and publishes the packages of it alone."""
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert 'make release ARGS="--tag=$GITHUB_REF_NAME"' in commands
    assert "mkdir packages && mv dist/*.whl dist/*.tar.gz packages/" in commands
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["build", "publish"]
    assert jobs["publish"]["environment"] == "pypi"


def test_the_first_command_of_the_readme(dist: Path, uv: str, open_dir: Callable[[], Path]) -> None:
    """The README's command for people without a checkout runs the demo; the index is the built wheels."""
    [command] = re.findall(
        r"^uvx (.*?) *#", "\n".join(code for *_, code in blocks((ROOT / "README.md").read_text())), re.M
    )
    _, wanted, *words = command.replace("'", "").split()
    home = open_dir()
    said = run(
        uv, "tool", "run", "--quiet", "--isolated", "--python", sys.executable, "--find-links", dist,
        "--constraints", ROOT / "requirements-dev.lock", "--from", wanted, *words, "--fast", "--metrics-port", "0",
        cwd=home, SPANPOST_DATABASE__DATA_DIR=str(home / "data"), COLUMNS="120",
    )  # fmt: skip
    assert "https://git.example.com/shop/pull/1042" in said
