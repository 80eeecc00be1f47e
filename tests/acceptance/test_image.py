"""The image of deploy/container/Containerfile: what goes in, and how it runs where `make image-test` built it."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.acceptance.images import Image, missing
from tests.acceptance.test_kubernetes_walk import empty_database, works
from tests.conftest import ROOT

pytestmark = pytest.mark.acceptance
assert empty_database  # a fixture

CONTAINERFILE = (ROOT / "deploy" / "container" / "Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_image_is_of_this_project() -> None:
    """The label and the tag of the Kubernetes objects have the project's version, and the base is pinned by version."""
    assert re.findall(r"^ARG VERSION=(.+)$", CONTAINERFILE, re.MULTILINE) == [PROJECT["version"]]
    base = (ROOT / "deploy" / "kubernetes" / "base" / "kustomization.yaml").read_text()
    assert re.findall(r"newTag: ([\d.]+)", base) == [PROJECT["version"]]
    assert re.search(r"^ARG PYTHON=docker\.io/library/python:\d+\.\d+\.\d+-slim-\w+$", CONTAINERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]


def test_the_context_has_what_the_image_copies() -> None:
    """Files that the Containerfile copies exist, and the ignore file lets those in and no others."""
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE) for name in line.split()[:-1]
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert sorted(copied) == sorted(line[1:] for line in lines if line.startswith("!"))


def test_versions_in_the_image_are_those_of_the_tests(tmp_path: Path) -> None:
    """The Containerfile's own command makes a constraint of every locked package."""
    [command] = re.findall(r"(sed -n '[^']+' requirements-dev\.lock)", CONTAINERFILE)
    made = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    lock = (ROOT / "requirements-dev.lock").read_text()
    locked = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?(==[^ ;\\]+)", lock, re.MULTILINE)
    assert [re.match(r"([a-z0-9._-]+)(==[^ ;]+)", line).groups() for line in made] == locked  # type: ignore[union-attr]
    assert len(made) > 100


@pytest.fixture(scope="module")
def archive() -> Path:
    """Return the archive that was built for this run."""
    if not (named := os.environ.get("SPANPOST_TEST_IMAGE")):
        pytest.skip("SPANPOST_TEST_IMAGE names no image: `make image-test` builds one")
    assert os.geteuid() == 0, "containers are run by root here"
    assert not missing(), f"{missing()} is missing; install it (apt-get install {missing()})"
    return Path(named)


@pytest.fixture
def image(archive: Path, tmp_path: Path) -> Image:
    """Return the image, unpacked."""
    (tmp_path / "image").mkdir()
    return Image(archive, tmp_path / "image")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.needs("kustomize", "postgres", "local-slack")
async def test_every_feature_of_the_image(image: Image, empty_database: str, tmp_path: Path) -> None:
    """Containers of the image work as the Kubernetes objects confine them: no root, no capability, no writable root."""
    how = "The image that `scripts/build-image` makes, run by runc as the Kubernetes objects say."
    await works(empty_database, tmp_path, image, "container", how, replaced=2)
    assert image.config["User"] == "10001:10001"
    assert {"org.opencontainers.image.licenses", "org.opencontainers.image.revision"} <= image.config["Labels"].keys()
    for tool in ("gcc", "cc", "make", "git", "curl"):
        assert not list(image.root.glob(f"**/bin/{tool}")), tool
    assert not list((image.root / "opt/spanpost/bin").glob("pip*"))
