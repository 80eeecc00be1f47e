"""Random lives of agents as their programs report them, in order of time: at each start and end, or at ends alone."""

from __future__ import annotations

from random import Random
from typing import Any

from spanpost.model.observations import Observation, Origin, Part, Status
from tests.tasks.histories import BASE, SECOND
from tests.tasks.taken_back import live

_AGENTS = ("ann", "bob", "cid")
_TOOLS = ("search", "write", "book")


class Life:
    """A program with agents, and the clock of what it does."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.at = BASE
        self.spans: list[Observation] = []
        self.origin = Origin(resource={"service.name": "shop"})
        self.trace = b""
        self.talk = random.choice(("", "", "talk-1"))
        self.questions = 0

    def pass_time(self) -> int:
        self.at += self.random.choice((1, 20, 800)) * SECOND // 100
        return self.at

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def run(self) -> None:
        """Run an agent once, in a trace of its own: in a request, or by itself."""
        self.trace = self.random.randbytes(16)
        if self.chance(0.3):
            with_request = self.random.randbytes(8)
            begun = self.pass_time()
            self.agent(with_request, self.random.choice(_AGENTS), 2)
            self.span(with_request, b"", "POST /answer", begun, {}, kind=2)
        elif self.chance(0.2):
            # Agents below a workflow without an agent's name are its own until there are two: no turns of theirs.
            talk, self.talk = self.talk, ""
            flow, begun = self.random.randbytes(8), self.pass_time()
            for name in self.random.choices(_AGENTS, k=2):
                self.agent(flow, name, 2)
            self.span(flow, b"", "crew", begun, {"gen_ai.operation.name": "invoke_workflow"})
            self.talk = talk
        else:
            self.agent(b"", self.random.choice(_AGENTS), 2)

    def agent(self, parent: bytes, name: str, depth: int) -> None:
        """Do what an agent does: ask a model, call its tools, hand work to other agents, report, ask a person."""
        own, begun = self.random.randbytes(8), self.pass_time()
        said: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        if self.talk:
            said["gen_ai.conversation.id"] = self.talk
        for _ in range(self.random.randint(0, 3)):
            self.turn(own, depth)
        if self.chance(0.05):
            self.repeat(own)
        if self.chance(0.7):
            self.chat(own, ["stop"])
        status, message = Status.UNSET, ""
        if self.chance(0.2):
            status, message = Status.ERROR, self.random.choice(("it broke", "TimeoutError: too late"))
        elif self.chance(0.4):
            status = Status.OK
        if not self.chance(0.05):  # else its process is killed
            self.span(own, parent, f"invoke_agent {name}", begun, said, status=status, message=message)

    def turn(self, parent: bytes, depth: int) -> None:
        calls = [f"call-{self.random.randrange(10**9)}" for _ in range(self.random.choice((1, 1, 2)))]
        while self.chance(0.1):
            self.chat(parent, ["stop"], status=Status.ERROR)
        self.chat(parent, ["tool_calls"])
        if self.chance(0.2):
            self.report(parent)
        for call in calls:
            if depth and self.chance(0.15):
                own, begun = self.random.randbytes(8), self.pass_time()
                self.agent(own, self.random.choice(_AGENTS), depth - 1)
                self.span(own, parent, "execute_tool delegate", begun, self.tool("delegate", call))
            elif depth and self.chance(0.1):
                self.agent(parent, self.random.choice(_AGENTS), depth - 1)
            elif not self.chance(0.1):  # else it was asked for and is never called
                name, own, begun = self.random.choice(_TOOLS), self.random.randbytes(8), self.pass_time()
                if self.chance(0.2):
                    self.report(own)
                if self.chance(0.15):
                    self.chat(own, ["stop"])
                status = Status.ERROR if self.chance(0.15) else Status.UNSET
                said = self.tool(name, call) | ({} if self.chance(0.3) else {"gen_ai.tool.call.result": "done"})
                self.span(own, parent, f"execute_tool {name}", begun, said, status=status, message="no such thing")

    def repeat(self, parent: bytes) -> None:
        """Call the same tool in the same way again and again, each time for the model's asking."""
        for n in range(self.random.choice((7, 12))):
            self.chat(parent, ["tool_calls"])
            own, begun = self.random.randbytes(8), self.pass_time()
            said = self.tool("search", f"again-{self.at}") | {"gen_ai.tool.call.arguments": '{"x": 9}'}
            said["gen_ai.tool.call.result"] = "nothing" if n else "none"
            self.span(own, parent, "execute_tool search", begun, said)

    def tool(self, name: str, call: str) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call,
            "gen_ai.tool.call.arguments": f'{{"x": {self.random.randrange(3)}}}',
        }

    def chat(self, parent: bytes, finish: list[str], status: Status = Status.UNSET) -> None:
        own, begun = self.random.randbytes(8), self.pass_time()
        said: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x"}
        if self.talk:
            said["gen_ai.conversation.id"] = self.talk
        if status is not Status.ERROR:
            used = {"input_tokens": self.random.randrange(1, 1500), "output_tokens": self.random.randrange(99)}
            said |= {f"gen_ai.usage.{name}": n for name, n in used.items()}
            said["gen_ai.response.finish_reasons"] = finish
        self.span(own, parent, "chat gpt-x", begun, said, status=status, message="overloaded")
        if self.chance(0.2):  # another instrumentation reports the same call within
            self.spans.append(self.made(self.random.randbytes(8), own, "chat", begun, said))

    def report(self, span: bytes) -> None:
        """Report progress, an artifact or an exception, or ask a person, who may answer."""
        what = self.random.randrange(4)
        if what == 0:
            self.event(span, "agent.checkpoint", {"agent.checkpoint.message": f"half {self.random.randrange(9)}"})
        elif what == 1:
            self.event(span, "agent.artifact", {"agent.artifact.name": "plan", "agent.artifact.uri": "https://x"})
        elif what == 2:
            self.event(span, "exception", {"exception.type": "KeyError", "exception.message": "k"})
        else:
            self.questions += 1
            asked = {"agent.approval.id": f"q{self.questions}", "agent.approval.question": "Sure?"}
            self.event(span, "agent.approval.requested", asked)
            if self.chance(0.8):
                self.event(span, "agent.approval.resolved", {**asked, "agent.approval.decision": "approve"})

    def event(self, span: bytes, name: str, attributes: dict[str, Any]) -> None:
        at = self.pass_time()
        self.spans.append(
            Observation(
                part=Part.EVENT, trace_id=self.trace, span_id=span, name=name, at_ns=at, index=at % 10**9,
                attributes=attributes, origin=self.origin,
            )
        )  # fmt: skip

    def span(self, own: bytes, parent: bytes, name: str, begun: int, said: dict[str, Any], **more: Any) -> None:
        self.pass_time()
        self.spans.append(self.made(own, parent, name, begun, said, **more))

    def made(
        self, own: bytes, parent: bytes, name: str, begun: int, said: dict[str, Any], *,
        status: Status = Status.UNSET, message: str = "", kind: int = 1,
    ) -> Observation:  # fmt: skip
        return Observation(
            part=Part.ENDED, trace_id=self.trace, span_id=own, parent_id=parent, name=name, start_ns=begun,
            end_ns=self.at, at_ns=self.at, attributes=said, status=status, kind=kind, origin=self.origin,
            status_message=message if status is Status.ERROR else "",
        )  # fmt: skip


def life(random: Random, *, is_live: bool) -> list[list[Observation]]:
    """Return what a program reports of a few runs of its agents, as it arrives; if not live, ends with their events.

    Where only ends are reported, a sub-agent is known before the agent above it, and a turn of its conversation
    until then: so these conversations have no names.
    """
    one = Life(random)
    if not is_live:
        one.talk = ""
    for _ in range(random.choice((1, 1, 2, 3))):
        one.run()
        one.at += random.choice((1, 100)) * SECOND
    if is_live:
        return [[o] for o in live(one.spans)]
    ends = [o for o in one.spans if o.part is Part.ENDED]
    return [
        [o, *(e for e in one.spans if e.part is Part.EVENT and e.span_id == o.span_id)]
        for o in sorted(ends, key=lambda o: o.at_ns)
    ]
