"""Write the generated pages of docs/reference: settings.md from the settings' models, cli.md from the
commands, metrics.md from the metrics, dialects.md from the dialects and the recordings, api.md from the
OpenAPI document, messages.md from the English catalogue, deployments.md from recorded walks.

``python scripts/write_reference.py``, or ``make reference``. A test fails when a page is outdated."""

from __future__ import annotations

import inspect
import json
import types
from datetime import time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from spanpost.cli.program import program
from spanpost.interactions.api.app import application
from spanpost.interactions.api.parts import ApiParts
from spanpost.metrics.fleet import FleetGauges
from spanpost.metrics.labels import BYPASSED, CALLED, DROPPED, WARNINGS, SeriesLimits
from spanpost.metrics.recorder import Metrics
from spanpost.metrics.series import OPEN, Registry
from spanpost.readers.known_dialects import DIALECTS
from spanpost.runtime.replay import replay
from spanpost.settings import CONFIG_VARIABLE, LISTS, Settings, section_model, variable
from spanpost.settings.conditions import ConditionSettings
from spanpost.settings.routes import OF_SINKS
from spanpost.sinks import registry
from spanpost.text.locales.english import PHRASES, STORED, UNSTORED

PAGES = Path(__file__).parent.parent / "docs" / "reference"
CAPTURES = Path(__file__).parent.parent / "tests" / "captures"
DEPLOY = Path(__file__).parent.parent / "deploy"
WALKS = Path(__file__).parent.parent / "tests" / "acceptance" / "deployments"


def settings_page() -> str:
    """Return the reference of all settings."""
    parts = [
        "# Settings",
        "*Made from `src/spanpost/settings/` by `make reference`.*",
        "A setting is read from `spanpost.toml` in the working directory "
        f"(or the file that `{CONFIG_VARIABLE}` names) and from the environment, which wins. "
        "`DATABASE_URL` is read where `database.url` is not set and it names a PostgreSQL. "
        "An optional section without settings is off. Lists and tables are written as JSON in the environment; "
        "a time span is a number "
        "of seconds or ISO 8601 (`PT15M`). A name that does not exist is refused at the start, with the name that was "
        "probably meant. `OTEL_SDK_DISABLED=true` turns spanpost off, too.",
        '```toml\n[slack]\nchannel = "#agents"\npreview_file = "slack.jsonl"\n\n[context]\nwarn_at = [0.6, 0.8, '
        "0.9]\n\n"
        '[[routes]]\nsink = "slack"\naddress = "#deploys"\ntopic = "deploy"\nverbosity = "milestones"\n```',
    ]
    ours = [name for name in registry.names() if registry.distribution(name).split()[0] == "spanpost"]
    parts[2] += (
        " A separately installed sink is a section too, and documents its settings in its own README; "
        "`spanpost check` lists what is on."
    )
    for section in (*Settings.model_fields, *ours):
        model = section_model(section)
        parts.append(f"## {section}\n\n{inspect.cleandoc(model.__doc__ or '')}")
        in_list = section in LISTS
        if in_list:
            parts.append(
                f"`SPANPOST_{section.upper()}` holds a JSON list of objects; in `spanpost.toml` each is a "
                f"`[[{section}]]`."
            )
        rows = ["| setting | variable | type | default | meaning |", "|---|---|---|---|---|"]
        for name, field in _ordered(model):
            cells = (
                f"`{name}`",
                "" if in_list else f"`{variable(section, name)}`",
                _type(field.annotation),
                "the sink's" if section == "routes" and name in OF_SINKS else _default(name, field),
            )
            rows.append(f"| {' | '.join(cells)} | {field.description} |")
        parts.append("\n".join(rows))
        parts += [part for name, field in _ordered(model) for part in _tables(section, name, field)]
    return "\n\n".join(parts) + "\n"


def _ordered(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Return the fields of a section in the order in which they are described; conditions on tasks come last."""
    models = [base for base in reversed(model.__mro__) if issubclass(base, BaseModel)]
    models.sort(key=lambda base: base is ConditionSettings)
    names = dict.fromkeys(name for base in models for name in inspect.get_annotations(base))
    return [(name, model.model_fields[name]) for name in names if name in model.model_fields]


def _tables(section: str, name: str, field: FieldInfo) -> list[str]:
    """Return the settings of a list of tables in a section (``[[interactions.rules]]``), if they have descriptions."""
    inner = next(
        (one for one in get_args(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None
    )
    if (
        get_origin(field.annotation) is not tuple
        or inner is None
        or not all(f.description for f in inner.model_fields.values())
    ):
        return []
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for key, one in _ordered(inner):
        rows.append(f"| `{key}` | {_type(one.annotation)} | {_default(key, one)} | {one.description} |")
    return [f"### {section}.{name}\n\n`[[{section}.{name}]]`: {inspect.cleandoc(inner.__doc__ or '')}", "\n".join(rows)]


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
        "Counters count what the process saw newly recorded: a repeated span counts once, and tokens and cost "
        "count when their call "
        "is finalized (its run ended, or half a minute later). Sum them over all processes. The gauges marked "
        "*fleet* describe the "
        "database; one of the processes on it shows them.",
        "The labels "
        + ", ".join(f"`{label}`" for label in OPEN)
        + " hold agents' words, never ids or texts. Each label has at most `metrics.max_values` (200) values, and each "
        "metric at most `metrics.max_series` (2,000) combinations. The rest is `other`, so that sums stay "
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
    document = application(ApiParts(none, none, none, none, take=none, resolvers={})).document()
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
                (_schema(one["schema"]) for kind, one in good["content"].items() if kind == "application/json"), ""
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
        "figure was on "
        "the wire and equals the stub's. *unknown*: it was not, and is shown as null.",
        _recorded(),
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
        "A value is a number, a text, a message (`key` and `values`), or a list of messages. Texts are words of "
        "agents and people: untrusted. "
        "`:duration` marks seconds. `n` chooses between two forms: one, and any other number.",
    ]
    rows = ["| message | English |", "|---|---|"]
    for key, phrase in PHRASES.items():
        if key.startswith(STORED) and key not in UNSTORED:
            forms = (phrase,) if isinstance(phrase, str) else phrase
            rows.append(f"| `{key}` | {'; '.join(f'`{form}`' for form in forms)} |")
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


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
        "How each was walked:",
        "\n".join(f"- *{name}*: {walks[name]['how']}" for name in names if name in walks),
        *(["What did not work:", "\n".join(notes)] if notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def _recorded() -> str:
    rows = [
        "| framework, instrumentation | runs | tasks | tokens | from cache | model | agent | conversation | "
        "tool calls | waits for a person |",
        "|---|---|---|---|---|---|---|---|---|---|",
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
        rows.append(f"| {dialect.name} | {len(runs)} | {count} | {' | '.join(cells)} | {waits} |")
    return "\n".join(rows)


def _some(words: set[str]) -> str:
    return "in some runs" if len(words) > 1 else next(iter(words), "")


def _metavar(option: Any) -> str:
    return "" if option.is_flag else str(option.metavar)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(filter(None, (_type(one) for one in arguments if one is not type(None))))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "table"
    if arguments and all(isinstance(one, str) for one in arguments):
        return ", ".join(f"`{one}`" for one in arguments if one)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{one}`" for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    names = {
        "str": "text",
        "int": "whole number",
        "bool": "true or false",
        "SecretStr": "secret",
        "timedelta": "time span",
        "time": "time of day",
    }
    name = getattr(annotation, "__name__", str(annotation))
    return {**names, "Path": "path", "float": "number"}.get(name, name)


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see right"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None or field.default == "":
        return ""
    if isinstance(field.default, timedelta):
        return f"`{field.default.total_seconds():g}`"
    if isinstance(field.default, time):
        return f"`{field.default:%H:%M}`"
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    (PAGES / "settings.md").write_text(settings_page())
    (PAGES / "cli.md").write_text(cli_page())
    (PAGES / "metrics.md").write_text(metrics_page())
    (PAGES / "dialects.md").write_text(dialects_page())
    (PAGES / "api.md").write_text(api_page())
    (PAGES / "messages.md").write_text(messages_page())
    (PAGES / "deployments.md").write_text(deployments_page())
