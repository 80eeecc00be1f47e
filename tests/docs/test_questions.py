"""Questions that people ask of such a program, and where the documentation answers them: `questions.json`."""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
QUESTIONS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "docs" / "questions.json").read_text())
SHORT = "explanation/questions.md"


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by anchor, each with the sections below it."""
    text = (DOCS / page).read_text()
    found = {}
    headings = list(re.finditer(r"^(#+) (.*)$", re.sub(r"^```.*?^```$", _blank, text, flags=re.M | re.S), re.M))
    for place, heading in enumerate(headings):
        after = (one.start() for one in headings[place + 1 :] if len(one[1]) <= len(heading[1]))
        anchor = re.sub(r"[^\w\- ]", "", heading[2].lower()).strip().replace(" ", "-")
        found[anchor] = text[heading.end() : next(after, len(text))]
    return found


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"\S", " ", found[0])


def links(page: str, text: str) -> set[str]:
    """Return the parts of pages that a text links to, as paths below docs/."""
    found = re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text)
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), one)) for one in found}


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"])
def test_a_question_is_answered(asked: dict[str, Any]) -> None:
    """The part of a page that answers has its words; the page of short answers asks the question and links there."""
    page, _, anchor = asked["page"].partition("#")
    answer = re.sub(r"\s+", " ", sections(page)[anchor])
    assert [word for word in asked["words"] if word not in answer] == []
    heading = re.sub(r"[^\w\- ]", "", asked["question"].lower()).strip().replace(" ", "-")
    assert asked["page"] in links(SHORT, sections(SHORT)[heading])


def test_answers_are_two_clicks_away() -> None:
    """From the first page one click leads to each page with an answer, and two lead to the part that answers."""
    first = {urlsplit(link).path for link in links("index.md", (DOCS / "index.md").read_text())}
    assert SHORT in first
    assert [one["page"] for one in QUESTIONS if one["page"].partition("#")[0] not in first] == []
    asked = re.findall(r"^## (.*)$", (DOCS / SHORT).read_text(), re.MULTILINE)
    assert asked == [one["question"] for one in QUESTIONS]
    assert len(asked) >= 20
