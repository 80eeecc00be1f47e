"""A run sent by the real Logfire SDK, its pending spans first: the gateway reads them as starts."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.testing.gateway import RunningGateway
from tests.pipeline.test_forwarded import outcome
from tests.processes.conftest import needs_package


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with RunningGateway() as gateway:
        yield gateway


@pytest.fixture
def logfire(clean_environment: Path, gateway: RunningGateway) -> Iterator[Any]:
    """Lend a Logfire that sends to the gateway what it would send to its own backend."""
    needs_package("logfire")
    logfire = importlib.import_module("logfire")
    logging.getLogger("logfire").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invented token
        instance = logfire.configure(
            local=True,
            send_to_logfire=True,
            token="none",
            service_name="tests",
            console=False,
            metrics=False,
            inspect_arguments=False,
            advanced=logfire.AdvancedOptions(base_url=gateway.url),
        )
        yield instance
        instance.shutdown(flush=False)


def recorded(*observations: Observation) -> MemoryStore:
    store = MemoryStore(FoldRules())
    for o in observations:
        store.record_now([o])
    return store


def test_a_pending_span_is_a_start(logfire: Any, gateway: RunningGateway) -> None:
    """A task is followed from its pending span under the real span's ids, with the same result in the end."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    call = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    with logfire.span("invoke_agent {name}", name="ann", **agent):  # noqa: SIM117
        with logfire.span("execute_tool grep", **call) as tool:
            logfire.force_flush()
            assert gateway.wait_for(lambda seen: len([o for o in seen if o.part is Part.STARTED]) == 2)
            starts = {o.span_id: o for o in gateway.of(Part.STARTED)}
            context = tool.get_span_context()
            inner = starts[context.span_id.to_bytes(8, "big")]
            assert inner.parent_id in starts
            assert starts[inner.parent_id].parent_id == b""
            [task] = report(recorded(*gateway.observations).tasks_now(TaskQuery()), [], {})["tasks"]
            assert (task["agent_name"], task["status"], task["ended_at"]) == ("ann", "working", None)
    logfire.force_flush()
    assert gateway.wait_for(lambda seen: len([o for o in seen if o.part is Part.ENDED]) == 2)
    everything = list(gateway.observations)
    final = [o for o in everything if o.part is not Part.STARTED]
    assert outcome(recorded(*everything)) == outcome(recorded(*reversed(everything))) == outcome(recorded(*final))
    [task] = outcome(recorded(*everything))["tasks"]
    assert (task["status"], task["tool_calls"]) == ("complete", 1)


def test_a_pending_span_and_its_end_in_one_batch(logfire: Any, gateway: RunningGateway) -> None:
    """A short run whose pending spans Logfire leaves out is one run all the same."""
    with logfire.span("invoke_agent bob", **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"}):
        logfire.info("said something")
    logfire.force_flush()
    assert gateway.wait_for(lambda seen: any(o.part is Part.ENDED and o.name.startswith("invoke_agent") for o in seen))
    [task] = outcome(recorded(*gateway.observations))["tasks"]
    assert (task["agent_name"], task["status"]) == ("bob", "complete")
