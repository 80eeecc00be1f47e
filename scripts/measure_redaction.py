"""Measure which secrets the built-in scan finds, and which ordinary texts it changes; docs/reference/redaction.md
shows the result, which is kept in tests/text/measured.json.

``python scripts/measure_redaction.py [--gitleaks gitleaks.toml]``, then ``make reference``. Secrets are random,
from seeds, so that a run repeats. With gitleaks' rules (its file config/gitleaks.toml) secrets are drawn from its
expressions too, which were written by others; without the file those figures stay as they are."""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import string
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spanpost.text.secrets import Scanner

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.text import ordinary, realistic
from tests.text.realistic import TEXTS, Case

RESULT = Path(__file__).parent.parent / "tests" / "text" / "measured.json"
SEEDS = 20
#: How many secrets are drawn from each of gitleaks' rules.
_DRAWN = 20
_WORD = string.ascii_letters + string.digits + "_"
_SETS = {"CATEGORY_WORD": _WORD, "CATEGORY_DIGIT": string.digits, "CATEGORY_SPACE": " "}
#: Rules whose expressions also match what no such secret looks like, and those for ids and public keys.
_LOOSE = frozenset(
    {"generic-api-key", "jwt", "jwt-base64", "private-key", "kubernetes-secret-yaml", "sidekiq-sensitive-url"}
    | {"curl-auth-user", "curl-auth-header", "hashicorp-tf-password"}
)
_PUBLIC = ("-client-id", "-pub-key", "-access-id", "-api-id", "-public-key")
#: In each of gitleaks' rules for a value behind a name.
_NAMED = r"[ \t\w.-]{0,20}"
#: Forms in which gitleaks' own tests write such a value (cmd/generate/config/utils/generate.go).
_FORMS = (
    '{i}Token="{s}"',
    "{i}Token = {s}",
    '{{\n    "{i}_token": "{s}"\n}}',
    "{i}_token: '{s}'",
    'var {i}Token string = "{s}"',
    'System.setProperty("{I}_TOKEN", "{s}")',
    '  "{i}Token" => "{s}"',
    '{i}_api_token = "{s}"',
)


def rates(cases: Iterable[Case]) -> dict[str, list[int]]:
    """Return for each kind how many secrets were found, and how many there were."""
    scanner = Scanner(b"k" * 32)
    found: dict[str, list[int]] = {}
    for case in cases:
        rate = found.setdefault(case.what, [0, 0])
        rate[0] += case.secret not in scanner.scan(case.text)
        rate[1] += 1
    return found


def alarms(texts: Iterable[tuple[str, str]]) -> dict[str, list[int]]:
    """Return for each source how many texts were changed, and how many there were."""
    scanner = Scanner(b"k" * 32)
    changed: dict[str, list[int]] = {}
    for source, text in texts:
        rate = changed.setdefault(source, [0, 0])
        rate[0] += scanner.scan(text) != text
        rate[1] += 1
    return changed


def own() -> dict[str, dict[str, list[int]]]:
    """Return the rates of the forms, names and places of `tests/text/realistic.py`."""
    sources = {"forms": realistic.by_form, "names": realistic.by_name, "places": realistic.by_place}
    return {
        name: dict(sorted(rates(case for seed in range(SEEDS) for case in source(seed)).items()))
        for name, source in sources.items()
    }


def foreign(config: Path) -> Iterator[Case]:
    """Yield secrets drawn from gitleaks' rules: in texts if they have a form of their own, else behind a name."""
    for rule in tomllib.loads(config.read_text())["rules"]:
        if "regex" not in rule or rule["id"] in _LOOSE or rule["id"].endswith(_PUBLIC):
            continue
        rng = random.Random(rule["id"])
        for number in range(_DRAWN):
            try:
                text, secret = _drawn(rule["regex"], rng)
            except (ValueError, IndexError, re.error):
                break  # of Go's notation alone
            if len(secret) < 6 or _entropy(secret) < rule.get("entropy", 0):
                continue
            if _NAMED in rule["regex"]:
                name = rule["id"].split("-")[0]
                form = _FORMS[number % len(_FORMS)]
                yield Case(rule["id"], form.format(i=name, I=name.upper(), s=secret), secret)
            else:
                place = TEXTS[number % len(TEXTS)].replace("{{", "{").replace("}}", "}")
                yield Case(rule["id"], place.replace("{}", text), secret)


def _entropy(text: str) -> float:
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _drawn(expression: str, rng: random.Random) -> tuple[str, str]:
    """Return a random match, and its first group: the secret."""
    either_case = "(?i" in expression
    pattern = re.sub(r"\(\?-?i:", "(?:", expression.replace("(?i)", "").replace(r"\z", r"\Z"))
    pattern = pattern.replace("[[:alnum:]]", "[0-9A-Za-z]").replace("[:alnum:]", "0-9A-Za-z").replace(r"\x60", "`")
    groups: dict[int, str] = {}
    text = _match(re._parser.parse(pattern), rng, groups, either_case)  # type: ignore[attr-defined]
    secret = groups.get(1, text)
    # What follows the secret is its end, and no part of it.
    return text[: text.rfind(secret) + len(secret)], secret


def _match(tree: Any, rng: random.Random, groups: dict[int, str], either_case: bool) -> str:
    out = ""
    for operation, given in tree:
        match str(operation):
            case "LITERAL":
                out += chr(given)
            case "ANY":
                out += "."
            case "IN":
                out += rng.choice(_characters(given, either_case))
            case "BRANCH":
                out += _match(rng.choice(given[1]), rng, groups, either_case)
            case "SUBPATTERN":
                inner = _match(given[3], rng, groups, either_case)
                if given[0]:
                    groups[given[0]] = inner
                out += inner
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, repeated = given
                for _ in range(rng.randint(least, min(most, least + 8))):
                    out += _match(repeated, rng, groups, either_case)
            case "AT" | "ASSERT" | "ASSERT_NOT":
                pass
            case _:
                raise ValueError(operation)
    return out


def _characters(items: Any, either_case: bool) -> list[str]:
    found: set[str] = set()
    is_negated = False
    for operation, given in items:
        match str(operation):
            case "NEGATE":
                is_negated = True
            case "LITERAL":
                found.add(chr(given))
            case "RANGE":
                found |= set(map(chr, range(given[0], given[1] + 1)))
            case "CATEGORY":
                found |= set(_SETS.get(str(given), string.ascii_letters))
    if is_negated:
        found = set(string.ascii_letters + string.digits) - found
    elif either_case and found >= set(string.ascii_lowercase):
        found |= set(string.ascii_uppercase)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gitleaks", type=Path, help="gitleaks' file config/gitleaks.toml")
    parser.add_argument("--version", default="", help="its version or commit, for the page")
    parser.add_argument("--missed", action="store_true", help="print what was not found, and write nothing")
    asked = parser.parse_args()
    if asked.missed:
        scanner = Scanner(b"k" * 32)
        for case in foreign(asked.gitleaks) if asked.gitleaks else realistic.all_cases(0):
            if case.secret in scanner.scan(case.text):
                print(f"{case.what}: {case.text!r}")
        return
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    measured = {
        "at": datetime.now(UTC).date().isoformat(),
        "seeds": SEEDS,
        **own(),
        "ordinary": alarms(ordinary.all_texts()),
        "gitleaks": before.get("gitleaks"),
    }
    if asked.gitleaks is not None:
        measured["gitleaks"] = {"version": asked.version, "rules": rates(foreign(asked.gitleaks))}
    RESULT.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
