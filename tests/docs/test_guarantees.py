"""The page of proofs and the pages of guarantees say what tests prove, and what none does."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.proofs import RESULTS

PROOFS = ROOT / "docs" / "reference" / "guarantees.md"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Lend the functions that make the pages."""
    return runpy.run_path(str(ROOT / "scripts" / "reference" / "guarantees.py"))


def test_the_proofs_are_current(made: dict[str, Any]) -> None:
    """The page is what `make reference` would make now of promises, markers and results."""
    assert PROOFS.read_text() == made["proofs_page"]()


@pytest.mark.slow
def test_each_guarantee_has_a_page_with_its_promises(made: dict[str, Any]) -> None:
    """Each guarantee has a short page that lists its promises as they are today, and no page has another subject."""
    pages = {page.stem: page for page in made["PAGES"].glob("*.md")}
    assert pages.keys() == made["promises"]()["guarantees"].keys()
    for page in pages.values():
        assert page.read_text() == made["with_promises"](page), page
        own = page.read_text().partition(made["BEGIN"])
        words = (own[0] + own[2].partition(made["END"])[2]).split()
        assert len(words) <= 350, (page, len(words))


def test_markers_name_what_exists(made: dict[str, Any]) -> None:
    """Each marker names a promise first, then faults and bad inputs; each name of the lists is used once."""
    stated = made["promises"]()
    named = [name for one in stated["guarantees"].values() for name in one["promises"]]
    faults = [*stated["faults"], *(name for group in stated["inputs"].values() for name in group)]
    assert len({*named, *faults}) == len(named) + len(faults)
    assert stated["not_tried"].keys() <= {*faults}
    found = made["proofs"]()
    assert len(found) > 200
    assert [one for one in found if one.promise not in named or not {*one.tried} <= {*faults}] == []


def test_the_plan_is_whole(made: dict[str, Any]) -> None:
    """All 25 planned faults and all 60 planned bad inputs have their lines, tried or not."""
    stated = made["promises"]()
    assert [one[0] for one in stated["faults"].values() if isinstance(one, list)] == [*range(1, 26)]
    assert [one[0] for group in stated["inputs"].values() for one in group.values()] == [*range(1, 61)]
    text = PROOFS.read_text()
    for one in stated["faults"].values():
        assert f"| {one[1] if isinstance(one, list) else one} |" in text


def test_results_are_of_marked_tests_and_good(made: dict[str, Any]) -> None:
    """Each recorded result is of a test that is marked today, and none failed."""
    assert RESULTS.exists()
    known, marked = made["results"](), {one.test for one in made["proofs"]()}
    assert known.keys() - marked == set()
    assert [name for name, one in known.items() if one["failed"]] == []


def test_the_pictures_are_current() -> None:
    """Each picture of a guarantee is drawn of what the program computes now."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from reference.pictures import PICTURES
    finally:
        sys.path.pop(0)
    kept = {path.stem: path.read_text() for path in (ROOT / "docs" / "images" / "guarantees").glob("*.svg")}
    assert kept == {name: str(draw()) for name, draw in PICTURES.items()}
