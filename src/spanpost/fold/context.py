"""Context windows: how full, and when to warn.

Rules. Use is a model call's input tokens, cache included, per lane (task and model). A threshold is told once per climb; a
lane is re-armed by a compaction (a drop of 30 % or more that the next call confirms) or a new conversation. A call older
than its lane's newest never tells.

Names. The same model is told as `openai/gpt-4o`, `gpt-4o-2024-08-06`, `azure/eu/gpt-4o`. A canonical name is what is left
without who serves it, its date and words like `-latest`. Sizes (`-32k`, `-mini`, `:70b`) and versions that a maker counts
(`deepseek-v3`) are other models and stay. Where a date does say another window (`qwen-plus-2025-01-25`), a table lists that
longer name too: a look-up goes from the longest name to the shortest.

Theory. The climb's number, not a time, is part of a warning's id: whatever subset of a history is seen in order, the n-th
climb's warnings have the same ids, so no order tells one twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from spanpost.fold.records import Lane

#: A drop to this share of the former use, or below, may be a compaction.
DROP = 0.7

#: A longer name, or one with more suffixes, is nobody's model; it is compared as it is.
_LONGEST, _MOST_SUFFIXES = 200, 8

#: Who serves it, before a colon. What could as well be an Ollama model with its tag (`mistral:7b`) is not taken for that.
_SERVICE = re.compile(
    r"^(?:openai(?:-chat|-responses)?|azure(?:_openai|_ai)?|anthropic|google(?:-gla|-vertex|_genai|_vertexai|_anthropic_vertex)?"
    r"|vertex(?:_ai)?|gemini|bedrock(?:_converse)?|groq|cohere|deepseek|xai|grok|ollama|openrouter|together|fireworks|huggingface|litellm"
    r"|cerebras|perplexity|moonshotai|github|heroku|vercel|mistral(?:ai)?(?=:\w*stral-|:open-))[:]"
)
#: Bedrock: a geography and the maker. https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html (2026-09)
_BEDROCK = re.compile(
    r"^(?:(?:[a-z]{2}|apac|global|us-gov)\.)?"
    r"(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|stability|twelvelabs"
    r"|writer|xai|zai)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"(?<!claude)(?<!instant)(?:-v\d+(?::\d+)?|-\d+:\d+)$")
#: Makers put before the name with a hyphen, by Databricks and Gradient.
_HYPHENATED = re.compile(r"^(?:databricks-|openai-(?=gpt-|o\d)|anthropic-(?=claude-))(?=.)")

_YEAR, _MONTH, _DAY = r"20[12]\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
#: What says when or how a model is served, never which. A number counts as a date only where it can be one.
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
#: A size of window that the name itself tells: Claude Code's `[1m]`, Bedrock's `:200k`.
_SIZE = re.compile(r"(?:(?<=.)\[(\d{1,4})([km])\]|(?<=:\d):(\d{1,4})(k))$")
_FINE_TUNED = re.compile(r"^ft:([^:]+)")
_QUANTISED = re.compile(r"(?<=\db)(?:-(?:instruct|chat|text|it))?(?:-(?:i?q\d\w*|fp?16|bf16|fp8))?$")

#: Models whose own name has what is elsewhere a suffix. https://platform.openai.com/docs/models (2026-09)
_OWN_NAME = {
    "gpt-4-1106-preview": "gpt-4-turbo",
    "gpt-4-0125-preview": "gpt-4-turbo",
    "o1-preview": "o1-preview",
    "computer-use-preview": "computer-use-preview",
}


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What a call made us conclude: a threshold crossed (per mille), or a compaction (0)."""

    threshold: int
    climb: int
    used: int
    window: int
    before: int = 0


def canonical_model(model: str) -> str:
    """Return the model's name without who serves it, dates and suffixes, lower case."""
    return model_names(model)[-1]


@lru_cache(maxsize=1024)
def model_names(model: str) -> tuple[str, ...]:
    """Return the names by which a model may be known, the most exact first, the canonical one last. Never empty."""
    name = model.strip().lower()
    if len(name) > _LONGEST:
        return (name,)
    size = _SIZE.search(name)
    if size is not None:
        told = f"[{size[1] or size[3]}{size[2] or size[4]}]"
        if _SIZE.search(name[: size.start()].rstrip()):
            return (name,)
        return tuple(shorter + told for shorter in model_names(name[: size.start()]))
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
    """Return the name without those who serve it."""
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


def window_of(model: str | None, table: Mapping[str, int]) -> int | None:
    """Return the context window of a model from a table of canonical names; None when unknown."""
    if not model:
        return None
    exact = table.get(model)
    if exact is not None:
        return exact
    for name in model_names(model):
        known = table.get(name)
        if known is not None:
            return known
    name = canonical_model(model)
    size = _SIZE.search(name)
    if size is not None:
        return int(size[1]) * (1_000_000 if size[2] == "m" else 1_000)
    tuned = _FINE_TUNED.match(name)
    if tuned is not None:
        return window_of(tuned[1], table)
    weights = _QUANTISED.sub("", name)  # llama3:8b-instruct-q4_K_M has the window of llama3:8b
    return table.get(weights) if ":" in weights else None


def judge(
    lane: Lane, at_ns: int, key: bytes, used: int, window: int | None, conversation: str, warn_at: tuple[int, ...]
) -> list[Judged]:
    """Take a call into its lane, in place, and return what is to be told. `warn_at` is in per mille, ascending."""
    if (at_ns, key) <= (lane.newest_ns, lane.newest_key):
        return []
    out: list[Judged] = []
    if conversation and lane.conversation and conversation != lane.conversation:
        _rearm(lane)
        lane.used = 0  # what the former conversation used is no height to drop from
    if conversation:
        lane.conversation = conversation
    if lane.drop is not None:
        before, after = lane.drop
        lane.drop = None
        if used <= before * DROP:
            _rearm(lane)
            out.append(Judged(threshold=0, climb=lane.climb, used=after, window=window or 0, before=before))
    if lane.used and used <= lane.used * DROP and not out:
        lane.drop = (lane.used, used)
    lane.newest_ns, lane.newest_key, lane.used = at_ns, key, used
    if window and lane.drop is None:
        share = used * 1000 // window
        for threshold in warn_at:
            if share >= threshold and threshold not in lane.warned:
                lane.warned.append(threshold)
                out.append(Judged(threshold=threshold, climb=lane.climb, used=used, window=window))
    return out


def _rearm(lane: Lane) -> None:
    lane.climb += 1
    lane.warned = []
    lane.drop = None
