"""crewAI 1.15 with Traceloop's instrumentation 0.62.4: no model calls, no tools, and the crew's tokens as
text.
"""

from __future__ import annotations

import re

from spanpost.readers.dialect import Dialect, ReadSpan

_TOKENS = {
    "total_input": re.compile(r"\bprompt_tokens=(\d{1,18})\b"),
    "total_output": re.compile(r"\bcompletion_tokens=(\d{1,18})\b"),
    "total_cache_read": re.compile(r"\bcached_prompt_tokens=(\d{1,18})\b"),
}


def _refine(span: ReadSpan) -> None:
    usage = span.attributes.get("crewai.crew.token_usage")
    if type(usage) is not str or not span.role.is_root_span:
        return
    for field, pattern in _TOKENS.items():
        found = pattern.search(usage, 0, 2000)
        if found is not None:
            span.inner.setdefault(field, int(found.group(1)))


CREWAI = Dialect(
    name="crewai by traceloop",
    source="opentelemetry-instrumentation-crewai 0.62.4",
    cannot_tell=("model calls and tools", "tokens of each agent: the crew's root has those of the crew"),
    scopes=("opentelemetry.instrumentation.crewai",),
    has_lifetime_totals=True,
    refine=_refine,
)
