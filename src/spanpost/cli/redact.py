"""``spanpost redact``: what the rules of redaction leave of a recording, or of a span."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.text import Text

from spanpost.cli.columns import out
from spanpost.cli.tables import titled
from spanpost.model.errors import ConfigError
from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.readers.identity import IDENTITY
from spanpost.readers.redaction import Redaction, part_of
from spanpost.text.rules import RedactionRule, TelemetryPart
from spanpost.text.sanitise import cut, strip
from spanpost.text.secrets import unhashed

_FIELDS = frozenset({"name", "attributes", "status_message", "resource", "scope", "body"})
_REQUESTS = frozenset({"resourceSpans", "resourceLogs", "resourceMetrics"})
_SIZE = 80


class Change(NamedTuple):
    """A text that is changed, or that a rule would change if it did not identify something."""

    part: str
    attribute: str
    before: str
    after: str
    because: str


def redact(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Recorded OTLP, or a span as JSON; `-` reads stdin.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose rules apply.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Show what the rules and the built-in scan change in telemetry, and why. Nothing is stored."""
    from spanpost.runtime.assembly import redaction_of
    from spanpost.settings import load

    settings = load()
    redaction = redaction_of(settings)
    if redaction is None:
        raise ConfigError("redaction.enabled is false, so that nothing is redacted: remove it, then try again")
    redaction.keyed(bytes(32))
    own = settings.redaction.tenants.get(tenant)
    rules = (*settings.redaction.rules, *(own.rules if own is not None else ()))
    seen: set[Change] = set()
    table = titled("part", "attribute", "before", "after", "because")
    for o in _read(file, tenant):
        for change in changes(o, redaction, rules):
            if change in seen:
                continue
            seen.add(change)
            if as_json:
                print(json.dumps(change._asdict()))
            else:
                table.add_row(*(Text(cut(" ".join(strip(text).split()), _SIZE)) for text in change))
    if not as_json:
        out().print(table if seen else "nothing is changed")


def changes(o: Observation, redaction: Redaction, rules: tuple[RedactionRule, ...]) -> Iterator[Change]:
    """Yield the texts of an observation that are changed, and the identities that rules pass over."""
    part = part_of(o)
    clean = redaction.clean(o)
    name = TelemetryPart.SPAN_NAME if part is TelemetryPart.SPAN else part
    pairs: list[tuple[TelemetryPart, Any, Any]] = [
        (name, o.name, clean.name),
        (part, o.attributes, clean.attributes),
        (TelemetryPart.ERROR, o.status_message, clean.status_message),
        (part, o.body, clean.body),
        (TelemetryPart.RESOURCE, o.origin.resource, clean.origin.resource),
        (TelemetryPart.SCOPE, o.origin.scope, clean.origin.scope),
    ]
    for where, before, after in pairs:
        for path, one, other in _differences("", before, after):
            yield Change(where, path, _shown(one), _shown(other), _reason(where, path, other, rules))
    for path in sorted(IDENTITY.intersection(o.attributes)):
        if any(rule.is_whole and rule.attributes and rule.selects(part, path) for rule in rules):
            value = _shown(o.attributes[path])
            yield Change(part, path, value, value, "it identifies something: no rule changes it")


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if type(before) is dict and type(after) is dict:
        renamed = [name for name in after if name not in before]
        for name, value in before.items():
            below = f"{path}.{name}" if path else name
            if name in after:
                yield from _differences(below, value, after[name])
            elif renamed:
                yield below, name, renamed.pop(0)
            else:
                yield below, value, None
    elif type(before) is list and type(after) is list and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _differences(path, one, other)
    elif before != after:
        yield path, before, after


def _reason(part: TelemetryPart, path: str, after: Any, rules: tuple[RedactionRule, ...]) -> str:
    selected = [(n, rule) for n, rule in enumerate(rules, 1) if rule.selects(part, path)]
    whole = [
        f"rule {n}: {rule.action} {', '.join((*rule.attributes, *rule.parts))}" for n, rule in selected if rule.is_whole
    ]
    text = [
        f"rule {n}: {rule.action} {rule.pattern or ', '.join(rule.kinds)}"
        for n, rule in selected
        if not rule.is_whole
        and (after is None or any(f"[redacted:{word}" in str(after) for word in (rule.name, *rule.kinds)))
    ]
    return "; ".join(whole or text) or "the built-in scan"


def _shown(value: Any) -> str:
    if value is None:
        return "(dropped)"
    return unhashed(value if type(value) is str else msgspec.json.encode(value, enc_hook=repr).decode())


def _read(file: str, tenant: str) -> Iterator[Observation]:
    from spanpost.receivers.recordings import read_recording

    if file == "-":
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(sys.stdin.buffer.read())
            copy.flush()
            yield from _read(copy.name, tenant)
        return
    if not Path(file).is_file():
        raise ConfigError(f"{file}: there is no such file; name a recording, or a span as JSON")
    if (span := _span(Path(file), tenant)) is not None:
        yield span
        return
    for body in read_recording(file, tenant=tenant):
        yield from body.observations


def _span(file: Path, tenant: str) -> Observation | None:
    """Return a span that is written as plain JSON; None if the file holds something else."""
    with file.open("rb") as opened:
        if opened.read(1) != b"{":
            return None
    try:
        given = json.loads(file.read_bytes())
    except ValueError:
        return None  # JSON lines
    if type(given) is not dict or _REQUESTS.intersection(given):
        return None
    if unknown := sorted(set(given) - _FIELDS):
        raise ConfigError(f"{file}: a span has no {unknown[0]!r}; it has {', '.join(sorted(_FIELDS))}")
    message = str(given.get("status_message", ""))
    return Observation(
        part=Part.LOG if "body" in given else Part.ENDED,
        trace_id=bytes(16),
        span_id=bytes(8),
        tenant=tenant,
        name=str(given.get("name", "")),
        attributes=given.get("attributes") or {},
        status=Status.ERROR if message else Status.UNSET,
        status_message=message,
        body=given.get("body"),
        origin=Origin(resource=given.get("resource") or {}, scope=str(given.get("scope", ""))),
    )
