"""The page on architecture shows the packages and layers that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_the_diagram_is_the_contract() -> None:
    """The layers in the page are those of import-linter's contract, in the same order."""
    [layers] = [contract for contract in CONTRACTS if contract["type"] == "layers"]
    part = PAGE.split("## Packages")[1]
    assert part.split("```text\n")[1].split("\n```")[0].split("\n") == layers["layers"]


def test_the_table_has_every_package() -> None:
    """The table of packages lists each package and module of `spanpost` once, in the order of the alphabet."""
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    there = {path.stem for path in (ROOT / "src" / "spanpost").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rows == sorted(name for name in there if not name.startswith("__"))


def test_the_pure_packages_are_those_of_the_contract() -> None:
    """The page names the packages that the contract keeps pure, and CONTRIBUTING.md names the same."""
    [pure] = [contract for contract in CONTRACTS if "asyncio" in contract.get("forbidden_modules", [])]
    wanted = sorted(name.removeprefix("spanpost.") for name in pure["source_modules"])
    for text in (PAGE, (ROOT / "CONTRIBUTING.md").read_text()):
        [names] = re.findall(r"((?:`\w+`(?:, | and )?)+) are pure: they import no clock", " ".join(text.split()))
        assert re.findall(r"`(\w+)`", names) == wanted
