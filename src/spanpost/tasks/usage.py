"""What a task used: the same figures for its row, for counters and for budgets, and by model.

Rules. Model calls report it, each counted once (`span_tree`); data points count for tokens, and for cost,
where no call reports any, and so do not add up with calls of the same session. A cost that the agent states
for the whole run stands above that of its calls. A total that only an agent's span states is shown for the
task (`status`) and counted nowhere: the tasks below it may have reported the same calls. By model, each call
counts under the model that it names.
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
    """Return what a task used.

    A cost from data points or from the agent counts as a cost known for every call.
    """
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
    """Return these figures of a task by model, which add up to the whole.

    Calls that name no model are under the empty name.
    """
    amounts, metered = state.amounts, state.metered
    has_calls = bool(amounts[1] or amounts[3]) or metered == ZERO
    tokens = _parts(amounts, state.models) if has_calls else _parts(metered, state.metered_models)
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
    """Return the cost that the agent states for its runs; None unless it states one for each.

    It is stated on the root span, or by the only span that states a cost.
    """
    said = state.facts.costs
    if not said:
        return None
    each = [said.get(f"{s.trace_id.hex()}{s.span_id.hex()}") for s in runs_of(state).values()]
    found = [fact for fact in each if fact is not None]
    if len(found) < len(each):
        if len(each) > 1 or len(said) > 1:
            return None
        found = list(said.values())
    return dollars(sum(fact.value for fact in found))


def counter_growth(whole: Amounts, reported: Amounts, grown: Models) -> Models:
    """Return what counters grow by: at most what the whole grew beyond the most that they were given."""
    left = [n if n > 0 else 0 for n in map(sub, whole, reported)]
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
    """Return the number of calls without a known cost."""
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
    """Return figures by model; what none of them holds is under the empty name."""
    if len(models) == 1:
        [amounts] = models.values()
        if amounts == whole:
            return models
    rest = whole
    for amounts in models.values():
        rest = minus(rest, amounts)
    return models if rest == ZERO else {**models, "": plus(models.get("", ZERO), rest)}


def _at_cost(found: Models, whole: Amounts) -> Models:
    """Share out the cost of the whole: by the calls' cost where all of them state it, else by their tokens."""
    if sum(amounts[12] for amounts in found.values()) == whole[12] or not found:
        return found or {"": whole}
    is_priced = all(amounts[11] >= amounts[0] and amounts[12] for amounts in found.values())
    weights = {model: amounts[12] if is_priced else amounts[2] + amounts[4] for model, amounts in found.items()}
    total, left = sum(weights.values()), whole[12]
    for model, amounts in found.items():
        share = whole[12] * weights[model] // total if total else 0
        left -= share
        found[model] = (*amounts[:11], max(amounts[11], amounts[0], 1), share)
    most = max(found, key=lambda model: (weights[model], model))
    found[most] = (*found[most][:12], found[most][12] + left)
    return found
