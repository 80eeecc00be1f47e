"""The table of rights by credential in SECURITY.md: each entry is tried at a real gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from spanpost.http.tokens import hash_of
from spanpost.model.queries import ApprovalQuery
from spanpost.store import roles
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.exercise_store import a_run
from tests.conftest import ROOT
from tests.interactions.api.served import Served, tokens

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

#: The table's credentials that can be tried, by the beginning of their row: the bearer token to send.
CREDENTIALS: dict[str, str | None] = {
    "no token": None,
    "a tenant's token": "spt_tenant",
    "an operator's token": "spt_operating",
    "an API token of role `viewer`": "spt_viewer",
    "an API token of role `operator`": "spt_operator",
    "an API token of role `approver`": "spt_approver",
    "an API token of role `auditor`": "spt_auditor",
    "this machine,": None,
    "this machine's token": "local",
}


def table() -> dict[str, dict[str, str]]:
    """Return the table: by credential, the content of each column."""
    text = (ROOT / "SECURITY.md").read_text()
    rows = [
        [part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    header, *body = rows
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in body}


TABLE = table()


@pytest.fixture(scope="module")
def asked(api_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that always requires a token."""
    gateway = {
        "http_port": 0,
        "grpc_port": -1,
        "tokens": [{"tenant": "default", "sha256": [hash_of("spt_tenant")]}],
        "operator_tokens": [hash_of("spt_operating")],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("asked"))
        made = Served(api_dsn, gateway=gateway, interactions={"tokens": tokens()})
    with made as served:
        served._traces = 500_000
        yield served


@pytest.fixture(scope="module")
def unasked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that requires none: `spanpost run` by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("unasked"))
        made = Served(None, interactions=None)
    with made as served:
        yield served


def a_question(served: Served) -> tuple[str, str]:
    """Open a question; return the keys of the question and of its task."""
    trace = served.trace()
    served.record(at_work(f"asks {trace}", trace=trace), asking(f"q-{trace}", trace=trace, is_marked=True))
    pipeline = served.gateway.pipeline
    [row] = pipeline.ask(pipeline.store.interventions.approvals(ApprovalQuery(approval_id=f"q-{trace}")))
    return str(row.key), str(row.task_uid)


def _content(served: Served, client: httpx.Client) -> httpx.Response:
    trace = served.trace()
    served.record(*a_run("content", trace=trace))
    return client.get(f"/api/tasks/{trace:032x}/timeline", params={"content": True})


#: The request for each column.
TRIES: dict[str, Callable[[Served, httpx.Client], httpx.Response]] = {
    "sends": lambda served, client: client.post("/v1/logs", json={"resourceLogs": []}),
    "receives": lambda served, client: client.get("/control/v1/approvals/nothing"),
    "alerts": lambda served, client: client.post("/alerts/alertmanager", json={"alerts": []}),
    "reads": lambda served, client: client.get("/api/approvals"),
    "content": _content,
    "decides": lambda served, client: client.post(
        f"/api/approvals/{a_question(served)[0]}/decision", json={"decision": "approve"}, headers={"origin": served.url}
    ),
    "acts": lambda served, client: client.post(
        f"/api/tasks/{a_question(served)[1]}/mute", headers={"origin": served.url}
    ),
    "starts": lambda served, client: client.post("/api/launchers/fix/start", headers={"origin": served.url}),
    "operates": lambda served, client: client.get("/health/detailed"),
}
CASES = [
    (who, credential, column)
    for who, credential in ((who, row) for row in TABLE for who in CREDENTIALS if row.startswith(who))
    for column in TRIES
]


@pytest.mark.parametrize(("who", "row", "column"), CASES)
def test_each_right_is_granted_or_refused(asked: Served, unasked: Served, who: str, row: str, column: str) -> None:
    """An allowed request works, and any other is refused for a missing right."""
    served = unasked if who.startswith("this machine") else asked
    client = served.here() if CREDENTIALS[who] == "local" else served.client(CREDENTIALS[who])
    answer = TRIES[column](served, client)
    # Not being refused proves the right: no question has that id.
    outcome = {401: "no", 403: "no", 404: "yes" if column == "receives" else "404"}.get(answer.status_code, "yes")
    assert answer.status_code < 500
    assert outcome == TABLE[row][column], (answer.status_code, answer.text[:300])


def test_every_row_is_tried_or_names_its_test() -> None:
    """Each row of the table is tried here, or has the number of an existing test."""
    text = (ROOT / "SECURITY.md").read_text()
    held = dict(re.findall(r"^(\d+)\. `([\w/.]+::\w+)`$", text, re.MULTILINE))
    numbered = {row: found[1] for row in TABLE if (found := re.search(r"\((\d+)\)$", row))}
    assert sorted(numbered.values()) == sorted(held)
    for row, columns in TABLE.items():
        assert row in numbered or sum(row.startswith(who) for who in CREDENTIALS) == 1, row
        assert set(columns) == {*TRIES}
        assert {*columns.values()} <= (
            {"yes", "no", "rules", "roles", "scopes", "declared"} if row in numbered else {"yes", "no"}
        )
    assert {who for who, _, _ in CASES} == {*CREDENTIALS}
    for named in held.values():
        file, _, name = named.partition("::")
        assert re.search(rf"def {name}\(", (ROOT / file).read_text()), named


def test_grafanas_role_reads_and_writes_nothing(asked: Served, api_dsn: str) -> None:
    """The role of docs/how-to/grafana.md reads tasks and questions, and cannot change anything."""
    page = (ROOT / "docs" / "how-to" / "grafana.md").read_text()
    made = re.search(r"```sql\n *(CREATE ROLE.*?) *```", page, re.DOTALL)
    assert made is not None
    a_question(asked)

    async def work() -> list[Any]:
        owner = await asyncpg.connect(api_dsn)
        try:
            async with owner.transaction():
                await owner.execute(re.sub(r"\bgrafana\b", "grafana_of_a_test", made[1]))
                assert "spanpost db grant --reader grafana" in page
                await roles.grant(owner, {"reader": "grafana_of_a_test"})
                await owner.execute("SET LOCAL ROLE grafana_of_a_test")
                refused = []
                tables = await owner.fetchval("SELECT count(*) FROM agent_tasks")
                for statement in (
                    "UPDATE approvals SET state = 'decided', decision = 'approve'",
                    "SELECT secret FROM session_secret",
                    "SELECT key FROM redaction_key",
                    "UPDATE human_interventions SET actor = 'x'",
                    "DELETE FROM audit_rows",
                    "INSERT INTO deliveries DEFAULT VALUES",
                ):
                    try:
                        async with owner.transaction():
                            await owner.execute(statement)
                    except asyncpg.InsufficientPrivilegeError:
                        refused.append(statement)
                await owner.execute("RESET ROLE")
                await owner.execute("DROP OWNED BY grafana_of_a_test")
                await owner.execute("DELETE FROM granted_roles WHERE role = 'grafana_of_a_test'")
                await owner.execute("DROP ROLE grafana_of_a_test")
                return [tables, len(refused)]
        finally:
            await owner.close()

    tables, refused = asyncio.run(work())
    assert (tables > 0, refused) == (True, 6)
