"""Usage of a model call, in the JSON text of the provider's or framework's own answer."""

from __future__ import annotations

import re
from typing import Any

#: Synonyms, as OpenAI, Anthropic, Google, LangChain, the AI SDK, Langfuse, MLflow and Genkit write them.
_NAMES = {
    "input": (
        "input_tokens",
        "prompt_tokens",
        "inputTokens",
        "promptTokens",
        "input",
        "prompt_token_count",
        "promptTokenCount",
    ),
    "output": (
        "output_tokens",
        "completion_tokens",
        "outputTokens",
        "completionTokens",
        "output",
        "candidates_token_count",
        "candidatesTokenCount",
    ),
    "cache_read": (
        "cache_read_input_tokens",
        "cached_tokens",
        "cache_read",
        "input_cache_read",
        "input_cached_tokens",
        "cachedInputTokens",
        "cacheReadInputTokens",
        "cachedContentTokens",
        "cachedContentTokenCount",
    ),
    "cache_write": (
        "cache_creation_input_tokens",
        "cache_write_input_tokens",
        "cache_creation",
        "input_cache_creation",
        "cacheCreationInputTokens",
    ),
    "reasoning": (
        "reasoning_tokens",
        "reasoning",
        "output_reasoning",
        "output_reasoning_tokens",
        "reasoningTokens",
        "thoughtsTokens",
        "thoughtsTokenCount",
    ),
}
_FIELDS = {name: field for field, names in _NAMES.items() for name in names}
_COUNT = re.compile(r'"(\w{5,32})": ?(\d{1,18})(?=[,}\s])')
#: Characters of a text that are searched at each end: figures are short, and come before or after the
#: answer.
GLANCE = 4096


def used(value: Any) -> dict[str, int] | None:
    """Return the counts in a JSON text, by field; of several of one meaning the first."""
    if type(value) is not str or not value.startswith("{"):
        return None
    found: dict[str, int] = {}
    for name, count in _COUNT.findall(value[:GLANCE]):
        field = _FIELDS.get(name)
        if field is not None and field not in found:
            found[field] = int(count)
    return found or None
