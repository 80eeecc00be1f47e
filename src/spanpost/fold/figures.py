"""What a task used: the one figure of its row, of counters and of budgets, and the same by model.

Rules. Calls tell it, each once (`kin`); of tokens, and of cost, data points do where no call tells any, and so do not add up with
calls of the same session. What the agent says that the whole run cost stands above what its calls cost. What an agent's span alone
says of all its calls is shown for the task (`tasks`) and counted nowhere: the tasks below it may have told of the same calls.
By model it is what each call says itself.
"""

from __future__ import annotations

from decimal import Decimal
from operator import le, sub

import msgspec

from spanpost.domain.spend import Used
from spanpost.fold.flow import ZERO, Flow, Models, as_usage, dollars, minus, nano, plus
from spanpost.fold.ids import uuid_of
from spanpost.fold.records import Group
from spanpost.fold.segments import runs


def figures(group: Group) -> Flow:
    """Return what a task used. As a call of known cost counts what data points or the agent say of the cost of all."""
    flow, metered = group.flow, group.metered
    whole = said_cost(group)
    if metered is ZERO or metered == ZERO:
        found = flow
    else:
        tokens = flow if flow[1] or flow[3] else metered
        cost = flow[11:] if flow[11] else (max(metered[11], flow[0]), metered[12]) if metered[11] else (0, 0)
        found = (flow[0], *tokens[1:11], *cost)
    return found if whole is None else (*found[:11], max(found[0], 1), nano(whole))


def by_model(group: Group, whole: Flow) -> Models:
    """Return these figures of a task by model: what no call names a model for under the empty name. They add up to the whole."""
    flow, metered = group.flow, group.metered
    tokens = _parts(flow, group.models) if flow[1] or flow[3] or metered == ZERO else _parts(metered, group.metered_models)
    if group.metered == ZERO and said_cost(group) is None:
        return tokens
    calls = _parts(flow, group.models)
    costs = calls if flow[11] or metered == ZERO else _parts(metered, group.metered_models)
    found: Models = {}
    for model in sorted(tokens.keys() | calls.keys() | costs.keys()):
        n, cost = calls.get(model, ZERO)[0], costs.get(model, ZERO)
        found[model] = (n, *tokens.get(model, ZERO)[1:11], cost[11] if costs is calls else max(cost[11], n), cost[12])
    return _at_cost(found, whole)


def said_cost(group: Group) -> Decimal | None:
    """Return what the agent says that its runs cost, if it says it of each of them (of the box itself, or of the only one that speaks)."""
    said = group.facts.maps.get("costs")
    if not said:
        return None
    each = [said.get(f"{s.trace_id.hex()}{s.span_id.hex()}") for s in runs(group).values()]
    found = [fact for fact in each if fact is not None]
    if len(found) < len(each):
        if len(each) > 1 or len(said) > 1:
            return None
        found = list(said.values())
    return dollars(sum(fact[3] for fact in found))


def is_counted(group: Group) -> bool:
    """Tell whether all of a task's figures are counted, under their models."""
    whole = figures(group)
    return whole == group.counted and by_model(group, whole) == group.counted_models


def told_more(whole: Flow, told: Flow, grown: Models) -> Models:
    """Return what counters are told anew: not more than the whole grew beyond the most that they were told."""
    left = [n if n > 0 else 0 for n in map(sub, whole, told)]
    found: Models = {}
    for model, flow in sorted(grown.items()):
        more = flow
        if min(flow) < 0 or not all(map(le, flow, left)):
            more = tuple(min(n, max(0, d)) for n, d in zip(left, flow, strict=True))  # type: ignore[assignment]
        if more != ZERO:
            found[model] = more
            left = list(map(sub, left, more))
    return found


def unpriced(flow: Flow) -> int:
    """Return the calls of which no cost is known."""
    return max(0, flow[0] - flow[11])


def used(uid: bytes, tenant: str, grown: Models) -> list[Used]:
    """Return what a task's figures grew by, as rows."""
    return [
        Used(
            task_uid=uuid_of(uid),
            tenant=tenant,
            model=model,
            calls=flow[0],
            unpriced=flow[0] - flow[11],
            usage=msgspec.structs.replace(as_usage(flow), cost_usd=dollars(flow[12])),
        )
        for model, flow in sorted(grown.items())
        if flow != ZERO
    ]


def _parts(whole: Flow, models: Models) -> Models:
    """Return figures by model, with what none of them holds."""
    if len(models) == 1:
        [flow] = models.values()
        if flow == whole:
            return models
    rest = whole
    for flow in models.values():
        rest = minus(rest, flow)
    return models if rest == ZERO else {**models, "": plus(models.get("", ZERO), rest)}


def _at_cost(found: Models, whole: Flow) -> Models:
    """Share out the cost of the whole: as the calls cost where all of them say it, else by their tokens."""
    if sum(flow[12] for flow in found.values()) == whole[12] or not found:
        return found or {"": whole}
    is_priced = all(flow[11] >= flow[0] and flow[12] for flow in found.values())
    weights = {model: flow[12] if is_priced else flow[2] + flow[4] for model, flow in found.items()}
    all_of_it, left = sum(weights.values()), whole[12]
    for model, flow in found.items():
        share = whole[12] * weights[model] // all_of_it if all_of_it else 0
        left -= share
        found[model] = (*flow[:11], max(flow[11], flow[0], 1), share)
    most = max(found, key=lambda model: (weights[model], model))
    found[most] = (*found[most][:12], found[most][12] + left)
    return found
