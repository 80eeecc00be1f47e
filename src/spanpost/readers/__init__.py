"""The meaning of an observation: `read` turns any dialect into one vocabulary.

Rules, in order; the first that decides what a span is wins (R1).
1. Set-up and message plumbing of frameworks is known by operation, MCP method or name.
2. Each dialect's own word for the kind, in the order of `known_dialects`: vendors by scope, MCP, Traceloop,
   LangSmith, gen_ai, OpenInference. What words cannot express, the dialect's `refine` corrects.
3. No word: a span with a model or tokens is a model call, with a tool's name a tool call; with a named agent
   an agent's.
4. A span with ``agent.task.id`` or ``agent.task.name`` and of no other kind is a task; one with any other
   ``agent.*`` is a step.
5. A step at the top of its trace is a workflow.

Synonyms are alternatives, never addends. `read` is total: it returns a reading whatever the attributes hold.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import EventReport, Reading, Role
from spanpost.model.usage import Usage
from spanpost.readers import values as v
from spanpost.readers.asked_tools import read_tools
from spanpost.readers.dialect import (
    PLAIN_NUMBER,
    SHORT_TEXT,
    Dialect,
    Plan,
    ReadSpan,
    Tables,
    compile_tables,
    own_dialects,
    plan_for,
)
from spanpost.readers.events import (
    NOTHING,
    asks_person,
    note_extra,
    read_event,
)
from spanpost.readers.exceptions import read_exception, read_failure
from spanpost.readers.known_dialects import DIALECTS
from spanpost.readers.plans import is_plan, plan_of
from spanpost.readers.resources import of_resource

#: Bound once: the members of an enum are slow to look up (CPython 3.11).
_OTHER = Role.OTHER
_STEP = Role.STEP
_LLM = Role.LLM
_TOOL = Role.TOOL
_AGENT = Role.AGENT
_WORKFLOW = Role.WORKFLOW
_TASK = Role.TASK
_PLUMBING = Role.PLUMBING
_STATUS_ERROR = Status.ERROR
_PART_STARTED = Part.STARTED
_PART_ENDED = Part.ENDED
_COMPACTION = EventReport.COMPACTION
_PART_LINK = Part.LINK

__all__ = ["NOTHING", "is_silent", "overlooked", "read", "try_out"]

#: autogen, semantic-kernel (which shares its runtime), MS agent-framework, mcp, litellm.
_PLUMBING_NAMES = (
    "autogen ",
    "agent_runtime ",
    "AutoFunctionInvocationLoop",
    "workflow.build",
    "edge_group.",
    "message.send",
    "MCP send ",
    "raw_gen_ai_request",
)
_HEADS = frozenset(name[:4] for name in (*_PLUMBING_NAMES, *(name for dialect in DIALECTS for name in dialect.names)))
_INT64 = 2**63 - 1


_overlooked: deque[Exception] = deque(maxlen=1024)
_tables: dict[str, Tables] = {}
#: The same tables by the dialects of the scope alone: senders choose scope names freely, and compiling takes
#: 170 µs.
_compiled: dict[tuple[str, ...], Tables] = {}
#: Bound of the cache of scopes.
_SCOPES = 256


def read(observation: Observation) -> Reading:
    """Return what the observation means.

    Never raises; an observation that it cannot understand has an empty reading.
    """
    try:
        if observation.part > _PART_STARTED:
            return NOTHING if observation.part is _PART_LINK else read_event(observation)
        # Most spans of a busy service are not an agent's, and this is all that they cost.
        attributes = observation.attributes
        scope = observation.origin.scope
        tables = _tables.get(scope) or _tables_for(scope)
        if tables.reads is not None:
            return tables.reads(observation)
        plan = tables.plans.get(tuple(attributes)) or plan_for(tables, attributes)
        if plan.is_silent:
            return NOTHING if observation.name[:4] not in _HEADS else _by_name(observation, tables, plan)
        return _read_span(observation, tables, plan)
    except Exception as error:
        # Attributes are not trusted: an error costs this reading, never the batch.
        _overlooked.append(error)
        return NOTHING


def overlooked() -> list[Exception]:
    """Return the newest errors of readings since the last call, for a caller that can log them."""
    found = []
    while _overlooked:
        found.append(_overlooked.popleft())
    return found


def is_silent(scope: str, keys: tuple[str, ...]) -> bool:
    """Return whether the names of its attributes alone show that a span is not an agent's: their values add nothing."""
    tables = _tables.get(scope) or _tables_for(scope)
    return (tables.plans.get(keys) or plan_for(tables, keys)).is_silent


def try_out(dialect: Dialect, observation: Observation) -> Reading:
    """Return the reading of a span if the dialect were known, too. Raises what the dialect raises."""
    tables = compile_tables((DIALECTS[0], dialect, *DIALECTS[1:]), observation.origin.scope)
    return _read_span(observation, tables, plan_for(tables, observation.attributes))


def _tables_for(scope: str) -> Tables:
    own = tuple([d.name for d in own_dialects(DIALECTS, scope)])
    tables = _compiled.get(own) or _compiled.setdefault(own, compile_tables(DIALECTS, scope))
    if len(_tables) >= _SCOPES:
        _tables.clear()
    _tables[scope] = tables
    return tables


def _by_name(o: Observation, tables: Tables, plan: Plan) -> Reading:
    if o.name in tables.names:
        return _read_span(o, tables, plan)
    return _PLUMBING_READING if o.name.startswith(_PLUMBING_NAMES) else NOTHING


def _read_span(o: Observation, tables: Tables, plan: Plan) -> Reading:
    attributes = o.attributes
    said: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for key, field, coerce, is_direct in plan.texts:
        value = attributes[key]
        if type(value) is not str or not 0 < len(value) <= 64:
            value = coerce(value)
            if value is None:
                continue
        if is_direct:
            said[field] = value
        else:
            inner[field] = value
    for key, field, coerce, is_direct in plan.numbers:
        value = attributes[key]
        if type(value) is not int or not 0 <= value <= _INT64:
            value = coerce(value)
            if value is None:
                continue
        if is_direct:
            said[field] = value
        else:
            inner[field] = value
    for key, field, coerce, is_direct in plan.others:
        value = coerce(attributes[key])
        if value is not None:
            if is_direct:
                said[field] = value
            else:
                inner[field] = value
    for key, field, coerce, is_direct, shortcut in plan.rivals:
        into = said if is_direct else inner
        if field not in into:
            value = attributes[key]
            kind = type(value)
            if not (
                (shortcut == SHORT_TEXT and kind is str and 0 < len(value) <= 64)
                or (shortcut == PLAIN_NUMBER and kind is int and 0 <= value <= _INT64)
            ):
                value = coerce(value)
            if value is not None:
                into[field] = value
    for key in plan.extras:
        note_extra(said, key, attributes[key])
    if "used" in inner:
        _spread(inner)
    span = ReadSpan(o, attributes, said, inner, is_lifetime=tables.has_lifetime_totals)
    _decide_role(span, tables, plan)
    if span.role is _OTHER or span.role is _PLUMBING:
        return _outside(span)
    return _reading(span)


def _decide_role(span: ReadSpan, tables: Tables, plan: Plan) -> None:
    attributes, said, inner = span.attributes, span.said, span.inner
    for kind, roles, otherwise, refine in plan.kinds:
        word = attributes[kind]
        if type(word) is str:
            role = roles.get(word, otherwise)
            if role is not None:
                span.role, span.rule = role, kind
                if refine is not None:
                    refine(span)
                break
    name = span.observation.name
    if span.role is _OTHER and name in tables.names:
        rule, span.role, by_name = tables.names[name]
        span.rule = f"{rule}: span name"
        if by_name is not None:
            by_name(span)
    for refine in tables.refines:
        refine(span)
    if name[:4] in _HEADS and name.startswith(_PLUMBING_NAMES):
        span.role, span.rule = _PLUMBING, "plumbing"
        return
    is_guess = span.role is _OTHER
    if is_guess and "workflow" in inner and name.startswith(_INVOKED):
        span.role, span.rule = _WORKFLOW, "gen_ai.workflow.name"  # it failed before its kind was set
    elif is_guess:
        has_model = "model_answered" in inner or "model_asked" in inner
        if type(attributes.get(c.NAME)) is str and not has_model:
            span.role, span.rule = _AGENT, c.NAME
        elif has_model or "input" in inner or "output" in inner:
            if span.observation.part is not _PART_STARTED:  # a running span may still turn out to be an agent's
                span.role, span.rule = _LLM, "model or tokens"
        elif "tool_name" in said:
            span.role, span.rule = _TOOL, "tool name"
        elif "agent" in inner and not span.observation.parent_id:
            span.role, span.rule = _AGENT, "gen_ai.agent.name"
    if (is_guess or span.role is _STEP) and (c.TASK_ID in attributes or c.TASK_NAME in attributes):
        if "task_id" in said or "task_name" in said:
            span.role, span.rule = _TASK, c.TASK_ID if "task_id" in said else c.TASK_NAME
    elif span.role is _OTHER and not _OWN.isdisjoint(said):
        span.role, span.rule = _STEP, "agent.*"
    if span.role is _STEP and not span.is_leaf and not span.observation.parent_id:
        span.role, span.rule = _WORKFLOW, f"top of its trace: {span.rule}"


#: Fields that show that an agent works in a span of no kind.
_OWN = frozenset(
    {"status", "progress", "action", "step_name", "step_index", "context_used", "context_window", "links", "results"}
)
#: Head of a workflow span's name by the GenAI conventions.
_INVOKED = "invoke_workflow "
_PLUMBING_READING = Reading(role=Role.PLUMBING, rule="plumbing")


def _outside(span: ReadSpan) -> Reading:
    said = {name: span.said[name] for name in _OWN if name in span.said}
    return Reading(role=span.role, rule=span.rule, **said) if span.role is _PLUMBING or said else NOTHING


def _reading(span: ReadSpan) -> Reading:
    o, role, said, inner = span.observation, span.role, span.said, span.inner
    resource = of_resource(o.origin)
    if resource:
        for field, value in resource["shared"]:
            if field not in said:
                said[field] = value
        # A process that works on one task names it on the resource; its entry span carries it.
        if "task_id" in resource and "task_id" not in said and (not o.parent_id or o.kind in (2, 5)):
            said["task_id"] = resource["task_id"]
    if role.is_root_span:
        _as_root_span(span, resource)
    else:
        agent = inner.get("agent")
        if agent is not None:
            said["agent_label"] = agent
        if role is _LLM:
            _as_call(span)
        elif role is _TOOL:
            _as_tool(span)
    if o.status is _STATUS_ERROR:
        read_failure(span)
    elif o.thrown:
        read_exception(o, role, said)
    if said.get("status") == c.CANCELLED or c.SPAN_CANCELLED in o.attributes:
        said["is_cancelled"] = True
    return Reading(role=role, rule=span.rule, **said)


_TOTALS = frozenset({"total_input", "total_output", "input", "output", "cost"})


def _spread(inner: dict[str, Any]) -> None:
    """Add the usage in a JSON text, where no attribute of its own states it."""
    for field, count in inner.pop("used").items():
        inner.setdefault(field, count)


def _as_root_span(span: ReadSpan, resource: dict[str, Any]) -> None:
    said, inner, role = span.said, span.inner, span.role
    agent = inner.get("agent")
    if role is _WORKFLOW:
        title = inner.get("workflow") or v.name_of_span(span.observation.name)
        if title is not None and title in (inner.get("model_asked"), inner.get("model_answered")):
            title = None  # an invocation without an agent is named after its model
        if title is not None and "task_name" not in said and not v.is_of_framework(title):
            said["task_name"] = title
    elif agent is None:
        agent = resource.get("agent")
    if agent is not None:
        said["agent_name"] = agent
    for field in ("agent_id", "agent_version"):
        if field in resource and field not in said:
            said[field] = resource[field]
    model = inner.get("model_answered") or inner.get("model_asked")
    if model is not None:
        said["model"] = model
    if "finish" in inner:
        said["finish"] = inner["finish"]
    if _TOTALS.isdisjoint(inner) and "cost_usd" not in said:
        return
    total = Usage(
        input=inner.get("total_input", inner.get("input")),
        output=inner.get("total_output", inner.get("output")),
        cache_read=inner.get("total_cache_read", inner.get("cache_read")),
        cache_write=inner.get("total_cache_write", inner.get("cache_write")),
        reasoning=inner.get("total_reasoning", inner.get("reasoning")),
        cost_usd=said.get("cost_usd", inner.get("cost")),
    )
    if total.is_known or total.cost_usd is not None:
        said["aggregate"] = total
        if span.is_lifetime:
            origin = span.observation.origin.resource
            process = v.text(origin.get("service.instance.id")) or v.text(origin.get("service.name")) or ""
            said["totals_of"] = f"{process}\0{said.get('agent_id') or agent or span.observation.name}"


def _as_call(span: ReadSpan) -> None:
    said, inner = span.said, span.inner
    given, output = inner.get("input"), inner.get("output")
    cost: Decimal | None = said.get("cost_usd", inner.get("cost"))
    if not given and not output:
        given = output = None  # no call takes nothing: these zeros mean "unknown"
    if given is not None or output is not None or cost is not None:
        read_, write = inner.get("cache_read"), inner.get("cache_write")
        if span.excludes_cache and given is not None:
            given += (read_ or 0) + (write or 0)
        said["usage"] = Usage(
            input=given,
            output=output,
            cache_read=read_,
            cache_write=write,
            reasoning=inner.get("reasoning"),
            cost_usd=cost,
        )
    model = inner.get("model_answered") or inner.get("model_asked")
    if model is not None:
        said["model"] = model
    if "response" in inner:
        said["response_id"] = inner["response"]
    read_tools(said, inner.get("finish"), span.attributes)
    if inner.get("compacted") and span.observation.part is _PART_ENDED and span.observation.status is not _STATUS_ERROR:
        said.update(reports=_COMPACTION, compaction=(None, None), occurrence="compacted")


def _as_tool(span: ReadSpan) -> None:
    a, said = span.attributes, span.said
    # Both are written for all tools with a result.
    if ("gen_ai.tool.call.result" in a or "ai.toolCall.result" in a) and "has_no_result" not in said:
        said["has_result"] = True
    if asks_person(a):
        said["is_interrupt"] = True
    called = said.get("tool_name")
    if called is not None and is_plan(called) and "step_index" not in said:
        said.update(plan_of(a))
