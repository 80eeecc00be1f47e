"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import spanpost
from spanpost import semconv
from spanpost.model.checkpoints import Kind
from spanpost.model.tasks import Task
from spanpost.tasks.json_form import task_json

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    """Lend the functions that write the generated pages."""
    return runpy.run_path(str(ROOT / "scripts" / "write_reference.py"))


def test_the_quick_reference_is_current(pages: dict[str, Any]) -> None:
    """The quick reference names the program's own commands, statuses, settings and words, on one page."""
    page = pages["quick_page"]()
    assert (REFERENCE / "quick-reference.md").read_text() == page
    assert len(page.splitlines()) < 140


@pytest.mark.parametrize(
    "page",
    [
        "settings",
        "cli",
        "metrics",
        pytest.param("dialects", marks=pytest.mark.slow),
        "api",
        "deployments",
        "acts",
        "redaction",
        "python",
    ],
)
def test_generated_pages_are_current(pages: dict[str, Any], page: str) -> None:
    """A generated page is what `make reference` would write now."""
    assert (REFERENCE / f"{page}.md").read_text() == pages[f"{page}_page"]()


def test_every_public_name_is_described() -> None:
    """Each public name has an entry with a docstring; every field of what an agent is given has a meaning."""
    api = runpy.run_path(str(ROOT / "scripts" / "reference" / "python_api.py"))
    page = api["python_page"]()
    found = {(m, name): api["find"](m, name) for m in api["MODULES"] for name in api["names"](m)}
    assert set(spanpost.__all__) | {"Allowance", "Message"} <= {name for _, name in found}
    defined = {key: one for key, one in found.items() if one is not None}
    assert [key for key, one in defined.items() if not ast.get_docstring(one.node)] == []
    assert [key for key in defined if f"\n### {'.'.join(key)}\n" not in page] == []
    control = page.split("\n## spanpost.agent.control\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| .* \|  \|$", control, re.MULTILINE) == []


def test_every_endpoint_is_documented() -> None:
    """Each route is on a reference page: those of the API with their shapes, every other with its answers."""
    routes = re.findall(r"^\| `([A-Z]+) (/\S*)` \|", (REFERENCE / "token-scopes.md").read_text(), re.MULTILINE)
    shapes = (REFERENCE / "api.md").read_text()
    pages = [page for page in ROOT.glob("docs/*/*.md") if page.name != "token-scopes.md"]
    others = "\n".join(page.read_text() for page in pages)
    assert len(routes) > 60
    missing = [
        f"{method} {path}"
        for method, path in routes
        if f"## {method} {path.replace(':path', '')}\n" not in shapes and path.split("{")[0].rstrip("/") not in others
    ]
    assert missing == []


def test_the_guide_shows_the_measured_figures() -> None:
    """The totals of the guide on redaction are those of the reference page."""
    measured = runpy.run_path(str(ROOT / "scripts" / "reference" / "measured.py"))
    table = measured["summary"](json.loads(measured["MEASURED"].read_text()))
    assert table in (ROOT / "docs" / "how-to" / "redact-secrets.md").read_text()


def test_every_convention_is_documented() -> None:
    """Each name of conventions.py stands in the page, and each agent.* name of the page in conventions.py."""
    page = (REFERENCE / "conventions.md").read_text()
    names = {value for key, value in vars(semconv).items() if key.isupper() and isinstance(value, str)}
    documented = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.?)(?:<name>)?`", page))
    assert names - documented == set()
    examples = {"agent.link.pr", "agent.link.logs"}
    assert {name for name in documented if name.startswith("agent.")} - names - examples == set()


def test_the_replay_format_is_documented() -> None:
    """The page lists a task's keys in their order, and all kinds of checkpoints."""
    page = (REFERENCE / "replay-format.md").read_text()
    section = page.split("## A task")[1].split("## A checkpoint")[0]
    from uuid import UUID

    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(
        task_json(Task(uid=UUID(int=1), tenant="t", task_id="t"))
    )
    assert {kind for kind in Kind if f"`{kind}`" not in page} == set()


def test_links_lead_somewhere() -> None:
    """Every relative link of README and docs names an existing file."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("plugins/*/README.md"),
    ]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not target.startswith(("http:", "https:", "mailto:")) and not (page.parent / target).exists()
    ]
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-") for text in texts}


def test_anchors_name_headings() -> None:
    """Every link to a part of a page names a heading that the page has."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
    links = [
        (page, (page.parent / target).resolve() if target else page, anchor)
        for page in pages
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text())
    ]
    broken = [
        f"{page.relative_to(ROOT)}: {target.name}#{anchor}"
        for page, target, anchor in links
        if target.suffix == ".md" and anchor not in _anchors(target)
    ]
    assert len(links) > 80
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    """docs/index.md links to every page except the runbooks, which alerts link to."""
    linked = set(re.findall(r"\]\(([^)#]+)", (ROOT / "docs" / "index.md").read_text()))
    pages = {
        str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/*/*.md") if page.parent.name != "runbooks"
    }
    assert pages <= linked


def _quotes(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^```\w+ no-run: quoted from (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", ["how-to/write-a-sink.md", "reference/sink-plugins.md", "reference/launcher-plugins.md"]
)
def test_quotes_are_verbatim(page: str) -> None:
    """Quotes of a plugin's code in a page are verbatim."""
    found = _quotes((ROOT / "docs" / page).read_text())
    assert found
    for name, quote in found:
        (path,) = (one for one in ROOT.glob("plugins/**/*") if one.is_file() and str(one).endswith(f"/{name}"))
        assert quote in path.read_text(), f"{page}: {quote}"


def test_the_contract_of_sinks_is_on_one_page() -> None:
    """The page names every field, method and error of the contract in its tables, and no others."""
    import inspect
    from dataclasses import fields

    from spanpost import DeliveryError, RateLimit, Rejected, Sink, SinkPlugin, SinkSettings
    from spanpost.sinks.base import CheckingSink, Figured, Installs, Restarts, Routed
    from spanpost.sinks.plugin import GROUP

    page = (REFERENCE / "sink-plugins.md").read_text()
    assert f'[project.entry-points."{GROUP}"]' in page
    rows = {
        head: set(re.findall(r"^\| `(?:async )?(\w+)", table, re.MULTILINE))
        for head, table in re.findall(
            r"^\| (?:field of |method of )?`?(spanpost\.\w+|raised)[^\n]*\n\|-[^\n]*\n(.*?)\n\n", page, re.M | re.S
        )
    }
    of_protocols = [
        item for one in (Sink, CheckingSink, Routed, Restarts, Installs, Figured) for item in vars(one).items()
    ]
    methods = {name for name, one in of_protocols if inspect.isfunction(one) and not name.startswith("_")}
    assert rows == {
        "spanpost.SinkPlugin": {field.name for field in fields(SinkPlugin)},
        "spanpost.SinkSettings": set(SinkSettings.model_fields),
        "spanpost.Sink": methods,
        "spanpost.RateLimit": set(RateLimit.__struct_fields__),
        "raised": {one.__name__ for one in (*DeliveryError.__subclasses__(), *Rejected.__subclasses__())},
    }
