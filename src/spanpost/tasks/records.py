"""Records of the fold: nodes, subtrees, task states and the links between them.

    node        one per span: role, parent, its own usage, the sums of the spans below
    root span   a span of an agent, a workflow or a task: it can be the root of a task
    owning span a root span, a span not yet seen, or one that runs and may still become a root span
    subtree     one per owning span: the facts of the spans below it, down to the next owning span
    task state  one per task: the subtrees that are shown together, and their merged facts

Nodes count, subtrees collect, task states are computed from subtrees and can change as more arrives. Records
are stored as msgpack: add fields with defaults only, so that an older version can read what a newer one
wrote.
"""

from __future__ import annotations

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.readings import Role
from spanpost.tasks.amounts import NO_COUNT, ZERO, Amount, Amounts, Models, ToolCount
from spanpost.tasks.conclusions import CallTime
from spanpost.tasks.fact_values import KeptEvaluation, SpanEnd
from spanpost.tasks.facts import Ending, Fact, Facts
from spanpost.tasks.loops import FoundLoop
from spanpost.tasks.reported import NOT_REPORTED, Reported
from spanpost.tasks.work import Key

#: Levels that are followed from a task up to its root, and root spans that may be nested within one task. A
#: deeper root span is a task of its own; a deeper task names the last task followed as its root. Other spans
#: are followed to any depth.
DEPTH = 64

#: States of a span. A copy in a greater state outranks the others, so a state only grows: a running span is
#: `UNDECIDED` until a copy gives it another role than `UNDECIDED_ROLES`, because it may become a root span.
PLACEHOLDER, UNDECIDED, STARTED, ENDED = 0, 1, 2, 3
UNDECIDED_ROLES = (Role.OTHER, Role.STEP, Role.PLUMBING)


#: State and rank of one copy of a span.
Copy = tuple[int, tuple[int, int, bytes]]
NO_COPY: Copy = (0, (0, 0, b""))


class Node(msgspec.Struct, omit_defaults=True, array_like=True, gc=False):
    """One span: its role and what it passes up. The first child that names it creates it as a placeholder."""

    parent: bytes = b""
    role: Role = Role.OTHER
    state: int = PLACEHOLDER
    #: Rank of the copy in use: end (of an open span the time of the copy), number of attributes, hash. The
    #: greatest wins.
    rank: tuple[int, int, bytes] = (0, 0, b"")
    #: A model call's own usage, and whether it counts (another span may hold its response id).
    own: Amounts | None = None
    wins: bool = True
    #: Sums of the spans below; None, as for most spans, when they are empty.
    below: Amount | None = None
    tool_name: str = ""
    failed: bool = False
    #: A tool call stopped to ask a person.
    asks: bool = False
    #: Checkpoint ids of errors reported on this span; retracted when it turns out to be a root span.
    errors: tuple[bytes, ...] = ()
    #: Key of the response id's duplicate calls; left when a greater copy names another.
    duplicates: Key = b""
    #: The edge to the parent was cut because it closed a cycle.
    is_cut: bool = False
    #: How a span that is not an agent's ended, kept at the top of a trace: it ends the subtree.
    closed: SpanEnd | None = None
    #: Part of its own cost that was taken from a duplicate of the call, in nano-dollars.
    lent: int = 0
    #: Domain of the trace that it links to, if that is exactly one other trace.
    link: bytes = b""
    #: Model of its own usage.
    model: str = ""
    #: Errors reported on this span.
    error_count: int = 0
    #: A model call below it reported its failure, which is the same failure where this is a model call, too.
    is_failure_reported: bool = False
    #: Of a run that continues another: tool calls that it makes again, because they asked a person in the other.
    repeated_tools: int = 0
    #: Of a request, the handling of a queue's message (1) or a job (0) that is no agent's: which, its start and its
    #: name; and the last one below, at the owning span above it.
    request: tuple[int, int, str] = (0, 0, "")
    request_below: tuple[int, int, str] = (0, 0, "")

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6  # not `Role.is_root_span`: this runs a dozen times a span

    @property
    def is_open_question(self) -> bool:
        """True while the span may still turn out to be a root span."""
        return self.state <= UNDECIDED

    @property
    def owns_subtree(self) -> bool:
        """True for a span that owns the subtree below it, for now or for good."""
        return not self.parent or self.is_cut or self.state <= UNDECIDED or 4 <= self.role <= 6


class Subtree(msgspec.Struct, omit_defaults=True, gc=False):
    """The spans below one owning span, down to the next: their facts, and the task that shows them."""

    trace_id: bytes = b""
    tenant: str = ""
    #: The nearest owning span above; empty when none is known.
    up: bytes = b""
    #: A tool call lies between this span and the owning span above.
    is_via_tool: bool = False
    #: The nearest root span above; a tool call lies between; number of root spans above in the same task.
    root_span: bytes = b""
    is_root_span_via_tool: bool = False
    within: int = 0
    role: Role = Role.OTHER
    agent_name: str = ""
    task_id: str = ""
    #: While no root span is known: the task id that a span below names.
    hint: str = ""
    start_ns: int = 0
    #: The copies of the root span that gave the agent's name and the task id: the greatest one stands.
    named_by: Copy = NO_COPY
    identified_by: Copy = NO_COPY
    facts: Facts = msgspec.field(default_factory=Facts)
    #: Facts of spans that have not ended, by span: they move with a span that ends under another parent.
    unended: dict[bytes, Facts] = {}
    #: The task that shows it, and the root of its run there.
    state: Key = b""
    root: Key = b""
    #: A live start was received while it ran.
    is_live: bool = False
    #: It has no parent: the top of its trace.
    is_top: bool = False
    #: The root spans directly below belong to more than one agent.
    is_of_many: bool = False
    #: Input of the last placement of the subtrees below: role, name, task id, owning span above, tool
    #: between.
    shape: tuple[int, str, str, bytes, bool] | None = None
    #: Errors of parts that were reported below.
    errors: int = 0
    #: Exceptions of spans that are not an agent's. Reported once the subtree turns out to lie in a task,
    #: else never.
    doubtful: list[Checkpoint] = []
    #: The parent task, when this subtree leads a run.
    parent_state: Key = b""
    #: The task whose run this one continues, and the rule; for a run linked to another agent's, the parent
    #: task.
    joined: Key = b""
    joined_by: str = ""
    linked_to: Key = b""
    #: The task of its conversation, when it is a run that names one.
    talk: Key = b""
    #: Idle so far, and it may turn out to belong to a task with a message (`may_go_on`): it is announced once
    #: its first call or its conversation is known.
    is_held: bool = False
    #: Candidate sets that this run is entered in, and the task that it continues by each.
    candidate_sets: dict[Key, Key] = {}
    #: Those sets by which it begins with the tool call that the other left open; whether that is so by the set that
    #: decides.
    repeated_in: list[Key] = []
    calls_again: bool = False

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6

    @property
    def all_facts(self) -> list[Facts]:
        """All facts learned in the subtree."""
        return [self.facts, *self.unended.values()]

    @property
    def is_empty(self) -> bool:
        """True when nothing was recorded in it; how its owning span ended is no record of an agent."""
        facts = self.facts
        if facts.last_ns or self.unended or self.is_root_span:
            return False
        return facts == Facts(
            ending=Ending(closed=facts.ending.closed), request=facts.request, request_below=facts.request_below
        )


class ChildRoot(msgspec.Struct, array_like=True, gc=False):
    """The root of a subtree directly below another subtree."""

    role: Role
    agent_name: str
    task_id: str
    is_via_tool: bool
    #: What it adds to the names of the agents directly below (`ChildRoots.names`); None: nothing.
    says: str | None = None

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6


#: In place of a name: more than one agent.
MANY = "\0"


class ChildRoots(msgspec.Struct, gc=False):
    """The owning spans directly below one, by span id. Written only when the structure changes."""

    subtrees: dict[bytes, ChildRoot] = {}
    #: Number of root spans directly below by agent name: through spans that are not root spans, not through
    #: tools.
    names: dict[str, int] = {}


class Run(msgspec.Struct, omit_defaults=True, gc=False):
    """One run of a task: its root span and how it ended."""

    start_ns: int = 0
    ending: Ending = msgspec.field(default_factory=Ending)
    #: Ends of the nested root spans of the run.
    inner: Ending = msgspec.field(default_factory=Ending)
    trace_id: bytes = b""
    span_id: bytes = b""
    #: It ended waiting for a person; it continues another run (`matching_runs`), and makes its open call again.
    waited: bool = False
    goes_on: bool = False
    calls_again: bool = False
    #: What its calls used.
    amounts: Amounts = ZERO


class Conversation(msgspec.Struct, omit_defaults=True, gc=False):
    """Context use of one agent with one model, within a task or a conversation, in order of time."""

    newest_ns: int = 0
    newest_key: bytes = b""
    used: int = 0
    #: Limits already warned of in this climb, by name; limits already announced as near.
    warned: list[int] = []
    ahead: list[int] = []
    #: How often the warnings were re-armed: part of a warning's id.
    climb: int = 0
    #: A drop that the next call may confirm as a compaction: (before, after).
    drop: tuple[int, int] | None = None
    #: The agent of the newest call, as it is named, and its trace; whether the drop was between two of these.
    agent: str = ""
    trace_id: bytes = b""
    is_other: bool = False
    conversation: str = ""
    #: The newest compaction that the agent reported.
    compacted_ns: int = 0
    #: The climb's newest calls: end, start, tokens.
    points: list[tuple[int, int, int]] = []


class KeptLoop(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The present finding of an agent run, and the root of its run."""

    root: Key
    found: FoundLoop


class TaskState(msgspec.Struct, omit_defaults=True, gc=False):
    """One task: the merged facts of its subtrees, its runs, and what was reported of it before."""

    uid: bytes = b""
    tenant: str = ""
    #: Trace and span of the root span; for a task with an explicit id those of the newest run.
    trace_id: bytes = b""
    span_id: bytes = b""
    task_id: str = ""
    #: The task of a conversation: its uid is made of the conversation, and each turn is a run.
    is_conversation: bool = False
    has_root_span: bool = False
    facts: Facts = msgspec.field(default_factory=Facts)
    amounts: Amounts = ZERO
    #: Tokens (input, output) used before the run, where the agent reports lifetime totals.
    before: tuple[int, int] | None = None
    #: Usage from metric data points: shown where no span or record reports usage.
    metered: Amounts = ZERO
    #: The sum of what the topmost spans of its runs state: shown where no call was reported.
    stated: Amounts = ZERO
    #: Both by model; calls that name no model are in neither.
    models: Models = {}
    metered_models: Models = {}
    #: Tool calls, and how many of them failed.
    tools: ToolCount = NO_COUNT
    runs: dict[Key, Run] = {}
    #: The parent task's key; of several runs the earliest that has a parent decides.
    parent: Key = b""
    parent_rank: tuple[int, Key] = (0, b"")
    conversations: dict[str, Conversation] = {}
    #: Inferred compactions: checkpoint id, the last call before, the call that confirmed it.
    inferred: list[tuple[bytes, CallTime, CallTime]] = []
    #: Errors of parts that were reported.
    errors: int = 0
    #: Findings that agent runs repeat themselves, by the run's subtree; and how many were ever reported.
    loops: dict[Key, KeptLoop] = {}
    loops_reported: int = 0
    reported: Reported = NOT_REPORTED


class Members(msgspec.Struct, omit_defaults=True, gc=False):
    """The subtrees of a task, by key. Those of a task with many lie in pages, which are `Members`, too."""

    subtrees: dict[Key, None] = {}
    #: Of the first page: the last bytes of the keys of the other pages.
    pages: list[int] = []


class AgentsBelow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task and the tasks below it, at any depth: how many work, wait, failed and are done, and what they ask."""

    working: int = 0
    waiting: int = 0
    failed: int = 0
    done: int = 0
    #: Open questions; of the first its time, its words and the uid of its task.
    questions: int = 0
    asked_ns: int = 0
    question: str = ""
    asker: bytes = b""


NO_AGENTS = AgentsBelow()


class ChildTasks(msgspec.Struct, gc=False):
    """Child tasks of a task, by key, and whether each has failed."""

    tasks: dict[Key, bool] = {}
    #: Those that are working.
    at_work: dict[Key, bool] = {}
    #: What each passes up, with the tasks below it.
    agents: dict[Key, AgentsBelow] = {}


class CallCopy(msgspec.Struct, array_like=True, gc=False):
    """A span that carries a response id: its times and its rank."""

    start_ns: int
    end_ns: int
    #: (is a span with a parent, how much is known of its tokens, span key): the greatest wins.
    rank: tuple[int, int, bytes]
    #: Cost in nano-dollars; -1: unknown.
    cost: int = -1


class DuplicateCalls(msgspec.Struct, omit_defaults=True, gc=False):
    """The spans that carry one response id, by node key. One of those that overlap in time counts."""

    call_copies: dict[Key, CallCopy] = {}
    #: Evaluations that name the response id and no span: each copy's task gets them.
    evaluations: dict[str, Fact[KeptEvaluation]] = {}


class RunCandidate(msgspec.Struct, array_like=True, gc=False):
    """The facts of a run that decide whether another run continues it."""

    start_ns: int
    #: 0 while it has not ended.
    end_ns: int
    #: The task that shows it.
    state: Key
    agent_name: str = ""
    #: 0: does not wait for a person; 1: probably, for the answer to a tool call; 2: it said so.
    waits: int = 0
    #: The tool call that was left open: name and id.
    pending: tuple[str, str] = ("", "")
    #: The tool call that it began with, before any model call; None when it began otherwise.
    began_with: tuple[str, str] | None = None
    #: The ids of the tool calls for which the last model call asked, and of those that the run goes on with.
    asked: tuple[str, ...] = ()
    takes_up: tuple[str, ...] = ()
    #: It has done nothing yet, or has begun a tool call whose id is not known yet.
    is_idle: bool = False
    #: Tokens (input, output) its agent had used in its lifetime at the end, where nothing else is known of
    #: the run.
    totals: tuple[int, int] | None = None
    #: The task of its conversation.
    talk: Key = b""


class RunCandidates(msgspec.Struct, omit_defaults=True, gc=False):
    """Runs that may continue one another, by the key of their root's subtree."""

    runs: dict[Key, RunCandidate] = {}
    #: Of traces joined by links of a framework's messages: runs of other traces that link to these; the domain
    #: with the runs, when another; whether they are more than one trace.
    linked: dict[Key, RunCandidate] = {}
    into: bytes = b""
    is_joined: bool = False
    #: Of the runs of a service: some named their conversation only after their start.
    names_late: bool = False


class Seen(msgspec.Struct, omit_defaults=True, gc=False):
    """A reported occurrence, and the copy it came from: the earliest copy stands, in any order of arrival."""

    at_ns: int = 0
    key: bytes = b""
