"""What people and models said: off by default.

Telemetry of agents carries prompts, completions, tool arguments and results, in dozens of spellings. They are read for what
the figures need and then left out of the audit row, unless settings ask for them (``intake.capture_content``). What was
there stays known by its length.

A name counts as content when one of its parts is a word for content, however its parts are joined (``span_inputs``,
``vendor:input``, ``spanInputs``). That is a rule rather than a list of vendors, so that a framework nobody has seen keeps its
prompts out of the rows as well; names that carry figures about content are spared. A long JSON document counts as content by
itself: nobody can say what is in it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from spanpost.model.observations import Observation, Part

#: Words for what was said, as a whole part of a name.
_WORDS = re.compile(
    r"(?:^|[._:/-])(?:"
    r"messages?|prompts?|completions?|content|instructions?|input|inputs|output|outputs|arguments|args|kwargs|parameters|"
    r"response|result|results|query|queries|document|documents|text|tool_input|tool_output|tool_response|"
    r"system_prompt|user_prompt|all_messages|events|final_result|body|command|full_command|bash_command|command_line|raw|crew_agents|crew_tasks|crew_inputs|flow_inputs|prompt_text"
    r")(?:$|[._:/-])|(?:^|[._:/-])task$"
)
#: Between the words of a name in camel case.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: A JSON document longer than this is content.
_DOCUMENT = 200
#: Names of figures and identities that those words also stand in.
_SPARED = re.compile(
    r"token|usage|count|length|size|(?:^|[._])id$|_id$|\.ids$|(?:^|[._])model$|finish|reasons?$|\.type$|_type$|mime|version|"
    r"tier|fingerprint|uuid|index|first_chunk|source|class$|"
    r"temperature|max_|top_p|duration|_ms$|\.name$|_name$|status|cost|role$|\.kind$|schema_url|encoding_format|choice\.count"
)
#: Ours: what an agent says through agent.* is meant to be shown.
_OURS = "agent."


@lru_cache(maxsize=4096)
def is_content(name: str) -> bool:
    """Tell whether an attribute of this name holds what people or models said."""
    lowered = _HUMP.sub("_", name).lower()
    return not is_spared(name) and _WORDS.search(lowered) is not None


@lru_cache(maxsize=4096)
def is_spared(name: str) -> bool:
    """Tell whether an attribute of this name is kept whatever it holds: a figure, an identity, or what an agent says through us."""
    lowered = _HUMP.sub("_", name).lower()
    return lowered.startswith((_OURS, "exception.")) or _SPARED.search(lowered) is not None


#: Which of a span's attributes hold content, by all their names: a program makes the same few sorts of spans over and over.
_known: dict[tuple[str, ...], tuple[str, ...]] = {}
_MEMO = 4096


def _content_of(names: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple([name for name in names if is_content(name)])
    if len(_known) >= _MEMO:
        _known.clear()
    if len(names) <= 64:
        _known[names] = found
    return found


def without_content(o: Observation) -> Observation:
    """Return the observation with content left out: of its attributes, and of a log record's body."""
    attributes, body = o.attributes, o.body
    if not attributes and body is None:
        return o
    names = tuple(attributes)
    content = _known.get(names)
    if content is None:
        content = _content_of(names)
    if content:
        attributes = attributes.copy()
        for name in content:
            attributes[name] = _left_out(attributes[name])
    for name, value in attributes.items():
        if type(value) is str and len(value) > _DOCUMENT and value[0] in "{[" and not is_spared(name):
            if attributes is o.attributes:
                attributes = attributes.copy()
            attributes[name] = _left_out(value)  # of a name that is there already: the dict does not change its shape
    if body is not None and o.part is Part.LOG and not (isinstance(body, str) and not o.name):
        body = _left_out(body)
    if attributes is o.attributes and body is o.body:
        return o
    return msgspec.structs.replace(o, attributes=attributes, body=body)


def _left_out(value: Any) -> Any:
    """Return a stand-in that says how much there was; figures and truths stay, they are nobody's words."""
    if value is None or isinstance(value, bool | int | float):
        return value
    try:
        size = len(value) if isinstance(value, str | bytes) else len(msgspec.json.encode(value, enc_hook=str))
    except Exception:
        size = 0
    return f"[content not kept: {size} characters]"
