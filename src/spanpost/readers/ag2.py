"""AG2: its agents speak ``gen_ai.*``; beside each call, and each agent that was called, a span records again
what was used.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

#: Kinds of usage that spans of calls tell, too. Others (a compaction) are told by no other span.
_REPORTED_BY_CALLS = frozenset({"model_call", "subtask"})


def _refine(span: ReadSpan) -> None:
    a = span.attributes
    if a.get("ag2.span.type") == "usage" and a.get("ag2.usage.kind") in _REPORTED_BY_CALLS:
        span.role, span.rule = Role.PLUMBING, "ag2.usage.kind"


AG2 = Dialect(
    name="ag2",
    source="ag2 1.2.1",
    cannot_tell=("ids of responses", "the success of a root: its status is UNSET"),
    scopes=("opentelemetry.instrumentation.ag2",),
    marks=frozenset({"ag2.span.type"}),
    refine=_refine,
)
