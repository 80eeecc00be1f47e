"""What a finished task's pull requests cost, in one line."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.totals import together
from spanpost.sinks.labels import cost, is_final
from spanpost.tasks.result_costs import pull_requests
from spanpost.text.figures import money
from spanpost.text.locales import ENGLISH, Locale


def cost_of_results(task: Task, children: Sequence[Task], locale: Locale = ENGLISH) -> str:
    """Return ``2 pull requests, $1.43 ($0.72 each)``, of a task and all tasks below it; empty without any, or before
    the end.
    """
    family = (task, *children)
    n = len(pull_requests(family)) if is_final(task) else 0
    sums = together(family)
    spent = sums.usage.cost_usd
    if not n or spent is None:
        return ""
    whole = msgspec.structs.replace(task, cost_usd=spent, unpriced_calls=sums.unpriced_calls)
    what, shown = locale.say("figure.pull_requests", n=n), cost(whole, locale)
    if n == 1:
        return locale.say("figure.cost_of", what=what, cost=shown)
    return locale.say("figure.cost_of_each", what=what, cost=shown, each=money(spent / n))
