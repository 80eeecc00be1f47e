"""What happens to tasks when a batch closes: they take in what their units learned, or are built anew from them.

Theory. Facts merge in any order and any number of times to the same, so that a unit's facts may be handed to its task once
per batch, whole, instead of each by each. Figures are sums: what they changed by is added, once.
"""

from __future__ import annotations

from spanpost.fold.facts import Facts
from spanpost.fold.flow import ZERO
from spanpost.fold.groups import Groups, add_figures, pass_on_counted
from spanpost.fold.handover import pass_on_held
from spanpost.fold.kin import NO_COUNT, total
from spanpost.fold.records import Group, Unit, cell_key, unit_key
from spanpost.fold.segments import enter_segment
from spanpost.fold.work import Key


def gather(groups: Groups) -> None:
    """Have tasks take in what the batch taught their units, and what their figures changed by."""
    for kin in list(groups.kins.values()):
        kin.carry()
        for span_id, flow, tools, models in kin.changes():
            unit = kin.units.get(span_id)
            group = groups.group(unit.group) if unit is not None and unit.group else None
            if unit is not None and group is not None:
                add_figures(group, span_id, flow, tools, models)
                groups.touch(unit.group, group)
        kin.former.clear()
        for span_id in {**kin.learned, **dict.fromkeys(kin.recorded)}:
            groups.tick()
            unit = kin.units.get(span_id)
            if unit is None:  # dissolved: its heir has learned what it knew
                continue
            kin.units.put(span_id, unit)
            if unit.root[16:17] == b"u":
                groups.runs.add(unit.root)
            group = groups.group(unit.group)
            if group is not None and unit.group not in groups.stale:
                for facts in unit.all_facts:
                    group.facts.merge(facts)
                enter_segment(group, unit, unit_key(kin.domain, span_id), span_id)
                groups.touch(unit.group, group)
        kin.learned.clear()


def rebuild(groups: Groups) -> None:
    """Build stale tasks anew from their units; drop those that have none."""
    for key in sorted(groups.stale):
        group = groups.group(key)
        if group is None:
            continue
        members = groups.members(key)
        if not members.units:
            _drop(groups, key, group)
            continue
        old_segments, had_box = group.segments, group.has_box
        group.facts, group.flow, group.tools, group.segments, group.has_box = Facts(), ZERO, NO_COUNT, {}, False
        group.metered, group.models, group.metered_models = ZERO, {}, {}
        group.errors = 0
        units: list[tuple[bytes, bytes, Unit]] = []
        groups.work.want([*members.units, *(cell_key(own[:16], own[17:]) for own in members.units)])
        for own in members.units:
            groups.tick()
            domain, span_id = own[:16], own[17:]
            unit = groups.unit(own)
            if unit is None or unit.group != key:
                continue
            units.append((domain, span_id, unit))
            group.has_box = group.has_box or unit.is_box
        if group.has_box and not had_box:
            groups.boxed.add(key)
        for domain, span_id, unit in units:
            for facts in unit.all_facts:
                group.facts.merge(facts)
            group.errors += unit.errors
            cell = groups.kin(domain).cells.get(span_id)
            if cell is not None:
                add_figures(group, span_id, *total(cell))
            enter_segment(group, unit, unit_key(domain, span_id), span_id)
        for root, segment in old_segments.items():
            if root in group.segments:
                group.segments[root].told_start = segment.told_start
                group.segments[root].told_end = segment.told_end
                group.segments[root].waited = segment.waited
                group.segments[root].is_counted = segment.is_counted
            elif segment.told_start or segment.told_end:
                groups.retracted.add(root)
        groups.touch(key, group)
    groups.stale.clear()


def _drop(groups: Groups, key: Key, group: Group) -> None:
    for root, segment in group.segments.items():
        if segment.told_start or segment.told_end:
            groups.retracted.add(root)
    heir_key = groups.gone.get(key, b"")
    heir = groups.group(heir_key) if heir_key else None
    pass_on_counted(groups, key, heir_key, heir)
    if heir is not None:
        for name, lane in group.lanes.items():
            known = heir.lanes.get(name)
            if known is None or (lane.newest_ns, lane.newest_key) > (known.newest_ns, known.newest_key):
                heir.lanes[name] = lane
        groups.touch(heir_key, heir)
    if group.parent:
        siblings = groups.offspring(group.parent)
        siblings.at_work.pop(key, None)
        if siblings.tasks.pop(key, None) is not None:
            groups.put_offspring(group.parent, siblings)
            groups.touched[group.parent] = None
    former = groups.dropped.setdefault(key, group)
    if former is not group:  # it came again for a moment
        pass_on_held(group, former)
    groups.forget(key)
