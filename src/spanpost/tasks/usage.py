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

from spanpost.model.budgets import Used
from spanpost.model.ids import uuid_of
from spanpost.tasks.amounts import ZERO, Amounts, Models, as_usage, dollars, minus, nano, plus
from spanpost.tasks.records import TaskState
from spanpost.tasks.runs import runs_of


def figures(state: TaskState) -> Amounts:
    """Return what a task used. As a call of known cost counts what data points or the agent say of the cost of all."""
    amounts, metered = state.amounts, state.metered
    whole = said_cost(state)
    if metered is ZERO or metered == ZERO:
        found = amounts
    else:
        tokens = amounts if amounts[1] or amounts[3] else metered
        cost = amounts[11:] if amounts[11] else (max(metered[11], amounts[0]), metered[12]) if metered[11] else (0, 0)
        found = (amounts[0], *tokens[1:11], *cost)
    return found if whole is None else (*found[:11], max(found[0], 1), nano(whole))


def by_model(state: TaskState, whole: Amounts) -> Models:
    """Return these figures of a task by model: what no call names a model for under the empty name. They add up to the whole."""
    amounts, metered = state.amounts, state.metered
    tokens = _parts(amounts, state.models) if amounts[1] or amounts[3] or metered == ZERO else _parts(metered, state.metered_models)
    if state.metered == ZERO and said_cost(state) is None:
        return tokens
    calls = _parts(amounts, state.models)
    costs = calls if amounts[11] or metered == ZERO else _parts(metered, state.metered_models)
    found: Models = {}
    for model in sorted(tokens.keys() | calls.keys() | costs.keys()):
        n, cost = calls.get(model, ZERO)[0], costs.get(model, ZERO)
        found[model] = (n, *tokens.get(model, ZERO)[1:11], cost[11] if costs is calls else max(cost[11], n), cost[12])
    return _at_cost(found, whole)


def said_cost(state: TaskState) -> Decimal | None:
    """Return what the agent says that its runs cost, if it says it of each of them (of the box itself, or of the only one that speaks)."""
    said = state.facts.maps.get("costs")
    if not said:
        return None
    each = [said.get(f"{s.trace_id.hex()}{s.span_id.hex()}") for s in runs_of(state).values()]
    found = [fact for fact in each if fact is not None]
    if len(found) < len(each):
        if len(each) > 1 or len(said) > 1:
            return None
        found = list(said.values())
    return dollars(sum(fact[3] for fact in found))


def is_counted(state: TaskState) -> bool:
    """Tell whether all of a task's figures are counted, under their models."""
    whole = figures(state)
    return whole == state.counted and by_model(state, whole) == state.counted_models


def told_more(whole: Amounts, told: Amounts, grown: Models) -> Models:
    """Return what counters are told anew: not more than the whole grew beyond the most that they were told."""
    left = [n if n > 0 else 0 for n in map(sub, whole, told)]
    found: Models = {}
    for model, amounts in sorted(grown.items()):
        more = amounts
        if min(amounts) < 0 or not all(map(le, amounts, left)):
            more = tuple(min(n, max(0, d)) for n, d in zip(left, amounts, strict=True))  # type: ignore[assignment]
        if more != ZERO:
            found[model] = more
            left = list(map(sub, left, more))
    return found


def unpriced(amounts: Amounts) -> int:
    """Return the calls of which no cost is known."""
    return max(0, amounts[0] - amounts[11])


def used(uid: bytes, tenant: str, grown: Models) -> list[Used]:
    """Return what a task's figures grew by, as rows."""
    return [
        Used(
            task_uid=uuid_of(uid),
            tenant=tenant,
            model=model,
            calls=amounts[0],
            unpriced=amounts[0] - amounts[11],
            usage=msgspec.structs.replace(as_usage(amounts), cost_usd=dollars(amounts[12])),
        )
        for model, amounts in sorted(grown.items())
        if amounts != ZERO
    ]


def _parts(whole: Amounts, models: Models) -> Models:
    """Return figures by model, with what none of them holds."""
    if len(models) == 1:
        [amounts] = models.values()
        if amounts == whole:
            return models
    rest = whole
    for amounts in models.values():
        rest = minus(rest, amounts)
    return models if rest == ZERO else {**models, "": plus(models.get("", ZERO), rest)}


def _at_cost(found: Models, whole: Amounts) -> Models:
    """Share out the cost of the whole: as the calls cost where all of them say it, else by their tokens."""
    if sum(amounts[12] for amounts in found.values()) == whole[12] or not found:
        return found or {"": whole}
    is_priced = all(amounts[11] >= amounts[0] and amounts[12] for amounts in found.values())
    weights = {model: amounts[12] if is_priced else amounts[2] + amounts[4] for model, amounts in found.items()}
    all_of_it, left = sum(weights.values()), whole[12]
    for model, amounts in found.items():
        share = whole[12] * weights[model] // all_of_it if all_of_it else 0
        left -= share
        found[model] = (*amounts[:11], max(amounts[11], amounts[0], 1), share)
    most = max(found, key=lambda model: (weights[model], model))
    found[most] = (*found[most][:12], found[most][12] + left)
    return found
