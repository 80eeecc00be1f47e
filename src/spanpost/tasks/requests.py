"""Requests, jobs and messages of queues: the spans of an application around the work of agents and models.

Rules. A span that is not an agent's is a *request* if it serves one (kind SERVER), handles a queue's message
(kind CONSUMER), or has no parent and is no call of another program (a job). Its name is the span's, which by the
conventions has the route and no values: `POST /answer`, `orders process`. What runs in several takes the name of
the nearest, which is the one that began last; of a job only where no request is nearer.
"""

from __future__ import annotations

from typing import Final

from spanpost.model.observations import Observation
from spanpost.tasks.facts import Fact, Facts, newest
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


def around(facts: Facts, *, has_root_span: bool) -> Fact[str] | None:
    """Return the request around a task. Work without an agent runs in one that lies below its owning span, too."""
    known = [fact for fact in (facts.request, None if has_root_span else facts.request_below) if fact is not None]
    return max(known, key=lambda fact: fact.rank, default=None)


def learn(facts: Facts, tree: SpanTree, span_id: bytes) -> bool:
    """Enter the requests around a span, and the last below it, into its facts; return whether that changed them."""
    before = facts.request, facts.request_below
    node = tree.nodes.get(span_id)
    if node is not None and node.request_below[2]:
        facts.request_below = _newest(facts.request_below, node.request_below)
    for _ in range(DEPTH):
        if node is None:
            break
        if node.request[2]:
            facts.request = _newest(facts.request, node.request)
        if not node.parent or node.is_cut:
            break
        node = tree.nodes.get(node.parent)
    return before != (facts.request, facts.request_below)


def leave_around(facts: Facts, tree: SpanTree, span_id: bytes, up: bytes) -> None:
    """Replace the requests around a span by those between it and the owning span `up`, which takes over its facts."""
    facts.request = None
    for _ in range(DEPTH):
        node = tree.nodes.get(span_id)
        if node is None or span_id == up:
            break
        if node.request[2]:
            facts.request_below = _newest(facts.request_below, node.request)
        span_id = node.parent


def _newest(known: Fact[str] | None, request: tuple[int, int, str]) -> Fact[str]:
    served, start_ns, name = request
    return newest(known, served, start_ns, name.encode("utf-8", "replace"), name)
