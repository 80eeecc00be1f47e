"""Google's Agent Development Kit, in Python, Go and Java: a tool that must be confirmed has a span like any other.

Its result says so, where content is captured. Without results a run that ends on a tool, with no model turn after
it, may wait for a person: the kit asks the model after every other tool, but for those that end a run.
In Java the model is asked once more after the question: that call, whose request ends with it, waits as well.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

_TOOL, _LLM, _ENDED, _ERROR = Role.TOOL, Role.LLM, Part.ENDED, Status.ERROR
_QUESTION: Final = "requires confirmation, please approve or reject"
_CONTENTS: Final = msgspec.json.Decoder(dict[str, Any])


def _refine(span: ReadSpan) -> None:
    o, a = span.observation, span.attributes
    if (
        span.role is _TOOL
        and o.part is _ENDED
        and o.status is not _ERROR
        and "gen_ai.tool.call.result" not in a
        and a.get("gcp.vertex.agent.tool_response") in (None, "", "{}", "<not specified>")
    ):
        span.said["may_wait"] = True
    elif span.role is _LLM and o.part is _ENDED and o.status is not _ERROR:
        request = a.get("gcp.vertex.agent.llm_request")
        if type(request) is str and _QUESTION in request and _ends_with_question(request):
            span.said["is_interrupt"] = True


def _ends_with_question(request: str) -> bool:
    """Tell whether the last message of a request is the answer of a tool that must be confirmed."""
    try:
        contents = _CONTENTS.decode(request).get("contents")
        return isinstance(contents, list) and bool(contents) and _QUESTION in repr(contents[-1])
    except (ValueError, RecursionError):
        return False


GOOGLE_ADK = Dialect(
    name="google-adk",
    source="google-adk 2.13.0 (Python), adk 2.2.0 (Go), google-adk 1.8.0 (Java)",
    cannot_tell=(
        "a wait for a confirmation, where tool results are not captured: it is concluded from a tool that no model "
        "turn follows, so a tool that ends the run (`skip_summarization`) is taken for one",
    ),
    scopes=("gcp.vertex.agent",),
    refine=_refine,
)
