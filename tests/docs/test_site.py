"""The documentation site, built as `make docs` builds it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Route, sync_playwright

from tests.conftest import find

ROOT = Path(__file__).parents[2]
PAGES = [str(page.relative_to(ROOT / "docs").with_suffix("")) for page in sorted((ROOT / "docs").glob("**/*.md"))]

pytestmark = pytest.mark.slow


class _Seen(HTMLParser):
    """Ids, links and pictures of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if one := named.get("id"):
            self.ids.add(one)
        if tag in ("a", "img", "script", "link") and (link := named.get("href") or named.get("src")):
            self.links.append(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site, of two versions as its host would have them."""
    out = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", str(out)],
        cwd=ROOT,
        env=os.environ | {"SPANPOST_SITE_VERSIONS": "latest=../latest/index.html v1.0.0=../v1.0.0/index.html"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return out


def test_every_page_is_built_and_found(site: Path) -> None:
    """The strict build has every page: in the sidebar, in the search, in llms-full.txt, and as plain text."""
    index = (site / "searchindex.js").read_text()
    sidebar = set(_Seen(site / "index.html").links)
    sidebar |= {f"runbooks/{link}" for link in _Seen(site / "runbooks/index.html").links}
    whole = (site / "llms-full.txt").read_text()
    assert len(PAGES) > 90
    files = [f"{page}{ending}" for page in PAGES for ending in (".html", ".md")]
    assert [name for name in files if not (site / name).is_file()] == []
    assert [page for page in PAGES if f'"{page}"' not in index] == []
    assert [page for page in PAGES if page != "index" and f"{page}.html" not in sidebar] == []
    assert [page for page in PAGES if f"<!-- {page}.md -->" not in whole] == []


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    """Each link within the site leads to a file that exists, and to a part that the page has."""
    seen = {page: _Seen(page) for page in site.glob("**/*.html")}
    dead = []
    for page, one in seen.items():
        for link in one.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or "/v1.0.0/" in link or "/latest/" in link:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            has_part = not parts.fragment or target not in seen or unquote(parts.fragment) in seen[target].ids
            if not target.is_file() or not has_part:
                dead.append(f"{page.relative_to(site)}: {link}")
    assert sum(len(one.links) for one in seen.values()) > 5000
    assert dead == []


def test_links_to_the_forge_name_files_of_the_tree(site: Path) -> None:
    """A link that leaves docs/ leads to the forge, to a file or folder that exists at this commit."""
    links = {link for page in site.glob("**/*.html") for link in _Seen(page).links}
    forge = re.compile(r"https://github\.com/spanpost/spanpost/blob/[^/]+/([^#?]+)")
    named = {found[1] for link in links if (found := forge.match(link))}
    assert len(named) > 60
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_versions_link_to_each_other(site: Path) -> None:
    """A page in a folder links to the other versions' first pages, which stand beside this version's folder."""
    links = _Seen(site / "how-to" / "attach.html").links
    assert {"../../latest/index.html", "../../v1.0.0/index.html"} <= set(links)


@pytest.mark.needs("chromium")
def test_the_search_finds_the_answer(site: Path) -> None:
    """Among the first three results for a person's words is the page that answers, or the page of short answers."""
    questions = json.loads((ROOT / "tests" / "docs" / "questions.json").read_text())

    def answer(route: Route) -> None:
        file = site / urlsplit(route.request.url).path.lstrip("/")
        route.fulfill(path=file) if file.is_file() else route.abort()

    missed = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=find("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto("http://site.test/search.html?q=spanpost")
        page.wait_for_function("Search.hasIndex()", timeout=60_000)
        for question in questions:
            short = {question["page"].partition("#")[0].removesuffix(".md"), "explanation/questions"}
            for words in question["search"]:
                found = page.evaluate(_SEARCH, words)
                if not short & set(found[:3]):
                    missed.append((words, found[:5]))
        browser.close()
    assert missed == []


#: The names of the pages that the search finds, best first. Its score reads the words from the address.
_SEARCH = """(words) => {
  history.replaceState(null, "", "?q=" + encodeURIComponent(words));
  return Search._performSearch(...Search._parseQuery(words)).reverse().map((found) => found[0]);
}"""


def test_the_list_for_language_models_is_in_its_form(site: Path) -> None:
    """llms.txt has a title, a summary and sections of links, each to a page's plain text (llmstxt.org)."""
    lines = (site / "llms.txt").read_text().splitlines()
    assert lines[0] == "# spanpost"
    assert lines[2].startswith("> ")
    assert [line for line in lines[3:] if line and not line.startswith(("## ", "- ["))] == []
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(lines))
    assert len(links) > 50
    pages = [link for link in links if not link.startswith("https://github.com/")]
    assert [link for link in pages if not (site / urlsplit(link).path).is_file()] == []
