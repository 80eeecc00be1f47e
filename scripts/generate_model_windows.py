"""Make the table of context windows that the package ships, from litellm's list of models.

    pip download --no-deps --dest DIR litellm
    python scripts/generate_model_windows.py DIR/litellm-*.whl

Only chat models are taken. Entries that `canonical_model` calls by one name become one, by these rules:

1. The maker's entry beats those of others: OpenAI of gpt-4o, Anthropic of claude, Bedrock of Amazon's nova.
2. Of the maker's entries, the one without a date beats the one called `-latest`, and that beats the dated
ones. Of equal ones the smallest window counts, so that a warning comes too early, not too late. 3. If the
maker gives no figure (open weights), the lower median of one vote per provider: one provider that cuts a
model down to 8k must not warn all others at 6k, and one that exaggerates must not suppress the warning. 4. A
dated name whose window differs from the canonical one is kept beside it (mistral-large-2402): as the maker
says it, or by rule 3 if the maker no longer lists it. Fine-tuned models are left out: they have the window
of their base. 5. Some entries give input and output together (gpt-5.1-codex: 400,000 with 128,000 out).
Where another provider gives exactly the difference (272,000), that is the most input. 6. GitHub Copilot's
entries are left out: it cuts most models to a window of its own.

`max_input_tokens` is the most that a call may send, smaller than what some makers call the window (gpt-5:
272,000 of 400,000).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from spanpost.tasks.context import canonical_model, model_names

MEMBER = "litellm/model_prices_and_context_window_backup.json"
TARGET = Path(__file__).parent.parent / "src/spanpost/runtime/data/model_windows.json"
MODES = frozenset({"chat", "completion", "responses"})
CUTTERS = frozenset({"github_copilot"})

#: The maker's own services, whose figures count for a family of names.
MAKERS = (
    (r"(gpt-(?!oss)|chatgpt|o\d|codex|davinci|babbage|computer-use)", {"openai", "text-completion-openai"}),
    (r"claude", {"anthropic"}),
    (r"(gemini|gemma-\d-.*it$)", {"gemini", "vertex_ai-language-models"}),
    (r"(nova|titan)", {"amazon_nova", "bedrock", "bedrock_converse"}),
    (r"(open-)?(\w*stral|mixtral)", {"mistral", "codestral", "text-completion-codestral"}),
    (r"(command|c4ai)", {"cohere", "cohere_chat"}),
    (r"deepseek", {"deepseek"}),
    (r"grok", {"xai"}),
    (r"(jamba|j2)", {"ai21"}),
    (r"(kimi|moonshot)", {"moonshot"}),
    (r"glm", {"zai"}),
    (r"minimax", {"minimax"}),
    (r"(qwen|qwq)", {"dashscope", "qwen_ai_platform", "qwencloud"}),
    (r"sonar", {"perplexity"}),
)


class Entry(NamedTuple):
    """One line of litellm's list."""

    name: str
    provider: str
    window: int
    output: int | None
    is_makers: bool


def main(arguments: list[str] | None = None) -> int:
    """Write the table and say what was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="litellm's wheel, or the JSON file out of it")
    parser.add_argument("--version", help="litellm's version; the name of a wheel has it, a JSON file needs it")
    today = datetime.now(UTC).date()
    parser.add_argument("--date", type=date.fromisoformat, default=today, help="date of the list; default: today")
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args(arguments)
    listed, version = read_list(options.source)
    version = options.version or version
    if not version:
        parser.error("--version is required when the source is a JSON file")
    models = collapse(listed)
    text = render(models, version, options.date)
    options.target.parent.mkdir(parents=True, exist_ok=True)
    options.target.write_text(text, encoding="utf-8")
    print(
        f"{len(models)} names of {len(listed)} entries, {len(text.encode())} bytes: {options.target}", file=sys.stderr
    )
    return 0


def read_list(source: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Return litellm's list, and its version if the file's name has it."""
    if not zipfile.is_zipfile(source):
        return json.loads(source.read_bytes()), ""
    with zipfile.ZipFile(source) as wheel:
        named = re.match(r"litellm-([^-]+)", source.name)
        return json.loads(wheel.read(MEMBER)), named[1] if named else ""


def collapse(listed: dict[str, dict[str, Any]]) -> dict[str, tuple[int, int | None]]:
    """Return window and most output tokens by name, as the rules above have it."""
    by_canon: dict[str, list[Entry]] = defaultdict(list)
    for key, listing in listed.items():
        window, output = listing.get("max_input_tokens"), listing.get("max_output_tokens")
        if listing.get("mode") not in MODES or type(window) is not int or window <= 0 or "ft:" in key:
            continue
        provider = str(listing.get("litellm_provider"))
        if provider in CUTTERS:
            continue
        canon = canonical_model(key)
        entry = Entry(
            model_names(key)[0], provider, window, output if type(output) is int else None, is_makers(canon, provider)
        )
        by_canon[canon].append(entry)
    models: dict[str, tuple[int, int | None]] = {}
    for canon, entries in by_canon.items():
        models[canon] = figures(entries, canon, entries)
        for name in {entry.name for entry in entries if entry.is_makers or entry.name[-1].isdigit()} - {canon}:
            dated = figures([entry for entry in entries if entry.name == name], canon, entries)
            if dated[0] != models[canon][0]:
                models[name] = dated
    return models


def figures(entries: list[Entry], canon: str, peers: list[Entry]) -> tuple[int, int | None]:
    """Return the maker's figures, else the others' consensus; without the output where peers show that it is
    included.
    """
    makers = [entry for entry in entries if entry.is_makers]
    window, output = choose(makers, canon) if makers else consensus(entries)
    if output is not None and any(entry.window == window - output for entry in peers):
        window -= output
    return window, output


def is_makers(canon: str, provider: str) -> bool:
    """Return whether the provider makes the model."""
    return any(re.match(family, canon) and provider in providers for family, providers in MAKERS)


def choose(entries: list[Entry], canon: str) -> tuple[int, int | None]:
    """Return the figures of the best of the maker's entries: undated, then latest, then the smallest window."""
    best = min(entries, key=lambda e: (e.name != canon, not e.name.endswith("-latest"), e.window, e.output or 0))
    return best.window, best.output


def consensus(entries: Iterable[Entry]) -> tuple[int, int | None]:
    """Return the figures that the lower half of the providers can all give."""
    votes: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda e: (e.window, e.output or 0)):
        votes.setdefault(entry.provider, entry)  # the least that this provider gives
    ranked = sorted(votes.values(), key=lambda e: (e.window, e.output or 0))
    middle = ranked[(len(ranked) - 1) // 2]
    return middle.window, middle.output


def render(models: dict[str, tuple[int, int | None]], version: str, made: date) -> str:
    """Return the file: one model a line, so that a new list makes a readable difference."""
    head = {
        "source": "litellm: model_prices_and_context_window_backup.json, https://github.com/BerriAI/litellm",
        "version": version,
        "date": made.isoformat(),
        "licence": "MIT",
        "notice": NOTICE,
        "made_by": "scripts/generate_model_windows.py",
        "columns": ["max_input_tokens", "max_output_tokens"],
    }
    lines = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(row, separators=(',', ':'))}" for name, row in sorted(models.items())
    )
    return json.dumps(head, indent=1)[:-2] + ',\n "models": {\n' + lines + "\n}}\n"


#: The licence requires that it accompanies the data.
NOTICE = """Copyright (c) 2023 Berri AI

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated \
documentation files (the "Software"), to deal in the Software without restriction, including without limitation \
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and \
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of \
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO \
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE \
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF \
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER \
DEALINGS IN THE SOFTWARE."""

if __name__ == "__main__":
    raise SystemExit(main())
