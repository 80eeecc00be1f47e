"""Pages of what the acceptance tests recorded: deployments, and acts from every endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from spanpost.model.queries import LEAST_PREFIX
from spanpost.model.task_acts import TASK_ACTS
from spanpost.text.locales.english import PHRASES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WALKS = ROOT / "tests" / "acceptance" / "deployments"
SEEN = ROOT / "tests" / "captures" / "live.json"
TRIED = ROOT / "tests" / "acceptance" / "acts.json"


def seen_live() -> str:
    """Return the table of the Python frameworks that ran with spanpost attached, and what was looked at."""
    rows = ["| framework | versions | seen on | right at every moment | not on the wire |", "|---|---|---|---|---|"]
    for framework, seen in sorted(json.loads(SEEN.read_text()).items()):
        versions = ", ".join(f"{name} {version}" for name, version in seen["versions"].items())
        cells = [", ".join(seen[kind]) for kind in ("scenarios", "not_on_the_wire")]
        rows.append(f"| {framework} | {versions} | {seen['seen']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def deployments_page() -> str:
    """Return the table of deployments and features, from what the tests recorded of each."""
    walks = {path.stem: json.loads(path.read_text()) for path in WALKS.glob("*.json")}
    names = ["package", *sorted(path.name for path in DEPLOY.iterdir() if path.is_dir())]
    features = {feature: None for name in names if name in walks for feature in walks[name]["features"]}
    rows = [f"| feature | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    notes = []
    for feature in features:
        cells = []
        for name in names:
            result = walks[name]["features"].get(feature, "–") if name in walks else "not walked"
            if result not in ("yes", "–", "not walked"):
                notes.append(f"- {name}, {feature}: {result}")
                result = "no"
            cells.append(result)
        rows.append(f"| {feature} | {' | '.join(cells)} |")
    parts = [
        "# Deployments",
        "*Made from the results that the tests recorded in `tests/acceptance/deployments` by `make reference`.*",
        "A test starts each deployment of `deploy/`, and *package*, which is the installed package alone. Then it "
        "tries every feature from outside (`tests/acceptance/features.py`). *yes*: the feature worked. –: the "
        "deployment has no such part.",
        "\n".join(rows),
        "How each was started:",
        "\n".join(f"- *{name}*: {walks[name]['how']}" for name in names if name in walks),
        *(["What did not work:", "\n".join(notes)] if notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def acts_page() -> str:
    """Return the table of acts and endpoints, from what the test recorded of each."""
    tried: dict[str, dict[str, str]] = json.loads(TRIED.read_text())
    endpoints = list(next(iter(tried.values())))
    rows = [f"| act | {' | '.join(endpoints)} |", f"|---|{'---|' * len(endpoints)}"]
    notes = []
    for act, results in tried.items():
        notes += [f"- {act}, {name}: {result}" for name, result in results.items() if result != "yes"]
        cells = ["yes" if results[name] == "yes" else "no" for name in endpoints]
        rows.append(f"| `{act}` | {' | '.join(cells)} |")
    does = ["| act | effect | Slack | API | command line |", "|---|---|---|---|---|"]
    for row in TASK_ACTS.values():
        words = ["TASK", *(["|".join(row.options)] if row.options else []), *(["TEXT"] if row.needs_text else [])]
        command = f"`spanpost {row.verb} {' '.join(words)}`"
        form = str(PHRASES[f"command.form_{row.verb}"])
        cells = [f"`{row.verb}`", row.does, f"`/agents {form}`", f"`POST /api/tasks/{{id}}/{row.path}`", command]
        does.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    parts = [
        "# Acts",
        "*Made from the results that `tests/acceptance/test_acts_everywhere.py` recorded, and from "
        "`src/spanpost/model/task_acts.py`, by `make reference`.*",
        "People act on tasks from every endpoint. The same [authorization rules](authorization.md) judge each act, "
        "and each is a row of `human_interventions`, granted or refused. An act that is impossible (the task has "
        "ended, no launcher can retry it) has the same answer everywhere, with the next step.",
        "## From every endpoint",
        "The test runs a gateway with PostgreSQL, a third-party Slack, Chromium, a client of the Model Context "
        "Protocol and the command line. *yes*: the act took effect, the agent received it, and its row names the "
        "person and the source. *command line* calls a gateway, with `--url`; *database* writes without one.",
        "\n".join(rows),
        *(["What did not work:", "\n".join(notes)] if notes else []),
        "## On a task",
        "The tool `act_on_task` of MCP has the same verbs, and so have the buttons of Slack and of the board.",
        "\n".join(does),
        f"`<id>` is a task id, or its first {LEAST_PREFIX} characters or more. `TASK` is any id in `spanpost tasks`, "
        "or its beginning, if that is unique. A script gives the whole id. `spanpost cancel` asks before it "
        "acts; `--yes` skips that.",
        "## Decide and start",
        "Answer a question by its buttons in Slack and on the board, by "
        "`POST /api/approvals/{key}/decision`, `spanpost decide` and the tool `decide`. "
        "[Ask a person](../how-to/ask-a-person.md) says what counts as an answer.",
        "[Start work](../how-to/start-work.md#ask-for-work) by `/agents start`, "
        "*Start work* on the board, `POST /api/launchers/{name}/start`, `spanpost start` and the tool `start_work`.",
    ]
    return "\n\n".join(parts) + "\n"


def words_page() -> str:
    """Return the table of recordings: the words shown of their runs, and which of them are right."""
    words = json.loads((ROOT / "tests" / "captures" / "words.json").read_text())
    found: dict[str, list[tuple[str, list[str], list[str]]]] = {}
    for run, one in words.items():
        dialect, _, name = run.partition("/")
        found.setdefault(dialect, []).append((name, one["shown"], one.get("was", one["shown"])))
    rows, notes = ["| recordings | runs | tasks | words right |", "|---|---|---|---|"], []
    for dialect, runs in sorted(found.items()):
        right = sum(shown == was for _, shown, was in runs)
        rows.append(f"| {dialect} | {len(runs)} | {sum(len(was) for _, _, was in runs)} | {right} of {len(runs)} |")
        notes += [
            f"- {dialect}/{name}: shown as {', '.join(shown)}; it was {', '.join(was)}."
            for name, shown, was in runs
            if shown != was
        ]
    every = [one for runs in found.values() for one in runs]
    right = sum(shown == was for _, shown, was in every)
    parts = [
        "# Words for recorded runs",
        "*Made from `tests/captures/words.json` by `make reference`.*",
        f"Of {len(every)} recorded runs the words of {right} are right: the number of tasks, the status of each, and "
        "the reason of its end. `tests/tasks/test_recorded_words.py` fails when one becomes wrong. [The rules and what "
        "speaks against each](../explanation/placement-and-counting.md#endings).",
        "\n".join(rows),
        "## What the telemetry does not say",
        "\n".join(notes),
    ]
    return "\n\n".join(parts) + "\n"
