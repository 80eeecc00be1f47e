"""The pictures of the guarantees. Their figures, hashes and states are computed by the program as they are drawn."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path

from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.settings.intake import IntakeSettings
from spanpost.sinks.slack.settings import SlackSettings
from spanpost.store.memory import MemoryStore
from spanpost.store.sealing import tree
from spanpost.tasks.folded import FoldRules
from spanpost.testing.observed import a_run, ended
from spanpost.text.legible import ShownText
from spanpost.text.secrets import Scanner

from .drawing import Picture

ROOT = Path(__file__).parents[2]


def _recorded(*batches: list[Observation]) -> tuple[MemoryStore, int, int]:
    store = MemoryStore(FoldRules(), keep=None)
    results = [store.record_now(batch) for batch in batches]
    return store, sum(one.events for one in results), sum(one.duplicates for one in results)


def _task(store: MemoryStore) -> Task:
    [task] = asyncio.run(store.tasks(TaskQuery()))
    return task


def acknowledged_is_kept() -> Picture:
    """Draw the way of a request, with the points at which a test kills the gateway."""
    source = ast.parse((ROOT / "tests" / "faults" / "test_journal.py").read_text())
    [points] = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "POINTS"
    ]
    p = Picture("A request is answered 200 after its transaction; the gateway is killed at six points in between", 218)
    p.frame(20, 40, 110, 70, "sender\nkeeps it")
    p.arrow((130, 62), (190, 62), text="request")
    p.frame(190, 40, 90, 70, "gateway")
    p.arrow((280, 75), (330, 75))
    p.frame(330, 24, 250, 102, "", "good")
    p.text(455, 45, "one transaction", "strong", "middle")
    for line, text in enumerate(("audit rows · tasks · checkpoints", "deliveries · the journal's row goes")):
        p.text(455, 68 + 18 * line, text, "small", "middle")
    p.arrow((580, 75), (640, 75), text="commit")
    p.frame(640, 50, 60, 50, "rows")
    p.arrow((670, 100), (670, 146), (75, 146), (75, 110))
    p.text(300, 140, "200, after the commit", "strong", "middle")
    p.text(
        20, 172, "Killed at each of these points, the sender repeats, or the journal still has the request:", "small"
    )
    x = 28.0
    for name in points:
        p.cross(x, 195)
        p.text(x + 10, 200, name, "small")
        x += 22 + 6.7 * len(name)
    return p


def recorded_once() -> Picture:
    """Draw one span that arrives three times, as the store in memory records it."""
    span = ended(trace=1, span=1, name="agent", attributes={"agent.task.name": "fix"})
    _, events, duplicates = _recorded([span], [span], [span])
    p = Picture(f"A span that arrives three times by three ways has one key and is {events} row", 190)
    for number, way in enumerate(("live, by attach()", "by an OTLP exporter", "again, after a lost 200")):
        p.frame(20, 20 + 52 * number, 190, 38, way)
        p.arrow((210, 39 + 52 * number), (300, 91))
    p.frame(300, 60, 220, 62, "tenant, trace, span,\npart, index", "plain", "mono")
    p.text(410, 146, "the key; parts: " + ", ".join(one.name.lower() for one in [*Part][:3]) + ",", "small", "middle")
    p.text(410, 164, ", ".join(one.name.lower() for one in [*Part][3:]), "small", "middle")
    p.arrow((520, 91), (580, 91))
    p.frame(580, 60, 120, 62, f"{events} row\n{duplicates} duplicates", "good")
    return p


def counted_once() -> Picture:
    """Draw a model call that three spans describe, with the figure that the fold gives."""
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.response.id": "r-1"}
    used = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}
    store, _, _ = _recorded(
        [
            ended(trace=1, span=1, name="agent", attributes=agent | used, seconds=9.0),
            ended(trace=1, span=2, parent=1, name="framework", attributes=call | used, at=1.0, seconds=5.0),
            ended(trace=1, span=3, parent=2, name="provider", attributes=call | used, at=2.0, seconds=3.0),
        ]
    )
    task = _task(store)
    total = (task.input_tokens or 0) + (task.output_tokens or 0)
    p = Picture(
        f"Three nested spans report 120 tokens each; the task has {total} tokens and {task.llm_calls} call", 190
    )
    p.frame(20, 18, 420, 154)
    p.text(34, 38, "agent span: 120 tokens, the sum of its run", "small")
    p.frame(40, 50, 380, 110)
    p.text(54, 70, "call, as the framework reports it: 120", "small")
    p.frame(60, 82, 340, 66, "", "good")
    p.text(74, 102, "the same call, as the provider's client reports it: 120", "small")
    p.text(74, 128, "one response id: one of them counts", "strong")
    p.arrow((440, 95), (520, 95), text="fold")
    p.frame(520, 58, 180, 74, f"{total} tokens\n{task.llm_calls} call, not 360 tokens", "good")
    return p


def same_in_any_order() -> Picture:
    """Draw one run that arrives in three orders, folded for real."""
    run = dict(zip("abcd", a_run("fix")[:4], strict=True))
    orders = ("abcd", "dcba", "cacbdd")
    tasks = [_task(_recorded(*([run[letter]] for letter in order))[0]) for order in orders]
    shown = {(one.uid, str(one.status), one.input_tokens, one.llm_calls) for one in tasks}
    assert len(shown) == 1, shown
    p = Picture("The same four spans in three orders, with repeats, fold to the same task", 190)
    for row, (order, says) in enumerate(zip(orders, ("in order", "backwards", "shuffled, repeated"), strict=True)):
        y = 20 + 54 * row
        p.text(20, y + 24, says, "small")
        for place, letter in enumerate(order):
            p.frame(150 + 44 * place, y, 36, 38, letter, "plain", "mono")
        p.arrow((150 + 44 * len(order), y + 19), (470, y + 19), (470, 93), (510, 93))
    one = tasks[0]
    p.frame(
        510, 48, 190, 90, f"one task\n{one.status}, {one.input_tokens} input tokens\nuid {str(one.uid)[:13]}…", "good"
    )
    return p


def the_agent_never_waits() -> Picture:
    """Draw the queue between the agent's thread and the worker, with its default size."""
    size = IntakeSettings().queue_size
    p = Picture("The agent's thread puts a span into a bounded queue and goes on; the worker alone waits", 200)
    p.frame(20, 30, 150, 62, "agent's thread\ngoes on at once", "good")
    p.arrow((170, 61), (240, 61), text="span")
    p.frame(240, 30, 160, 62, f"queue\n{size:,} places")
    p.arrow((400, 61), (460, 61))
    p.frame(460, 30, 100, 62, "worker\nwaits")
    p.arrow((560, 61), (610, 61))
    p.frame(610, 30, 90, 62, "database\nhangs", "bad")
    p.arrow((320, 92), (320, 130))
    p.frame(240, 130, 160, 50, "full: counted\nby its reason", "soft")
    p.arrow((95, 92), (95, 130))
    p.frame(20, 130, 150, 50, "spool, if set\na file; survives a kill", "soft")
    p.arrow((170, 155), (205, 155), (205, 115), (510, 115), (510, 92))
    p.text(415, 136, "read from the spool later", "small")
    return p


def one_message_per_task() -> Picture:
    """Draw what happens after a lost answer, with the default time before a second post."""
    wait = f"{SlackSettings().lookup_wait.total_seconds():g} s"
    p = Picture(
        f"After a lost answer spanpost looks the message up, and posts again only after two misses and {wait}", 210
    )
    p.frame(20, 30, 120, 62, "claimed\nand committed")
    p.arrow((140, 61), (200, 61))
    p.frame(200, 30, 130, 62, "post to Slack\nwith a marker")
    p.arrow((330, 61), (430, 61), text="answer lost")
    p.cross(380, 61)
    p.frame(430, 30, 110, 62, "unknown", "bad")
    p.arrow((540, 61), (590, 61))
    p.frame(590, 30, 110, 62, "look up\nby the marker")
    p.arrow((645, 92), (645, 140))
    p.frame(580, 140, 130, 50, "found: edited\nto the newest text", "good")
    p.arrow((610, 92), (610, 116), (485, 116), (485, 140))
    p.frame(390, 140, 180, 50, f"absent twice, and\n{wait} over: posted again", "good")
    p.arrow((330, 80), (350, 80), (350, 165), (265, 165))
    p.frame(45, 140, 220, 50, "answered: its place is kept\nand edited from then on", "good")
    return p


def an_answer_is_a_persons() -> Picture:
    """Draw a question and its reworded twin, with the digests of their words."""
    words = ("Delete the test data?", "Delete all the data?")
    digests = [ShownText(question=one).digest[:8] for one in words]
    p = Picture("A decision belongs to the digest of the words that were read; other words are another question", 210)
    for row, (one, digest) in enumerate(zip(words, digests, strict=True)):
        y = 24 + 96 * row
        p.frame(20, y, 250, 66, f"{one}\n{digest}…", "plain" if row == 0 else "bad")
        p.arrow((270, y + 33), (310, y + 33))
    p.frame(310, 24, 130, 66, "a person reads,\npresses Approve")
    p.arrow((440, 57), (480, 57))
    p.frame(480, 24, 220, 66, f"one row: approve, by whom,\nfor {digests[0]}…; the agent goes on", "good")
    p.frame(310, 120, 130, 66, "the old button\nis pressed")
    p.arrow((440, 153), (480, 153))
    p.frame(480, 120, 220, 66, "decides nothing:\nnew words, new question", "bad")
    return p


def secrets_stay_out() -> Picture:
    """Draw a text with a secret before and after the scanner."""
    token = "ghp_" + "".join("aB3dE6gH9k"[(7 * n) % 10] for n in range(36))
    clean = Scanner(b"a key of the database's own").scan(f"push with {token} failed")
    p = Picture("A token is replaced by its kind, length and keyed hash before anything is written", 200)
    p.frame(20, 24, 200, 66, f"push with {token[:10]}…\nfailed", "bad", "mono")
    p.arrow((220, 57), (290, 57), text="scan")
    p.frame(290, 24, 410, 66, clean, "good", "mono")
    p.arrow((495, 90), (495, 126))
    for number, place in enumerate(("audit rows", "Slack", "board, API", "logs", "metrics", "journal*")):
        p.frame(20 + 115 * number, 126, 105, 34, place, "plain", "small")
    p.text(20, 184, "* The journal holds a body encrypted until it is recorded; recording scans it.", "small")
    return p


def tenants_apart() -> Picture:
    """Draw two tenants with equal ids."""
    agent = {"agent.task.name": "fix"}
    one, two = (ended(trace=1, span=1, name="agent", attributes=agent, tenant=name) for name in ("acme", "beta"))
    _, events, duplicates = _recorded([one, two])
    assert (events, duplicates) == (2, 0)
    p = Picture("Two tenants send the same ids; the tenant of their tokens is part of each key", 204)
    for row, (tenant, token) in enumerate((("acme", "token A"), ("beta", "token B"))):
        y = 24 + 84 * row
        p.frame(20, y, 180, 58, f"{token}\ntrace 00…01, span 00…01")
        p.arrow((200, y + 29), (280, y + 29), text="OTLP")
        p.frame(280, y, 220, 58, f"{tenant}, 00…01, 00…01", "good", "mono")
        p.arrow((500, y + 29), (550, y + 29))
        p.frame(550, y, 150, 58, f"tasks, messages,\nfigures of {tenant}")
    p.text(390, 98, "the key of the row", "small", "middle")
    p.text(20, 190, "What a span says of its tenant does not count: the token does.", "small")
    return p


def rows_are_not_changed_unseen() -> Picture:
    """Draw a log of four leaves and a changed row, with their real hashes."""
    rows = [b"row 1", b"row 2", b"row 3", b"row 4"]
    kept = tree.root_of([tree.leaf_hash(one) for one in rows])
    rows[2] = b"row 3, changed"
    leaves = [tree.leaf_hash(one) for one in rows]
    right = tree.node_hash(leaves[2], leaves[3])
    left, root = tree.node_hash(leaves[0], leaves[1]), tree.root_of(leaves)
    assert tree.node_hash(left, right) == root != kept
    p = Picture("A changed row gives another root than the signed checkpoint that left", 236)
    for number, leaf in enumerate(leaves):
        x = 20 + 112 * number
        p.frame(x, 176, 100, 42, f"row {number + 1}{', new' if number == 2 else ''}", "bad" if number == 2 else "plain")
        p.text(x + 50, 168, leaf.hex()[:8], "mono", "middle")
    for x, node, kind in ((76, left, "plain"), (300, right, "bad")):
        p.frame(x, 100, 100, 36, node.hex()[:8], kind, "mono")
        p.arrow((x - 6, 156), (x + 36, 137))
        p.arrow((x + 106, 156), (x + 64, 137))
    p.frame(188, 24, 100, 36, root.hex()[:8], "bad", "mono")
    p.arrow((130, 100), (205, 61))
    p.arrow((346, 100), (271, 61))
    p.text(238, 18, "root of today", "small", "middle")
    p.text(344, 47, "≠", "strong", "middle")
    p.frame(400, 24, 130, 36, kept.hex()[:8], "good", "mono")
    p.text(465, 18, "signed checkpoint", "small", "middle")
    p.arrow((530, 42), (580, 42))
    p.frame(580, 20, 120, 62, "kept outside\nfile, webhook, …")
    p.text(490, 170, "spanpost audit verify:", "mono")
    p.text(490, 190, "row 3 was changed", "mono red")
    return p


_ALL = (
    acknowledged_is_kept,
    recorded_once,
    counted_once,
    same_in_any_order,
    the_agent_never_waits,
    one_message_per_task,
    an_answer_is_a_persons,
    secrets_stay_out,
    tenants_apart,
    rows_are_not_changed_unseen,
)
#: The picture of each guarantee, by the name of its page.
PICTURES: dict[str, Callable[[], Picture]] = {one.__name__.replace("_", "-"): one for one in _ALL}
