"""Context use, call by call: what is warned of, and when.

Rules. A lane is the calls of one agent with one model: within its task, or within its conversation where calls say which one
it is, because each turn of a conversation may be a task of its own. A limit is told once per climb, and so is the forecast
that it is near. A compaction (said, or a drop to `DROP` that the next call confirms) or a new conversation begins the next
climb. A call older than its lane's newest never tells.

Theory. The climb's number, not a time, is part of an id: whatever subset of a history is seen in order, the n-th climb's
warnings have the same ids, so no order tells one twice.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.observations import Observation
from spanpost.domain.readings import Reading
from spanpost.fold.absorb import AGENT_LANE, NO_MODEL
from spanpost.fold.batch import Rules
from spanpost.fold.context import Window, canonical_model, resolve
from spanpost.fold.context_news import context_news
from spanpost.fold.facts import Facts
from spanpost.fold.forecast import DROP, STEPS, climb_of, forecast, may_reach
from spanpost.fold.groups import Groups
from spanpost.fold.judged import Judged, What
from spanpost.fold.limits import alarm, is_near, limits, named
from spanpost.fold.records import Group, Lane, Seen, seen_key
from spanpost.fold.work import Key, Shelf

#: Lanes kept of one task.
LANE_CAP = 16


class Call(msgspec.Struct, frozen=True, gc=False):
    """What a model call was given."""

    at_ns: int
    key: bytes
    start_ns: int
    used: int
    conversation: str = ""
    #: When it was last said of its task that the context was compacted (ns); 0 when never.
    compacted_ns: int = 0


def judge(lane: Lane, call: Call, window: Window | None, rules: Rules) -> list[Judged]:
    """Take a call into its lane, in place, and return what is to be told."""
    if (call.at_ns, call.key) <= (lane.newest_ns, lane.newest_key):
        return []
    out: list[Judged] = []
    used = call.used
    is_compacted = lane.compacted_ns < call.compacted_ns <= call.at_ns and 0 < lane.newest_ns <= call.compacted_ns
    lane.compacted_ns = max(lane.compacted_ns, call.compacted_ns)
    if is_compacted or (call.conversation and lane.conversation and call.conversation != lane.conversation):
        _rearm(lane)
        lane.used = 0  # what was used before is no height to drop from
    if call.conversation:
        lane.conversation = call.conversation
    if lane.drop is not None:
        before, after = lane.drop
        first, since_ns, lane.drop = lane.points[-1:], lane.points[-2][0], None
        if used <= before * DROP:
            _rearm(lane)
            lane.points = first
            out.append(Judged(What.COMPACTION, lane.climb, after, window, before=before, since_ns=since_ns))
    if lane.used and used <= lane.used * DROP and not out:
        lane.drop = (lane.used, used)
    lane.newest_ns, lane.newest_key, lane.used = call.at_ns, call.key, used
    if not lane.points or used != lane.points[-1][2] or call.start_ns != call.at_ns:  # what an agent says of itself it repeats
        lane.points = [*lane.points, (call.at_ns, call.start_ns, used)][-STEPS - 3 :]
    if lane.drop is not None:
        return out
    for limit in limits(window, rules):
        if used >= limit.tokens and limit.name not in lane.warned:
            lane.warned.append(limit.name)
            out.append(Judged(What.WARNING, lane.climb, used, window, limit.name))
    near = _near(lane, used, window, rules)
    if near is not None:
        out.append(near)
    return out


def _near(lane: Lane, used: int, window: Window | None, rules: Rules) -> Judged | None:
    """Return the warning ahead, if a limit that nobody was warned of is near."""
    limit = alarm(used, window, rules)
    if limit is None or limit.name in lane.ahead or limit.name in lane.warned:
        return None
    if not may_reach(lane.points, limit.tokens):
        return None
    told = forecast(climb_of(lane.points), limit.tokens)
    if told is None or not is_near(told, rules):
        return None
    lane.ahead.append(limit.name)
    return Judged(What.AHEAD, lane.climb, used, window, limit.name, forecast=named(told, limit))


def _rearm(lane: Lane) -> None:
    lane.climb += 1
    lane.warned, lane.ahead, lane.points = [], [], []
    lane.drop = None


def talk_domain(tenant: str, conversation: str) -> bytes:
    """Return the 16 bytes under which a conversation's lanes lie and are locked."""
    return blake2b(f"{tenant}\0conversation\0{conversation}".encode("utf-8", "replace"), digest_size=16).digest()


def lane_key(talk: bytes, agent: str, model: str) -> Key:
    return talk + b"w" + blake2b(f"{agent}\0{model}".encode("utf-8", "replace"), digest_size=8).digest()


class _Place(NamedTuple):
    """The task in which calls are judged, and what is known of it."""

    boundary: bytes
    key: Key
    group: Group
    facts: Facts
    #: The agent's name and the task's, of a task with a box.
    agent: tuple[str | None, str | None] | None
    #: It says itself how full its context is, and how large that is.
    says_use: bool
    said_window: int | None
    compacted_ns: int


def _in_order(call: tuple[Any, ...]) -> tuple[int, bytes, bytes]:
    return call[:3]


class Lanes:
    """The lanes of one batch."""

    def __init__(self, groups: Groups, rules: Rules, seen: Shelf[Seen]) -> None:
        self.groups = groups
        self.rules = rules
        self.seen = seen
        self.talks = Shelf(groups.work, Lane)
        #: Calls to be judged in order of time: (time, key, domain, boundary, observation, reading, domain of the conversation).
        self.calls: list[tuple[int, bytes, bytes, bytes, Observation, Reading, bytes]] = []
        #: Canonical names, windows and keys of lanes, as they were asked for.
        self._models: dict[str, str] = {}
        self._windows: dict[tuple[str | None, int | None], Window | None] = {}
        self._keys: dict[tuple[bytes, str | None, str], Key] = {}
        self._known = rules.known_windows

    def judged(self) -> list[tuple[Checkpoint, Key]]:
        """Judge this batch's calls, in order of time; return what they tell, with the task."""
        news: list[tuple[Checkpoint, Key]] = []
        places: dict[tuple[bytes, bytes], _Place | None] = {}
        for at, key, domain, met, o, r, talk in sorted(self.calls, key=_in_order):
            try:
                where = places[domain, met]
            except KeyError:
                where = places[domain, met] = self._place(domain, met)
            if where is None:
                continue
            group, facts = where.group, where.facts
            if r.context_used is not None:
                used, name, begun = r.context_used, AGENT_LANE, at
                model = r.model or facts.value("model")
            elif r.usage is not None and r.usage.input is not None and not where.says_use:
                used, name, begun = r.usage.input, self._canonical(r.model or NO_MODEL), o.start_ns or at
                model = name
            else:
                continue
            found = self._lane(where, r, name, talk)
            if found is None:
                continue
            lane, place = found
            window = self._window(model, r.context_window or where.said_window, max(facts.accepted.get(name, 0), lane.used))
            call = Call(at, key, begun, used, r.conversation_id or "", where.compacted_ns)
            for judged in judge(lane, call, window, self.rules):
                if judged.what is What.COMPACTION and call.compacted_ns:
                    continue  # who says its compactions is believed
                checkpoint = context_news(judged, group, place or name, name, o, where.boundary)
                # A task that was part of another for a while has forgotten its lanes, not what was told of it.
                told = seen_key(where.key[:16], checkpoint.id.bytes)
                if self.seen.get(told) is None:
                    self.seen.put(told, Seen(at, key))
                    news.append((checkpoint, where.key))
                    if judged.what is What.COMPACTION:
                        group.inferred = [*group.inferred, (checkpoint.id.bytes, judged.since_ns, at)][-LANE_CAP:]
            if place:
                self.talks.put(place, lane)
        return news

    def overtaken(self) -> list[UUID]:
        """Return the compactions that were inferred, and that the agent has said since: told once, in its own words."""
        out: list[UUID] = []
        for key in list(self.groups.touched):
            group = self.groups.group(key)
            said_ns = group.facts.at("compacted") if group is not None else 0
            if group is None or not said_ns or not group.inferred:
                continue
            gone = [entry for entry in group.inferred if entry[1] < said_ns <= entry[2]]
            if gone:
                group.inferred = [entry for entry in group.inferred if entry not in gone]
                self.groups.groups.put(key, group)
                out += [UUID(bytes=id) for id, _, _ in gone]
        return out

    def _place(self, domain: bytes, met: bytes) -> _Place | None:
        """Return the task of calls that were met under a boundary; that they are judged may change its row."""
        kin = self.groups.kin(domain)
        boundary = kin.boundary(met)
        unit = kin.units.get(boundary)
        group = self.groups.group(unit.group) if unit is not None else None
        if unit is None or group is None:
            return None
        self.groups.touch(unit.group, group)
        facts = group.facts
        agent = (facts.value("agent_name"), facts.value("name")) if group.has_box else None
        says_use = facts.value("context_used") is not None
        return _Place(boundary, unit.group, group, facts, agent, says_use, facts.value("context_window"), facts.at("compacted"))

    def _lane(self, where: _Place, r: Reading, name: str, talk: bytes) -> tuple[Lane, Key] | None:
        """Return the lane of a call, and its key where it is a conversation's."""
        group = where.group
        own = group.lanes.get(name)
        agent = r.agent_label
        if where.agent is not None:
            agent = where.agent[0] or agent or where.agent[1]
        if talk:
            # Without a box whose calls these are is not known: they are nobody's, as they are in the task.
            place = self._keys.get((talk, agent, name))
            if place is None:
                place = self._keys[talk, agent, name] = lane_key(talk, agent or "", name)
            lane = self.talks.get(place)
            if own is not None:  # it was not known yet whose calls these are
                del group.lanes[name]
                if lane is None or (own.newest_ns, own.newest_key) > (lane.newest_ns, lane.newest_key):
                    own.climb = max(own.climb, lane.climb + 1) if lane is not None else own.climb
                    lane = own
            return lane or Lane(), place
        if own is None:
            if len(group.lanes) >= LANE_CAP:
                return None
            own = group.lanes[name] = Lane()
        return own, b""

    def _window(self, model: str | None, said: int | None, accepted: int) -> Window | None:
        """Return a model's window, as `resolve` does."""
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
