"""Use of model calls, as sums that can be added and subtracted.

`Amounts` is a tuple of 13 integers: calls, then pairs (how many calls stated it, the sum) for input, output,
cache read, cache write, reasoning, cost in nano-dollars. The count of calls that stated it keeps "unknown"
apart from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import add, neg, sub
from typing import NamedTuple

from spanpost.model.usage import Usage

Amounts = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

#: Tool calls: how many, and how many of them failed; and the same by tool name.
Count = tuple[int, int]
Tools = dict[str, Count]

#: Amounts by model, as each call names it.
Models = dict[str, Amounts]
#: Parts of an `Amount` by model: its `plain`, `slotted` and `barred`.
Others = dict[str, tuple[Amounts, Amounts, Amounts]]

ZERO: Amounts = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
ONE_CALL: Amounts = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_NANO = Decimal(10) ** 9
NO_TOOLS: Tools = {}
NO_MODELS: Models = {}
NO_OTHERS: Others = {}
_NO_PART = (ZERO, ZERO, ZERO)
#: Names kept apart in one sum, of tools and of models. Those that sort last are summed together: tools as
#: `OTHER_TOOLS`, which is no tool's name, models with the calls that name none.
NAME_CAP = 32
OTHER_TOOLS = "\1"
#: Largest figure of one call. Real sums stay far below 64 bits; a hostile figure is cut here.
_CAP = 10**15


def nano(usd: Decimal) -> int:
    """Return dollars as nano-dollars."""
    return min(round(usd * _NANO), _CAP)


def dollars(nanos: int) -> Decimal:
    """Return nano-dollars as dollars."""
    return (Decimal(nanos) / _NANO).normalize()


def of_call(usage: Usage | None) -> Amounts:
    """Return the amounts of one model call."""
    if usage is None:
        return ONE_CALL
    amounts = [1]
    for value in (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning):
        amounts += (0, 0) if value is None else (1, min(value, _CAP))
    amounts += (0, 0) if usage.cost_usd is None else (1, nano(usage.cost_usd))
    return tuple(amounts)  # type: ignore[return-value]  # 13 by construction


def plus(a: Amounts, b: Amounts) -> Amounts:
    """Return the sum."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    return tuple(map(add, a, b))


def minus(a: Amounts, b: Amounts) -> Amounts:
    """Return the difference; ZERO itself when nothing is left."""
    if b is ZERO:
        return a
    if a is b or a == b:
        return ZERO
    if a is ZERO:
        return tuple(map(neg, b))  # type: ignore[return-value]
    difference: Amounts = tuple(map(sub, a, b))
    return difference


def as_usage(amounts: Amounts) -> Usage:
    """Return the sums, with None for figures that no call stated.

    The difference of two sums may have a figure although its count of calls is 0.
    """
    _, n_in, s_in, n_out, s_out, n_cr, s_cr, n_cw, s_cw, n_rs, s_rs, n_cost, s_cost = amounts
    return Usage(
        input=s_in if n_in or s_in else None,
        output=s_out if n_out or s_out else None,
        cache_read=s_cr if n_cr or s_cr else None,
        cache_write=s_cw if n_cw or s_cw else None,
        reasoning=s_rs if n_rs or s_rs else None,
        cost_usd=dollars(s_cost) if n_cost or s_cost else None,
    )


def tools_minus(a: Tools, b: Tools) -> Tools:
    """Return the difference by name, without names that did not change."""
    if a is b or a == b:
        return NO_TOOLS
    out: Tools = {}
    for name in a.keys() | b.keys():
        x, y = a.get(name, (0, 0)), b.get(name, (0, 0))
        if x != y:
            out[name] = (x[0] - y[0], x[1] - y[1])
    return out


def tools_plus(a: Tools, delta: Tools) -> Tools:
    """Return the sum by name, without names whose sum is zero."""
    if not delta:
        return a
    out = dict(a)
    for name, (calls, failed) in delta.items():
        known = out.get(name, (0, 0))
        total = (known[0] + calls, known[1] + failed)
        if total == (0, 0):
            out.pop(name, None)
        else:
            out[name] = total
    return out


def count_plus(a: Count, b: Count) -> Count:
    """Return the sum."""
    return (a[0] + b[0], a[1] + b[1])


def models_plus(a: Models, delta: Models) -> Models:
    """Return the sum by model, without models whose sum is zero."""
    if not delta:
        return a
    out = dict(a)
    for model, amounts in delta.items():
        known = out.get(model)
        total = amounts if known is None else plus(known, amounts)
        if total == ZERO:
            out.pop(model, None)
        else:
            out[model] = total
    return out


def models_minus(a: Models, b: Models) -> Models:
    """Return the difference by model, without models that did not change."""
    if not b:
        return a
    if a == b:
        return NO_MODELS
    found = {model: minus(a.get(model, ZERO), b.get(model, ZERO)) for model in a.keys() | b.keys()}
    return {model: amounts for model, amounts in found.items() if amounts is not ZERO}


#: A named tuple's constructor is a Python function, and too slow for the number of sums.
_tuple = tuple.__new__


class Amount(NamedTuple):
    """Model and tool calls below a span.

    An outer call covers the model calls in `plain` and `slotted` (those with a response id); those in
    `barred` have a tool call in between, and are not covered. All calls are `model`'s but those of `others`:
    most amounts have one model, and then only its name is kept.
    """

    plain: Amounts
    slotted: Amounts
    barred: Amounts
    tools: Tools
    model: str
    others: Others

    def minus(self, other: Amount) -> Amount:
        """Return the difference."""
        if other is NOTHING:
            return self
        plain, slotted, barred, tools, model, others = self
        o_plain, o_slotted, o_barred, o_tools, o_model, o_others = other
        if o_others or (
            (others or model != o_model) and not (o_plain is ZERO and o_slotted is ZERO and o_barred is ZERO)
        ):
            model, others = _mixed(self, other, minus)
        return _tuple(
            Amount,
            (
                plain if o_plain is ZERO else minus(plain, o_plain),
                slotted if o_slotted is ZERO else minus(slotted, o_slotted),
                barred if o_barred is ZERO else minus(barred, o_barred),
                tools_minus(tools, o_tools),
                model,
                others,
            ),
        )

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        plain, slotted, barred, tools, model, others = self
        o_plain, o_slotted, o_barred, o_tools, o_model, o_others = other
        if o_others or (
            (others or model != o_model) and not (o_plain is ZERO and o_slotted is ZERO and o_barred is ZERO)
        ):
            model, others = _mixed(self, other, plus)
        return _tuple(
            Amount,
            (
                plain if o_plain is ZERO else plus(plain, o_plain),
                slotted if o_slotted is ZERO else plus(slotted, o_slotted),
                barred if o_barred is ZERO else plus(barred, o_barred),
                tools_plus(tools, o_tools) if o_tools else tools,
                model,
                others,
            ),
        )

    @property
    def calls(self) -> Amounts:
        """All model calls in it."""
        plain, slotted, barred, _, _, _ = self
        if slotted is not ZERO:
            plain = plus(plain, slotted)
        return plain if barred is ZERO else plus(plain, barred)

    @property
    def models(self) -> Models:
        """All model calls in it, by model; calls that name none under the empty name."""
        calls = self.calls
        if not self.others:
            return {self.model: calls} if calls is not ZERO and calls != ZERO else NO_MODELS
        found = {model: plus(plus(*part[:2]), part[2]) for model, part in self.others.items()}
        for amounts in found.values():
            calls = minus(calls, amounts)
        found[self.model] = calls
        return {model: amounts for model, amounts in found.items() if amounts != ZERO}

    @property
    def all_barred(self) -> Others:
        """The parts of other models, after a tool call lies around all of it."""
        return (
            {m: (ZERO, ZERO, plus(plus(p, s), b)) for m, (p, s, b) in self.others.items()} if self.others else NO_OTHERS
        )

    @property
    def is_nothing(self) -> bool:
        """True when it is empty."""
        plain, slotted, barred, tools, _, others = self
        return plain is ZERO and slotted is ZERO and barred is ZERO and not tools and not others


NOTHING = Amount(ZERO, ZERO, ZERO, NO_TOOLS, "", NO_OTHERS)


def together(amounts: Sequence[Amount]) -> Amount:
    """Return the sum of many amounts, each added once."""
    plain, slotted, barred = ZERO, ZERO, ZERO
    tools: Tools = {}
    parts: dict[str, tuple[Amounts, Amounts, Amounts]] = {}
    for amount in amounts:
        a_plain, a_slotted, a_barred, a_tools, a_model, a_others = amount
        plain, slotted, barred = plus(plain, a_plain), plus(slotted, a_slotted), plus(barred, a_barred)
        for name, count in a_tools.items():
            tools[name] = count_plus(tools[name], count) if name in tools else count
        for model, part in _parts(amount).items() if a_others else ((a_model, (a_plain, a_slotted, a_barred)),):
            known = parts.get(model)
            parts[model] = part if known is None else _part_plus(known, part)
    model, others = _named(parts)
    return _tuple(Amount, (plain, slotted, barred, _few(tools), model, others))


def _few(tools: Tools) -> Tools:
    """Return tool calls by name, without zeros and with at most `NAME_CAP` names."""
    if not all(map(any, tools.values())):
        tools = {name: count for name, count in tools.items() if any(count)}
    if len(tools) <= NAME_CAP:
        return tools
    names = sorted(tools.keys() - {OTHER_TOOLS})
    found = {name: tools[name] for name in names[: NAME_CAP - 1]}
    rest = [tools[name] for name in (*names[NAME_CAP - 1 :], OTHER_TOOLS) if name in tools]
    found[OTHER_TOOLS] = (sum(calls for calls, _ in rest), sum(failed for _, failed in rest))
    return found


def _part_plus(
    a: tuple[Amounts, Amounts, Amounts], b: tuple[Amounts, Amounts, Amounts]
) -> tuple[Amounts, Amounts, Amounts]:
    return (plus(a[0], b[0]), plus(a[1], b[1]), plus(a[2], b[2]))


def _mixed(a: Amount, b: Amount, add_up: Callable[[Amounts, Amounts], Amounts]) -> tuple[str, Others]:
    """Return the main model and the parts of the others, in the sum or difference of two amounts."""
    found = _parts(a)
    for model, part in _parts(b).items():
        known = found.get(model, _NO_PART)
        found[model] = (add_up(known[0], part[0]), add_up(known[1], part[1]), add_up(known[2], part[2]))
    return _named(found)


def _named(parts: dict[str, tuple[Amounts, Amounts, Amounts]]) -> tuple[str, Others]:
    """Return the main model, and the parts of the others, at most as many as are kept.

    The main model has all that is in no part; where there are too many models, it is the empty name.
    """
    left = sorted(model for model, part in parts.items() if part != _NO_PART)
    if len(left) > NAME_CAP:
        left = ["", *[model for model in left if model][: NAME_CAP - 1]]
    return (left[0], {model: parts[model] for model in left[1:]}) if left else ("", NO_OTHERS)


def _parts(amount: Amount) -> dict[str, tuple[Amounts, Amounts, Amounts]]:
    plain, slotted, barred = amount[:3]
    found = dict(amount.others)
    for p, s, b in amount.others.values():
        plain, slotted, barred = minus(plain, p), minus(slotted, s), minus(barred, b)
    found[amount.model] = (plain, slotted, barred)
    return found
