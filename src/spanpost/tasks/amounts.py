"""Use of model calls, as sums that can be added and subtracted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce

import msgspec
from msgspec.structs import astuple, replace

from spanpost.model.readings import Reading
from spanpost.model.usage import Usage


class Amounts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Model calls and what they used.

    Beside each figure stands how many of the calls stated it: that keeps "unknown" apart from 0.
    """

    calls: int = 0
    input_calls: int = 0
    input: int = 0
    output_calls: int = 0
    output: int = 0
    cache_read_calls: int = 0
    cache_read: int = 0
    cache_write_calls: int = 0
    cache_write: int = 0
    reasoning_calls: int = 0
    reasoning: int = 0
    cost_calls: int = 0
    #: Cost in nano-dollars.
    cost: int = 0

    @property
    def has_tokens(self) -> bool:
        """True when a call stated its input or output."""
        return bool(self.input_calls or self.output_calls)

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input + self.output


class ToolCount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tool calls, and how many of them failed, and stopped to ask a person."""

    calls: int = 0
    failed: int = 0
    asked: int = 0

    @property
    def made(self) -> int:
        """The calls, where one that stopped to ask and was made again is one."""
        return self.calls - min(self.asked, self.calls - self.asked)


#: Tool calls by tool name.
Tools = dict[str, ToolCount]
#: Amounts by model, as each call names it.
Models = dict[str, Amounts]

ZERO = Amounts()
ONE_CALL = Amounts(1)
NO_COUNT = ToolCount()
_NANO = Decimal(10) ** 9
NO_TOOLS: Tools = {}
NO_MODELS: Models = {}
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
    return Amounts(*amounts)


def of_run(r: Reading) -> Amounts | None:
    """Return the totals that the topmost span of a run states; None: none, or those of its agent's lifetime."""
    if r.aggregate is None or r.totals_of or not r.role.is_root_span:
        return None
    return replace(of_call(r.aggregate), calls=0, cost_calls=0, cost=0)


def plus(a: Amounts, b: Amounts) -> Amounts:
    """Return the sum."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    return Amounts(
        a.calls + b.calls,
        a.input_calls + b.input_calls,
        a.input + b.input,
        a.output_calls + b.output_calls,
        a.output + b.output,
        a.cache_read_calls + b.cache_read_calls,
        a.cache_read + b.cache_read,
        a.cache_write_calls + b.cache_write_calls,
        a.cache_write + b.cache_write,
        a.reasoning_calls + b.reasoning_calls,
        a.reasoning + b.reasoning,
        a.cost_calls + b.cost_calls,
        a.cost + b.cost,
    )


def minus(a: Amounts, b: Amounts) -> Amounts:
    """Return the difference; ZERO itself when nothing is left."""
    if b is ZERO:
        return a
    if a is b or a == b:
        return ZERO
    return Amounts(
        a.calls - b.calls,
        a.input_calls - b.input_calls,
        a.input - b.input,
        a.output_calls - b.output_calls,
        a.output - b.output,
        a.cache_read_calls - b.cache_read_calls,
        a.cache_read - b.cache_read,
        a.cache_write_calls - b.cache_write_calls,
        a.cache_write - b.cache_write,
        a.reasoning_calls - b.reasoning_calls,
        a.reasoning - b.reasoning,
        a.cost_calls - b.cost_calls,
        a.cost - b.cost,
    )


def each(combine: Callable[[int, int], int], a: Amounts, b: Amounts) -> Amounts:
    """Combine each figure of one with the same figure of the other."""
    return Amounts(*map(combine, astuple(a), astuple(b)))


def as_usage(amounts: Amounts) -> Usage:
    """Return the sums, with None for figures that no call stated.

    The difference of two sums may have a figure although its count of calls is 0.
    """
    a = amounts
    return Usage(
        input=a.input if a.input_calls or a.input else None,
        output=a.output if a.output_calls or a.output else None,
        cache_read=a.cache_read if a.cache_read_calls or a.cache_read else None,
        cache_write=a.cache_write if a.cache_write_calls or a.cache_write else None,
        reasoning=a.reasoning if a.reasoning_calls or a.reasoning else None,
        cost_usd=dollars(a.cost) if a.cost_calls or a.cost else None,
    )


def tools_minus(a: Tools, b: Tools) -> Tools:
    """Return the difference by name, without names that did not change."""
    if a is b or a == b:
        return NO_TOOLS
    found = {name: count_minus(a.get(name, NO_COUNT), b.get(name, NO_COUNT)) for name in a.keys() | b.keys()}
    return {name: count for name, count in found.items() if count != NO_COUNT}


def tools_plus(a: Tools, delta: Tools) -> Tools:
    """Return the sum by name, without names whose sum is zero."""
    if not delta:
        return a
    out = dict(a)
    for name, count in delta.items():
        known = out.get(name)
        total = count if known is None else count_plus(known, count)
        if total == NO_COUNT:
            out.pop(name, None)
        else:
            out[name] = total
    return out


def count_plus(a: ToolCount, b: ToolCount) -> ToolCount:
    """Return the sum."""
    return ToolCount(a.calls + b.calls, a.failed + b.failed, a.asked + b.asked)


def count_minus(a: ToolCount, b: ToolCount) -> ToolCount:
    """Return the difference."""
    return ToolCount(a.calls - b.calls, a.failed - b.failed, a.asked - b.asked)


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


class SubtreeFigures(msgspec.Struct, frozen=True, gc=False):
    """What a subtree adds to its task: model calls, tool calls, model calls by model, and stated totals."""

    amounts: Amounts = ZERO
    tools: ToolCount = NO_COUNT
    models: Models = NO_MODELS
    #: What the topmost span of a run states for all of it.
    stated: Amounts = ZERO


class ModelPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One model's part of an `Amount`."""

    plain: Amounts = ZERO
    slotted: Amounts = ZERO
    barred: Amounts = ZERO

    @property
    def calls(self) -> Amounts:
        """All model calls in it."""
        return plus(plus(self.plain, self.slotted), self.barred)


#: Parts of an `Amount` by model.
Others = dict[str, ModelPart]
NO_OTHERS: Others = {}
_NO_PART = ModelPart()


class Amount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Model and tool calls below a span.

    An outer call covers the model calls in `plain` and `slotted` (those with a response id); those in
    `barred` have a tool call in between, and are not covered. All calls are `model`'s but those of `others`:
    most amounts have one model, and then only its name is kept.
    """

    plain: Amounts = ZERO
    slotted: Amounts = ZERO
    barred: Amounts = ZERO
    tools: Tools = NO_TOOLS
    model: str = ""
    others: Others = NO_OTHERS

    def minus(self, other: Amount) -> Amount:
        """Return the difference."""
        if other is NOTHING:
            return self
        return Amount(
            minus(self.plain, other.plain),
            minus(self.slotted, other.slotted),
            minus(self.barred, other.barred),
            tools_minus(self.tools, other.tools),
            *self._models_with(other, minus),
        )

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(
            plus(self.plain, other.plain),
            plus(self.slotted, other.slotted),
            plus(self.barred, other.barred),
            tools_plus(self.tools, other.tools),
            *self._models_with(other, plus),
        )

    def _models_with(self, other: Amount, add_up: Callable[[Amounts, Amounts], Amounts]) -> tuple[str, Others]:
        """Return the main model and the parts of the others, in the sum or the difference with another amount."""
        if not other.others and ((not self.others and self.model == other.model) or not other.has_calls):
            return self.model, self.others
        found = _parts(self)
        for model, part in _parts(other).items():
            known = found.get(model, _NO_PART)
            found[model] = ModelPart(
                add_up(known.plain, part.plain), add_up(known.slotted, part.slotted), add_up(known.barred, part.barred)
            )
        return _named(found)

    @property
    def has_calls(self) -> bool:
        """True when it has model calls."""
        return self.plain is not ZERO or self.slotted is not ZERO or self.barred is not ZERO

    @property
    def calls(self) -> Amounts:
        """All model calls in it."""
        return plus(plus(self.plain, self.slotted), self.barred)

    @property
    def models(self) -> Models:
        """All model calls in it, by model; calls that name none under the empty name."""
        calls = self.calls
        if not self.others:
            return {self.model: calls} if calls is not ZERO and calls != ZERO else NO_MODELS
        found = {model: part.calls for model, part in self.others.items()}
        for amounts in found.values():
            calls = minus(calls, amounts)
        found[self.model] = calls
        return {model: amounts for model, amounts in found.items() if amounts != ZERO}

    @property
    def all_barred(self) -> Others:
        """The parts of other models, after a tool call lies around all of it."""
        return {m: ModelPart(ZERO, ZERO, part.calls) for m, part in self.others.items()} if self.others else NO_OTHERS

    @property
    def is_nothing(self) -> bool:
        """True when it is empty."""
        return not (self.has_calls or self.tools or self.others)


NOTHING = Amount()


def together(amounts: Sequence[Amount]) -> Amount:
    """Return the sum of many amounts, each added once."""
    plain, slotted, barred = ZERO, ZERO, ZERO
    tools: Tools = {}
    parts: dict[str, ModelPart] = {}
    for amount in amounts:
        plain, slotted, barred = plus(plain, amount.plain), plus(slotted, amount.slotted), plus(barred, amount.barred)
        for name, count in amount.tools.items():
            tools[name] = count_plus(tools[name], count) if name in tools else count
        for model, part in _parts(amount).items():
            known = parts.get(model)
            parts[model] = part if known is None else _part_plus(known, part)
    return Amount(plain, slotted, barred, _few(tools), *_named(parts))


def _few(tools: Tools) -> Tools:
    """Return tool calls by name, without zeros and with at most `NAME_CAP` names."""
    tools = {name: count for name, count in tools.items() if count != NO_COUNT}
    if len(tools) <= NAME_CAP:
        return tools
    names = sorted(tools.keys() - {OTHER_TOOLS})
    found = {name: tools[name] for name in names[: NAME_CAP - 1]}
    rest = [tools[name] for name in (*names[NAME_CAP - 1 :], OTHER_TOOLS) if name in tools]
    found[OTHER_TOOLS] = reduce(count_plus, rest)
    return found


def _part_plus(a: ModelPart, b: ModelPart) -> ModelPart:
    return ModelPart(plus(a.plain, b.plain), plus(a.slotted, b.slotted), plus(a.barred, b.barred))


def _named(parts: dict[str, ModelPart]) -> tuple[str, Others]:
    """Return the main model, and the parts of the others, at most as many as are kept.

    The main model has all that is in no part; where there are too many models, it is the empty name.
    """
    left = sorted(model for model, part in parts.items() if part != _NO_PART)
    if len(left) > NAME_CAP:
        left = ["", *[model for model in left if model][: NAME_CAP - 1]]
    return (left[0], {model: parts[model] for model in left[1:]}) if left else ("", NO_OTHERS)


def _parts(amount: Amount) -> dict[str, ModelPart]:
    """Return all parts of an amount, the main model's among them."""
    plain, slotted, barred = amount.plain, amount.slotted, amount.barred
    if not amount.others:
        return {amount.model: ModelPart(plain, slotted, barred)}
    found = dict(amount.others)
    for part in amount.others.values():
        plain, slotted, barred = minus(plain, part.plain), minus(slotted, part.slotted), minus(barred, part.barred)
    found[amount.model] = ModelPart(plain, slotted, barred)
    return found
