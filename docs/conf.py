"""Sphinx configuration of the documentation site: `make docs` builds docs/_build/html.

The pages are plain CommonMark that reads well on a forge too. What only a site needs is added here while it is
built: the contents in the sidebar from the lists of index.md, and links to files outside docs/ as links to the forge.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "spanpost"
author = "The spanpost authors"
release = version = _PROJECT["version"]
html_title = f"spanpost {version}"

extensions = ["myst_parser", "sphinx_copybutton", "sphinxcontrib.mermaid"]
root_doc = "index"
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_heading_anchors = 4
#: A diagram is a code block `mermaid`, as forges draw it.
myst_fence_as_directive = ["mermaid"]

# Pygments does not know `$$` of PostgreSQL, nor recorded rules; it shows such a block without colours.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = True
html_search_scorer = str(DOCS / "_templates" / "search_scores.js")
#: What people call a thing that its page calls otherwise: words of a search, for each page.
_SEARCH_WORDS = tomllib.loads((DOCS / "_templates" / "search_words.toml").read_text())
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_theme_options = {
    "source_repository": _PROJECT["urls"]["Source"],
    "source_branch": "main",
    "source_directory": "docs/",
}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "versions.html",
        "sidebar/scroll-end.html",
    ]
}
#: All versions (`NAME=ADDRESS`, from the site's root, separated by spaces), where its host does not list them.
html_context = {
    "site_versions": [item.partition("=")[::2] for item in os.environ.get("SPANPOST_SITE_VERSIONS", "").split()]
}

# The prompts of a shell are not in the pages, so a block is copied as it is.
copybutton_selector = "div:not(.no-copy) > div.highlight > pre"

# A link, or a picture, of CommonMark; a title in quotes is not used in the pages.
_LINK = re.compile(r"(?<!\\)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def _commit() -> str:
    """Return the commit that links to the forge name: the one that is built, or the main branch."""
    if given := os.environ.get("READTHEDOCS_GIT_COMMIT_HASH"):
        return given
    asked = subprocess.run(["git", "describe", "--exact-match", "--tags"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else "main"


_FORGE = f"{_PROJECT['urls']['Source']}/blob/{_commit()}"


def _outside_to_forge(page: str, text: str) -> str:
    """Point links that leave docs/, or name a folder, to the forge. Blocks of code stay as they are."""
    folder = posixpath.dirname(f"docs/{page}")

    def point(found: re.Match[str]) -> str:
        parts = urlsplit(found[1])
        target = posixpath.normpath(posixpath.join(folder, parts.path))
        inside = target.startswith("docs/") and not (ROOT / target).is_dir()
        if inside and target.endswith((".md", ".png", ".jpg", ".svg")):
            return found[0]
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        return f"]({_FORGE}/{target}{anchor})"

    pieces: list[str] = []
    at = 0
    for fence in _FENCE.finditer(text):
        pieces += [_LINK.sub(point, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join(pieces) + _LINK.sub(point, text[at:])


def _contents(page: str, text: str) -> str:
    """Return hidden tables of contents, one for each section of an index page, with the pages that it links to."""
    names = _SECTION.split(text)
    sections = [("", names[0]), *zip(names[1::2], names[2::2], strict=True)]
    folder = DOCS / posixpath.dirname(page)
    seen: set[str] = set()
    tables = []
    for name, body in sections:
        lists = "\n".join(line for line in body.splitlines() if line.startswith(("- ", "  ", "| [Spanpost")))
        targets = [urlsplit(link).path for link in _LINK.findall(lists)]
        pages = [t for t in targets if t.endswith(".md") and (folder / t).is_file() and ".." not in t]
        new = [t.removesuffix(".md") for t in dict.fromkeys(pages) if t.removesuffix(".md") not in seen]
        seen.update(new)
        if new:
            caption = f":caption: {name}\n" if name and page == "index.md" else ""
            tables.append("```{toctree}\n:hidden:\n" + caption + "\n" + "\n".join(new) + "\n```\n")
    return "\n".join(tables)


def _read(_: Any, name: str, source: list[str]) -> None:
    page = f"{name}.md"
    text = _outside_to_forge(page, source[0])
    if posixpath.basename(page) == "index.md":
        text += "\n" + _contents(page, source[0])
    if words := _SEARCH_WORDS.get(name):
        text = f"---\nmyst:\n  html_meta:\n    keywords: {words.replace(' ', ', ')}\n---\n{text}"
    source[0] = text


def _page(app: Any, name: str, *_: Any) -> None:
    if name == "search":
        app.add_js_file(None, body=f"const SEARCH_WORDS = {json.dumps(_SEARCH_WORDS)};", priority=100)


def _write_texts(app: Any, failed: Exception | None) -> None:
    """Write the texts for language models: each page as PAGE.md, links to them in llms.txt, all in llms-full.txt."""
    if failed or app.builder.format != "html":
        return
    out = Path(app.outdir)
    first = (DOCS / "index.md").read_text()
    links = [urlsplit(link).path for link in _LINK.findall(first) if link.endswith(".md")]
    listed = [root_doc, *(link.removesuffix(".md") for link in links)]
    pages = [page for page in dict.fromkeys([*listed, *sorted(app.env.found_docs)]) if page in app.env.found_docs]
    texts = {page: _outside_to_forge(f"{page}.md", (DOCS / f"{page}.md").read_text()) for page in pages}
    for page, text in texts.items():
        (out / f"{page}.md").write_text(text)
    sections = _SECTION.split(_outside_to_forge("index.md", first))
    named = zip(sections[1::2], sections[2::2], strict=True)
    lists = [f"## {name}\n\n{body.strip()}\n\n" for name, body in named if body.strip().startswith("- ")]
    (out / "llms.txt").write_text(f"# spanpost\n\n> {_PROJECT['description']}\n\n" + "".join(lists))
    (out / "llms-full.txt").write_text("\n".join(f"<!-- {page}.md -->\n\n{text}" for page, text in texts.items()))


def setup(app: Any) -> None:
    """Read each page as the site needs it, and write what is no page."""
    app.connect("source-read", _read)
    app.connect("html-page-context", _page)
    app.connect("build-finished", _write_texts)
