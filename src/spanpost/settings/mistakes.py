"""Messages about wrong settings, each with what to do."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from spanpost.settings.root import (
    LISTS,
    PREFIX,
    Models,
    Settings,
    models_installed,
    section_model,
    variable,
    variable_names,
)
from spanpost.settings.sources import CONFIG_FILE
from spanpost.sinks import registry

REFERENCE: Final = "docs/reference/settings.md"

# Kubernetes sets variables of these forms in every pod if a service is named "spanpost": they are not
# mistakes.
_KUBERNETES: Final = re.compile(
    r"^SPANPOST_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)


#: Sections with tables whose entries can be set by variables: secrets of launchers, webhook providers and cells.
_WITH_TABLES: Final = ("launchers", "webhooks", "cells")


def misspelt_variables(environment: Mapping[str, str], sinks: Models) -> Iterable[str]:
    known = variable_names(sinks)
    # Each entry of a table can be set by a variable of its own: SPANPOST_SLACK__WORKSPACES__ACME__TOKEN.
    tables = tuple(
        f"{variable(section, field)}__"
        for section, model in (*sinks.items(), *((section, section_model(section)) for section in _WITH_TABLES))
        for field, info in model.model_fields.items()
        if str(info.annotation).startswith("dict[")
    )
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or _KUBERNETES.match(upper):
            continue
        if upper.startswith(tables):
            continue
        if upper.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://")):
            continue
        near = _nearest(upper, variable_names())
        yield f"{name}: there is no such setting{near}; rename or unset it ({REFERENCE} lists all)"


def misspelt_keys(document: Mapping[str, Any], sinks: Models) -> Iterable[str]:
    for section, fields in document.items():
        if section not in Settings.model_fields and section not in sinks:
            near = _nearest(section, (*Settings.model_fields, *registry.names()))
            remedy = f"rename or remove it ({REFERENCE} lists all)"
            yield f"{CONFIG_FILE}: [{section}]: there is no such section{near}; {remedy}"
            continue
        known = tuple((sinks.get(section) or section_model(section)).model_fields)
        for table in fields if isinstance(fields, list) else [fields]:
            for key in table if isinstance(table, dict) else ():
                if key not in known:
                    yield (
                        f"{CONFIG_FILE}: {section}.{key}: there is no such setting{_nearest(key, known)}; "
                        f"rename or remove it ({REFERENCE} lists all)"
                    )


def not_json(environment: Mapping[str, str], sinks: Models) -> str:
    """Return the variable that is not JSON: pydantic-settings names only the section."""
    compound = {f"{PREFIX}{section}".upper() for section in LISTS}
    for section in (*Settings.model_fields, *sinks):
        for field, info in (sinks.get(section) or section_model(section)).model_fields.items():
            if re.search(r"\b(tuple|list|dict|set|frozenset|Sequence|Mapping)\[", str(info.annotation)):
                compound.add(variable(section, field))
    for name, value in sorted(environment.items()):
        if name.upper() in compound:
            try:
                json.loads(value)
            except ValueError:
                return name
    return " or ".join(sorted(compound))


def _nearest(name: str, known: Iterable[str]) -> str:
    # The most common mistake is "_" for "__", so names are compared without underscores.
    squeezed = {one.replace("_", ""): one for one in known}
    found = difflib.get_close_matches(name.replace("_", ""), squeezed, n=1, cutoff=0.6)
    return f" (did you mean {squeezed[found[0]]}?)" if found else ""


def explain(item: Any, sinks: Models) -> str:
    error = cast("dict[str, Any]", item)
    where = [str(part) for part in error["loc"]]
    name = ".".join(where) or "settings"
    reason = str(error["msg"]).removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if error["type"] == "extra_forbidden":
        known = _fields_of(where[0], sinks) if len(where) > 1 else (*Settings.model_fields, *models_installed())
        reason = f"there is no such {'setting' if len(where) > 1 else 'section'}{_nearest(where[-1], known)}"
    if len(where) >= 2 and where[0] not in LISTS:
        return f"{name}: {reason}; mend {variable(where[0], where[1])} or [{where[0]}] in {CONFIG_FILE}"
    return f"{name}: {reason}; mend it in {CONFIG_FILE} ({REFERENCE} lists all)"


def _fields_of(section: str, sinks: Models) -> tuple[str, ...]:
    if section in sinks:
        return tuple(sinks[section].model_fields)
    if section in Settings.model_fields:
        return tuple(section_model(section).model_fields)
    return (*Settings.model_fields, *registry.names())
