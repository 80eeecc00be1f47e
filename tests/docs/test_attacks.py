"""The page of attacks names every finding, and each named test exists."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reference" / "attacks.md").read_text()
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d+ \|", line)]
FINDINGS = {"H": 6, "M": 11, "L": 12, "N": 14}


def test_every_finding_is_in_its_place() -> None:
    """The findings are numbered without a gap, and each says what is tried, what happens, and which test holds."""
    named = [row[0].strip() for row in ROWS]
    assert named == [f"{kind}{number}" for kind, last in FINDINGS.items() for number in range(1, last + 1)]
    assert [row for row in ROWS if len(row) != 4 or not all(cell.strip() for cell in row)] == []


def test_each_named_test_exists() -> None:
    """Each test of the page is a function of its file; `::name` is of the file named before."""
    for row in ROWS:
        file, found = "", re.findall(r"`([\w/.]*)::(\w+)`", row[3])
        assert found, row[0]
        for path, name in found:
            file = path or file
            assert re.search(rf"def {name}\(", (ROOT / "tests" / file).read_text()), (row[0].strip(), file, name)
