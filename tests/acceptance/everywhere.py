"""Every act, tried from every endpoint of a running gateway, and checked by its effect.

`Gateway` and local-slack run as processes; `ENDPOINTS` act on tasks that `Agents` report. A cell of the table is *yes*
where the effect was seen and the row of `human_interventions` names the person; else it is the reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
from mcp import ClientSession

from spanpost import semconv as c
from spanpost.agent.gateway import GatewayClient
from spanpost.agent.questions import AskedQuestion
from spanpost.http.tokens import hash_of
from spanpost.receivers import emit as wire
from spanpost.receivers.forward_target import Target
from tests.conftest import ROOT
from tests.eventually import eventually_async
from tests.interactions.api.assistant import ask
from tests.interactions.local_slack import ALICE, LocalSlack

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

#: Where the results are kept for the page docs/reference/acts.md.
RECORDED = Path(__file__).with_name("acts.json")
ROLES = ["operator", "approver", "viewer"]
TOKENS = {"setup": ROLES, "api": ROLES, "mcp": ROLES, "board": ROLES, "command line": ROLES}
LAUNCHER = "fixer"
ACTS = (
    "cancel", "pause", "resume", "retry", "message", "mute", "unmute", "approve", "deny", "choose", "start", "dismiss",
    "rate",
)  # fmt: skip

#: The acts that the ordinary run tries.
FEW = ("cancel", "choose", "start", "rate")


def settings(directory: Path) -> str:
    """Return the settings: a token for each endpoint, Alice in Slack, and a launcher that keeps its orders."""
    orders = directory / "orders"
    orders.mkdir()
    tokens = "".join(
        f'[[interactions.tokens]]\nname = "{name}"\nsha256 = ["{hash_of(token_of(name))}"]\n'
        f"roles = {json.dumps(roles)}\n"
        for name, roles in TOKENS.items()
    )
    keep = f'printf %s "$SPANPOST_ORDER" > "{orders}/$0.part" && mv "{orders}/$0.part" "{orders}/$0"'
    return f"""{tokens}
[[interactions.rules]]
actions = {json.dumps(ACTS)}
users = ["{ALICE}"]
roles = ["operator", "approver"]
[launchers.named.{LAUNCHER}]
kind = "command"
command = ["/bin/sh", "-c", {json.dumps(keep)}, "{{id}}"]
[[launchers.named.{LAUNCHER}.parameters]]
name = "repo"
required = true
[[launchers.named.{LAUNCHER}.parameters]]
name = "size"
kind = "choice"
choices = ["small", "large"]
[[launchers.retries]]
launcher = "{LAUNCHER}"
agent = "fixer"
"""


def token_of(name: str) -> str:
    return f"spt_{name.replace(' ', '_')}"


@dataclass
class Subject:
    """A task that is acted on, as its agent sees it."""

    task: wire.EmittedTask
    name: str
    uid: str = ""
    question: AskedQuestion | None = None

    @property
    def id(self) -> str:
        return str(self.task.attributes[c.TASK_ID])


@dataclass
class Site:
    """The gateway, the database, local-slack, a browser, and an assistant."""

    url: str
    dsn: str
    directory: Path
    database: asyncpg.Pool
    slack: LocalSlack
    browser: BrowserContext
    session: ClientSession
    client: httpx.AsyncClient
    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)

    async def post(self, path: str, body: Mapping[str, Any], name: str = "setup") -> httpx.Response:
        headers = {"authorization": f"Bearer {token_of(name)}"}
        return await self.client.post(path, json=dict(body), headers=headers)

    async def shown(self, subject: Subject) -> dict[str, Any]:
        answer = await self.client.get(
            f"/api/tasks/{subject.id}", headers={"authorization": f"Bearer {token_of('setup')}"}
        )
        found: dict[str, Any] = answer.json()
        return found

    # --- agents -------------------------------------------------------------------------------------------

    async def begin(self, act: str, endpoint: str) -> Subject:
        """Let an agent report a task in the state that the act needs."""
        name = f"{act} from {endpoint}"
        about = {c.TASK_ID: f"{endpoint} {act}".replace(" ", "-"), c.NAME: "fixer" if act == "retry" else "worker"}
        subject = self.subjects[(act, endpoint)] = Subject(wire.begin(name, about), name)
        records = [wire.started(subject.task)]
        if act in ("approve", "deny", "choose"):
            options = ["canary", "all at once"] if act == "choose" else []
            question = AskedQuestion(f"Shall I {name}?", f"q-{subject.id}", options, "", "", None, None, None)
            subject.question = question
            records.append(wire.happened(subject.task, c.EVENT_APPROVAL_REQUESTED, question.attributes))
        # local-slack does not update attachments: a task with other buttons at its end is reported as a whole.
        if act not in ("retry", "rate"):
            await self.send(records=records)
        if act == "dismiss":
            await self.send(spans=[_tool_call(subject.task, n) for n in range(14)])
        if act in ("retry", "rate"):
            await self.send(spans=[wire.ended(subject.task, {}, is_failed=act == "retry", message="no bulb")])
        found = await eventually_async(lambda: self.shown(subject), lambda found: "uid" in found)
        subject.uid = found["uid"]
        if act == "dismiss":
            await eventually_async(lambda: self.shown(subject), lambda found: bool(found["loop"]))
        if act in ("resume", "unmute"):
            before = {"resume": "pause", "unmute": "mute"}[act]
            (await self.post(f"/api/tasks/{subject.uid}/{before}", {})).raise_for_status()
        return subject

    async def send(self, **parts: Any) -> None:
        signal, body = wire.request({"service.name": "everywhere"}, **parts)
        await asyncio.to_thread(wire.post, Target(self.url), signal, body)

    # --- effects ------------------------------------------------------------------------------------------

    async def recorded(self, act: str, subject: Subject) -> list[tuple[Any, ...]]:
        """Wait for the rows of an act: result, person and source."""
        where = "comment = $2" if act == "start" else "task_uid = $2::text::uuid"
        sql = (
            f"SELECT result, actor, via FROM human_interventions WHERE verb = $1 AND {where} "
            "AND idempotency_key IS NOT NULL"
        )

        async def rows() -> list[tuple[Any, ...]]:
            found = await self.database.fetch(sql, act, subject.name if act == "start" else subject.uid)
            return [tuple(row) for row in found]

        return await eventually_async(rows, bool)

    async def check(self, act: str, subject: Subject, person: tuple[str, str]) -> None:
        """Check that the row of an act names the person and the source, and that the agent sees the act."""
        assert await self.recorded(act, subject) == [("done", *person)]
        agent = GatewayClient(self.url)
        if subject.question is not None:
            question, trace = subject.question, int(subject.task.trace_id, 16)
            answer = await agent.approval(question.id, question.mark, trace, 5.0)
            assert answer is not None
            assert answer["decision"] == ("canary" if act == "choose" else act), answer
        elif act in ("cancel", "pause", "resume", "message"):
            requests = await agent.task(subject.id, 0, 0.0)
            assert requests is not None
            assert act in [one["verb"] for one in requests["acts"]], requests
        elif act in ("retry", "start"):
            orders = self.directory / "orders"
            await eventually_async(
                lambda: _orders(orders), lambda found: any(_is_of(one, act, subject) for one in found)
            )
        else:
            seen: dict[str, Callable[[dict[str, Any]], bool]] = {
                "mute": lambda task: bool(task["muted"]),
                "unmute": lambda task: not task["muted"],
                "rate": lambda task: [one["label"] for one in task["evaluations"]] == ["up"],
                "dismiss": lambda task: bool(task["loop"]["is_dismissed"]),
            }
            await eventually_async(lambda: self.shown(subject), seen[act])


def _tool_call(task: wire.EmittedTask, n: int) -> dict[str, Any]:
    """Return the span of a tool call, always the same."""
    at = time.time_ns() - (20 - n) * 1_000_000
    said = {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search",
        "gen_ai.tool.call.arguments": '{"q": "x"}', "gen_ai.tool.call.result": "nothing",
    }  # fmt: skip
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in said.items()]
    return {
        "traceId": task.trace_id, "spanId": os.urandom(8).hex(), "parentSpanId": task.span_id,
        "name": "execute_tool search", "kind": 1, "startTimeUnixNano": str(at), "endTimeUnixNano": str(at + 500_000),
        "attributes": attributes,
    }  # fmt: skip


def _orders(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in directory.iterdir() if path.suffix != ".part"]


def _is_of(order: dict[str, Any], act: str, subject: Subject) -> bool:
    if act == "retry":
        return bool(order["retry_of"] == subject.id)
    return bool(order["text"] == subject.name and order["parameters"] == {"repo": "acme/shop", "size": "small"})


# --- endpoints --------------------------------------------------------------------------------------------------------


async def by_slack(site: Site, act: str, subject: Subject) -> None:
    """Press a button, send a dialogue, reply in the thread, or write `/agents`."""
    slack = site.slack
    if act == "start":
        await slack.command(f"start {LAUNCHER} {subject.name}")
        await eventually_async(slack.dialogue, lambda view: view is not None and "parameter:repo" in str(view))
        value = {"parameter:repo": "acme/shop", "text": subject.name}
        chosen = {"parameter:size": {"value": {"selected_option": {"value": "small"}}}}
        await slack.send_dialogue(**{block: {"value": {"value": said}} for block, said in value.items()}, **chosen)
        return

    if act in ("resume", "unmute"):
        await slack.command(f"{act} {subject.id}")
        return

    async def roots() -> list[dict[str, Any]]:
        return [one for one in await slack.messages() if subject.name in str(one) and not one.get("thread_ts")]

    labels = {
        "cancel": "Stop", "pause": "Pause", "retry": "Retry", "mute": "Mute",
        "rate": "👍", "approve": "Approve", "deny": "Deny", "choose": "canary", "dismiss": "Let it be",
    }  # fmt: skip
    if act == "message":
        [root, *_] = await eventually_async(roots, bool)
        await slack.say("look at the log", root["ts"])
        return
    if subject.question is not None:
        ts = await slack.question(subject.question.text)
    elif act == "dismiss":
        root = (await eventually_async(roots, bool))[0]["ts"]

        async def findings() -> list[str]:
            return [
                one["ts"] for one in await slack.messages()
                if one.get("thread_ts") == root and labels[act] in str(one.get("blocks"))
            ]  # fmt: skip

        ts = (await eventually_async(findings, bool))[0]
    else:
        label = f'"{labels[act]}"'
        ready = await eventually_async(
            roots, lambda found: any(label in json.dumps(one, ensure_ascii=False) for one in found)
        )
        ts = ready[0]["ts"]
    await slack.choose(ts, labels[act])
    if act == "deny":
        await slack.send_dialogue(comment={"text": {"value": "not today"}})


async def by_api(site: Site, act: str, subject: Subject) -> None:
    """Send a request over HTTP."""
    if subject.question is not None:
        key = f"/api/approvals/{subject.question.id}/decision"
        (await site.post(key, {"decision": "canary" if act == "choose" else act}, "api")).raise_for_status()
    elif act == "start":
        body = {"text": subject.name, "parameters": {"repo": "acme/shop", "size": "small"}}
        (await site.post(f"/api/launchers/{LAUNCHER}/start", body, "api")).raise_for_status()
    else:
        path = "messages" if act == "message" else act
        body = {"message": {"text": "look at the log"}, "rate": {"rating": "up"}}.get(act, {})
        (await site.post(f"/api/tasks/{subject.id}/{path}", body, "api")).raise_for_status()


async def by_mcp(site: Site, act: str, subject: Subject) -> None:
    """Call a tool of `spanpost mcp --allow-acts`."""
    if subject.question is not None:
        decision = "canary" if act == "choose" else act
        done = await ask(site.session, "decide", approval=subject.question.id, decision=decision)
    elif act == "start":
        given = {"repo": "acme/shop", "size": "small"}
        done = await ask(site.session, "start_work", launcher=LAUNCHER, text=subject.name, parameters=given)
    else:
        more = {"message": {"text": "look at the log"}, "rate": {"option": "up"}}.get(act, {})
        done = await ask(site.session, "act_on_task", id=subject.id, verb=act, **more)
    assert isinstance(done, dict), done
    assert done["result"] == "done", done


async def by_board(site: Site, act: str, subject: Subject) -> None:
    """Press a button of the board in Chromium."""
    page = await site.browser.new_page()
    try:
        if act == "start":
            await page.goto("/")
            await page.get_by_role("button", name="Start work").click()
            await page.get_by_label("The work to do").fill(subject.name)
            await page.get_by_label("repo", exact=True).fill("acme/shop")
            await page.get_by_label("size").select_option("small")
            await page.get_by_role("button", name="Start", exact=True).click()
            await site.recorded(act, subject)
            return
        await page.goto(f"/board/tasks/{subject.uid}")
        if act == "message":
            await page.get_by_label("Message to the agent").fill("look at the log")
        labels = {"message": "Send", "rate": "👍 Good", "dismiss": "Let it be", "choose": "canary"}
        name = labels.get(act, act.capitalize())
        await page.get_by_role("button", name=name, exact=True).first.click()
        if act == "cancel":
            await page.get_by_role("button", name="Cancel it").click()
        await site.recorded(act, subject)
    finally:
        await page.close()


async def by_command_line(site: Site, act: str, subject: Subject) -> None:
    """Run `spanpost` with the gateway's address."""
    await _spanpost(site, act, subject, (), SPANPOST_URL=site.url, SPANPOST_TOKEN=token_of("command line"))


async def by_database(site: Site, act: str, subject: Subject) -> None:
    """Run `spanpost` with the address of the database."""
    await _spanpost(site, act, subject, ("--as", "ada"), DATABASE_URL=site.dsn)


async def _spanpost(site: Site, act: str, subject: Subject, more: tuple[str, ...], **environment: str) -> None:
    if subject.question is not None:
        command = ("decide", subject.question.id, "canary" if act == "choose" else act, "--yes")
    elif act == "start":
        command = ("start", LAUNCHER, subject.name, "-p", "repo=acme/shop", "-p", "size=small")
    else:
        said = {"message": ("look at the log",), "rate": ("up",), "cancel": ("--yes",)}.get(act, ())
        command = (act, subject.id[:-1], *said)  # an id by its beginning
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spanpost", *command, *more,
        cwd=site.directory, env=kept | {"PYTHONPATH": str(ROOT / "src")} | environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said_all = (await process.communicate())[0].decode()
    assert process.returncode == 0, said_all


#: The endpoints: how each acts, and the person and the source that the row names.
ENDPOINTS: dict[str, tuple[Callable[[Site, str, Subject], Awaitable[None]], tuple[str, str]]] = {
    "Slack": (by_slack, ("alice", "slack")),
    "API": (by_api, ("api", "api")),
    "MCP": (by_mcp, ("mcp", "api")),
    "board": (by_board, ("board", "api")),
    "command line": (by_command_line, ("command line", "api")),
    "command line, database": (by_database, ("ada", "cli")),
}


async def try_all(site: Site, acts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Try acts from every endpoint; return "yes" or the reason by act and endpoint."""
    found: dict[str, dict[str, str]] = {act: {} for act in acts}

    async def endpoint(name: str) -> None:
        does, person = ENDPOINTS[name]
        for act in acts:
            try:
                subject = await site.begin(act, name)
                await does(site, act, subject)
                await site.check(act, subject, person)
                found[act][name] = "yes"
            except Exception as error:
                found[act][name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]

    await asyncio.gather(*map(endpoint, ENDPOINTS))
    return {act: {name: found[act][name] for name in ENDPOINTS} for act in acts}


async def impossible(site: Site) -> dict[str, dict[str, str]]:
    """Try to cancel an ended task, and to retry one without a launcher; return each endpoint's words by act."""
    subject = await site.begin("rate", "nowhere")
    await site.send(spans=[wire.ended(subject.task, {}, is_failed=True, message="no bulb")])
    await eventually_async(lambda: site.shown(subject), lambda task: task["status"] == "error")
    found: dict[str, dict[str, str]] = {}
    for act in ("cancel", "retry"):
        words = found[act] = {}
        before = len(await site.slack.whispers())
        await site.slack.command(f"{act} {subject.id}")
        words["Slack"] = (await site.slack.whispered(count=before + 1))[-1]
        words["API"] = (await site.post(f"/api/tasks/{subject.id}/{act}", {}, "api")).json()["message"]
        words["MCP"] = await ask(site.session, "act_on_task", id=subject.id, verb=act)
        for name, does in (("command line", by_command_line), ("command line, database", by_database)):
            try:
                await does(site, act, subject)
            except AssertionError as error:
                words[name] = str(error)
    return found
