"""Keyed hashes of a tool call's arguments and result: they tell whether two calls are equal, and nothing else.

Rules. They are made before content is dropped, and only they are kept. The key is the store's, and the tenant
is part of what is hashed: short arguments cannot be guessed from a hash, and no tenant's hash says anything of
another's. Equal calls have equal hashes in any dialect, order of keys and encoding: a JSON text is decoded, the
wrappings of instrumentations are taken off, and keys are sorted. Fields that differ in each call by their
nature (an id of the call, a reason, a time) are left out, as long as others remain. Of a result, ids and times
are left out as well.

Cost. Linear in the size of the content: arguments above `LONGEST` are hashed as they are, and of a long result
only the ends are searched for ids.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from spanpost.model.readings import Failure
from spanpost.text.content import is_left_out

#: Characters of a value that is decoded; a longer one is hashed as it stands.
LONGEST = 65_536
#: Characters from which an equal result of other arguments is no coincidence ("ok" is one).
CONCLUSIVE = 200
#: Levels of wrappings that are taken off.
_DEPTH = 4
#: Where instrumentations put arguments and results, the most exact first.
_ARGUMENTS = (
    "gen_ai.tool.call.arguments",
    "tool_arguments",
    "ai.toolCall.args",
    "ai.toolCall.input",
    "tool.arguments",
    "gcp.vertex.agent.tool_call_args",
    "input.value",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "genkit:input",
    "haystack.agent.step.tool.input",
    "gen_ai.prompt",
    "tool_input",
    "tool_parameters",
    "full_command",
    "function_args",
    "arguments",
    "input",
)
_RESULTS = (
    "gen_ai.tool.call.result",
    "tool_response",
    "ai.toolCall.result",
    "gcp.vertex.agent.tool_response",
    "output.value",
    "traceloop.entity.output",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "genkit:output",
    "haystack.agent.step.tool.output",
    "gen_ai.completion",
    "tool_output",
    "tool_result",
    "output",
    "result",
)
_ENDINGS = ((".arguments", ".args", ".tool_input"), (".result", ".tool_output"))
#: Around the arguments: keys that hold them, and keys of an instrumentation beside them.
_INSIDE = ("kwargs", "arguments", "args", "input_str", "inputs", "input", "tool_input", "parameters")
_BESIDE = frozenset({"tags", "metadata", "sanitize_inputs_outputs", "tool_name", "tool_call_id"})
#: A model's request for a call, with an id of its own.
_REQUEST = frozenset({"name", "id", "type", "index"})
_REQUESTS = ("tool_call", "function", "tool_use")
#: Fields of arguments that differ by their nature: what the model says about its call, and ids of the call.
_VOLATILE = frozenset(
    {
        "explanation",
        "reason",
        "reasoning",
        "rationale",
        "thought",
        "thoughts",
        "description",
        "justification",
        "timestamp",
        "nonce",
        "seed",
        "requestid",
        "callid",
        "toolcallid",
        "tooluseid",
        "runid",
        "traceid",
        "spanid",
        "correlationid",
        "idempotencykey",
    }
)
#: Parts of a result that differ though it says the same: ids, times, durations.
_PASSING = re.compile(
    r"\b(?:"
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?:call|toolu|tool|run|msg|lc_run)[-_][-_0-9A-Za-z]{6,64}"
    r"|[0-9a-fA-F]{16,64}\b"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d{1,2}:\d\d:\d\d(?:\.\d{1,9})?"
    r"|1[6-9]\d{8}(?:\d{3}|\.\d{1,9})?\b"
    r"|\d{1,9}(?:\.\d{1,9})? ?(?:ms|µs|s|sec|secs|seconds|min|minutes)\b"
    r")"
)
#: Characters at each end of a result in which they are looked for: a wrapping has its ids there.
_ENDS = 1000
#: Words of a result that says: not yet. In a longer result they may mean anything.
_NOT_YET = re.compile(
    r"(?i)\b(?:pending|running|queued|in[ _-]?progress|processing|waiting|not (?:yet|ready)|starting|building|deploying"
    r"|provisioning|creating|initiali[sz]ing|scheduled|still|none yet|no new|try again later)\b"
)
_NOT_YET_MOST = 1000
_NUMBERS = re.compile(r"\d+|'[^']{0,200}'|\"[^\"]{0,200}\"")
_encode: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted", enc_hook=str).encode
_decode = msgspec.json.Decoder().decode


class CallHash(NamedTuple):
    """What is kept of a tool call's content; empty: it was not captured."""

    #: Of the arguments.
    arguments: bytes
    #: Of the result or the error; `is_conclusive`: it is long enough that only equal calls have it.
    outcome: bytes
    is_conclusive: bool = False
    #: The result says that something is not ready yet.
    is_waiting: bool = False


def hash_call(
    attributes: Mapping[str, Any], failure: Failure | None, *, has_failed: bool, tool: str, tenant: str, key: bytes
) -> CallHash:
    """Return the hashes of a tool call.

    `key` has at most 64 bytes. Never raises, whatever the attributes hold.
    """
    given, gave = _places(tuple(attributes))
    keyed = blake2b(f"{tenant}\0{tool}\0".encode("utf-8", "replace"), digest_size=8, key=key[:64])
    arguments = attributes.get(given) if given else None
    said = b"" if arguments is None or is_left_out(arguments) else _hash(keyed, b"a", _arguments(arguments))
    if has_failed:
        kind, words = (failure.type, failure.message) if failure is not None else ("", "")
        # A message has names and numbers in it: the same error may have another message each time.
        text = f"{kind}\0{_NUMBERS.sub('#', words[:LONGEST])[:2000] if not kind or kind in _GENERIC else ''}"
        return CallHash(said, _hash(keyed, b"f", text.encode("utf-8", "replace")))
    result = attributes.get(gave) if gave else None
    if result is None or is_left_out(result) or result == "":
        return CallHash(said, b"")
    whole = _result(result)
    is_waiting = len(whole) <= _NOT_YET_MOST and _NOT_YET.search(whole.decode()) is not None
    return CallHash(said, _hash(keyed, b"r", whole), len(whole) >= CONCLUSIVE, is_waiting)


#: Types that many different errors share: their words tell them apart.
_GENERIC = frozenset({"Exception", "Error", "ToolError", "ToolException", "RuntimeError", "_OTHER", "error", "1"})


def _hash(keyed: Any, kind: bytes, what: bytes) -> bytes:
    own: Any = keyed.copy()
    own.update(kind)
    own.update(what)
    digest: bytes = own.digest()
    return digest


@lru_cache(maxsize=1024)
def _places(names: tuple[str, ...]) -> tuple[str, str]:
    """Return the attributes that hold a call's arguments and its result; empty where there is none."""
    known = set(names)
    found = []
    for exact, endings in zip((_ARGUMENTS, _RESULTS), _ENDINGS, strict=True):
        place = next((name for name in exact if name in known), "")
        found.append(place or next((name for name in names if name.endswith(endings)), ""))
    return found[0], found[1]


def _arguments(value: Any) -> bytes:
    """Return arguments in their canonical form."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value.encode("utf-8", "replace")
    try:
        found = _bare(_decoded(value), _DEPTH)
        if isinstance(found, dict) and len(found) > 1:
            kept = {name: one for name, one in found.items() if _plain(str(name)) not in _VOLATILE}
            found = kept or found
        return _encode(found)
    except (ValueError, TypeError, RecursionError, MemoryError, OverflowError, SyntaxError):
        return _raw(value)


def _result(value: Any) -> bytes:
    """Return a result in its canonical form: without ids and times."""
    if not isinstance(value, str):
        try:
            value = str(_encode(value), "utf-8")
        except (ValueError, TypeError, RecursionError, OverflowError):
            return _raw(value)
    text: str = value
    if len(text) <= 2 * _ENDS:
        return _PASSING.sub("#", text.strip()).encode("utf-8", "replace")
    ends = _PASSING.sub("#", text[:_ENDS]), _PASSING.sub("#", text[-_ENDS:])
    return b"".join(part.encode("utf-8", "replace") for part in (ends[0], text[_ENDS:-_ENDS], ends[1]))


def _raw(value: Any) -> bytes:
    try:
        return str(value).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return b"?"


def _decoded(value: Any) -> Any:
    """Return the value in a JSON text, or in a Python literal; any other text stands for itself."""
    for _ in range(2):
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text or text[0] not in '{["':
            return text
        try:
            value = _decode(text)
        except (ValueError, RecursionError):
            if text[0] == '"' or len(text) > 4096 or text.count("{") + text.count("[") > 64:
                return text
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                return text
    return value


def _bare(value: Any, depth: int) -> Any:
    """Return arguments without the wrappings of an instrumentation."""
    if not depth or not isinstance(value, dict):
        return value
    noise = _BESIDE | _REQUEST if value.get("type") in _REQUESTS else _BESIDE
    inside = {name: one for name, one in value.items() if name not in noise}
    if not inside.keys() <= set(_INSIDE):
        return value
    full = [name for name, one in inside.items() if one not in (None, "", {}, [])]
    if len(full) != 1:
        return inside
    held = _decoded(inside[full[0]])
    if isinstance(held, dict) or (isinstance(held, list) and full[0] == "args"):
        return _bare(held, depth - 1)
    return inside


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower() if len(name) <= 64 else name
