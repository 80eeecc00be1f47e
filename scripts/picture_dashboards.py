"""Draw each dashboard's panels from real query results, for review.

Run ``python scripts/picture_dashboards.py DIRECTORY [--docs]``.

A day of tasks goes through a gateway into a PostgreSQL and a Prometheus; each panel's queries run on them,
and Grafana's own components (npm's @grafana/ui) draw the answers in Chromium. It takes some minutes and npm;
no test needs it. Units, thresholds and overrides by name are Grafana's, annotations are drawn over the
curves; variables are expanded, transformations are not applied.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.acceptance import test_grafana as asked_of  # noqa: E402
from tests.conftest import find, fresh_database, made_server  # noqa: E402

PAGE = Path(__file__).parent / "pictures"


def plain(value: Any) -> Any:
    """Return a value as JSON has it; times are milliseconds."""
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, Decimal):
        return float(value)
    return str(value) if isinstance(value, (UUID, bytes, list, dict, date)) else value


def kind(values: list[Any]) -> str:
    """Return the type of a column as Grafana names it."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, datetime) for value in known):
        return "time"
    return (
        "number"
        if known and all(isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) for v in known)
        else "string"
    )


def named(legend: str, labels: dict[str, str]) -> str:
    """Return a series' name by its legend."""
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", value).replace("{{ " + name + " }}", value)
    return re.sub(r"\{\{.*?\}\}", "", legend).strip() or ", ".join(labels.values())


def series(name: str, points: list[tuple[float, float]]) -> dict[str, Any]:
    """Return one curve as a frame."""
    return {
        "name": name,
        "fields": [
            {"name": "Time", "type": "time", "values": [int(at * 1000) for at, _ in points]},
            {"name": name, "type": "number", "values": [v for _, v in points], "config": {"displayName": name}},
        ],
    }


def frames(day: asked_of.Observed, target: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a panel's query; return the answer as frames. A trace has none: it is drawn by Grafana alone."""
    if "query" in target:
        return []
    if "rawSql" in target:
        found = day.sql(asked_of.expanded(target["rawSql"], day))
        columns = list(found[0].keys()) if found else []
        if target["format"] == "time_series":
            curves: dict[str, list[tuple[float, float]]] = {}
            for row in found:
                if row["value"] is not None:
                    curves.setdefault(row["metric"], []).append((row["time"].timestamp(), float(row["value"])))
            return [series(name, points) for name, points in curves.items()]
        values = {column: [row[column] for row in found] for column in columns}
        return [
            {"fields": [{"name": c, "type": kind(values[c]), "values": [plain(v) for v in values[c]]} for c in columns]}
        ]
    expr, legend = asked_of.asked(target["expr"]), target.get("legendFormat", "")
    if target.get("instant"):
        answers = day.prometheus.instant(expr)
        if target.get("format") == "table":
            names = sorted({name for each in answers for name in each["metric"]})
            fields = [
                {"name": n, "type": "string", "values": [each["metric"].get(n, "") for each in answers]} for n in names
            ]
            return [
                {
                    "fields": [
                        *fields,
                        {"name": "Value", "type": "number", "values": [float(a["value"][1]) for a in answers]},
                    ]
                }
            ]
        return [series(named(legend, a["metric"]), [(float(a["value"][0]), float(a["value"][1]))]) for a in answers]
    answer = day.prometheus.get("query_range", query=expr, start=day.began, end=time.time(), step=asked_of.STEP)
    return [
        series(
            named(legend, each["metric"]), [(float(at), float(value)) for at, value in each["values"] if value != "NaN"]
        )
        for each in answer["result"]
    ]


def answers(day: asked_of.Observed) -> dict[str, dict[str, Any]]:
    """Return what the page draws, by dashboard."""
    made = {}
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        panels = [each for panel in board["panels"] for each in (panel, *panel.get("panels", ()))]
        for panel in panels:
            panel["frames"] = [frame for target in panel.get("targets", ()) for frame in frames(day, target)]
        began, ended = day.began, time.time()
        if path.stem == "task":
            started = day.sql(
                "SELECT started_at, ended_at FROM agent_tasks WHERE task_id = $1", asked_of.rich_task(day)
            )[0]
            began, ended = started[0].timestamp() - 60, started[1].timestamp() + 60
        colors = [
            (each["iconColor"], row)
            for each in board["annotations"]["list"]
            if each["enable"]
            for row in day.sql(asked_of.expanded(each["target"]["rawSql"], day))
        ]
        notes = [
            {"from": plain(row["time"]), "to": plain(row["timeend"]), "text": row["text"], "color": color}
            for color, row in colors
        ]
        made[path.stem] = {"from": int(began * 1000), "to": int(ended * 1000), "panels": panels, "notes": notes}
    return made


def draw(found: dict[str, dict[str, Any]], directory: Path, page: Path) -> None:
    """Draw each dashboard into a PNG."""
    from playwright.sync_api import sync_playwright

    if not (page / "dist" / "index.html").is_file():
        subprocess.run(["node", "node_modules/vite/bin/vite.js", "build", "--logLevel", "error"], cwd=page, check=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        for name, answer in found.items():
            tab = browser.new_page(viewport={"width": 24 * 60 + 24, "height": 900})
            tab.on("console", lambda said: print(said.text[:500], file=sys.stderr) if said.type == "error" else None)
            tab.on("pageerror", lambda error: print(str(error)[:500], file=sys.stderr))

            def serve(route: Any, request: Any, *, answer: dict[str, Any] = answer) -> None:
                path = request.url.split("/", 3)[3].split("?")[0] or "index.html"
                if path == "answers.json":
                    route.fulfill(json=answer)
                elif (page / "dist" / path).is_file():
                    route.fulfill(path=page / "dist" / path)
                else:
                    route.fulfill(status=404)

            tab.route("**/*", serve)
            tab.goto("http://dashboards.invalid/")
            tab.wait_for_selector("body[data-drawn]", state="attached", timeout=60_000)
            tab.screenshot(path=directory / f"{name}.png", full_page=True)
            print(directory / f"{name}.png")
        browser.close()


def shrink(pngs: Iterable[Path]) -> None:
    """Write the top of each picture for the docs, small."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        tab = browser.new_page(viewport={"width": 1000, "height": 880})
        for png in pngs:
            shown = base64.b64encode(png.read_bytes()).decode()
            tab.set_content(f'<body style="margin: 0"><img width="1000" src="data:image/png;base64,{shown}">')
            tab.wait_for_function("document.images[0].complete")
            small = ROOT / "docs" / "images" / "dashboards" / f"{png.stem}.jpg"
            small.parent.mkdir(exist_ok=True)
            tab.screenshot(path=small, type="jpeg", quality=70)
            print(small)
        browser.close()


def main() -> None:
    """Make the day, query, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--answers", type=Path, help="ask nothing where this file is; else write what was answered there"
    )
    parser.add_argument(
        "--page", type=Path, help="a copy of scripts/pictures in which `npm install --legacy-peer-deps` was done"
    )
    parser.add_argument("--docs", action="store_true", help="write docs/images/dashboards too")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    if given.answers is not None and given.answers.is_file():
        found = json.loads(given.answers.read_text())
    else:
        with (
            tempfile.TemporaryDirectory() as scratch,
            made_server(Path(find("postgres"))) as server,
            fresh_database(server) as dsn,
            asked_of.observed(Path(scratch), dsn) as day,
        ):
            found = answers(day)
        if given.answers is not None:
            given.answers.write_text(json.dumps(found))
    page = given.page
    if page is None:
        page = Path(tempfile.mkdtemp()) / "page"
        shutil.copytree(PAGE, page)
        subprocess.run(["npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund"], cwd=page, check=True)
    draw(found, given.directory, page)
    if given.docs:
        shrink(given.directory / f"{name}.png" for name in found)


if __name__ == "__main__":
    main()
