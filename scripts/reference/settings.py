"""The page of all settings, from their models."""

from __future__ import annotations

import inspect
import json
import types
from datetime import time, timedelta
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from spanpost.settings import CONFIG_VARIABLE, LISTS, SECRETS_VARIABLE, Settings, section_model, variable
from spanpost.settings.conditions import ConditionSettings
from spanpost.settings.routes import OF_SINKS
from spanpost.sinks import registry


def settings_page() -> str:
    """Return the reference of all settings."""
    parts = [
        "# Settings",
        "*Made from `src/spanpost/settings/` by `make reference`.*",
        "Put settings into `spanpost.toml` in the working directory "
        f"(or into the file that `{CONFIG_VARIABLE}` names), or into the environment, which wins. "
        "In the environment write lists and tables as JSON. "
        "Write a time span as a number of seconds, `30s`, `15m`, `6h`, `7d`, or ISO 8601 (`PT15M`). "
        "An unknown name is refused at the start, with the nearest known name.\n\n"
        f"Each file of the directory that `{SECRETS_VARIABLE}` names sets the variable with the file's name "
        "([secrets](../how-to/identity.md#secrets)). "
        "`DATABASE_URL` is read if `database.url` is not set and it names a PostgreSQL. "
        "An optional section without settings is off. `OTEL_SDK_DISABLED=true` turns spanpost off, too.",
        '```toml\n[slack]\nchannel = "#agents"\npreview_file = "slack.jsonl"\n\n[context]\nwarn_at = [0.6, 0.8, '
        "0.9]\n\n"
        '[[routes]]\nsink = "slack"\naddress = "#deploys"\ntopic = "deploy"\nverbosity = "milestones"\n```',
    ]
    ours = [name for name in registry.names() if registry.distribution(name).split()[0] == "spanpost"]
    parts[2] += (
        " A separately installed sink is a section too, and documents its settings in its own README. "
        "`spanpost check` lists the active sinks."
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
