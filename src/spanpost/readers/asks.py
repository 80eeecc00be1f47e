"""What was asked of a run and what it answered, a line each, for runs that say nothing themselves.

Rules
- Read only where content is kept, from what redaction left of it, and cut to `ASK` and `ANSWER` characters.
- The question is the last message of a person in a model call's input: the input of a run's first call ends
  with it. The answer is the text of the last message of a call's output; a call that only calls tools answers
  nothing ("").
- The input and output of the whole run stand above those of its calls, where they hold messages or plain text.
- A line of the form of a heading ("Current Task:") is left out where more follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Reading, Role
from spanpost.text.sanitise import line

#: Characters that are kept of a question and of an answer.
ASK: Final = 80
ANSWER: Final = 300
#: Characters of a document that are read, levels in it, and messages.
_DOCUMENT, _DEPTH, _MESSAGES = 262_144, 8, 1000
#: Attributes that hold input and output, best first.
_INPUTS: Final = (
    "gen_ai.input.messages", "ai.prompt.messages", "mastra.agent_run.input", "user_prompt", "input.value",
    "gen_ai.prompt", "ai.prompt", "genkit:input", "mlflow.spanInputs", "langfuse.observation.input",
    "haystack.agent.step.llm.input", "gen_ai.workflow.input", "gen_ai.task.input", "traceloop.entity.input",
    "pydantic_ai.all_messages",
)  # fmt: skip
_OUTPUTS: Final = (
    "gen_ai.output.messages", "ai.response.text", "mastra.agent_run.output", "final_result", "output.value",
    "gen_ai.completion", "genkit:output", "mlflow.spanOutputs", "langfuse.observation.output",
    "haystack.agent.step.llm.output", "gen_ai.workflow.output", "gen_ai.task.output", "traceloop.entity.output",
    "pydantic_ai.all_messages",
)  # fmt: skip
#: The same of a coding CLI's records.
_PROMPTS: Final = ("prompt", "prompt_text", "user_prompt")
_RESPONSES: Final = ("response",)
#: Heads of OpenInference's messages, which it writes an attribute each.
_FLAT_INPUT, _FLAT_OUTPUT = "llm.input_messages.", "llm.output_messages."
#: Span events and log records that are messages, and who speaks.
_SPEAKERS: Final = {
    "gen_ai.user.message": "user",
    "gen_ai.choice": "assistant",
    "gen_ai.assistant.message": "assistant",
}
_ROLES: Final = {
    "user": "user", "human": "user", "humanmessage": "user", "humanmessagechunk": "user",
    "assistant": "assistant", "ai": "assistant", "model": "assistant", "aimessage": "assistant",
    "aimessagechunk": "assistant",
    "system": "", "tool": "", "function": "", "developer": "", "systemmessage": "", "toolmessage": "",
    "tool-call": "", "tool-response": "",
}  # fmt: skip
#: Fields of documents that hold messages, and those that hold a question or an answer as text.
_HOLD: Final = (
    "messages", "message", "input", "inputs", "output", "outputs", "kwargs", "args", "choices", "generations",
    "replies", "update", "response", "request",
)  # fmt: skip
_CONTENT: Final = ("content", "parts", "contents", "blocks", "text")
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_ASK_FIELDS: Final = (
    "question", "query", "prompt", "task", "input", "user_input", "user_msg", "user_message", "request", "message",
    "topic",
)  # fmt: skip
_ANSWER_FIELDS: Final = (
    "answer", "final_answer", "final_output", "output", "response", "result", "text", "content", "raw", "summary",
)  # fmt: skip
#: An object as Python writes it, or a document that cannot be read: no words.
_NO_WORDS: Final = re.compile(r"\s*(?:[\[{<]|[A-Za-z_][\w.]*\(|[A-Za-z_]\w*=)")
_HEADING: Final = re.compile(r"\W*|.{0,60}:|\[\[ ?## .* ## ?\]\]|#+ .*|[-=*`~]{3,}.*")
_LABEL: Final = re.compile(r"(?:Current task|New task|Task|Question|User): +", re.IGNORECASE)
#: A call as Python writes it, which an instrumentation wrote as text.
_CALL: Final = re.compile(r"[A-Za-z_][\w.]*\(\w+=")

#: Who speaks ("user", "assistant" or empty) and the words.
Message = tuple[str, str]


def with_words(o: Observation, r: Reading) -> Reading:
    """Return a reading with what its observation asks and answers. The observation holds no secret."""
    if r.is_aside or r.is_metered:
        return r
    is_run = r.role.is_root_span
    if r.stands_for is not None:
        ask = _plain(o.attributes, _PROMPTS) if is_run else None
        answer = _plain(o.attributes, _RESPONSES) if r.is_event else None
    elif o.part <= Part.STARTED:
        if not is_run and r.role is not Role.LLM:
            return r
        ask, answer = _of_span(o, is_run=is_run)
    elif o.span_id and (o.name in _SPEAKERS or _INPUTS[0] in o.attributes or _OUTPUTS[0] in o.attributes):
        ask, answer = _of_event(o)
    else:
        return r
    if ask is None and answer is None:
        return r
    return msgspec.structs.replace(
        r,
        ask=headline(ask, ASK) if ask else None,
        answer=headline(answer, ANSWER) if answer is not None else None,
        is_of_run=is_run or r.stands_for is not None,
        is_quiet=r.is_quiet or not r.is_of_agent,  # words alone are no sign of work
    )


def headline(text: str, limit: int) -> str:
    """Return the first line that is no heading, cut."""
    said = [row for row in (row.strip() for row in text[: 64 * limit].splitlines()) if row]
    chosen = next((row for row in said if _HEADING.fullmatch(row) is None), said[0] if said else "")
    return line(_LABEL.sub("", chosen), limit)


def _of_span(o: Observation, *, is_run: bool) -> tuple[str | None, str | None]:
    ask = _asked(list(_flat(o.attributes, _FLAT_INPUT)))
    for name in _INPUTS if ask is None else ():
        if (value := o.attributes.get(name)) is not None and (ask := asked_in(value)) is not None:
            break
    if o.part is Part.STARTED:
        return ask, None
    messages = list(_flat(o.attributes, _FLAT_OUTPUT))
    answer = _answered(messages)
    has_output = bool(messages)
    for name in _OUTPUTS if not messages else ():
        if (value := o.attributes.get(name)) is not None:
            has_output = True
            if answer := answered_in(value):
                break
    # A call whose output has no text answers nothing, whatever was said before it.
    return ask, answer or ("" if has_output and not is_run else None)


def _of_event(o: Observation) -> tuple[str | None, str | None]:
    who = _SPEAKERS.get(o.name)
    if who is None:
        given, made = o.attributes.get(_INPUTS[0]), o.attributes.get(_OUTPUTS[0])
        return (
            asked_in(given) if given is not None else None,
            (answered_in(made) or "") if made is not None else None,
        )
    said = o.body if isinstance(o.body, dict) else o.attributes
    value = said.get("message", said.get("content"))
    value = value.get("content") if isinstance(value, dict) else value
    text = _text(_parsed(value))
    return (text or None, None) if who == "user" else (None, text)


def asked_in(value: Any) -> str | None:
    """Return the last words of a person in a value; None without any."""
    value = _parsed(value)
    if isinstance(value, str):
        return None if _NO_WORDS.match(value) else value or None
    return _asked(list(_messages(value, _DEPTH))) or _field(value, _ASK_FIELDS)


def answered_in(value: Any) -> str | None:
    """Return the words of the last message in a value; empty where it is no text, None without a message."""
    value = _parsed(value)
    if isinstance(value, str):
        return None if _NO_WORDS.match(value) else value or None
    said = _answered(list(_messages(value, _DEPTH)))
    return said if said is not None else _field(value, _ANSWER_FIELDS)


def _plain(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((said for name in names if isinstance(said := attributes.get(name), str) and said), None)


def _asked(messages: list[Message]) -> str | None:
    return next((text for who, text in reversed(messages) if who == "user" and text), None)


def _answered(messages: list[Message]) -> str | None:
    if not messages:
        return None
    who, text = messages[-1]
    return text if who == "assistant" and not _CALL.match(text) else ""


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    said = value.strip()
    if said[:1] in ("{", "[", '"') and len(said) <= _DOCUMENT:
        try:
            return msgspec.json.decode(said)
        except (ValueError, RecursionError):
            return value
    return value


def _messages(value: Any, depth: int) -> Iterator[Message]:
    """Yield the messages in a document, in order."""
    if depth <= 0:
        return
    if isinstance(value, list):
        for one in value[:_MESSAGES]:
            yield from _messages(one, depth - 1)
    elif isinstance(value, dict):
        kind, inner = value.get("id"), value.get("kwargs")
        if isinstance(kind, list) and kind and isinstance(inner, dict) and str(kind[-1]).lower() in _ROLES:
            yield _ROLES[str(kind[-1]).lower()], _text(inner.get("content"))
            return
        who = next((said for name in ("role", "type") if isinstance(said := value.get(name), str)), None)
        if who is not None and (found := _ROLES.get(who.lower().rpartition(".")[2])) is not None:
            yield found, _text(next((value[name] for name in _CONTENT if name in value), None))
            return
        for name in _HOLD:
            if isinstance(inside := value.get(name), dict | list):
                yield from _messages(inside, depth - 1)


def _text(content: Any) -> str:
    """Return the text of a message's content: its own, or that of its parts that are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    found = []
    for part in content[:_MESSAGES] if isinstance(content, list) else ():
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict) and part.get("type", part.get("block_type", "text")) in _TEXTS:
            said = part.get("text", part.get("content"))
            if isinstance(said, str):
                found.append(said)
    return "\n".join(found)


def _field(value: Any, names: tuple[str, ...], depth: int = 3) -> str | None:
    if not isinstance(value, dict) or depth <= 0:
        return None
    for name in names:
        said = value.get(name)
        if isinstance(said, str) and said and not _NO_WORDS.match(said):
            return said
    inside = (value.get(name) for name in _HOLD)
    return next((said for one in inside if (said := _field(one, names, depth - 1)) is not None), None)


def _flat(attributes: Mapping[str, Any], head: str) -> Iterator[Message]:
    """Yield OpenInference's messages: `<head>0.message.role`, `<head>0.message.contents.0.message_content.text`."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(head):
            number, _, rest = name[len(head) :].partition(".")
            if number.isascii() and number.isdigit() and len(number) < 6:
                message = found.setdefault(int(number), {"role": "", "texts": []})
                if rest == "message.role":
                    message["role"] = value
                elif rest == "message.content" and isinstance(value, str):
                    message["texts"] = [value]
                elif rest.endswith("message_content.text") and isinstance(value, str) and value not in message["texts"]:
                    message["texts"].append(value)
    for _, message in sorted(found.items()):
        yield _ROLES.get(str(message["role"]).lower(), ""), "\n".join(message["texts"])
