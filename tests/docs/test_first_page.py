"""The README is the short form of the first page; pictures are small, and each example of the gallery has one."""

from __future__ import annotations

import re

from tests.conftest import ROOT

IMAGES = ROOT / "docs" / "images"


def test_the_readme_is_short() -> None:
    """The README has at most 300 words beside its commands, and its pictures are files that a package's page shows."""
    readme = (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    plain = re.sub(r"```.*?```|!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)", "", readme, flags=re.DOTALL)
    assert len(plain.split()) <= 300
    assert len(pictures) == 2
    assert [one for one in pictures if not one.endswith(".png") or not (ROOT / one).is_file()] == []


def test_pictures_of_the_gallery_are_small() -> None:
    """Each picture of the gallery and of a dashboard is shown on a page, with words for those who do not see it."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*/*.md"))
    small = [IMAGES / "slack-first.png", *IMAGES.glob("examples/*"), *IMAGES.glob("dashboards/*")]
    shown = set(re.findall(r"!\[[^\]]{10,}\]\(\.\./images/([^)]+)\)", pages)) | {"slack-first.png"}
    assert len(small) > 10
    assert [str(one) for one in small if one.stat().st_size > 100_000] == []
    assert [str(one) for one in small if str(one.relative_to(IMAGES)) not in shown] == []
