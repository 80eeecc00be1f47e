"""Write the generated pages of docs/reference: settings.md from the settings' models, cli.md from the
commands, metrics.md from the metrics, dialects.md from the dialects and the recordings, api.md from the
OpenAPI document, messages.md from the English catalogue, deployments.md and acts.md from recorded results of tests,
redaction.md from measured figures, python.md from signatures and docstrings, quick-reference.md from most of these,
guarantees.md and the lists of promises from the markers and results of tests.

``python scripts/write_reference.py``, or ``make reference``. A test fails when a page is outdated."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import typer
from prometheus_client.metrics import MetricWrapperBase

from spanpost.cli.program import program
from spanpost.interactions.api.app import application
from spanpost.interactions.api.parts import ApiParts
from spanpost.metrics.fleet import FleetGauges
from spanpost.metrics.labels import BYPASSED, CALLED, DROPPED, WARNINGS, SeriesLimits
from spanpost.metrics.recorder import Metrics
from spanpost.metrics.series import OPEN, Registry
from spanpost.readers.known_dialects import DIALECTS
from spanpost.receivers.recordings import read_recording
from spanpost.runtime.replay import replay
from spanpost.text.locales.english import PHRASES, STORED, UNSTORED

sys.path.insert(0, str(Path(__file__).parent))

from reference.guarantees import PAGES as GUARANTEES
from reference.guarantees import proofs_page, with_promises
from reference.measured import redaction_page
from reference.pictures import PICTURES
from reference.python_api import python_page
from reference.quick import quick_page
from reference.recorded import acts_page, deployments_page, seen_live, words_page
from reference.settings import settings_page

PAGES = Path(__file__).parent.parent / "docs" / "reference"
CAPTURES = Path(__file__).parent.parent / "tests" / "captures"


def cli_page() -> str:
    """Return the reference of all commands."""
    parts = [
        "# Command line",
        "*Made from `src/spanpost/cli/` by `make reference`.*",
        "Data goes to stdout, messages to stderr. Exit 0: done. Exit 1: a check found a problem, or the command "
        "failed. "
        "Exit 2: a mistake in the command or in the settings, one line each with the next step. "
        "An option wins over its environment variable.",
    ]
    parts.extend(_command(typer.main.get_command(program), "spanpost"))
    return "\n\n".join(parts) + "\n"


def metrics_page() -> str:
    """Return the reference of all metrics."""
    parts = [
        "# Metrics",
        "*Made from `src/spanpost/metrics/` by `make reference`.*",
        "Served at `http://127.0.0.1:9464/metrics` if the section `metrics` of the [settings](settings.md) is "
        "on; `spanpost demo` and "
        "`spanpost run` turn it on, and a gateway serves them on its own port too. Prometheus' text format, or "
        "OpenMetrics with "
        "exemplars for a scraper that asks for it. Names and labels are final. "
        "[How to use them](../how-to/grafana.md), with dashboards and rules.",
        "An exemplar has the label `trace_id`, and `checkpoint_id` if a checkpoint reports the counted event: "
        "the start or end of a task, "
        "a failure, a warning, an answer. The column `id` of `agent_checkpoints` is that checkpoint. Both "
        "labels together have 89 of the "
        "128 characters that OpenMetrics allows. Processes that share `PROMETHEUS_MULTIPROC_DIR` have no exemplars.",
        "Sum counters over all processes. Each process counts what it newly recorded: a repeated span counts once. "
        "Tokens and cost count when their call is finalized: when its run ends, or half a minute later. Gauges marked "
        "*fleet* describe the database; one of its processes shows them.",
        "The labels "
        + ", ".join(f"`{label}`" for label in OPEN)
        + " hold agents' words, never ids or texts. Each label has at most `metrics.max_values` (200) values, and each "
        "metric at most `metrics.max_series` (2,000) combinations. The rest counts as `other`, so that sums stay "
        "right. A missing value is "
        "`unknown`. Series without a count for `metrics.expire_after` (48 hours) are removed.",
    ]
    found = [one for one in Metrics().registry._collector_to_names if isinstance(one, MetricWrapperBase)]
    gauges = FleetGauges(Registry(SeriesLimits(), float))
    of_fleet = {family.metric._name for family in vars(gauges).values()}
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for one in sorted(found, key=lambda one: one._name):
        name = one._name + ("_total" if one._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in one._labelnames)
        kind = f"{one._type}, *fleet*" if one._name in of_fleet else one._type
        rows.append(f"| `{name}` | {kind} | {labels} | {one._documentation} |")
    lists = [
        "Values of closed labels:",
        "\n".join(
            f"- {where}: {', '.join(f'`{word}`' for word in words)}"
            for where, words in (
                ("`outcome` of `spanpost_sink_calls_total`", CALLED),
                ("`kind` of `spanpost_warnings_total`", [str(kind) for kind in WARNINGS]),
                ("`reason` of `spanpost_dropped_total`", DROPPED),
                ("`reason` of `spanpost_spool_bypassed_total`", BYPASSED),
            )
        ),
    ]
    return "\n\n".join([*parts, "\n".join(rows), *lists]) + "\n"


def api_page() -> str:
    """Return the reference of the HTTP API, from its OpenAPI document."""
    none = cast("Any", None)
    document = application(ApiParts(none, none, none, none, none, take=none, resolvers={})).document()
    parts = [
        "# HTTP API",
        "*Made from the OpenAPI document (`/api/openapi.json`) by `make reference`.*",
        "[Use the API](../how-to/use-the-api.md) has examples, access rights and the stream of events. Every "
        "answer except `/api/events` is JSON; a "
        "time is RFC 3339 in UTC, money is text, an unknown value is `null`. An error is a "
        "[google.rpc.Status](http-answers.md#errors). Lists "
        "have pages: `next` is the `cursor` (for timelines `after`) of the next page. An id of a task may be "
        "its task id, "
        "its `uid` or its trace's id.",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"## {method.upper()} {path}\n\n{operation['description']}")
            rows = ["| parameter | in | type | meaning |", "|---|---|---|---|"]
            for one in operation.get("parameters", ()):
                schema = one["schema"]
                rows.append(f"| `{one['name']}` | {one['in']} | {_schema(schema)} | {one.get('description', '')} |")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            for name, field in _fields(document, body):
                rows.append(f"| `{name}` | body | {_schema(field)} | {field.get('description', '')} |")
            if len(rows) > 2:
                parts.append("\n".join(rows))
            good = operation["responses"]["200"]
            shape = next(
                (_schema(one["schema"]) for kind, one in good.get("content", {}).items() if kind == "application/json"),
                "",
            )
            others = ", ".join(sorted(status for status in operation["responses"] if status != "200"))
            parts.append(f"Answers {shape or good['description']}; else {others}.")
    parts.append("# Shapes")
    for name, schema in sorted(document["components"]["schemas"].items()):
        rows = ["| field | type | meaning |", "|---|---|---|"]
        rows += [
            f"| `{key}` | {_schema(one)} | {one.get('description', '')} |"
            for key, one in schema.get("properties", {}).items()
        ]
        parts.append(f"## {name}\n\n{schema.get('description', '')}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _fields(document: dict[str, Any], schema: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    for one in (schema or {}).get("anyOf", [schema or {}]):
        if "$ref" in one:
            return list(document["components"]["schemas"][one["$ref"].rpartition("/")[2]]["properties"].items())
    return []


def _schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_schema(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_schema(schema['items'])}"
    words = {
        "string": "text",
        "integer": "number",
        "number": "number",
        "boolean": "true or false",
        "null": "null",
        "object": "object",
    }
    return words.get(schema.get("type", ""), "anything") if schema.get("format") != "date-time" else "time"


def _command(command: Any, name: str) -> list[str]:
    children = getattr(command, "commands", None)
    if children is not None:
        return [part for child_name, child in children.items() for part in _command(child, f"{name} {child_name}")]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(one) for one in arguments)])
    parts = [f"## {name}\n\n`{usage}`\n\n{command.help}"]
    rows = [f"| `{_argument(one)}` | {one.help} |" for one in arguments]
    rows += [
        f"| `{' '.join(filter(None, (one.opts[-1], _metavar(one))))}` | {one.help} |"
        for one in command.params
        if one.param_type_name == "option"
    ]
    if rows:
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return parts


def _argument(argument: Any) -> str:
    repeated = f"{argument.metavar}..." if argument.nargs == -1 else str(argument.metavar)
    return repeated if argument.required else f"[{repeated}]"


def dialects_page() -> str:
    """Return the reference of the dialects: what is read of each, what it does not report, and recorded
    results.
    """
    parts = [
        "# Dialects",
        "*Made from `src/spanpost/readers` and the recordings of `tests/captures` by `make reference`.*",
        "All dialects for a span's instrumentation scope read it: `agent.*` first, then those of one scope, "
        "then those of all scopes, in the order of this page. If two give the same field, the earlier one "
        "counts; of several attributes, "
        "the first with a usable value. [How to add one](../how-to/add-a-dialect.md).",
        "## Results of recorded runs",
        "Each line is a framework with an instrumentation, recorded with a stub for its models. *reported*: the "
        "telemetry has the figure, and it equals the stub's. *unknown*: the telemetry lacks it, and it is shown as "
        "null. *recorded version*: what the instrumentation or the program calls itself; "
        "[the recordings' page](../../tests/captures/README.md) names the packages.",
        _recorded(),
        "## Python frameworks seen live",
        "Each ran with `spanpost.attach()` and a stub for its models, at its newest version of that day; every message "
        "was read in the order in which Slack would show it (`tests/recorders/python/live.py`). The names are "
        "scenarios of that program. *not on the wire*: the telemetry does not say what a person would look for, such "
        "as a time limit of the caller, which is shown as cancelled.",
        seen_live(),
    ]
    for dialect in DIALECTS:
        parts.append(f"## {dialect.name}\n\nRead from: {dialect.source}.")
        if dialect.scopes:
            parts.append(
                "For instrumentation scopes that begin with " + ", ".join(f"`{one}`" for one in dialect.scopes) + "."
            )
        if dialect.kind:
            words = ", ".join(f"`{word}` {role.name.lower()}" for word, role in dialect.roles.items())
            other = f"; any other {dialect.otherwise.name.lower()}" if dialect.otherwise is not None else ""
            parts.append(f"Role of a span by `{dialect.kind}`: {words}{other}.")
        if dialect.names:
            parts.append(
                "Role of a span by its name: "
                + ", ".join(f"`{n}` {r.name.lower()}" for n, r in dialect.names.items())
                + "."
            )
        if dialect.fields:
            rows = ["| field | attributes, best first |", "|---|---|"]
            for name, attributes in dialect.fields.items():
                rows.append(f"| {name.replace('_', ' ')} | {', '.join(f'`{one}`' for one in attributes)} |")
            parts.append("\n".join(rows))
        if dialect.cannot_tell:
            parts.append("It does not report: " + "; ".join(dialect.cannot_tell) + ".")
    return "\n\n".join(parts) + "\n"


def messages_page() -> str:
    """Return the reference of the messages that are stored with checkpoints and tasks."""
    parts = [
        "# Messages",
        "*Made from `src/spanpost/text/locales/english.py` by `make reference`.*",
        "A checkpoint has `text` (English), `message` (a key of this page) and `values`. Render `message` with "
        "`values` to show the checkpoint in "
        "another language: [how](../how-to/routes-and-noise.md#another-language). `message` is null if the text "
        "is an agent's own. "
        "Keys and names of placeholders are public; the English is not.",
        "A value is a number, a text, a message (`key` and `values`), or a list of messages. Texts come from "
        "agents and people, so they are untrusted. "
        "`:duration` marks seconds. `n` chooses between two forms: one, and any other number.",
    ]
    rows = ["| message | English |", "|---|---|"]
    for key, phrase in PHRASES.items():
        if key.startswith(STORED) and key not in UNSTORED:
            forms = (phrase,) if isinstance(phrase, str) else phrase
            rows.append(f"| `{key}` | {'; '.join(f'`{form}`' for form in forms)} |")
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def _recorded() -> str:
    rows = [
        "| framework, instrumentation | runs | tasks | tokens | from cache | model | agent | conversation | "
        "tool calls | waits for a person | recorded version |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for dialect in sorted(path for path in CAPTURES.iterdir() if path.is_dir()):
        found: dict[str, set[str]] = {}
        runs, count = sorted(path for path in dialect.iterdir() if path.is_dir()), 0
        for run in runs:
            result = replay(sorted(run.glob("*.pb*")))
            count += len(result.tasks)
            known: dict[str, bool] = {
                "tokens": any(t.input_tokens is not None for t in result.tasks),
                "cache": any(t.cache_read_tokens is not None for t in result.tasks),
                "model": any(t.model for t in result.tasks),
                "agent": any(t.agent_name for t in result.tasks),
                "conversation": any(t.session_id for t in result.tasks),
                "tools": any(t.tool_calls for t in result.tasks),
            }
            for name, is_known in known.items():
                found.setdefault(name, set()).add("reported" if is_known else "unknown")
            if run.name == "approval":
                waited = any(c.kind == "end" and c.status == "waiting" for c in result.checkpoints)
                is_one = any(t.runs > 1 for t in result.tasks)
                shown = "shown, and resumed" if waited and is_one else "shown" if waited else "within one run"
                found.setdefault("waits", set()).add(shown)
        cells = [
            _some(found.get(name, set())) for name in ("tokens", "cache", "model", "agent", "conversation", "tools")
        ]
        waits = ", ".join(sorted(found.get("waits", {"not recorded"})))
        cells += [waits, _recorded_version(runs)]
        rows.append(f"| {dialect.name} | {len(runs)} | {count} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _recorded_version(runs: Sequence[Path]) -> str:
    """Return the instrumentation scope of most spans or records of these runs, with its versions, or the program's."""
    met: Counter[tuple[str, str]] = Counter()
    for path in (path for run in runs for path in run.glob("*.pb*")):
        for decoded in read_recording(path):
            met.update(
                (o.origin.scope, o.origin.scope_version or str(o.origin.resource.get("service.version") or ""))
                for o in decoded.observations
            )
    named = Counter({name: count for (name, version), count in met.items() if name and version})
    if not named:
        return "not on the wire"
    [(scope, _)] = named.most_common(1)
    return f"`{scope}` {', '.join(sorted(version for name, version in met if name == scope and version))}"


def _some(words: set[str]) -> str:
    return "in some runs" if len(words) > 1 else next(iter(words), "")


def _metavar(option: Any) -> str:
    return "" if option.is_flag else str(option.metavar)


if __name__ == "__main__":
    (PAGES / "settings.md").write_text(settings_page())
    (PAGES / "cli.md").write_text(cli_page())
    (PAGES / "quick-reference.md").write_text(quick_page())
    (PAGES / "metrics.md").write_text(metrics_page())
    (PAGES / "dialects.md").write_text(dialects_page())
    (PAGES / "api.md").write_text(api_page())
    (PAGES / "messages.md").write_text(messages_page())
    (PAGES / "deployments.md").write_text(deployments_page())
    (PAGES / "words.md").write_text(words_page())
    (PAGES / "acts.md").write_text(acts_page())
    (PAGES / "redaction.md").write_text(redaction_page())
    (PAGES / "python.md").write_text(python_page())
    (PAGES / "guarantees.md").write_text(proofs_page())
    for page in sorted(GUARANTEES.glob("*.md")):
        page.write_text(with_promises(page))
    for name, draw in PICTURES.items():
        (PAGES.parent / "images" / "guarantees" / f"{name}.svg").write_text(str(draw()))
