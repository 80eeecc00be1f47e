"""Requests, jobs and messages of queues: the spans of an application around the work of agents and models.

Rules. A span that is not an agent's is a *request* if it serves one (kind SERVER), handles a queue's message
(kind CONSUMER), or has no parent and is no call of another program (a job). Its name is the span's, which by the
conventions has the route and no values: `POST /answer`, `orders process`. What runs in several takes the name of
the nearest, which is the one that began last; of a job only where no request is nearer.
"""

from __future__ import annotations

from typing import Final

from spanpost.model.observations import Observation
from spanpost.tasks.facts import Facts, newest
from spanpost.tasks.records import DEPTH
from spanpost.tasks.span_tree import SpanTree

_SERVER: Final = 2
_CONSUMER: Final = 5
#: Kinds of a span without a parent that are a job: not stated, INTERNAL.
_JOB: Final = (0, 1)
#: Characters kept of a request's name.
NAME_CAP: Final = 200
#: Begins of the names of Celery's spans around a task.
_CELERY: Final = ("run/",)


def is_request(o: Observation) -> bool:
    """Tell whether a span that is not an agent's is a request, a job or the handling of a queue's message."""
    return o.kind in (_SERVER, _CONSUMER) or (not o.parent_id and o.kind in _JOB)


def request_of(o: Observation) -> tuple[int, int, str]:
    """Return what a node keeps of a request; its name is without a query, which older instrumentations put there."""
    name = o.name.partition("?")[0].strip()
    for begin in _CELERY:
        name = name.removeprefix(begin)
    return int(o.kind in (_SERVER, _CONSUMER)), o.start_ns or o.at_ns, name[:NAME_CAP]


def is_served(facts: Facts) -> bool:
    """Tell whether something runs in a request or in the handling of a queue's message, not only in a job."""
    return facts.request is not None and facts.request.priority > 0


def learn(facts: Facts, tree: SpanTree, span_id: bytes) -> bool:
    """Enter the requests around a span into its facts; return whether that changed them."""
    before = facts.request
    for _ in range(DEPTH):
        node = tree.nodes.get(span_id)
        if node is None:
            break
        served, start_ns, name = node.request
        if name:
            facts.request = newest(facts.request, served, start_ns, name.encode(), name)
        if not node.parent or node.is_cut:
            break
        span_id = node.parent
    return facts.request != before
