"""A load balancer that spreads the requests of a trace over several gateways while the trace is open."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from spanpost.model.checkpoints import Kind
from tests.acceptance.gateway_process import request
from tests.acceptance.gateways import run_gateway
from tests.faults.posted import truth
from tests.faults.soak.sent import rows_of, sent_task

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]
TASKS = 12


@pytest.mark.proves("replicas", "rebalance")
@pytest.mark.proves("each-call-once", "rebalance")
def test_a_trace_that_moves_between_gateways_is_one_task(
    dsn: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each request of a trace goes to another gateway than the last, several at once, its root at the end: one task."""
    chance = random.Random(5)
    tasks = [sent_task(f"moved-{number}", chance) for number in range(TASKS)]
    with run_gateway(dsn, tmp_path) as first, run_gateway(dsn, tmp_path) as second:

        def send(index: int, body: bytes) -> int:
            gateway = (first, second)[index % 2]
            answer = request(f"{gateway.url}/v1/traces", body, **{"content-type": "application/x-protobuf"})
            return answer[0]

        children = [
            (at // 3, encode_spans(task.spans[at : at + 3]).SerializeToString())
            for task in tasks
            for at in range(1, len(task.spans), 3)
        ]
        roots = [(index, encode_spans(task.spans[:1]).SerializeToString()) for index, task in enumerate(tasks)]
        with ThreadPoolExecutor(8) as pool:
            answers = [
                answer for part in (children, roots) for answer in list(pool.map(send, *zip(*part, strict=True)))
            ]
    assert set(answers) == {200}
    found, checkpoints, rows = asyncio.run(truth(dsn))
    for task in tasks:
        has = found[task.task_id]
        figures = (has.status, has.llm_calls, has.tool_calls, has.input_tokens, has.output_tokens)
        assert figures == task.figures, task.task_id
    assert len(found) == TASKS
    assert rows == sum(len(list(rows_of(task.spans))) for task in tasks)
    reported = [each for each in checkpoints.values() if each.kind is Kind.CHECKPOINT]
    assert len(reported) == sum(task.checkpoints for task in tasks)
    record_property("size", f"{TASKS} traces in {len(answers)} requests to two gateways by turns")
