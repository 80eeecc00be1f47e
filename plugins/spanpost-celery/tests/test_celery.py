"""The launcher with Celery itself: a worker in this process, and unreachable brokers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

pytest.importorskip("spanpost_celery", reason="plugins/spanpost-celery is not installed")
celery = pytest.importorskip("celery")

from celery.contrib.testing.worker import start_worker  # noqa: E402

from spanpost import Unavailable  # noqa: E402
from spanpost.testing.exercise_launcher import CHECKS, an_order  # noqa: E402
from spanpost_celery.launcher import CeleryLauncher  # noqa: E402
from spanpost_celery.settings import CelerySettings  # noqa: E402

pytestmark = pytest.mark.slow


def _launcher(broker: str = "memory://", **fields: Any) -> CeleryLauncher:
    return CeleryLauncher("agents", CelerySettings(broker=broker, task="agents.run", **fields))


@pytest.fixture(scope="module")
def worked() -> Iterator[Queue[tuple[str, dict[str, Any]]]]:
    """Lend the calls that a worker received."""
    app = celery.Celery("agents", broker="memory://", set_as_current=False)
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
    done: Queue[tuple[str, dict[str, Any]]] = Queue()

    @app.task(name="agents.run", bind=True)
    def run(self: Any, order: dict[str, Any]) -> None:
        done.put((self.request.id, order))

    level = logging.root.level
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        logging.root.setLevel(level)  # the worker sets it for itself, and tests of this process read its log
        yield done


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
async def test_it_behaves_as_a_launcher(check: Any, worked: object) -> None:
    """The launcher passes the suite for all launchers."""
    await check(_launcher)


async def test_a_worker_is_called_with_the_order(worked: Queue[tuple[str, dict[str, Any]]]) -> None:
    """A Celery worker runs the task once, with the order's public form, under the order's id."""
    order = an_order("called", text="Fix the till ✂", parameters={"branch": "main"})
    launcher = _launcher()
    receipt = await launcher.launch(order)
    await launcher.close()
    while True:
        id, received = worked.get(timeout=60)
        if id == str(order.id):
            break
    assert receipt.ref == {"task_id": id}
    assert (received["id"], received["text"], received["parameters"], received["retry_of"]) == (
        id,
        "Fix the till ✂",
        {"branch": "main"},
        "task-1",
    )


async def test_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Without a connection nothing was sent and it is tried again; no part of the broker's address is shown."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        launcher = _launcher(f"amqp://user:canary@127.0.0.1:{port}//")
        with pytest.raises(Unavailable) as raised:
            await launcher.launch(an_order())
        await launcher.close()
    assert raised.value.reason == "connect"
    assert "canary" not in str(raised.value) + caplog.text
