"""Content, i.e. the words of people and models: left out by default.

Telemetry of agents carries prompts, completions, tool arguments and results, in dozens of spellings. They
are read for the figures and then left out of the audit row, unless ``intake.capture_content`` is set. Their
length is kept.

A name means content if one of its parts is a word for content, however its parts are joined
(``span_inputs``, ``vendor:input``, ``spanInputs``). This is a rule and no list of vendors, so prompts of
unknown frameworks stay out of the rows too; names of figures about content are spared. A long JSON document
counts as content, because its parts are unknown.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part

#: Words for content, as a whole part of a name.
CONTENT_WORDS = re.compile(
    r"(?:^|[._:/-])(?:"
    r"messages?|prompts?|completions?|content|instructions?|input|inputs|output|outputs|arguments|args|kwargs|parameters|"
    r"response|result|results|query|queries|document|documents|text|tool_input|tool_output|tool_response|"
    r"system_prompt|user_prompt|all_messages|events|final_result|body|explanation|command|full_command|bash_command|command_line|raw|crew_agents|crew_tasks|crew_inputs|flow_inputs|prompt_text|"
    r"provider_metadata"
    r")(?:$|[._:/-])|(?:^|[._:/-])task$"
)
#: The place between two words in camel case.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: A JSON document longer than this is content.
DOCUMENT = 200
#: Names of figures and ids that also contain those words.
SPARED = re.compile(
    r"token|usage|count|length|size|(?:^|[._])id$|_id$|\.ids$|(?:^|[._])model$|finish|reasons?$|\.type$|_type$|mime|version|"
    r"tier|fingerprint|uuid|index|first_chunk|source|class$|"
    r"temperature|max_|top_p|duration|_ms$|\.name$|_name$|status|cost|role$|\.kind$|schema_url|encoding_format|choice\.count"
)
#: An error that is a handoff to another agent, and whose message is the state that it passes on: LangGraph's
#: `Command(graph=Command.PARENT)`.
HANDOFF = re.compile(r"(?:[\w.]{0,80}\.)?ParentCommand\b")
_PASSED_ON = (c.EXCEPTION_MESSAGE, c.EXCEPTION_STACKTRACE)
#: Attributes that are always kept: agents set agent.* to be shown.
OURS = ("agent.", "exception.")
#: What content is replaced by, here or by the exporter of a Collector (`scripts/write_collector_rules.py`).
_PLACEHOLDER = re.compile(r"\[content not kept: \d{1,19} characters\]")


@lru_cache(maxsize=4096)
def is_content(name: str) -> bool:
    """Tell whether an attribute of this name holds content."""
    lowered = _HUMP.sub("_", name).lower()
    return not is_spared(name) and CONTENT_WORDS.search(lowered) is not None


@lru_cache(maxsize=4096)
def is_spared(name: str) -> bool:
    """Tell whether an attribute of this name is always kept: a figure, an id, or an agent's own `agent.*`."""
    lowered = _HUMP.sub("_", name).lower()
    return lowered.startswith(OURS) or SPARED.search(lowered) is not None


#: Content attributes by all names of a span: a program makes the same few kinds of spans again and again.
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
    """Return the observation without content: in its attributes, a log record's body, and what a handoff passes on."""
    attributes, body = o.attributes, o.body
    if o.thrown or o.status_message or o.name in c.EXCEPTION_EVENTS:
        o = _without_passed_on(o)
        attributes = o.attributes
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
        if type(value) is str and len(value) > DOCUMENT and value[0] in "{[" and not is_spared(name):
            if attributes is o.attributes:
                attributes = attributes.copy()
            attributes[name] = _left_out(value)  # the name exists already: the dict keeps its shape
    if body is not None and o.part is Part.LOG and not (isinstance(body, str) and not o.name):
        body = _left_out(body)
    if attributes is o.attributes and body is o.body:
        return o
    return msgspec.structs.replace(o, attributes=attributes, body=body)


def _without_passed_on(o: Observation) -> Observation:
    """Return the observation without the state that a handoff passes on as the message of an exception."""
    if (passed := HANDOFF.match(o.status_message)) and passed[0] != o.status_message:
        o = msgspec.structs.replace(o, status_message=passed[0])
    if o.thrown and (found := _handoff(*o.thrown[:2])):
        o = msgspec.structs.replace(o, thrown=(found, "", ""))
    if _handoff(o.attributes.get(c.EXCEPTION_TYPE), o.attributes.get(c.EXCEPTION_MESSAGE)):
        words = {name: _left_out(o.attributes[name]) for name in _PASSED_ON if name in o.attributes}
        o = msgspec.structs.replace(o, attributes={**o.attributes, **words})
    return o


def _handoff(*words: Any) -> str:
    """Return the name of the handoff that an exception's type or message begins with; empty: it is none."""
    found = (HANDOFF.match(each) for each in words if type(each) is str)
    return next((one[0] for one in found if one), "")


def is_left_out(value: Any) -> bool:
    """Tell whether a value stands in place of content that was not kept."""
    return type(value) is str and value[:1] == "[" and _PLACEHOLDER.fullmatch(value) is not None


def _left_out(value: Any) -> Any:
    """Return a placeholder with the size of the content; numbers and booleans stay."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and _PLACEHOLDER.fullmatch(value):
        return value
    try:
        size = len(value) if isinstance(value, str | bytes) else len(msgspec.json.encode(value, enc_hook=str))
    except Exception:
        size = 0
    return f"[content not kept: {size} characters]"
