"""The ledger of proofs and the pages of guarantees say what tests prove, and what none does."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.proofs import RESULTS

LEDGER = ROOT / "docs" / "reference" / "guarantees.md"


@pytest.fixture(scope="module")
def ledger() -> dict[str, Any]:
    """Lend the functions that make the ledger."""
    return runpy.run_path(str(ROOT / "scripts" / "reference" / "guarantees.py"))


def test_the_ledger_is_current(ledger: dict[str, Any]) -> None:
    """The ledger is what `make reference` would make now of promises, markers and results."""
    assert LEDGER.read_text() == ledger["ledger_page"]()


def test_each_guarantee_has_a_page_with_its_promises(ledger: dict[str, Any]) -> None:
    """Each guarantee has a short page that lists its promises as they are today, and no page has another subject."""
    pages = {page.stem: page for page in ledger["PAGES"].glob("*.md")}
    assert pages.keys() == ledger["promises"]()["guarantees"].keys()
    for page in pages.values():
        assert page.read_text() == ledger["with_promises"](page), page
        own = page.read_text().partition(ledger["BEGIN"])
        words = (own[0] + own[2].partition(ledger["END"])[2]).split()
        assert len(words) <= 350, (page, len(words))


def test_markers_name_what_exists(ledger: dict[str, Any]) -> None:
    """Each marker names a promise first, then faults and bad inputs; each name of the lists is used once."""
    stated = ledger["promises"]()
    named = [name for one in stated["guarantees"].values() for name in one["promises"]]
    faults = [*stated["faults"], *(name for group in stated["inputs"].values() for name in group)]
    assert len({*named, *faults}) == len(named) + len(faults)
    assert stated["not_tried"].keys() <= {*faults}
    found = ledger["proofs"]()
    assert len(found) > 200
    assert [one for one in found if one.promise not in named or not {*one.tried} <= {*faults}] == []


def test_the_plan_is_whole(ledger: dict[str, Any]) -> None:
    """All 25 planned faults and all 60 planned bad inputs have their lines, tried or not."""
    stated = ledger["promises"]()
    assert [one[0] for one in stated["faults"].values() if isinstance(one, list)] == [*range(1, 26)]
    assert [one[0] for group in stated["inputs"].values() for one in group.values()] == [*range(1, 61)]
    text = LEDGER.read_text()
    for one in stated["faults"].values():
        assert f"| {one[1] if isinstance(one, list) else one} |" in text


def test_results_are_of_marked_tests_and_good(ledger: dict[str, Any]) -> None:
    """Each recorded result is of a test that is marked today, and none failed."""
    assert RESULTS.exists()
    known, marked = ledger["results"](), {one.test for one in ledger["proofs"]()}
    assert known.keys() - marked == set()
    assert [name for name, one in known.items() if one["failed"]] == []
