"""Made-up agent runs for `loops.py`: healthy ones of many kinds, and loops planted in them.

Every run is made of one seed. A run is written in one of the dialects (`FORMS`), with what that captures: all
content, arguments alone, or none. The kinds of healthy work are split in two: `KNOWN` was there when the rules
were made, `UNSEEN` was written at the same time and tried only afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.tasks.loops import UNSEEN as UNSEEN_ROUNDS
from spanpost.tasks.loops import UNSEEN_CALL

SECOND = 10**9
BASE = 1_790_000_000 * SECOND
WORDS = (
    *("index", "parser", "router", "session", "cache", "ledger", "invoice", "user", "order", "stock", "price"),
    *("route", "token", "queue", "worker", "config", "schema", "table", "column", "filter", "search", "report"),
    *("export", "upload", "thumbnail", "avatar", "comment", "thread", "channel", "webhook", "retry"),
)


class Form(NamedTuple):
    """A dialect: how a tool call and its content are written."""

    name: str
    scope: str
    call: Callable[[str, dict[str, Any], str | None, str], dict[str, Any]]
    chat: Callable[[int], dict[str, Any]]
    agent: Callable[[str], dict[str, Any]]


def _gen_ai_chat(tokens: int) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 50,
    }


def _gen_ai_agent(name: str) -> dict[str, Any]:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def _inference_chat(tokens: int) -> dict[str, Any]:
    return {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-x",
        "llm.token_count.prompt": tokens,
        "llm.token_count.completion": 50,
    }


def _inference_agent(name: str) -> dict[str, Any]:
    return {"openinference.span.kind": "AGENT", "graph.node.id": name, "agent.name": name}


def _gen_ai(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    a: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": id}
    a["gen_ai.tool.call.arguments"] = json.dumps(arguments)
    return a if result is None else a | {"gen_ai.tool.call.result": result}


def _maps(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    a = _gen_ai(tool, arguments, result, id)
    return a | {"gen_ai.tool.call.arguments": dict(reversed(arguments.items()))}


def _inference(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    a = {"openinference.span.kind": "TOOL", "tool.name": tool, "input.value": json.dumps(arguments, indent=1)}
    return a if result is None else a | {"output.value": result}


def _traceloop(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    inputs = {"input_str": repr(arguments), "tags": [id], "metadata": {"run": id}}
    a = {"traceloop.span.kind": "tool", "traceloop.entity.name": tool, "traceloop.entity.input": json.dumps(inputs)}
    if result is None:
        return a
    return a | {"traceloop.entity.output": json.dumps({"output": {"kwargs": {"content": result, "tool_call_id": id}}})}


def _vercel(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    a = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": tool, "ai.toolCall.id": id}
    a["ai.toolCall.args"] = json.dumps(arguments, separators=(",", ":"), sort_keys=True)
    return a if result is None else a | {"ai.toolCall.result": json.dumps(result)}


def _kwargs(tool: str, arguments: dict[str, Any], result: str | None, id: str) -> dict[str, Any]:
    a = {"openinference.span.kind": "TOOL", "tool.name": tool, "input.value": json.dumps({"kwargs": arguments})}
    return a if result is None else a | {"output.value": json.dumps({"raw_output": result, "id": id})}


FORMS = (
    Form("gen_ai", "gen_ai", _gen_ai, _gen_ai_chat, _gen_ai_agent),
    Form("gen_ai, maps", "gen_ai", _maps, _gen_ai_chat, _gen_ai_agent),
    Form("openinference", "openinference.instrumentation.x", _inference, _inference_chat, _inference_agent),
    Form("openinference, kwargs", "openinference.instrumentation.x", _kwargs, _inference_chat, _inference_agent),
    Form("traceloop", "opentelemetry.instrumentation.x", _traceloop, _gen_ai_chat, _gen_ai_agent),
    Form("vercel", "ai", _vercel, _gen_ai_chat, _gen_ai_agent),
)
#: What is captured of content: all, arguments alone, nothing.
ALL, ARGUMENTS, NOTHING = "all", "arguments", "nothing"
CAPTURES = (ALL, ARGUMENTS, NOTHING)


class Run:
    """One run of an agent while it is made."""

    def __init__(self, seed: int, *, form: Form | None = None, captures: str = "") -> None:
        self.random = random = Random(seed)
        self.form = form or random.choice(FORMS)
        self.captures = captures or random.choices(CAPTURES, (6, 3, 1))[0]
        self.has_models = random.random() < 0.85
        self.is_live = random.random() < 0.5
        self.trace = random.randbytes(16)
        self.now = BASE + random.randrange(10**6) * SECOND
        self.tokens = random.randint(500, 5000)
        self.spans: list[Observation] = []
        self.parent = b""
        self.agents: list[tuple[bytes, bytes, int, str]] = []
        self.calls = 0
        self.begin("agent")

    # --- what happens ------------------------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        span = self.random.randbytes(8)
        self.agents.append((span, self.parent, self.now, name))
        if self.is_live:
            self._span(span, self.parent, f"invoke_agent {name}", self.now, 0, self.form.agent(name))
        self.parent = span

    def end(self) -> None:
        span, above, start, name = self.agents.pop()
        self.parent = above
        self._span(span, above, f"invoke_agent {name}", start, self.now, self.form.agent(name))

    def think(self, growth: int | None = None) -> None:
        """A model call."""
        start = self.now
        self.now += int(self.random.uniform(0.5, 8) * SECOND)
        self.tokens += self.random.randint(20, 800) if growth is None else growth
        if self.tokens > 150_000:
            self.tokens = 20_000
        if self.has_models:
            self._span(
                self.random.randbytes(8), self.parent, "chat gpt-x", start, self.now, self.form.chat(self.tokens)
            )

    def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        result: str = "",
        *,
        error: str = "",
        seconds: float = 0.0,
        thinks: bool = True,
        at: int | None = None,
    ) -> None:
        """A tool call, after a model call that asks for it."""
        if thinks:
            self.think()
        start = self.now if at is None else at
        end = start + int((seconds or self.random.uniform(0.01, 3)) * SECOND)
        self.now = max(self.now, end)
        self.calls += 1
        id = f"call_{self.random.randrange(16**12):012x}"
        captured = result if self.captures == ALL and not error else None
        attributes = self.form.call(tool, arguments, captured, id)
        if self.captures == NOTHING:
            attributes = {
                k: v for k, v in attributes.items() if not k.endswith((".arguments", ".value", ".input", ".args"))
            }
        if error:
            attributes["error.type"] = error
        self._span(
            self.random.randbytes(8), self.parent, f"execute_tool {tool}", start, end, attributes, is_error=bool(error)
        )

    def parallel(self, calls: list[tuple[str, dict[str, Any], str]]) -> None:
        """Calls that one answer of the model asks for, at the same time."""
        self.think()
        start = self.now
        for n, (tool, arguments, result) in enumerate(calls):
            self.call(tool, arguments, result, thinks=False, at=start + n * 10**6, seconds=self.random.uniform(0.5, 3))

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def finish(self) -> list[Observation]:
        while self.agents:
            self.end()
        return self.spans

    def _span(
        self,
        span: bytes,
        parent: bytes,
        name: str,
        start: int,
        end: int,
        attributes: dict[str, Any],
        is_error: bool = False,
    ) -> None:
        self.spans.append(
            Observation(
                part=Part.ENDED if end else Part.STARTED,
                trace_id=self.trace,
                span_id=span,
                parent_id=parent,
                name=name,
                at_ns=end or start,
                start_ns=start,
                end_ns=end,
                status=Status.ERROR if is_error else Status.UNSET,
                attributes=attributes,
                origin=Origin(resource={"service.name": "made-up"}, scope=self.form.scope),
            )
        )

    # --- words -------------------------------------------------------------------------------------------------------

    def word(self) -> str:
        return self.random.choice(WORDS)

    def path(self) -> str:
        return f"src/{self.word()}/{self.word()}_{self.random.randrange(400)}.py"

    def text(self, characters: int = 0) -> str:
        wanted = characters or self.random.choice((20, 80, 400, 1500))
        words: list[str] = []
        while sum(map(len, words)) < wanted:
            words.append(f"{self.word()}{self.random.randrange(1000)}")
        return " ".join(words)


Work = Callable[[Run], None]


# --- healthy work that the rules were made with ---------------------------------------------------------------------


def edits_and_tests(run: Run) -> None:
    """Tests are run again and again with the same command, and an edit comes between."""
    path = run.path()
    failures = run.random.randint(2, 12)
    for n in range(failures, -1, -1):
        run.call(
            "run_tests",
            {"command": "pytest -q"},
            f"{n} failed, {60 - n} passed in {run.random.random():.2f}s" if n % 3 else "1 failed",
        )
        if run.random.random() < 0.5:
            run.call("read_file", {"path": path}, run.text(900))
        run.call("edit_file", {"path": path, "old": run.text(30), "new": run.text(30)}, "ok")


def polls_that_change(run: Run) -> None:
    """A job is asked how far it is."""
    job, done = run.random.randrange(9999), 0
    while done < 100:
        run.call("get_job", {"id": job}, json.dumps({"state": "running", "percent": done, "at": run.now // SECOND}))
        done += run.random.randint(4, 30)


def polls_that_do_not_change(run: Run) -> None:
    """A deployment is asked for until it is there, with or without a pause of its own."""
    tool = run.random.choice(("check_status", "get_job", "describe_build", "query"))
    name, sleeps = run.word(), run.random.random() < 0.5
    answer = run.random.choice(("pending", '{"state": "RUNNING"}', "in progress", "Build is queued"))
    for _ in range(min(3 + int(run.random.expovariate(1 / 5)), 28)):
        run.call(tool, {"deployment": name}, answer)
        if sleeps:
            run.call("sleep", {"seconds": 10}, "", seconds=10)
    run.call(tool, {"deployment": name}, "ready")


def waits_long(run: Run) -> None:
    """An inbox is looked into every few minutes."""
    for _ in range(run.random.randint(3, 15)):
        run.call("read_inbox", {"folder": "support"}, "no new messages")
        run.wait(run.random.uniform(90, 900))


def pages(run: Run) -> None:
    """A list is read page by page, by number or by an opaque cursor, or only "more"."""
    style, query = run.random.randrange(3), run.word()
    for n in range(run.random.randint(4, 25)):
        if style == 0:
            run.call("search", {"query": query, "page": n}, run.text(600))
        elif style == 1:
            run.call("list_items", {"cursor": f"{run.random.randrange(16**8):x}"}, run.text(600))
        else:
            run.call("next_page", {}, run.text(600))


def batch_of_files(run: Run) -> None:
    """The same tool over many files; many of the answers are short and equal."""
    tool, same = run.random.choice(("lint", "translate", "format_file", "read_file")), run.random.random() < 0.5
    for n in range(run.random.randint(10, 60)):
        run.call(tool, {"path": f"{run.path()}{n}"}, "ok" if same else run.text(300), thinks=run.random.random() < 0.7)


def batch_with_misses(run: Run) -> None:
    """Files are looked for that are not there, a few in a row, then one is."""
    for _ in range(run.random.randint(2, 6)):
        for _ in range(run.random.randint(1, 4)):
            run.call("read_file", {"path": run.path()}, error="FileNotFoundError")
        run.call("list_dir", {"path": run.path()}, run.text(300))


def retries_that_end_well(run: Run) -> None:
    """A call fails a few times, with longer and longer waits, and then succeeds."""
    arguments = {"url": f"https://example.com/{run.word()}/{run.random.randrange(999)}"}
    pause, by_model = 0.5, run.random.random() < 0.3
    for _ in range(run.random.randint(1, 5 if by_model else 9)):
        run.call("fetch", arguments, error="HTTPError", thinks=by_model)
        run.wait(pause)
        pause *= 2
    run.call("fetch", arguments, run.text(800), thinks=by_model)


def looks_again_between(run: Run) -> None:
    """The same look at the state between different pieces of work."""
    look = run.random.choice(
        (("git_state", {}), ("read_file", {"path": "PLAN.md"}), ("get_time", {}), ("list_todos", {}))
    )
    for _ in range(run.random.randint(5, 20)):
        run.call(look[0], look[1], "same" if run.random.random() < 0.7 else run.text(60))
        for _ in range(run.random.randint(1, 2)):
            run.call(run.random.choice(("shell", "grep", "edit_file")), {"command": run.text(40)}, run.text(200))


def fans_out(run: Run) -> None:
    """Several calls at once, equal ones among them."""
    for _ in range(run.random.randint(2, 8)):
        same = run.random.random() < 0.2
        word = run.word()
        run.parallel(
            [
                ("search", {"query": word if same else run.text(20)}, run.text(300))
                for _ in range(run.random.randint(2, 10))
            ]
        )


def sub_agents(run: Run) -> None:
    """Sub-agents that each do healthy work, some of them the same."""
    for n in range(run.random.randint(2, 6)):
        run.think()
        run.begin(f"helper{n}")
        run.random.choice((pages, batch_with_misses, looks_again_between, retries_that_end_well))(run)
        run.end()


def explores(run: Run) -> None:
    """Reads and searches, and comes back to some files."""
    paths = [run.path() for _ in range(6)]
    for _ in range(run.random.randint(10, 40)):
        if run.random.random() < 0.25:
            path = run.random.choice(paths)
            run.call("read_file", {"path": path}, f"the content of {path}" * 20)
        else:
            run.call("grep", {"pattern": run.text(12), "path": "src"}, run.text(300))


def plays_a_game(run: Run) -> None:
    """Moves of few kinds, whose outcome differs and comes back."""
    for _ in range(run.random.randint(10, 60)):
        way = run.random.choice(("north", "south", "east", "west"))
        run.call("go", {"way": way}, f"room {run.random.randrange(40)}: {run.text(60)}")


KNOWN: tuple[Work, ...] = (
    edits_and_tests,
    polls_that_change,
    polls_that_do_not_change,
    waits_long,
    pages,
    batch_of_files,
    batch_with_misses,
    retries_that_end_well,
    looks_again_between,
    fans_out,
    sub_agents,
    explores,
    plays_a_game,
)


# --- healthy work that was tried after the rules stood ---------------------------------------------------------------


def asks_a_database(run: Run) -> None:
    """SQL that is mended until it works, then asked for page after page."""
    table = run.word()
    for _ in range(run.random.randint(1, 5)):
        run.call("sql", {"query": f"SELECT {run.word()} FROM {table}"}, error="UndefinedColumn")
    for n in range(run.random.randint(5, 30)):
        run.call("sql", {"query": f"SELECT * FROM {table} LIMIT 50 OFFSET {n * 50}"}, run.text(700))


def fills_forms(run: Run) -> None:
    """A browser: fields, clicks on the same button, pictures of the page."""
    for _ in range(run.random.randint(3, 12)):
        for _ in range(run.random.randint(1, 4)):
            run.call("browser_type", {"selector": f"#{run.word()}", "text": run.text(20)}, "typed")
        run.call("browser_click", {"selector": "#next"}, "clicked")
        if run.random.random() < 0.6:
            run.call("browser_screenshot", {}, f"<image {run.random.randrange(10**6)} bytes>")


def reviews_a_pull_request(run: Run) -> None:
    """Diffs are read, comments are posted whose answers are all the same."""
    for _ in range(run.random.randint(5, 40)):
        run.call("get_diff", {"file": run.path()}, run.text(1200))
        if run.random.random() < 0.6:
            run.call("post_comment", {"file": run.path(), "body": run.text(80)}, "created")


def labels_records(run: Run) -> None:
    """Records are labelled one by one, and the answer never differs."""
    for n in range(run.random.randint(20, 90)):
        run.call(
            "set_label",
            {"record": n, "label": run.random.choice(("good", "bad"))},
            "ok",
            thinks=run.random.random() < 0.8,
        )


def talks_to_another(run: Run) -> None:
    """Messages are sent and received; often there is none yet."""
    for _ in range(run.random.randint(3, 10)):
        run.call("send_message", {"to": "other", "text": run.text(60)}, "sent")
        for _ in range(run.random.randint(1, 4)):
            run.call("receive_message", {"from": "other"}, "none")
        run.call("receive_message", {"from": "other"}, run.text(80))


def turns_of_a_chat(run: Run) -> None:
    """A person asks the same again in one long run, with pauses to read the answer."""
    city = run.word()
    for _n in range(run.random.randint(4, 12)):
        run.call(
            "get_weather", {"city": city}, f"{run.random.randint(-5, 30)} degrees, {run.random.randint(0, 99)} % rain"
        )
        run.wait(run.random.uniform(5, 300))


def flaky_service(run: Run) -> None:
    """Every third call fails with the same error, and works when it is made again."""
    for _ in range(run.random.randint(5, 25)):
        arguments = {"sku": run.random.randrange(10**6)}
        for _ in range(run.random.choice((0, 0, 1, 2))):
            run.call("lookup", arguments, error="TimeoutError")
        run.call("lookup", arguments, json.dumps({"sku": arguments["sku"], "price": run.random.randrange(900)}))


def migrates_in_steps(run: Run) -> None:
    """Each step is planned, made, and verified by the same command with the same answer."""
    for n in range(run.random.randint(4, 20)):
        run.call("shell", {"command": f"migrate --to {n}"}, "done")
        run.call("shell", {"command": "verify --all"}, "consistent")
        if run.random.random() < 0.3:
            run.call("shell", {"command": "backup"}, "done")


def asks_for_permission(run: Run) -> None:
    """A person approves each of some equal commands, which takes minutes."""
    for _ in range(run.random.randint(2, 8)):
        run.think()
        run.wait(run.random.uniform(70, 600))
        run.call("shell", {"command": "terraform apply"}, "Apply complete", thinks=False)


def crawls(run: Run) -> None:
    """Pages are fetched in parallel; many are refused with the same long answer."""
    refusal = run.text(400)
    for _ in range(run.random.randint(3, 10)):
        run.parallel(
            [
                (
                    "fetch",
                    {"url": f"https://{run.word()}.example/{run.random.randrange(10**6)}"},
                    refusal if run.random.random() < 0.3 else run.text(900),
                )
                for _ in range(run.random.randint(3, 8))
            ]
        )


def waits_in_a_shell(run: Run) -> None:
    """A pipeline is looked at again and again by one command, which sleeps first."""
    command = f"sleep 20 && gh run view {run.random.randrange(10**6)}"
    for _ in range(min(2 + int(run.random.expovariate(1 / 6)), 28)):
        run.call("shell", {"command": command}, f"{run.word()} in_progress", seconds=20 + run.random.random())
    run.call("shell", {"command": command}, "completed success", seconds=20)


def solves_with_a_calculator(run: Run) -> None:
    """Small calls with small results, some of them made before."""
    for _ in range(run.random.randint(10, 40)):
        a, b = run.random.randrange(12), run.random.randrange(12)
        run.call("calculate", {"expression": f"{a} * {b}"}, str(a * b))


def answers_tickets(run: Run) -> None:
    """The list of open tickets is read between the answers."""
    for n in range(run.random.randint(4, 20), 0, -1):
        run.call("list_tickets", {"state": "open"}, f"{n} open")
        run.call("get_ticket", {"id": run.random.randrange(10**5)}, run.text(500))
        run.call("reply", {"id": run.random.randrange(10**5), "text": run.text(80)}, "sent")


def tunes_parameters(run: Run) -> None:
    """Experiments, some of them the same, whose figures differ a little."""
    for _ in range(run.random.randint(5, 40)):
        rate = run.random.choice((0.1, 0.03, 0.01, 0.003, 0.001, run.random.random()))
        run.call("train", {"rate": rate}, f"loss {run.random.random():.4f}", seconds=run.random.uniform(1, 40))


def summarises_documents(run: Run) -> None:
    """Each document is read and its summary saved, some at once."""
    for n in range(run.random.randint(5, 40)):
        run.call("get_document", {"id": n}, run.text(1500))
        run.call("save_summary", {"id": n, "text": run.text(100)}, "saved")


UNSEEN: tuple[Work, ...] = (
    asks_a_database,
    fills_forms,
    reviews_a_pull_request,
    labels_records,
    talks_to_another,
    turns_of_a_chat,
    flaky_service,
    migrates_in_steps,
    asks_for_permission,
    crawls,
    waits_in_a_shell,
    solves_with_a_calculator,
    answers_tickets,
    tunes_parameters,
    summarises_documents,
)


def healthy(seed: int, kinds: tuple[Work, ...]) -> tuple[list[Observation], list[str]]:
    """Return a healthy run of several pieces of work, and their names."""
    run = Run(seed)
    works = [run.random.choice(kinds) for _ in range(run.random.randint(2, 6))]
    for work in works:
        work(run)
    return run.finish(), [work.__name__ for work in works]


# --- loops ----------------------------------------------------------------------------------------------------------


def _varied(run: Run) -> str:
    return run.text(600)


def same_call(run: Run, rounds: int) -> Iterator[None]:
    """One call with the same arguments and the same result."""
    arguments, result = {"path": run.path(), "limit": 200}, run.text(60)
    for _ in range(rounds):
        run.call("read_file", arguments, result)
        yield


def two_in_turn(run: Run, rounds: int) -> Iterator[None]:
    """A, B, A, B."""
    first, second = {"path": run.path()}, {"query": run.text(15)}
    said = run.text(40), run.text(500)
    for _ in range(rounds):
        run.call("read_file", first, said[0])
        run.call("search", second, said[1])
        yield


def three_in_turn(run: Run, rounds: int) -> Iterator[None]:
    """A, B, C, A, B, C: undone and done again."""
    path, old, new = run.path(), run.text(20), run.text(20)
    for _ in range(rounds):
        run.call("edit_file", {"path": path, "old": old, "new": new}, "ok")
        run.call("run_tests", {"command": "pytest -q"}, f"1 failed in {run.random.random():.2f}s")
        run.call("edit_file", {"path": path, "old": new, "new": old}, "ok")
        yield


def same_error(run: Run, rounds: int) -> Iterator[None]:
    """One tool, the same error, the same arguments."""
    arguments = {"url": f"https://example.com/{run.random.randrange(999)}"}
    for _ in range(rounds):
        run.call("fetch", arguments, error="PermissionError")
        yield


def same_error_other_arguments(run: Run, rounds: int) -> Iterator[None]:
    """One tool, the same error, other arguments each time."""
    for _ in range(rounds):
        run.call("apply_patch", {"patch": run.text(60)}, error="PatchError")
        yield


def hidden(run: Run, rounds: int) -> Iterator[None]:
    """The same search, with a new number in it each time."""
    query, result = run.text(20), run.text(700)
    for _ in range(rounds):
        run.call("search", {"query": query, "x": run.random.random()}, result)
        yield


def in_no_order(run: Run, rounds: int) -> Iterator[None]:
    """A dozen calls, all made before, in no order. A round is a call."""
    known = [({"path": run.path()}, run.text(80)) for _ in range(10)]
    for n in range(rounds):
        arguments, result = known[n] if n < len(known) else run.random.choice(known)
        run.call("read_file", arguments, result)
        yield


class Planted(NamedTuple):
    """A kind of loop: how it is made, in which captures it can be seen, and the round from which it is one."""

    make: Callable[[Run, int], Iterator[None]]
    captures: tuple[str, ...]
    #: Field of `LoopRules` with the number of rounds; and times how many where results are not captured.
    needs: str
    times: int = 1


PLANTED = (
    Planted(same_call, (ALL,), "same_call"),
    Planted(same_call, (ARGUMENTS,), "same_call", UNSEEN_CALL),
    Planted(two_in_turn, (ALL,), "rounds"),
    Planted(two_in_turn, (ARGUMENTS,), "rounds", UNSEEN_ROUNDS),
    Planted(three_in_turn, (ALL,), "rounds"),
    Planted(three_in_turn, (ARGUMENTS,), "rounds", UNSEEN_ROUNDS),
    Planted(same_error, (ALL, ARGUMENTS), "same_call"),
    Planted(same_error, (NOTHING,), "same_outcome"),
    Planted(same_error_other_arguments, CAPTURES, "same_outcome"),
    Planted(hidden, (ALL,), "same_outcome"),
    Planted(in_no_order, (ALL,), "calls"),
)


def planted(seed: int, kind: Planted, kinds: tuple[Work, ...], needed: int) -> tuple[list[Observation], int, int]:
    """Return a healthy run with a loop at a random place, and the times of the loop's first call and of the end of
    the second round after the `needed` ones.
    """
    random = Random(seed)
    run = Run(seed, form=random.choice(FORMS), captures=random.choice(kind.captures))
    for _ in range(random.randint(0, 3)):
        random.choice(kinds)(run)
    begin, until = run.now, 0
    extra = 10 if kind.make is in_no_order else 0  # the first call of each is no repetition
    for n, _ in enumerate(kind.make(run, needed + extra + 6), 1):
        if n == needed + extra + 2:
            until = run.now
    for _ in range(random.randint(0, 2)):
        random.choice(kinds)(run)
    return run.finish(), begin, until
