"""Names of models, and the sizes of their context windows.

Names. The same model is called `openai/gpt-4o`, `gpt-4o-2024-08-06`, `azure/eu/gpt-4o`. A canonical name is
the rest without the provider, the date and words like `-latest`. Sizes (`-32k`, `-mini`, `:70b`) and
versions that a maker counts (`deepseek-v3`) are other models and stay. Where a date does mean another window
(`qwen-plus-2025-01-25`), a table lists the longer name too: a look-up goes from the longest name to the
shortest.

Windows. In this order: *given* by the settings for the model; *said* by the span, or by the model's name
(`[1m]`); *observed*, when a larger input was accepted than the table allows; the *table*; the *default* of
the settings. That word is kept with the window everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

#: A longer name, or one with more suffixes, is no known model's; it is compared as it is.
_LONGEST, _MOST_SUFFIXES = 200, 8

#: The provider, before a colon. A name that may be an Ollama model with its tag (`mistral:7b`) is not
#: matched.
_SERVICE = re.compile(
    r"^(?:openai(?:-chat|-responses)?|azure(?:_openai|_ai)?|anthropic|google(?:-gla|-vertex|_genai|_vertexai|_anthropic_vertex)?"
    r"|vertex(?:_ai)?|gemini|bedrock(?:_converse)?|groq|cohere|deepseek|xai|grok|ollama|openrouter|together|fireworks|huggingface|litellm"
    r"|cerebras|perplexity|moonshotai|github|heroku|vercel|mistral(?:ai)?(?=:\w*stral-|:open-))[:]"
)
#: Bedrock: a geography and the maker.
#: https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html (2026-09)
_BEDROCK = re.compile(
    r"^(?:(?:[a-z]{2}|apac|global|us-gov)\.)?"
    r"(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|stability|twelvelabs"
    r"|writer|xai|zai)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"(?<!claude)(?<!instant)(?:-v\d+(?::\d+)?|-\d+:\d+)$")
#: Makers before the name with a hyphen, by Databricks and Gradient.
_HYPHENATED = re.compile(r"^(?:databricks-|openai-(?=gpt-|o\d)|anthropic-(?=claude-))(?=.)")

_YEAR, _MONTH, _DAY = r"20[12]\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
#: Suffixes that say when or how a model is served, not which it is. A number counts as a date only where it
#: can be one.
_SUFFIX = re.compile(
    r"(?<=.)(?:"
    rf"-{_YEAR}-?{_MONTH}-?{_DAY}|-{_MONTH}-{_YEAR}|-2\d{_MONTH}{_DAY}|-{_MONTH}{_DAY}|-2[3-9]{_MONTH}"
    rf"|(?:(?<=-preview)|(?<=-exp))-{_MONTH}-{_DAY}"
    r"|[-:]latest|-preview|-maas|:(?:free|beta|nitro|floor|online|exacto)"
    r"|@[\w.-]+"  # Vertex: what follows the at sign is a version, `default` or a number
    r"|(?<!claude)(?<!instant)-v?\d+:\d+"  # Bedrock without its maker
    rf"|(?<={_YEAR}\d{{4}})-v\d"
    r")$"
)
_VERTEX_DATE = re.compile(r"(?<=.)@(\d{4,8}|latest)$")
_GEMINI_VERSION = re.compile(r"^(gemini-.+)-00\d$")
_CLAUDE_DOT = re.compile(r"(?<=\d)\.(?=\d)")
#: A window size in the name itself: Claude Code's `[1m]`, Bedrock's `:200k`.
_SIZE = re.compile(r"(?:(?<=.)\[(\d{1,4})([km])\]|(?<=:\d):(\d{1,4})(k))$")
_FINE_TUNED = re.compile(r"^ft:([^:]+)")
_QUANTISED = re.compile(r"(?<=\db)(?:-(?:instruct|chat|text|it))?(?:-(?:i?q\d\w*|fp?16|bf16|fp8))?$")

#: Models whose own name has a part that is a suffix elsewhere. https://platform.openai.com/docs/models
#: (2026-09)
_OWN_NAME = {
    "gpt-4-1106-preview": "gpt-4-turbo",
    "gpt-4-0125-preview": "gpt-4-turbo",
    "o1-preview": "o1-preview",
    "computer-use-preview": "computer-use-preview",
}


@dataclass(frozen=True, kw_only=True)
class ContextRules:
    """When to warn about a context window that fills."""

    #: Warn at these shares of the window, ascending; and at these numbers of tokens.
    warn_at: tuple[float, ...] = (0.70, 0.85)
    warn_tokens: tuple[int, ...] = ()
    #: Warn ahead when the largest share or a cap is forecast within this many calls, or this time.
    ahead_calls: int = 3
    ahead: timedelta = timedelta(minutes=1)
    #: Windows of models by their names, in tokens; and the window of a model without one.
    windows: Mapping[str, int] = field(default_factory=dict)
    default_window: int | None = None


def canonical_model(model: str) -> str:
    """Return the model's name without provider, dates and suffixes, in lower case."""
    return model_names(model)[-1]


@lru_cache(maxsize=1024)
def model_names(model: str) -> tuple[str, ...]:
    """Return the names by which a model may be known, the most exact first, the canonical one last.

    Never empty.
    """
    name = model.strip().lower()
    if len(name) > _LONGEST:
        return (name,)
    size = _SIZE.search(name)
    if size is not None:
        suffix = f"[{size[1] or size[3]}{size[2] or size[4]}]"
        if _SIZE.search(name[: size.start()].rstrip()):
            return (name,)
        return tuple(shorter + suffix for shorter in model_names(name[: size.start()]))
    names: list[str] = []
    while True:
        name = _bare(name)
        if _SIZE.search(name):  # it stood before a suffix
            return (*names, *model_names(name))
        names.append(name)
        if len(names) > _MOST_SUFFIXES:
            return tuple(names[:1])
        own = _OWN_NAME.get(name)
        if own is not None:
            return (*names, own) if own != name else tuple(names)
        gemini = _GEMINI_VERSION.match(name)
        shorter = gemini[1] if gemini is not None else _SUFFIX.sub("", name).strip()
        if shorter == name or not shorter:
            return tuple(names)
        name = shorter


def _bare(name: str) -> str:
    """Return the name without its providers."""
    while True:
        former = name
        name = name.rsplit("/", 1)[-1].strip() or name
        name = _SERVICE.sub("", name).strip() or name
        bedrock = _BEDROCK.match(name)
        if bedrock is not None:
            rest = _BEDROCK_VERSION.sub("", name[bedrock.end() :])
            name = f"deepseek-{rest}" if bedrock[1] == "deepseek" else rest  # its models there are called v3 and r1
        name = _HYPHENATED.sub("", name).strip()
        if name == former:
            break
    name = _VERTEX_DATE.sub(r"-\1", name)
    if name.startswith("claude-"):
        return _CLAUDE_DOT.sub("-", name)  # OpenRouter and Copilot write claude-sonnet-4.5
    if name.startswith("gpt-35-"):
        return f"gpt-3.5-{name[7:]}"  # Azure allows no dot in a deployment's name
    return name


#: How a window's size is known, from the surest down.
GIVEN, SAID, OBSERVED, TABLE, DEFAULT = "given", "said", "observed", "table", "default"
#: Usual window sizes: when a larger input was accepted than the table allows, the next of them is taken.
_SIZES = (
    4_096,
    8_192,
    16_384,
    32_768,
    65_536,
    131_072,
    200_000,
    262_144,
    400_000,
    524_288,
    1_000_000,
    1_048_576,
    2_097_152,
)


class Window(NamedTuple):
    """A context window: its tokens, and how they are known."""

    tokens: int
    source: str


class Windows(NamedTuple):
    """Known windows: tokens by model name, the names that the settings give, and the default."""

    table: Mapping[str, int]
    given: Collection[str] = ()
    default: int | None = None


def resolve(model: str | None, known: Windows, *, said: int | None = None, accepted: int = 0) -> Window | None:
    """Return a model's window; None when unknown.

    `accepted` is the largest input that the model is known to have taken.
    """
    key = _key(model, known.table) if model else None
    if key is not None and key in known.given:
        return Window(known.table[key], GIVEN)
    if said:
        return Window(said, SAID)
    if key is not None:
        tokens, source = known.table[key], TABLE
    else:
        size = _size(model) if model else None
        if size is not None:
            return Window(size, SAID)
        if known.default is None:
            return None
        tokens, source = known.default, DEFAULT
    if accepted > tokens:
        return Window(next((size for size in _SIZES if size >= accepted), accepted), OBSERVED)
    return Window(tokens, source)


def window_of(model: str | None, table: Mapping[str, int]) -> int | None:
    """Return a model's window from a table of canonical names, or from its own name; None when unknown."""
    if not model:
        return None
    key = _key(model, table)
    return table[key] if key is not None else _size(model)


def _key(model: str, table: Mapping[str, int]) -> str | None:
    """Return the name that the table has for the model; None when it has none."""
    if model in table:
        return model
    name = model
    for name in model_names(model):
        if name in table:
            return name
    if _SIZE.search(name) is not None:
        return None
    tuned = _FINE_TUNED.match(name)
    if tuned is not None:
        return _key(tuned[1], table)
    weights = _QUANTISED.sub("", name)  # llama3:8b-instruct-q4_K_M has the window of llama3:8b
    return weights if ":" in weights and weights in table else None


def _size(model: str) -> int | None:
    """Return the window size in a model's name; None when there is none."""
    size = _SIZE.search(canonical_model(model))
    return None if size is None else int(size[1] or size[3]) * (1_000_000 if (size[2] or size[4]) == "m" else 1_000)
