"""Warnings about context use, call by call, and when they are due.

Rules. A conversation is the calls of one agent with one model: within its task, or across tasks where calls
name their conversation, because each turn of it may be a task of its own. A limit is reported once per
climb, and so is the forecast that it is near. A compaction (reported, or a drop to `DROP` that the next
call confirms) or a new conversation begins the next climb. A call older than the newest of its conversation
is ignored.

A drop is a compaction only where the later calls plausibly go on with the earlier one: the calls
before and after it and the one that confirms it are of one agent, as far as they name one, and of one trace,
so of one run; none lies within a tool call, where another agent works with a context of its own. Any other
drop is a new context: it begins a climb without a checkpoint.

Theory. The climb's number, not a time, is part of an id: whatever subset of a history is seen in order, the
n-th climb's warnings have the same ids, so no order reports one twice.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation
from spanpost.model.readings import Reading
from spanpost.tasks.absorb import AGENT_CONVERSATION, NO_MODEL, point_of
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.conclusions import CallTime, Conclusion, Judged
from spanpost.tasks.context import Window, canonical_model, resolve
from spanpost.tasks.context_checkpoints import context_checkpoint
from spanpost.tasks.context_limits import alarm, is_near, limits, named
from spanpost.tasks.context_use import is_sum
from spanpost.tasks.facts import Facts, time_of, value_of
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.forecast import DROP, STEPS, climb_of, forecast, may_reach
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import seen_key
from spanpost.tasks.records import Conversation, Seen, TaskState
from spanpost.tasks.work import Key, RecordSet

#: Conversations kept of one task, by model.
CONVERSATION_CAP = 16


class ModelCall(msgspec.Struct, frozen=True, gc=False):
    """The context use of a model call."""

    at_ns: int
    key: bytes
    start_ns: int
    used: int
    conversation: str = ""
    #: When its task last reported a compaction (ns); 0 when never.
    compacted_ns: int = 0
    agent: str = ""
    trace_id: bytes = b""


def judge(conversation: Conversation, call: ModelCall, window: Window | None, rules: FoldRules) -> list[Judged]:
    """Add a call to its conversation, in place, and return what is to be reported."""
    if (call.at_ns, call.key) <= (conversation.newest_ns, conversation.newest_key):
        return []
    out: list[Judged] = []
    used = call.used
    is_compacted = (
        conversation.compacted_ns < call.compacted_ns <= call.at_ns and 0 < conversation.newest_ns <= call.compacted_ns
    )
    conversation.compacted_ns = max(conversation.compacted_ns, call.compacted_ns)
    if is_compacted or (
        call.conversation and conversation.conversation and call.conversation != conversation.conversation
    ):
        _rearm(conversation)
        conversation.used = 0  # a drop is measured within one climb
    if call.conversation:
        conversation.conversation = call.conversation
    if conversation.drop is not None:
        before, after = conversation.drop
        (since_ns, since_start, _), first = conversation.points[-2:]
        is_drop, conversation.drop = used <= before * DROP, None
        if is_drop:
            _rearm(conversation)
            conversation.points = [first]
        if is_drop and not (conversation.is_other or _is_other(conversation, call)):
            since, confirmed = CallTime(since_start, since_ns), CallTime(call.start_ns, call.at_ns)
            out.append(
                Judged(
                    Conclusion.COMPACTION,
                    conversation.climb,
                    after,
                    window,
                    before=before,
                    since=since,
                    confirmed=confirmed,
                )
            )
    else:
        is_drop = False
    if conversation.used and used <= conversation.used * DROP and not is_drop:
        conversation.drop, conversation.is_other = (conversation.used, used), _is_other(conversation, call)
    conversation.agent, conversation.trace_id = call.agent or conversation.agent, call.trace_id
    conversation.newest_ns, conversation.newest_key, conversation.used = call.at_ns, call.key, used
    is_new_use = not conversation.points or used != conversation.points[-1][2]
    if is_new_use or call.start_ns != call.at_ns:  # an agent repeats the use that it reports itself
        conversation.points = [*conversation.points, (call.at_ns, call.start_ns, used)][-STEPS - 3 :]
    if conversation.drop is not None:
        return out
    crossed = [one for one in limits(window, rules) if used >= one.tokens and one.name not in conversation.warned]
    if crossed:  # one call: one warning, of the highest limit
        conversation.warned += [one.name for one in crossed]
        highest = max(crossed, key=lambda one: one.tokens)
        out.append(Judged(Conclusion.WARNING, conversation.climb, used, window, highest.name))
    ahead = _near(conversation, used, window, rules)
    if ahead is not None:
        out.append(ahead)
    return out


def _near(conversation: Conversation, used: int, window: Window | None, rules: FoldRules) -> Judged | None:
    """Return the forecast, if it nears a limit that no warning was sent for."""
    limit = alarm(used, window, rules)
    if limit is None or limit.name in conversation.ahead or limit.name in conversation.warned:
        return None
    if not may_reach(conversation.points, limit.tokens):
        return None
    prediction = forecast(climb_of(conversation.points), limit.tokens)
    if prediction is None or not is_near(prediction, rules):
        return None
    conversation.ahead.append(limit.name)
    return Judged(Conclusion.AHEAD, conversation.climb, used, window, limit.name, forecast=named(prediction, limit))


def _is_other(conversation: Conversation, call: ModelCall) -> bool:
    """Tell whether a call is another agent's or another run's than the one before it."""
    agents = {conversation.agent, call.agent} - {""}
    return len(agents) > 1 or conversation.trace_id != call.trace_id


def _is_within_tool(facts: Facts, *calls: CallTime) -> bool:
    """Tell whether one of the calls lies within a tool call: it has a context of its own."""
    tools = [act.value for act in facts.acts.values()]
    return any(
        tool.began_ns <= call.start_ns and (call.at_ns <= tool.ended_ns or not tool.ended_ns)
        for tool in tools
        for call in calls
    )


def _rearm(conversation: Conversation) -> None:
    conversation.climb += 1
    conversation.warned, conversation.ahead, conversation.points = [], [], []
    conversation.drop = None


def conversation_domain(tenant: str, conversation: str) -> bytes:
    """Return the 16 bytes by which a conversation's records are stored and locked."""
    return blake2b(f"{tenant}\0conversation\0{conversation}".encode("utf-8", "replace"), digest_size=16).digest()


def conversation_key(shared_domain: bytes, agent: str, model: str) -> Key:
    return shared_domain + b"w" + blake2b(f"{agent}\0{model}".encode("utf-8", "replace"), digest_size=8).digest()


class _CallPlace(NamedTuple):
    """The task in which calls are judged, and its facts."""

    owner: bytes
    key: Key
    state: TaskState
    facts: Facts
    #: The agent's name and the task's, of a task with a root span.
    agent: tuple[str | None, str | None] | None
    #: Whether the agent reports its own context use; and the window that it states.
    says_use: bool
    said_window: int | None
    compacted_ns: int


def _in_order(call: tuple[Any, ...]) -> tuple[int, bytes, bytes]:
    return call[:3]


class Conversations:
    """The conversations of one batch."""

    def __init__(self, states: TaskStates, rules: FoldRules, seen: RecordSet[Seen]) -> None:
        self.states = states
        self.rules = rules
        self.seen = seen
        self.shared_conversations = RecordSet(states.work, Conversation)
        #: Calls to be judged in order of time: (time, key, domain, owner, observation, reading, domain of
        #: the conversation).
        self.calls: list[tuple[int, bytes, bytes, bytes, Observation, Reading, bytes]] = []
        #: Caches: canonical names, windows and keys of conversations.
        self._models: dict[str, str] = {}
        self._windows: dict[tuple[str | None, int | None], Window | None] = {}
        self._keys: dict[tuple[bytes, str | None, str], Key] = {}
        self._known = rules.known_windows

    def judged(self) -> list[TaskCheckpoint]:
        """Judge this batch's calls, in order of time; return their checkpoints, each with its task."""
        checkpoints: list[TaskCheckpoint] = []
        places: dict[tuple[bytes, bytes], _CallPlace | None] = {}
        #: The forecasts of this batch, by conversation: tokens, and the checkpoint's id.
        ahead: dict[tuple[Key, bytes], list[tuple[int, UUID]]] = {}
        for at, key, domain, met, o, r, shared_domain in sorted(self.calls, key=_in_order):
            try:
                where = places[domain, met]
            except KeyError:
                where = places[domain, met] = self._place(domain, met)
            if where is None:
                continue
            state, facts = where.state, where.facts
            if r.context_used is not None:
                used, name, begun = r.context_used, AGENT_CONVERSATION, at
                model = r.model or value_of(facts.model)
            elif r.usage is not None and r.usage.input is not None and not where.says_use:
                used, name, begun = r.usage.input, self._canonical(r.model or NO_MODEL), o.start_ns or at
                model = name
                if is_sum(point_of(o, r, key, at, used, name), facts):
                    continue
            else:
                continue
            found = self._conversation(where, r, name, shared_domain)
            if found is None:
                continue
            conversation, place = found
            window = self._window(
                model, r.context_window or where.said_window, max(facts.accepted.get(name, 0), conversation.used)
            )
            call = ModelCall(
                at, key, begun, used, r.conversation_id or "", where.compacted_ns, r.agent_label or "", o.trace_id
            )
            for judged in judge(conversation, call, window, self.rules):
                if judged.what is Conclusion.COMPACTION and (
                    call.compacted_ns  # the agent reports its compactions itself
                    or _is_within_tool(facts, judged.since, judged.confirmed)
                ):
                    continue
                checkpoint = context_checkpoint(judged, state, place or name, name, o, where.owner)
                # A task that was merged into another for a while has lost its conversations, not the record
                # of its checkpoints.
                own_key = seen_key(where.key[:16], checkpoint.id.bytes)
                conversation_of = (where.key, place or name.encode())
                if judged.what is Conclusion.WARNING:  # what came true within the batch is no forecast any more
                    near = [f for f in ahead.get(conversation_of, ()) if f[0] <= judged.used]
                    checkpoints = [one for one in checkpoints if all(one.checkpoint.id != id for _, id in near)]
                if self.seen.get(own_key) is None:
                    self.seen.put(own_key, Seen(at, key))
                    checkpoints.append(TaskCheckpoint(checkpoint, where.key))
                    if judged.forecast is not None:
                        ahead.setdefault(conversation_of, []).append((judged.forecast.tokens, checkpoint.id))
                    if judged.what is Conclusion.COMPACTION:
                        state.inferred = [*state.inferred, (checkpoint.id.bytes, judged.since, judged.confirmed)][
                            -CONVERSATION_CAP:
                        ]
            if place:
                self.shared_conversations.put(place, conversation)
        return checkpoints

    def overtaken(self) -> list[UUID]:
        """Return the inferred compactions that are none, as is known since.

        The agent has reported it, and only its own checkpoint stays; or a call of it lies within a tool.
        """
        out: list[UUID] = []
        for key in list(self.states.touched):
            state = self.states.state(key)
            said_ns = time_of(state.facts.compacted) if state is not None else 0
            if state is None or not state.inferred:
                continue
            gone = [
                (id, since, confirmed)
                for id, since, confirmed in state.inferred
                if since.at_ns < said_ns <= confirmed.at_ns or _is_within_tool(state.facts, since, confirmed)
            ]
            if gone:
                state.inferred = [entry for entry in state.inferred if entry not in gone]
                self.states.states.put(key, state)
                out += [UUID(bytes=id) for id, _, _ in gone]
        return out

    def _place(self, domain: bytes, met: bytes) -> _CallPlace | None:
        """Return the task of calls whose subtree had this owner; None where it is unknown.

        Judging them may change its row.
        """
        tree = self.states.tree(domain)
        owner = tree.owner(met)
        subtree = tree.subtrees.get(owner)
        state = self.states.state(subtree.state) if subtree is not None else None
        if subtree is None or state is None:
            return None
        self.states.touch(subtree.state, state)
        facts = state.facts
        agent = (value_of(facts.agent_name), value_of(facts.name)) if state.has_root_span else None
        says_use = value_of(facts.context_used) is not None
        return _CallPlace(
            owner,
            subtree.state,
            state,
            facts,
            agent,
            says_use,
            value_of(facts.context_window),
            time_of(facts.compacted),
        )

    def _conversation(
        self, where: _CallPlace, r: Reading, name: str, shared_domain: bytes
    ) -> tuple[Conversation, Key] | None:
        """Return the conversation of a call, and its key where calls name it; None where a task has too many."""
        state = where.state
        own = state.conversations.get(name)
        agent = r.agent_label
        if where.agent is not None:
            agent = where.agent[0] or agent or where.agent[1]
        if shared_domain:
            # Without a root span the calls have no known agent: they are kept without one, as in the task.
            place = self._keys.get((shared_domain, agent, name))
            if place is None:
                place = self._keys[shared_domain, agent, name] = conversation_key(shared_domain, agent or "", name)
            conversation = self.shared_conversations.get(place)
            if own is not None:  # its calls did not name their conversation before
                del state.conversations[name]
                if conversation is None or (own.newest_ns, own.newest_key) > (
                    conversation.newest_ns,
                    conversation.newest_key,
                ):
                    own.climb = max(own.climb, conversation.climb + 1) if conversation is not None else own.climb
                    conversation = own
            return conversation or Conversation(), place
        if own is None:
            if len(state.conversations) >= CONVERSATION_CAP:
                return None
            own = state.conversations[name] = Conversation()
        return own, b""

    def _window(self, model: str | None, said: int | None, accepted: int) -> Window | None:
        """Return a model's window, as `resolve` does, from a cache."""
        try:
            window = self._windows[model, said]
        except KeyError:
            window = self._windows[model, said] = resolve(model, self._known, said=said)
        if window is not None and accepted > window.tokens:
            return resolve(model, self._known, said=said, accepted=accepted)
        return window

    def _canonical(self, model: str) -> str:
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = canonical_model(model)
        return known
