"""What a task used: the same figures for its row, for counters and for budgets, and by model.

Rules. Model calls report it, each counted once (`span_tree`); data points count for tokens, and for cost,
where no call reports any, and so do not add up with calls of the same session. A cost that the agent states
for the whole run stands above that of its calls. A total that only an agent's span states is shown for the
task (`status`) and counted nowhere: the tasks below it may have reported the same calls. By model, each call
counts under the model that it names.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from spanpost.model.budgets import Used
from spanpost.model.ids import uuid_of
from spanpost.tasks.amounts import ZERO, Amounts, Models, as_usage, dollars, each, minus, nano, plus
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
        tokens = amounts if amounts.has_tokens else metered
        priced = amounts if amounts.cost_calls else metered
        cost_calls = (
            max(metered.cost_calls, amounts.calls) if priced is metered and metered.cost_calls else priced.cost_calls
        )
        found = replace(tokens, calls=amounts.calls, cost_calls=cost_calls, cost=priced.cost)
    return found if whole is None else replace(found, cost_calls=max(found.calls, 1), cost=nano(whole))


def by_model(state: TaskState, whole: Amounts) -> Models:
    """Return these figures of a task by model, which add up to the whole.

    Calls that name no model are under the empty name.
    """
    amounts, metered = state.amounts, state.metered
    has_calls = amounts.has_tokens or metered == ZERO
    tokens = _parts(amounts, state.models) if has_calls else _parts(metered, state.metered_models)
    if metered == ZERO and said_cost(state) is None:
        return tokens
    calls = _parts(amounts, state.models)
    costs = calls if amounts.cost_calls or metered == ZERO else _parts(metered, state.metered_models)
    found: Models = {}
    for model in sorted(tokens.keys() | calls.keys() | costs.keys()):
        n, cost = calls.get(model, ZERO).calls, costs.get(model, ZERO)
        cost_calls = cost.cost_calls if costs is calls else max(cost.cost_calls, n)
        found[model] = replace(tokens.get(model, ZERO), calls=n, cost_calls=cost_calls, cost=cost.cost)
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
    left = each(max, minus(whole, reported), ZERO)
    found: Models = {}
    for model, amounts in sorted(grown.items()):
        more = each(min, left, each(max, amounts, ZERO))
        if more != ZERO:
            found[model] = more
            left = minus(left, more)
    return found


def unpriced(amounts: Amounts) -> int:
    """Return the number of calls without a known cost."""
    return max(0, amounts.calls - amounts.cost_calls)


def used(uid: bytes, tenant: str, grown: Models) -> list[Used]:
    """Return what a task's figures grew by, as rows."""
    return [
        Used(
            task_uid=uuid_of(uid),
            tenant=tenant,
            model=model,
            calls=amounts.calls,
            unpriced=amounts.calls - amounts.cost_calls,
            usage=replace(as_usage(amounts), cost_usd=dollars(amounts.cost)),
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
    if sum(amounts.cost for amounts in found.values()) == whole.cost or not found:
        return found or {"": whole}
    is_priced = all(amounts.cost_calls >= amounts.calls and amounts.cost for amounts in found.values())
    weights = {model: amounts.cost if is_priced else amounts.tokens for model, amounts in found.items()}
    total, left = sum(weights.values()), whole.cost
    for model, amounts in found.items():
        share = whole.cost * weights[model] // total if total else 0
        left -= share
        found[model] = replace(amounts, cost_calls=max(amounts.cost_calls, amounts.calls, 1), cost=share)
    most = max(found, key=lambda model: (weights[model], model))
    found[most] = replace(found[most], cost=found[most].cost + left)
    return found
