"""Values of facts (`facts`): each is stored as an array of its fields."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class UsePoint(NamedTuple):
    """Input of a model call. The model and the conversation name its context window."""

    at_ns: int
    key: bytes
    start_ns: int
    tokens: int
    model: str
    conversation: int
    #: The span above.
    parent: bytes = b""


class Deed(NamedTuple):
    """A model or tool call that ended. Outcome: a `Finish`, or a tool's result: unknown 0, nothing 1, something 2.

    Of a model call the ids of the tool calls that it asks for, separated by spaces.
    """

    at_ns: int
    key: bytes
    start_ns: int
    is_tool: bool
    has_failed: bool
    outcome: int
    name: str
    id: str


class CallEnd(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a model call or a tool call ended; the name is a tool's, the id as in `Deed`."""

    has_failed: bool
    outcome: int
    name: str = ""
    id: str = ""


class FirstCall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The call that a run began with; name and id are a tool's."""

    is_tool: bool
    name: str = ""
    id: str = ""


class FailureWords(NamedTuple):
    """Why something failed."""

    type: str
    message: str
    log_tail: str


class StepNow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The current step; the message is packed (`text.wording`)."""

    name: str | None = None
    index: int | None = None
    count: int | None = None
    message: Any = None


class StepBegin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step and when it began."""

    name: str
    index: int | None
    began_ns: int
    message: Any = None


class ToolAct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tool call, shown as a step."""

    name: str
    began_ns: int
    ended_ns: int
    #: The span above.
    parent: bytes = b""
    #: It stopped to ask a person.
    asks: bool = False


class LifetimeTokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens that an agent's own span states."""

    input: int | None
    output: int | None

    def minus(self, input: int, output: int) -> LifetimeTokens:
        """Return the tokens used since."""
        return LifetimeTokens(
            self.input - input if self.input is not None else None,
            self.output - output if self.output is not None else None,
        )


class ActFact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a person asked of a task, and what they had seen of it."""

    verb: str
    by: str
    seen_ns: int


class KeptEvaluation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An evaluation; `by_id` is empty for one of telemetry."""

    name: str
    score: float | None
    label: str
    explanation: str
    by: str
    by_id: str
    subject: str


class KeptArtifact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A reported artifact."""

    name: str
    uri: str
    kind: str


class QuestionFact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A question as it was asked."""

    question: str
    detail: str
    options: tuple[str, ...]
    risk: str
    expires_at: str
    at_expiry: str
    has_id: bool
    is_cut: bool
    is_altered: bool
    span: str
    ask_after: float = 0.0
    tool: str = ""
    needs: int = 1
    to: tuple[str, ...] = ()
    to_after: float = 0.0
    resume: tuple[str, ...] = ()


class KeptVote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A person's approval of a question that needs several."""

    decision: str
    by: str


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An answer to a question."""

    decision: str
    by: str
    comment: str
    is_expired: bool
    source: str = ""
    rule: str = ""


class FinalStatus(NamedTuple):
    """An explicit final status. The earliest stands, because final is final: the rank is the negative time (ns)."""

    rank: int
    key: bytes
    status: str


class SpanEnd(NamedTuple):
    """The end of a root span; outcome: error, cancelled, ok, unset (or rested: `status`)."""

    at_ns: int
    key: bytes
    outcome: str
    failure_type: str = ""
    failure_message: str = ""
    #: A `Finish`, where the root span states one.
    finish: int = 0


class Sign(NamedTuple):
    """Something that was seen at a time (ns)."""

    at_ns: int
    key: bytes
