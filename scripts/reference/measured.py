"""The page of what redaction finds, from the figures that scripts/measure_redaction.py kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parents[2] / "tests" / "text" / "measured.json"
_SOURCES = {
    "captured": "texts of recorded agents' runs (`tests/captures`)",
    "documents": "paragraphs and commit messages of this project",
    "logged": "log lines and stack traces",
    "described": "paragraphs of the descriptions of installed Python packages",
    "sources": "lines of programs that handle passwords, tokens and keys",
}
Rates = Mapping[str, list[int]]


def summary(measured: Mapping[str, Any]) -> str:
    """Return the table of the totals."""
    rows = [
        "| secrets, made at random | kinds | texts | found |",
        "|---|---|---|---|",
        _total("of a vendor's form, in a text that does not name them", measured["forms"]),
        _total("passwords and tokens beside a name", measured["names"]),
        _total("known by their place: addresses, headers, commands, files", measured["places"]),
        _total("drawn from the rules of gitleaks", measured["gitleaks"]["rules"]),
        "",
        "| ordinary texts | texts | changed | of 1,000 |",
        "|---|---|---|---|",
        *(_alarms(_SOURCES[name], rate) for name, rate in measured["ordinary"].items()),
    ]
    return "\n".join(rows)


def redaction_page() -> str:
    """Return the figures of the built-in scan."""
    measured = json.loads(MEASURED.read_text())
    gitleaks = measured["gitleaks"]
    missed = {name: rate for name, rate in gitleaks["rules"].items() if rate[0] < rate[1]}
    parts = [
        "# What redaction finds",
        "*Made from `tests/text/measured.json` by `make reference`; `scripts/measure_redaction.py` measures anew.*",
        f"Measured on {measured['at']} with the built-in scan alone, without rules. Each secret is random, and "
        f"{measured['seeds']} seeds give the texts, so that a run repeats. *Found*: the whole secret is gone from the "
        "text. A test measures the first three rows and the recordings again. "
        "[How to use it](../how-to/redact-secrets.md).",
        summary(measured),
        "How far to trust these figures: the authors of the scan also wrote the forms, from the vendors' "
        "documentation. Others wrote the rules of gitleaks. A first run with these found 92.8 %; then seven missing "
        'kinds were added, and declarations with a type (`var token string = "…"`). No method here finds a secret of '
        "unknown form without a name beside it.",
        "## Rules of gitleaks",
        f"{len(gitleaks['rules'])} of its rules (`config/gitleaks.toml`, commit {gitleaks['version']}), up to 20 "
        "secrets each. Left out: rules for ids and public keys, rules that Python cannot read, and rules that also "
        "match texts unlike any secret. All secrets were found, except:",
        "\n".join(["| rule | found | of |", "|---|---|---|", *(_row(name, rate) for name, rate in missed.items())]),
        "Most missed secrets are short for their kind or have a `=` in their middle, look like a commit's digest "
        "(Sourcegraph), or have no fixed beginning (Facebook).",
        "## Forms of vendors",
        _kinds(measured["forms"]),
        "## Names",
        "`{n}` is the name of a password or token, `{v}` its value.",
        _kinds({f"`{_inline(text)}`": rate for text, rate in measured["names"].items()}),
        "## Places",
        _kinds(measured["places"]),
    ]
    return "\n\n".join(parts) + "\n"


def _total(name: str, rates: Rates) -> str:
    found, count = (sum(column) for column in zip(*rates.values(), strict=True))
    return f"| {name} | {len(rates)} | {count:,} | {100 * found / count:.2f} % |"


def _alarms(name: str, rate: list[int]) -> str:
    changed, count = rate
    return f"| {name} | {count:,} | {changed} | {1000 * changed / count:.1f} |"


def _row(name: str, rate: list[int]) -> str:
    return f"| {name} | {rate[0]} | {rate[1]} |"


def _kinds(rates: Rates) -> str:
    return "\n".join(["| kind | found | of |", "|---|---|---|", *(_row(name, rate) for name, rate in rates.items())])


def _inline(text: str) -> str:
    plain = text.replace("{{", "{").replace("}}", "}").replace("\n", "⏎")
    return plain.replace("|", "\\|")
