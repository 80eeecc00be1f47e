"""Undeclared attributes, recognised by the shape of their names, whatever their vendor prefix.

Rules. ``<vendor>.span.kind`` and the like set a span's role if their value is one of the common words.
Names that end in ``usage.input_tokens``, ``promptTokens`` and the like hold tokens. Other fields (model,
tool, conversation) are read only from spans that another rule marks as an agent's. A declared name always
wins; these rank last.
"""

from __future__ import annotations

import re
from functools import lru_cache

from spanpost.model.readings import Role

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
LONGEST = 120
#: A part that every such name contains, in any case: tested first, for all undeclared names.
MAYBE = re.compile(
    r"kind|type|token|model|tool|finish|stop_?reason|session|conversation|thread|response", re.IGNORECASE
)

#: Heads of names that only look like those of a span's kind.
FOREIGN = ("logfire", "otel", "db", "dd", "http", "rpc", "messaging")
KIND = re.compile(r"^[a-z][\w.]*[._](?:span|observation|run|node)[._]?(?:kind|type)$")
#: Field, its shape, and whether such a name alone makes a span an agent's.
SHAPES: tuple[tuple[str, re.Pattern[str], bool], ...] = (
    ("cache_read", re.compile(r"(?:^|[._])(?:cache[._]read|cached)(?:[._](?:input|prompt))?_tokens$"), False),
    ("cache_write", re.compile(r"(?:^|[._])cache[._](?:write|creation)(?:[._](?:input|prompt))?_tokens$"), False),
    ("reasoning", re.compile(r"(?:^|[._])(?:reasoning|thoughts|thinking)(?:[._]output)?_tokens$"), False),
    (
        "input",
        re.compile(r"(?:^|[._])(?:usage|tokens?(?:_count|_usage)?)[._](?:input|prompt)(?:_tokens?)?(?:_count)?$"),
        True,
    ),
    ("input", re.compile(r"[._](?:input|prompt)_tokens?(?:_count)?$"), True),
    (
        "output",
        re.compile(r"(?:^|[._])(?:usage|tokens?(?:_count|_usage)?)[._](?:output|completion)(?:_tokens?)?(?:_count)?$"),
        True,
    ),
    ("output", re.compile(r"[._](?:output|completion)_tokens?(?:_count)?$"), True),
    ("used", re.compile(r"(?:^|[._])(?:token_usage|usage_metadata|usage_details)$"), False),
    ("model_answered", re.compile(r"[._]response[._]model(?:_name|_id)?$"), False),
    (
        "model_asked",
        re.compile(r"(?:[._]request[._]model(?:_name|_id)?|(?:^|[._])(?:llm|ai)[._]model(?:[._](?:name|id))?)$"),
        False,
    ),
    ("finish", re.compile(r"(?:^|[._])(?:finish_reasons?|stop_reason)$"), False),
    ("response", re.compile(r"(?:^|[._])(?:llm|ai|model)[._]response[._]id$"), False),
    ("tool_name", re.compile(r"(?:^|[._])tool(?:_call)?[._]name$"), False),
    ("tool_call_id", re.compile(r"(?:^|[._])tool(?:_call|[._]call)?[._]id$"), False),
    ("conversation_id", re.compile(r"[._](?:conversation|thread|chat_session)[._]id$"), False),
)

_WORDS = {
    Role.AGENT: ("agent", "agent_run", "invoke_agent", "agent.run"),
    Role.WORKFLOW: ("workflow", "workflow_run", "crew", "team", "swarm", "orchestration"),
    Role.LLM: ("llm", "llm_call", "chat_model", "model_call", "generation", "model_generation", "chat_completion"),
    Role.TOOL: ("tool", "tool_call", "mcp_tool_call", "tool_execution", "execute_tool"),
    Role.STEP: ("chain", "agent_step", "workflow_step", "model_step", "turn"),
    Role.HANDOFF: ("handoff",),
}
#: The words in the three ways they are written.
WORDS = {
    form: role
    for role, words in _WORDS.items()
    for word in words
    for form in (word, word.upper(), word.title().replace("_", ""))
}


@lru_cache(maxsize=8192)
def shape_of(key: str) -> tuple[str, bool] | None:
    """Return the field that an undeclared attribute holds by its name, ``kind`` among them, and whether it
    marks an agent's span.
    """
    if len(key) > LONGEST or MAYBE.search(key) is None:
        return None
    name = _CAMEL.sub("_", key).lower().replace(":", ".")
    if KIND.match(name) is not None and not name.startswith(FOREIGN):
        return "kind", True
    return next(((field, marks) for field, pattern, marks in SHAPES if pattern.search(name) is not None), None)
