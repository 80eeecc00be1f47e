"""Agents wait for people through a real gateway: under any kill the first decision reaches the agent once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import pytest

from spanpost.agent import gateway
from spanpost.agent.control import ControlUnavailable, Decision, approval_sync, install
from spanpost.http.tokens import hash_of
from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import ApprovalRow, Intervention, Result, Verb, Verdict
from spanpost.model.queries import ApprovalQuery
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.budgets import Budget
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_budgets import a_costly_run
from spanpost.testing.exercise_people import ALICE, an_act
from spanpost.testing.observed import started
from tests.acceptance.gateways import Gateway, run_gateway
from tests.conftest import ROOT, fresh_database

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]
T = TypeVar("T")

TOKEN, OTHER, OPERATOR = "spt_of-default", "spt_of-acme", "spt_of-an-operator"
TOKENS = json.dumps([{"tenant": "default", "sha256": [hash_of(TOKEN)]}, {"tenant": "acme", "sha256": [hash_of(OTHER)]}])


class App(NamedTuple):
    """A gateway, and the database behind it."""

    gateway: Gateway
    dsn: str

    def run(self, work: Callable[[PostgresStore], Awaitable[T]]) -> T:
        """Run a query of the store, as a separate process would."""

        async def go() -> T:
            store = PostgresStore(self.dsn, pool_size=2)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(go())

    def asked(self, id: str) -> ApprovalRow:
        """Wait until a question with that id is open."""

        async def work(store: PostgresStore) -> ApprovalRow:
            changed = asyncio.Event()
            await store.interventions.listen(lambda _: changed.set())
            async with asyncio.timeout(60):
                while True:
                    changed.clear()
                    if found := await store.interventions.approvals(ApprovalQuery(approval_id=id)):
                        return found[0]
                    await changed.wait()

        return self.run(work)

    def decide(self, key: UUID, verb: Verb = Verb.APPROVE, idempotency_key: str | None = None) -> Verdict:
        return self.run(lambda store: store.interventions.intervene(an_act(verb, key, idempotency_key=idempotency_key)))

    def effects(self, id: str) -> tuple[int, int]:
        """Return the number of acts and of resolutions of a question."""

        async def work(store: PostgresStore) -> tuple[int, int]:
            resolved = [c for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_RESOLVED and c.ref == id]
            count = "SELECT count(*) FROM human_interventions WHERE approval_id = $1 AND idempotency_key IS NOT NULL"
            return await store.run(lambda c: c.fetchval(count, id)), len(resolved)

        return self.run(work)


@pytest.fixture(scope="module")
def app(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with ExitStack() as stack:
        dsn = stack.enter_context(fresh_database(server))
        section = {
            "TOKENS": TOKENS,
            "OPERATOR_TOKENS": json.dumps([hash_of(OPERATOR)]),
            "GRPC_PORT": "-1",
            "MAX_WAITERS": "150",
        }
        environment = {f"SPANPOST_GATEWAY__{name}": value for name, value in section.items()}
        environment["SPANPOST_BUDGETS"] = json.dumps([{"name": "miners", "limit_usd": 10, "per": ["agent"]}])
        started = stack.enter_context(run_gateway(dsn, tmp_path_factory.mktemp("gateway"), **environment))
        yield App(started, dsn)


@pytest.fixture
def agent(app: App) -> Iterator[Callable[..., Future[Decision]]]:
    """Ask a person, in a thread, through the gateway."""
    install(gateway.GatewayClient(app.gateway.url, headers={"authorization": f"Bearer {TOKEN}"}))
    with ThreadPoolExecutor(120) as threads:
        yield lambda *asked, **more: threads.submit(approval_sync, *asked, timeout=60, **more)
    install(None)


def ask(app: App, path: str, token: str | None = TOKEN, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """Return status and answer of a request."""
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(app.gateway.url + path, headers=headers, method=method)
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_decision_made_anywhere_reaches_the_agent(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """An agent that waits at the gateway goes on when another process records a decision."""
    waiting = agent("Deploy?", id="anywhere")
    verdict = app.decide(app.asked("anywhere").key)
    assert waiting.result(60) == Decision(id="anywhere", decision="approve", by="alice", source="slack")
    assert verdict.result is Result.DONE
    assert app.effects("anywhere") == (1, 1)


@pytest.mark.proves("stored-first", "gateway-killed")
def test_a_gateway_killed_while_the_agent_waits(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """A decision made while the killed gateway was down is there when the gateway is back."""
    waiting = agent("Deploy?", id="while-waiting")
    key = app.asked("while-waiting").key
    app.gateway.kill()
    app.decide(key, Verb.DENY)
    assert not waiting.done()
    app.gateway.start()
    assert waiting.result(60).denied
    assert app.effects("while-waiting") == (1, 1)


@pytest.mark.proves("stored-first", "gateway-killed")
def test_a_gateway_killed_before_it_answers_the_agent(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """After a kill at the moment of the decision, before or after the answer left, the agent goes on with
    it, once.
    """
    for number in range(3):
        id = f"before-answer-{number}"
        waiting = agent("Deploy?", id=id)
        key = app.asked(id).key
        app.decide(key)
        app.gateway.kill()
        app.gateway.start()
        assert waiting.result(60).approved
        assert app.effects(id) == (1, 1)


@pytest.mark.proves("stored-first", "gateway-killed")
def test_a_process_killed_after_it_recorded_the_click(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """A process is killed after it committed a click; repeated by another it is the same act, with one
    effect.
    """
    waiting = agent("Deploy?", id="click")
    key = app.asked("click").key
    code = f"""
import asyncio, os, signal
from uuid import UUID
from spanpost.model.interventions import Verb
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_people import an_act
async def main():
    store = PostgresStore({app.dsn!r})
    await store.open()
    await store.interventions.intervene(an_act(Verb.APPROVE, UUID({str(key)!r}), idempotency_key="the click"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    again = app.decide(key, idempotency_key="the click")
    assert (again.result, again.is_repeat) == (Result.DONE, True)
    assert waiting.result(60).approved
    assert app.effects("click") == (1, 1)


@pytest.mark.proves("stored-first", "agent-killed")
def test_an_agent_killed_while_it_waits_finds_the_decision(app: App) -> None:
    """A restarted agent asks under the same id and receives the decision made in between."""
    code = "from spanpost.agent.control import approval_sync; print(approval_sync('Deploy?', id='restart', timeout=60))"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))},
        "PYTHONPATH": str(ROOT / "src"),
        "SPANPOST_CONTROL__ENDPOINT": app.gateway.url,
        "SPANPOST_CONTROL__TOKEN": TOKEN,
    }
    first = subprocess.Popen([sys.executable, "-c", code], env=environment)
    key = app.asked("restart").key
    first.kill()
    first.wait()
    app.decide(key)
    second = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert second.stdout.strip() == str(Decision(id="restart", decision="approve", by="alice", source="slack"))
    assert app.effects("restart") == (1, 1)


@pytest.mark.proves("nothing-crosses")
def test_tenants_are_kept_apart(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """Another tenant's token finds neither the question nor the task; an act in its name decides nothing."""
    waiting = agent("Deploy?", id="apart")
    row = app.asked("apart")
    assert ask(app, "/control/v1/approvals/apart", OTHER)[0] == 404
    status, result = ask(app, "/control/v1/approvals/apart")
    assert (status, result["state"]) == (200, "open")
    act = an_act(Verb.APPROVE, row.key, tenant="acme")
    assert app.run(lambda store: store.interventions.intervene(act)).result is Result.UNKNOWN
    app.decide(row.key, Verb.DENY)
    assert waiting.result(60).denied


@pytest.mark.parametrize(
    ("path", "token", "method", "status", "said"),
    [
        ("/control/v1/approvals/x", None, "GET", 401, "a valid token is needed"),
        ("/control/v1/approvals/x", "spt_wrong", "GET", 401, "a valid token is needed"),
        ("/control/v1/approvals/x", OPERATOR, "GET", 403, "no tenant's"),
        ("/control/v1/approvals/x", TOKEN, "GET", 404, "nothing was asked under the id 'x'"),
        ("/control/v1/tasks/x", TOKEN, "GET", 404, "no task is known by 'x'"),
        ("/control/v1/tasks/" + "f" * 32, TOKEN, "GET", 404, "no task is known"),
        ("/control/v1/approvals/", TOKEN, "GET", 404, "there is nothing here"),
        ("/control/v2/approvals/x", TOKEN, "GET", 404, "there is nothing here"),
        ("/control/v1/approvals/x", TOKEN, "POST", 405, "GET"),
        ("/control/v1/approvals/x?wait=soon", TOKEN, "GET", 400, "wait must be a number"),
        ("/control/v1/approvals/x?wait=-1", TOKEN, "GET", 400, "wait must be a number"),
        ("/control/v1/tasks/x?after=nan", TOKEN, "GET", 400, "after must be a number"),
        ("/control/v1/tasks/x?since=1", TOKEN, "GET", 400, "'since' is not understood"),
        ("/control/v1/approvals/x?access_token=spt_x", TOKEN, "GET", 400, "a token in the URL is refused"),
        ("/control/v1/approvals/" + "x" * 2000, TOKEN, "GET", 400, "too long"),
        ("/control/v1/approvals/%00%ff", TOKEN, "GET", 404, "no id has such a character"),
    ],
)
def test_each_mistake_has_its_answer(
    app: App, path: str, token: str | None, method: str, status: int, said: str
) -> None:
    """Each mistake has its status, and JSON that says what is wrong."""
    answered, result = ask(app, path, token, method)
    assert (answered, said in result["message"]) == (status, True), result


def test_a_wrong_token_is_an_error_of_the_agents(app: App) -> None:
    """An agent with an unknown token gets an error at once, without the token in it."""
    install(gateway.GatewayClient(app.gateway.url, headers={"authorization": "Bearer spt_secret"}))
    try:
        with pytest.raises(ControlUnavailable, match="knows no such token") as raised:
            approval_sync("Deploy?", timeout=30)
    finally:
        install(None)
    assert "spt_secret" not in str(raised.value)


def test_many_wait_and_those_beyond_come_back(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """A hundred agents wait at once without queries to the database; a stop of the gateway answers all in time."""
    ids = [f"many-{uuid4()}" for _ in range(100)]
    waiting = [agent("Deploy?", id=id) for id in ids]
    rows = [app.asked(id) for id in ids]
    acts = [an_act(Verb.APPROVE, row.key) for row in rows[:50]]

    async def decide(store: PostgresStore) -> list[Verdict]:
        return [await store.interventions.intervene(act) for act in acts]

    app.run(decide)
    assert all(each.result(60).approved for each in waiting[:50])
    assert not any(each.done() for each in waiting[50:])
    assert app.gateway.stop() == 0
    app.gateway.start()
    acts = [an_act(Verb.DENY, row.key) for row in rows[50:]]
    app.run(decide)
    assert all(each.result(60).denied for each in waiting[50:])


def test_requests_on_a_task_arrive_through_the_gateway(app: App) -> None:
    """An agent's task is found by its id, and the agent receives a cancellation as soon as it is requested."""
    question = [("agent.task.id", "job-9"), ("agent.status", "working")]
    attributes = [{"key": k, "value": {"stringValue": v}} for k, v in question]
    record = {
        "timeUnixNano": str(int(datetime.now(UTC).timestamp() * 1e9)),
        "eventName": "agent.checkpoint",
        "attributes": attributes,
    }
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{app.gateway.url}/v1/logs", body, headers)).close()
    status, result = ask(app, "/control/v1/tasks/job-9")
    assert (status, result["task_id"], result["acts"]) == (200, "job-9", [])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, app, "/control/v1/tasks/job-9?wait=30")

        async def cancel(store: PostgresStore) -> Verdict:
            task = await store.reader.refer("default", "job-9")
            assert task is not None
            act = Intervention(
                tenant="default",
                verb=Verb.CANCEL,
                key=task.uid,
                actor=ALICE,
                idempotency_key="cancel-9",
                source="cli",
                at=datetime.now(UTC),
            )
            return await store.interventions.intervene(act)

        assert app.run(cancel).result is Result.DONE
        status, result = waiting.result(60)
    assert (status, [(act["verb"], act["by"]) for act in result["acts"]]) == (200, [("cancel", "alice")])
    assert ask(app, f"/control/v1/tasks/job-9?after={result['after']}")[1]["acts"] == []


def decide(app: App, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `spanpost decide` on the gateway's database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    environment = kept | {"PYTHONPATH": str(ROOT / "src"), "DATABASE_URL": app.dsn}
    command = [sys.executable, "-c", "from spanpost.cli import main; main()", "decide", "--yes", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_line_answers_an_agent(app: App, agent: Callable[..., Future[Decision]]) -> None:
    """`spanpost decide` answers a question by id and name; an invalid or second answer fails with the reason."""
    waiting = agent("Which?", id="cli", options=["blue", "green"])
    app.asked("cli")
    wrong = decide(app, "cli", "red", "--as", "carol")
    assert (wrong.returncode, "'red' is no answer to it; answer blue or green" in wrong.stderr) == (2, True)
    assert decide(app, "cli", "blue", "--as", " ").returncode == 2
    done = decide(app, "cli", "green", "--as", "carol", "--comment", "it is spring")
    assert (done.returncode, done.stdout) == (0, "Decided: green. The agent receives it.\n"), done.stderr
    assert waiting.result(60) == Decision(id="cli", decision="green", by="carol", comment="it is spring", source="cli")
    second = decide(app, "cli", "blue", "--as", "dave", "--json")
    assert (second.returncode, json.loads(second.stdout)["result"]) == (1, "decided")
    unknown = decide(app, "nothing", "approve", "--as", "carol")
    assert (unknown.returncode, "no question of tenant 'default'" in unknown.stderr) == (2, True)


@pytest.fixture
def spent(app: App) -> None:
    """Let the miner of the tenant `default` spend 4 dollars, through a store that counts, and start again."""
    root_span = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "miner"}
    budgets = (Budget(name="miners", limit_usd=Decimal(10), per=("agent.name",)),)

    async def spend() -> None:
        store = PostgresStore(app.dsn, rules=FoldRules(budgets=budgets), pool_size=2)
        await store.open()
        await store.record(
            [*a_costly_run(77, "4"), started(trace=78, span=1, name="invoke_agent miner", attributes=root_span)]
        )
        await store.close()

    asyncio.run(spend())


def test_the_remaining_budget_is_returned_through_the_gateway(app: App, spent: None) -> None:
    """An agent reads its tenant's remaining budget by its trace, or by attributes before its first telemetry."""
    for token, task, left in ((TOKEN, "miner", "6"), (OTHER, "miner", "10"), (TOKEN, "smith", "10")):
        headers = {"authorization": f"Bearer {token}"}
        result = asyncio.run(gateway.GatewayClient(app.gateway.url, headers=headers).budget("", {"agent.name": task}))
        assert [(b["budget"], b["scope"], b["left_usd"]) for b in result["budgets"]] == [
            ("miners", {"agent.name": task}, left)
        ]
    asked: dict[str, Any] = {
        "id": f"{uuid4()}", "ref": "", "attributes": {"agent.name": "miner"}, "calls": 1, "tokens": 0, "lasts": 60.0,
    }  # fmt: skip
    client = gateway.GatewayClient(app.gateway.url, headers={"authorization": f"Bearer {TOKEN}"})

    async def reserved(usd: str, id: str) -> tuple[bool, str]:
        answer = await client.reserve({**asked, "usd": usd, "id": id})  # type: ignore[typeddict-item]
        rest = (await client.budget("", {"agent.name": "miner"}))["budgets"][0]["left_usd"]
        return answer["is_granted"], rest

    assert asyncio.run(reserved("4.5", asked["id"])) == (True, "1.5")
    assert asyncio.run(reserved("4.5", asked["id"])) == (True, "1.5")
    assert asyncio.run(reserved("2", f"{uuid4()}")) == (False, "1.5")
    asyncio.run(client.give_back(asked["id"]))
    by_trace = asyncio.run(
        gateway.GatewayClient(app.gateway.url, headers={"authorization": f"Bearer {TOKEN}"}).budget(f"{78:032x}", {})
    )
    assert by_trace["budgets"][0]["scope"] == {"agent.name": "miner"}


@pytest.mark.parametrize(
    ("body", "token", "status", "said"),
    [
        (b"[]", TOKEN, 400, "no JSON object"),
        (b"{", TOKEN, 400, "no JSON object"),
        (b"[" * 100_000, TOKEN, 400, "no JSON object"),
        (b'{"ref": 1}', TOKEN, 400, "ref is the id"),
        (b'{"attributes": []}', TOKEN, 400, "attributes is an object"),
        (b'{"attributes": {"agent.name": "\\ud800\\u0000"}, "ref": "a\\u0000"}', TOKEN, 200, ""),
        (b" " * 300_000, TOKEN, 413, "longer than"),
        (b"{}", "spt_nobody", 401, "a valid token"),
        (b"{}", OPERATOR, 403, "no tenant's"),
    ],
)
def test_what_is_no_question_about_budgets_is_refused(
    app: App, body: bytes, token: str, status: int, said: str
) -> None:
    """An invalid request is answered with the reason."""
    url = f"{app.gateway.url}/control/v1/budget"
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            found, result = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        found, result = error.code, json.load(error)
    assert (found, said in result.get("message", "")) == (status, True)
