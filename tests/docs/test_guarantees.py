"""The page of proofs and the pages of guarantees say what tests prove, and what none does."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.proofs import RESULTS

#: Its tests stand in `spanpost.testing`.
SHARED = "tests/store/test_shared_behaviour.py"
PROOFS = ROOT / "docs" / "reference" / "guarantees.md"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Lend the functions that make the pages."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return vars(importlib.import_module("reference.guarantees"))
    finally:
        sys.path.pop(0)


@pytest.mark.slow
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


@pytest.mark.slow
def test_markers_name_what_exists(made: dict[str, Any]) -> None:
    """Each marker names a promise first, then faults and bad inputs; each name of the lists is used once."""
    stated = made["promises"]()
    named = [name for one in stated["guarantees"].values() for name in one["promises"]]
    faults = [*stated["faults"], *(name for group in stated["inputs"].values() for name in group)]
    assert len({*named, *faults}) == len(named) + len(faults)
    assert {*stated["not_tried"], *stated["not_applicable"]} <= {*faults}
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


def test_nothing_is_without_a_test(made: dict[str, Any]) -> None:
    """Each promise, fault and bad input is tried by a test or by the harness, or its line says what is left to try."""
    assert made["untried"]() == []


def test_what_has_no_result_is_named(made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A marked test without a result stands on the page as left, and no release is made without it."""
    known = made["results"]()
    lost = next(iter(known))
    monkeypatch.setitem(made, "results", lambda: {name: one for name, one in known.items() if name != lost})
    assert f"No result is recorded of [`{lost.partition('::')[2]}`]" in made["proofs_page"]()
    assert f"{lost}: no recorded result; run it with --record-proofs" in made["unproven"]()


def test_runs_of_the_harness_are_on_the_page(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published runs are summed by kind of fault, count as proofs, and show findings and entries of their own."""
    soaked = made["soaked"]
    one = {"on": "2026-11-24T10:00:00+00:00", "commit": "aaa", "seed": 7, "seconds": 1800, "spans": 1000, "tasks": 30}
    runs = [
        {**one, "faults": {"gateway killed": 2, "moon gone": 1}, "recovery": {"gateway killed": 3.5}, "findings": []},
        {**one, "seed": 8, "commit": "bbb+", "faults": {"gateway killed": 1}, "recovery": {"gateway killed": 9.04}}
        | {
            "absent": {"Go exporter": "no Go"},
            "figures": {"offered": 40},
            "notes": ["Kafka: 9 rows"],
            "annotations": 5,
            "arguments": "--seed 8",
            "findings": ["2 rows | twice"],
        },
    ]
    monkeypatch.setattr(soaked, "RUNS", tmp_path / "soaked.jsonl")
    assert "**No run is published.**" in made["proofs_page"]()
    soaked.RUNS.write_text("".join(f"{json.dumps(run)}\n" for run in runs))
    page = made["proofs_page"]()
    assert "| 2 runs, 1.0 hours, 2,000 spans, 1 findings |" in page
    assert "| 3 | 2 | 9.0 s |" in page  # gateway killed
    assert "| moon gone | *The harness does not deal it any more.* |  | 1 | 1 | – |" in page
    assert "- seed 8, `bbb+`, 2026-11-24: 2 rows &#124; twice" in page
    assert "**Absent:**\n\n- Go exporter: no Go (1 run)" in page
    assert "**Figures:**\n\n- offered: 40" in page
    assert "- seed 8: Kafka: 9 rows" in page
    assert "| counted as well | 5 annotations |" in page
    assert "| `--seed 8` | `bbb+` | 2026-11-24 | –, – | 1,000 | 1 |" in page
    of_promise = page.partition("### `answered`")[2].partition("###")[0]
    assert "*gateway killed*" in of_promise
    assert "3 times in 2 runs; **1 finding** in the last, 2026-11-24" in of_promise


def test_published_runs_say_where_they_come_from(made: dict[str, Any]) -> None:
    """Each published run has its seed and arguments, its commit, its versions and its findings."""
    needed = {"seed", "arguments", "commit", "versions", "on", "seconds", "spans", "faults", "recovery", "findings"}
    assert [run for run in made["soaked"].runs() if needed - run.keys()] == []


def test_each_planted_defect_can_be_planted(made: dict[str, Any]) -> None:
    """The text that a defect replaces stands once in its file, as the code is today, and its tests exist."""
    defects = [one for area in made["planted"].planted().values() for one in area]

    def is_there(test: str) -> bool:
        path, *names = test.split("::")
        return (ROOT / path).exists() and (
            not names or path == SHARED or f"def {names[-1]}(" in (ROOT / path).read_text()
        )

    counts = {one["name"]: (ROOT / "src/spanpost" / one["file"]).read_text().count(one["old"]) for one in defects}
    assert {name: count for name, count in counts.items() if count != 1} == {}
    assert [one["name"] for one in defects if one["old"] == one["new"]] == []
    assert [near for one in defects for near in one.get("near", ()) if not is_there(near)] == []


def test_planted_defects_are_on_the_page(made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect counts as found with its test, as a survivor with what was done, or as one without a result."""
    planted = made["planted"]
    (first, second, third, *_), *_ = planted.planted().values()
    listed = {"recording": [first, {**second, "done": "A test was written."}, third]}
    monkeypatch.setattr(planted, "RESULTS", tmp_path / "planted.json")
    monkeypatch.setattr(planted, "planted", lambda: listed)
    assert "**3 of 3 have no recorded result**" in made["proofs_page"]()
    test = "tests/docs/test_guarantees.py::test_the_plan_is_whole"
    kept = {first["name"]: {"found_by": test}, second["name"]: {"found_by": None}}
    planted.RESULTS.write_text(json.dumps(kept))
    page = made["proofs_page"]()
    assert "**1 of 3 have no recorded result**" in page
    assert "| recording | 3 | 1 | 1 | 1 |" in page
    assert "| [`test_the_plan_is_whole`](../../tests/docs/test_guarantees.py) |" in page
    [line] = [line for line in page.splitlines() if line.startswith(f"- `{second['name']}`")]
    assert line.endswith("**No test finds it**. A test was written.")


@pytest.mark.slow
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
