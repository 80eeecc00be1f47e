"""The clients in TypeScript and Go before a real gateway: they ask as Python's agent does, and promise the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanpost import semconv
from spanpost.http.tokens import hash_of
from spanpost.model.interventions import ApprovalRow, Verb
from spanpost.model.queries import ApprovalQuery
from tests.acceptance.asking_agent import AskingAgent
from tests.acceptance.client_agent import LANGUAGES, ClientAgent
from tests.acceptance.gateways import run_gateway
from tests.acceptance.test_control import App
from tests.conftest import ROOT, find, fresh_database
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "clients", "node", "go")]

TOKEN, OTHER, PERSON = "spt_of-default", "spt_of-acme", "spt_of-ann"
_ANY = st.text(st.characters(exclude_categories=()), max_size=20).map(
    # Two halves of a pair are one character in every language but Python.
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)
_QUESTIONS = st.tuples(_ANY, _ANY, st.lists(_ANY, max_size=3), _ANY)


@pytest.fixture(scope="module")
def app(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    tokens = [{"tenant": tenant, "sha256": [hash_of(t)]} for tenant, t in (("default", TOKEN), ("acme", OTHER))]
    person = {"name": "Ann", "sha256": [hash_of(PERSON)], "roles": ["viewer", "operator", "approver"]}
    environment = {
        "SPANPOST_GATEWAY__TOKENS": json.dumps(tokens),
        "SPANPOST_GATEWAY__GRPC_PORT": "-1",
        "SPANPOST_INTERACTIONS__TOKENS": json.dumps([person]),
        "SPANPOST_BUDGETS": json.dumps([{"name": "all of us", "limit_usd": 10}]),
    }
    with ExitStack() as stack:
        dsn = stack.enter_context(fresh_database(server))
        yield App(stack.enter_context(run_gateway(dsn, tmp_path_factory.mktemp("gateway"), **environment)), dsn)


@pytest.fixture(scope="module", params=LANGUAGES)
def agent(request: pytest.FixtureRequest, app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAgent]:
    agent = ClientAgent(request.param, app.gateway.url, TOKEN, tmp_path_factory.mktemp("agent"))
    yield agent
    agent.end()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of a question of this test and language alone."""
    return request.node.name


def api(app: App, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Let the person use the API."""
    request = urllib.request.Request(
        f"{app.gateway.url}/api/{path}",
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {PERSON}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def answer(app: App, row: ApprovalRow, decision: str, comment: str = "") -> None:
    assert api(app, f"approvals/{row.key}/decision", {"decision": decision, "comment": comment})["result"] == "done"


def questions(app: App, id: str) -> list[ApprovalRow]:
    return app.run(lambda store: store.interventions.approvals(ApprovalQuery(approval_id=id)))


def test_the_mark_is_pythons(agent: ClientAgent) -> None:
    """Any question has the same mark as in Python: any Unicode, control characters and lone surrogates included."""

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_QUESTIONS, min_size=1, max_size=30))
    def compare(asked: list[tuple[str, str, list[str], str]]) -> None:
        names = ("question", "detail", "options", "risk")
        numbers = [agent.begin("mark", **dict(zip(names, one, strict=True))) for one in asked]
        assert [agent.result(n)["mark"] for n in numbers] == [semconv.question_mark(*one) for one in asked]

    compare()


def test_every_character_has_its_mark(agent: ClientAgent) -> None:
    """Each character of the first plane, alone in an option, has the mark of Python: white space is removed alike."""
    texts = ["".join(map(chr, range(start, start + 64))) for start in range(0, 0xD800, 64)]
    options = [[chr(n) + "x" + chr(n)] for n in (*range(0x100), *range(0x1680, 0x1681), *range(0x2000, 0x3001), 0xFEFF)]
    asked = [("?", text, [], "") for text in texts] + [("?", "", option, "") for option in options]
    numbers = [agent.begin("mark", question=q, detail=d, options=o, risk=r) for q, d, o, r in asked]
    assert [agent.result(n)["mark"] for n in numbers] == [semconv.question_mark(*one) for one in asked]


def test_a_tool_is_part_of_the_mark(app: App, agent: ClientAgent, name: str) -> None:
    """A question with a tool has the tool in its mark."""
    asking = agent.begin("approval", question="Deploy?", id=name, risk="high", tool="kubectl", timeout=0.5)
    assert "error" in agent.result(asking)
    [row] = questions(app, name)
    assert (row.mark, row.is_cut) == (semconv.question_mark("Deploy?", "", [], "high", "kubectl"), False)


def test_the_code_of_the_readmes_runs(app: App, tmp_path: Path) -> None:
    """The programs of both READMEs run as they stand: they ask, and go on with the person's answer."""
    built = Path(find("clients"))
    node, go = (code_of(ROOT / "clients" / name / "README.md") for name in ("typescript", "go"))
    script = built / "typescript" / f"readme-{tmp_path.name}.mjs"  # inside of the package, which imports itself by name
    driver = ROOT / "clients" / "go" / "internal" / "driver"
    for file in ("go.mod", "go.sum"):
        text = (driver / file).read_text().replace("=> ../..", f"=> {ROOT / 'clients' / 'go'}")
        (tmp_path / file).write_text(text)
    (tmp_path / "main.go").write_text(go)
    environment = {"SPANPOST_CONTROL__ENDPOINT": app.gateway.url, "SPANPOST_CONTROL__TOKEN": TOKEN, "CGO_ENABLED": "0"}
    commands = ([find("node"), str(script)], [find("go"), "run", "-mod=mod", "."])
    script.write_text(node)
    try:
        for command in commands:
            process = subprocess.Popen(
                command, cwd=tmp_path, env=os.environ | environment, stdout=subprocess.PIPE, text=True
            )
            eventually(lambda: questions(app, "release-1.4"))
            for row in questions(app, "release-1.4"):
                if row.state == "open":
                    answer(app, row, "approve")
            said, _ = process.communicate(timeout=90)
            assert (process.returncode, said) == (0, "deployed, as Ann said\n")
    finally:
        script.unlink()


def code_of(page: Path) -> str:
    """Return the one program of a README."""
    [code] = re.findall(r"^```(?:ts|go)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


def test_a_persons_answer_reaches_the_agent(app: App, agent: ClientAgent, name: str) -> None:
    """An approval, a refusal with a comment and an option reach the agent, with the person's name; the task is
    recorded.
    """
    yes = agent.begin("approval", question="Deploy?", id=f"{name}-yes", detail="v2 → v3", risk="high", task=name)
    no = agent.begin("approval", question="Delete?", id=f"{name}-no")
    which = agent.begin("approval", question="Where?", id=f"{name}-which", options=[" eu ", "us"])
    for id, decision, comment in (("yes", "approve", ""), ("no", "deny", "not today"), ("which", "eu", "")):
        row = app.asked(f"{name}-{id}")
        assert not row.is_cut
        answer(app, row, decision, comment)
    common = {"by": "Ann", "expired": False, "source": "api"}
    assert agent.result(yes)["decision"] == {
        "id": f"{name}-yes", "decision": "approve", "comment": "", "approved": True, "denied": False, **common,
    }  # fmt: skip
    assert agent.result(no)["decision"] == {
        "id": f"{name}-no", "decision": "deny", "comment": "not today", "approved": False, "denied": True, **common,
    }  # fmt: skip
    assert agent.result(which)["decision"]["decision"] == " eu "
    eventually(lambda: [t["status"] for t in api(app, "tasks")["items"] if t["name"] == name] == ["complete"])


@pytest.mark.proves("silence-is-no-yes")
def test_no_answer_is_never_a_yes(app: App, agent: ClientAgent, name: str) -> None:
    """A deadline that passes approves nothing, and denies only where the question says so; a timeout and an abort end
    the wait with an error.
    """
    ended = agent.begin("approval", question="Deploy?", id=f"{name}-expire", expires_in=0.4, at_expiry="expire")
    denied = agent.begin("approval", question="Deploy?", id=f"{name}-deny", expires_in=0.4, at_expiry="deny")
    late = agent.begin("approval", question="Deploy?", id=f"{name}-late", timeout=1)
    stopped = agent.begin("approval", question="Deploy?", id=f"{name}-stopped", abort=1)
    found = agent.result(ended)["decision"]
    assert (found["decision"], found["approved"], found["denied"], found["expired"]) == ("expired", False, False, True)
    found = agent.result(denied)["decision"]
    assert (found["approved"], found["denied"], found["expired"]) == (False, True, True)
    assert agent.result(late)["error"] in ("ApprovalTimeout", "DeadlineExceeded")
    assert agent.result(stopped)["error"] in ("TimeoutError", "DeadlineExceeded")
    assert [row.state for row in questions(app, f"{name}-late")] == ["open"]


def test_an_answer_to_other_words_does_not_count(app: App, agent: ClientAgent, name: str) -> None:
    """An answer to the same id in other words reaches only the agent that asked those words."""
    first = agent.begin("approval", question="Deploy v1?", id=name)
    row = app.asked(name)
    second = agent.begin("approval", question="Deploy v2?", id=name, timeout=2)
    eventually(lambda: len(questions(app, name)) == 2)
    answer(app, row, "approve")
    assert agent.result(first)["decision"]["approved"]
    assert "error" in agent.result(second)


@pytest.mark.proves("only-people", "forged-answers")
def test_telemetry_answers_nothing(app: App, agent: ClientAgent, name: str) -> None:
    """A decision that telemetry reports, on the question's own trace, is no answer."""
    asking = agent.begin("approval", question="Deploy?", id=name, task=name)
    row = app.asked(name)
    forger = AskingAgent(app.gateway.url, token=TOKEN)
    forger.trace, _, forger.span = row.span.partition("-")
    forged = {"agent__approval__id": name, "agent__approval__decision": "approve", "agent__approval__by": "Ann"}
    forger.tell("agent.approval.resolved", **forged, agent__approval__digest=row.mark)
    answer(app, row, "deny")
    assert agent.result(asking)["decision"]["denied"]


def test_a_token_gives_its_own_tenant(app: App, agent: ClientAgent, name: str) -> None:
    """Another tenant's token gets no answer of this tenant; an unknown token is refused in words without the token."""
    ours = agent.begin("approval", question="Deploy?", id=name)
    theirs = agent.begin("approval", question="Deploy?", id=name, token=OTHER, timeout=2)
    eventually(lambda: {row.tenant for row in questions(app, name)} == {"default", "acme"})
    [row] = [row for row in questions(app, name) if row.tenant == "default"]
    answer(app, row, "approve")
    assert agent.result(ours)["decision"]["approved"]
    assert "error" in agent.result(theirs)
    refused = agent.result(agent.begin("approval", question="Deploy?", token="spt_stolen"))
    assert refused["error"].endswith(("ControlUnavailable", "ControlUnavailableError"))
    assert "knows no such token" in refused["message"]
    assert "stolen" not in refused["message"] + agent.log.read_text()


def test_a_gateway_killed_while_the_agent_waits(app: App, agent: ClientAgent, name: str) -> None:
    """A decision made while the killed gateway was down reaches the agent, which asked while it was down, too."""
    waiting = agent.begin("approval", question="Deploy?", id=name)
    key = app.asked(name).key
    app.gateway.kill()
    later = agent.begin("approval", question="Deploy?", id=f"{name}-later")
    app.decide(key, Verb.DENY)
    assert not agent.has_result(waiting)
    app.gateway.start()
    assert agent.result(waiting)["decision"]["denied"]
    answer(app, app.asked(f"{name}-later"), "approve")
    assert agent.result(later)["decision"]["approved"]


def test_people_reach_a_task(app: App, agent: ClientAgent, name: str) -> None:
    """A message, a pause and a cancel of a person reach the running task, whose checkpoints are recorded."""
    id = f"task-of-{name}"
    running = agent.begin("task", name=name, id=id)
    assert "started" in agent.result(running)

    def is_known() -> bool:
        try:
            return bool(api(app, f"tasks/{id}"))
        except urllib.error.HTTPError:
            return False

    # A root span is known when it ends; what it says before, by an event of a live processor: here a log record.
    AskingAgent(app.gateway.url, name, TOKEN, **{"agent.task.id": id}).start()
    eventually(is_known)
    api(app, f"tasks/{id}/messages", {"text": "mind the migration"})
    api(app, f"tasks/{id}/pause", {})
    api(app, f"tasks/{id}/resume", {})
    api(app, f"tasks/{id}/cancel", {})
    found = agent.result(running)
    assert found["messages"] == [{"text": "mind the migration", "by": "Ann"}]
    assert (found["aborted"], found["budgets"]) == (True, ["all of us"])
    eventually(lambda: "read the diff" in json.dumps(api(app, f"tasks/{id}/timeline")))
