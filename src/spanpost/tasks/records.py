"""The documents that the fold keeps: cells, units, groups, and what ties them.

    cell    one per span: role, parent, what it used, what lies below it
    unit    one per *owner*: a box, a span not yet known, one that has not ended and may still become a box.
            It owns the facts of what lies below it, down to the next owner
    group   one per task: the units that are shown together, and their facts merged

Cells count; units collect; groups are a projection of units that can change as more arrives. Records are stored as
msgpack: add fields with defaults only, so that an older version can read what a newer one wrote.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.readings import Role
from spanpost.tasks.amounts import NO_OTHERS, ZERO, Amounts, Count, Models, Others, Tools
from spanpost.tasks.facts import Ending, Facts
from spanpost.tasks.work import Key

#: How many tasks above a task are followed to its root, and how many boxes a box may be shown within. A deeper box is a task of its
#: own; a deeper task names the last one that is followed as its root. Spans that are no boxes are followed however deep they lie.
DEPTH = 64

PLACEHOLDER, STARTED, ENDED = 0, 1, 2
#: Stands for the root of a task of which nothing is shown any more.
NOWHERE = b"-"
#: Roles of a running span that may still become a box.
_UNDECIDED = (Role.OTHER, Role.STEP, Role.PLUMBING)


def domain_of(tenant: str, trace_id: bytes) -> bytes:
    """Return the 16 bytes under which a trace's records lie and are locked."""
    return blake2b(trace_id + tenant.encode("utf-8", "replace"), digest_size=16).digest()


def tenant_key(tenant: str) -> bytes:
    """Return what is locked, shared, together with domains of a tenant, in place of them where they are very many."""
    return blake2b(tenant.encode("utf-8", "replace"), digest_size=16, person=b"tenant").digest() + b"t"


def is_tenant(domain: bytes) -> bool:
    """Tell a tenant's key among domains."""
    return len(domain) > 16


def node_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"c" + span_id


def subtree_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"u" + span_id


def child_roots_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"k" + span_id


def state_key(domain: bytes, span_id: bytes = b"") -> Key:
    """Return the key of a task: of a box, of a trace without a known box (no span), of an explicit id (its own domain)."""
    return domain + b"g" + span_id


def members_key(state: Key) -> Key:
    return state[:16] + b"m" + state[17:]


def child_tasks_key(state: Key) -> Key:
    return state[:16] + b"n" + state[17:]


def duplicates_key(tenant: str, response_id: str) -> Key:
    return blake2b(f"{tenant}\0response\0{response_id}".encode("utf-8", "replace"), digest_size=16).digest() + b"s"


def candidates_key(tenant: str, kind: bytes, id: str) -> Key:
    """Return the key under which runs meet: by a tool call's id (kind ``a``), or by a conversation (``c``)."""
    raw = f"{tenant}\0{kind.decode()}\0{id}".encode("utf-8", "replace")
    return blake2b(raw, digest_size=16, person=b"meeting").digest() + b"r" + kind


def linked_traces_key(domain: bytes) -> Key:
    return domain + b"l"


def seen_key(domain: bytes, id: bytes) -> Key:
    """Return the key of a told occurrence."""
    return domain + b"o" + id


def given_key(state: Key) -> Key:
    """Return the key under which is remembered how often a task's message was taken over by another (`Seen.at_ns`).

    It outlives the task: one that comes again must not write into a message that is another's by now.
    """
    return state[:16] + b"o" + blake2b(state, digest_size=16, person=b"given").digest()


#: State and rank of one copy of a span.
Copy = tuple[int, tuple[int, int, bytes]]
NO_COPY: Copy = (0, (0, 0, b""))


class Node(msgspec.Struct, omit_defaults=True, array_like=True, gc=False):
    """One span: what it is and what it passes up. Made as a placeholder by the first child that names it."""

    parent: bytes = b""
    role: Role = Role.OTHER
    state: int = PLACEHOLDER
    #: Rank of the copy in use: its end (of one that is open, the time of the look), number of attributes, hash. A greater copy replaces a smaller.
    rank: tuple[int, int, bytes] = (0, 0, b"")
    #: A model call's own figures, and whether they count (its response id may be another span's).
    own: Amounts | None = None
    wins: bool = True
    #: Sums of what lies below; None, as for most spans, when nothing does.
    below: tuple[Amounts, Amounts, Amounts, Tools] | None = None
    tool_name: str = ""
    failed: bool = False
    #: Checkpoint ids of errors told on this very span; taken back when the span turns out to be a box.
    errors: tuple[bytes, ...] = ()
    #: Slot of the response id, to be left when a greater copy names another.
    duplicates: Key = b""
    #: The parent edge was cut because it closed a circle.
    is_cut: bool = False
    #: How a span that is not of an agent ended, kept where it is the top of its trace: the end of what lies below it.
    closed: tuple[int, bytes, str, str, str] | None = None
    #: Of its own figures the cost that another telling of the call knew, in nano-dollars.
    lent: int = 0
    #: The domain of the trace to which it links, if that is one trace and another.
    link: bytes = b""
    #: The model of its own figures; the one of what lies below, and of that what is of others (`Amount`).
    model: str = ""
    model_below: str = ""
    others: Others = NO_OTHERS

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6  # not by way of `Role.is_box`: this is asked a dozen times a span

    @property
    def is_open_question(self) -> bool:
        """True while the span may still turn out to be a box."""
        state = self.state
        return state == PLACEHOLDER or (state == STARTED and self.role in _UNDECIDED)

    @property
    def owns_subtree(self) -> bool:
        """True for a span that owns what lies below it, for now or for good."""
        role, state = self.role, self.state
        if not self.parent or self.is_cut or 4 <= role <= 6 or state == PLACEHOLDER:
            return True
        return state == STARTED and role in _UNDECIDED


class Subtree(msgspec.Struct, omit_defaults=True, gc=False):
    """What lies below one owner, down to the next: facts, and where it is shown."""

    trace_id: bytes = b""
    tenant: str = ""
    #: The nearest owner above, empty when none is known.
    up: bytes = b""
    #: A tool call lies between this and the owner above.
    is_via_tool: bool = False
    #: The nearest box above, and whether a tool call lies between; how many boxes above this one are shown as one with it.
    root_span: bytes = b""
    is_root_span_via_tool: bool = False
    within: int = 0
    role: Role = Role.OTHER
    agent_name: str = ""
    task_id: str = ""
    #: While no box is known: the task that something below says it belongs to.
    hint: str = ""
    start_ns: int = 0
    #: The copies of the box that said its agent's name and its task's id: of several the greatest stands.
    named_by: Copy = NO_COPY
    identified_by: Copy = NO_COPY
    facts: Facts = msgspec.field(default_factory=Facts)
    #: Facts of spans that have not ended, by span: when the end hangs elsewhere, the facts move with the span.
    unended: dict[bytes, Facts] = {}
    #: The task it is shown in, and the root of its segment there.
    state: Key = b""
    root: Key = b""
    #: Seen while it was running, by a live start.
    is_live: bool = False
    #: Without a parent: the top of its trace.
    is_top: bool = False
    #: The boxes directly below are of more than one agent.
    is_of_many: bool = False
    #: What the placement of the owners below went by: role, name, task id, owner above, tool between.
    shape: tuple[int, str, str, bytes, bool] | None = None
    #: Errors of parts that were told below.
    errors: int = 0
    #: Exceptions of spans that are not an agent's: told when this turns out to lie in a task, else never.
    doubtful: list[Checkpoint] = []
    #: The task above, when this unit leads a segment.
    parent_state: Key = b""
    #: The task whose run this one goes on with, and by which rule; of a run that links join to another agent's, the task above.
    joined: Key = b""
    joined_by: str = ""
    linked_to: Key = b""
    #: It did nothing yet, and another of its conversation waits: whether it goes on with that is told by its first call.
    is_held: bool = False
    #: Where this run met others, and the task it was found to go on with there.
    meetings: dict[Key, Key] = {}

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6

    @property
    def all_facts(self) -> list[Facts]:
        """All that was learned below the owner."""
        return [self.facts, *self.unended.values()]


class ChildRoot(msgspec.Struct, array_like=True, gc=False):
    """A owner directly below another."""

    role: Role
    agent_name: str
    task_id: str
    is_via_tool: bool
    #: What it adds to the names of the agents directly below (`Kids.names`); None for nothing.
    says: str | None = None

    @property
    def is_root_span(self) -> bool:
        return 4 <= self.role <= 6


#: Stands for the names of more than one agent.
MANY = "\0"


class ChildRoots(msgspec.Struct, gc=False):
    """The owners directly below one, by span id. Written only when the structure changes."""

    subtrees: dict[bytes, ChildRoot] = {}
    #: How many of them say each agent's name: of boxes directly below, through what is no box, not through tools.
    names: dict[str, int] = {}


class Run(msgspec.Struct, omit_defaults=True, gc=False):
    """One run within a task: its root box and how it ended."""

    start_ns: int = 0
    ending: Ending = msgspec.field(default_factory=Ending)
    #: Ends of boxes shown within the segment that are not its root.
    inner: Ending = msgspec.field(default_factory=Ending)
    trace_id: bytes = b""
    span_id: bytes = b""
    #: What was told of its start and its end, to tell only changes.
    told_start: str = ""
    told_end: str = ""
    #: It ended waiting for a person; and it goes on with another (`joining`).
    waited: bool = False
    goes_on: bool = False
    #: Its end was handed to the counters, which cannot take back: a run that is heard again after all does not end twice.
    is_counted: bool = False


class Conversation(msgspec.Struct, omit_defaults=True, gc=False):
    """Context use of one agent with one model, within a task or a conversation, in order of time."""

    newest_ns: int = 0
    newest_key: bytes = b""
    used: int = 0
    #: Limits already warned of in this climb, by name, and those of which it was told that they are near.
    warned: list[int] = []
    ahead: list[int] = []
    #: How often the lane was re-armed: part of a warning's id.
    climb: int = 0
    #: A drop that the next call may confirm as a compaction: (before, after).
    drop: tuple[int, int] | None = None
    conversation: str = ""
    #: The newest compaction that was said.
    compacted_ns: int = 0
    #: The climb's newest calls: end, start, tokens.
    points: list[tuple[int, int, int]] = []


class Held(msgspec.Struct, omit_defaults=True, gc=False):
    """A milestone of one message that waits for its time (by the store's clock, seconds), and when the last one was told."""

    reported_at: float = 0.0
    checkpoint: Checkpoint | None = None
    #: The task that it is of.
    of: Key = b""
    due_at: float = 0.0


class TaskState(msgspec.Struct, omit_defaults=True, gc=False):
    """One task: the merged facts of its units, its segments, and what was told of it."""

    uid: bytes = b""
    tenant: str = ""
    #: The leader's trace and span; of the newest segment for a task with an explicit id.
    trace_id: bytes = b""
    span_id: bytes = b""
    task_id: str = ""
    has_root_span: bool = False
    facts: Facts = msgspec.field(default_factory=Facts)
    amounts: Amounts = ZERO
    #: Of a total of its agent's lifetime what was used before the run: input and output.
    before: tuple[int, int] | None = None
    #: What its data points tell: shown where `flow` knows nothing.
    metered: Amounts = ZERO
    #: Both by model; calls that name no model are in neither.
    models: Models = {}
    metered_models: Models = {}
    #: Tool calls, and how many of them failed.
    tools: Count = (0, 0)
    runs: dict[Key, Run] = {}
    #: The task above, by key; of several segments the earliest that has one says it.
    parent: Key = b""
    parent_rank: tuple[int, Key] = (0, b"")
    conversations: dict[str, Conversation] = {}
    #: Compactions that were inferred: checkpoint id, the last call before it, the call that confirmed it (ns).
    inferred: list[tuple[bytes, int, int]] = []
    is_announced: bool = False
    #: A timer runs, at whose end the task is announced after all.
    is_settling: bool = False
    #: Uid whose lane (message) this task uses: its own, or that of a task whose message it took over (`handover`).
    message_uid: bytes = b""
    #: A message tells of it, or did: its own, or that of a task that became part of it.
    has_message: bool = False
    #: Uid of the root under which it was shown last; `NOWHERE` while nothing of it is shown.
    shown_below: bytes = b""
    #: Where routes sent its messages last.
    places: list[str] = []
    #: News held back until the task is announced.
    held: list[Checkpoint] = []
    #: Told errors of parts.
    errors: int = 0
    #: What was counted of the figures, the same by model, and whether a timer runs for the rest.
    counted: Amounts = ZERO
    counted_models: Models = {}
    #: The most that counters were told: they cannot take back, and what was too high once is not added again.
    told: Amounts = ZERO
    is_counting: bool = False
    is_failed: bool = False
    is_over: bool = False
    has_started: bool = False
    #: Its newest moment when it was last looked at for silence, and when it was found to be silent.
    watched_ns: int = 0
    quiet_ns: int = 0
    #: The status as last shown.
    status: str = ""
    #: The milestone reached last: its run, its fifth, its step.
    milestone: tuple[str, int, str] | None = None
    #: Of a root task: what is held of the messages that carry it, by lane.
    held_back: dict[str, Held] = {}


class Members(msgspec.Struct, gc=False):
    """The units of a task, by key."""

    subtrees: dict[Key, None] = {}


class ChildTasks(msgspec.Struct, gc=False):
    """Child tasks of a task, by key, and whether each has failed."""

    tasks: dict[Key, bool] = {}
    #: Those of them that are at work.
    at_work: dict[Key, bool] = {}


class CallCopy(msgspec.Struct, array_like=True, gc=False):
    """A span that carries a response id: when it ran and how it ranks."""

    start_ns: int
    end_ns: int
    #: (is a span with a parent, has tokens, span key): the greatest wins.
    rank: tuple[int, int, bytes]
    #: Cost in nano-dollars; -1: unknown.
    cost: int = -1


class DuplicateCalls(msgspec.Struct, gc=False):
    """The spans that carry one response id, by cell key. Of those that overlap in time one counts."""

    call_copies: dict[Key, CallCopy] = {}


class RunCandidate(msgspec.Struct, array_like=True, gc=False):
    """What others may go by to tell whether one run goes on with another."""

    start_ns: int
    #: 0 while it has not ended.
    end_ns: int
    #: The task in which it is shown.
    state: Key
    agent_name: str = ""
    #: 0: it waits for nobody; 1: probably, for the answer to a tool call; 2: it said so.
    waits: int = 0
    #: The tool call that was left open: name and id.
    pending: tuple[str, str] = ("", "")
    #: The tool call by which it began, before any model call; None when it began otherwise.
    began_with: tuple[str, str] | None = None
    #: It did nothing yet.
    is_idle: bool = False
    #: What its agent had used in its lifetime when it ended, where nothing else is known of the run: input and output.
    totals: tuple[int, int] | None = None


class RunCandidates(msgspec.Struct, gc=False):
    """Runs that may go on with one another, by the key of their root's unit."""

    runs: dict[Key, RunCandidate] = {}


class LinkedTraces(msgspec.Struct, omit_defaults=True, gc=False):
    """Traces that links of a framework's messages join. `into` is the domain that speaks for this one, when it is another."""

    into: bytes = b""
    #: More traces than its own are in it.
    is_joined: bool = False
    runs: dict[Key, RunCandidate] = {}
    #: Runs of other traces that link to this one.
    guests: dict[Key, RunCandidate] = {}


class Seen(msgspec.Struct, omit_defaults=True, gc=False):
    """An occurrence that was told, and by which of its copies: the earliest stands, so that any order tells the same."""

    at_ns: int = 0
    key: bytes = b""
