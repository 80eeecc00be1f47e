"""Pictures of the board: each page and state, light, dark and on a telephone, and those of the docs.

    python scripts/picture_board.py [--all DIRECTORY [--only NAME]] [--calls 10000]

A gateway with a PostgreSQL of its own records made-up tasks as agents would send them; Chromium takes the pictures.
Without `--all`, only `docs/images/board.png` and `board-task.png` are written.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from spanpost.cli.preview import BROWSERS
from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.store.sql.schema import upgrade
from spanpost.testing.live_tasks import LiveTasks
from spanpost.testing.observed import Status, an_event, ended, started
from spanpost.testing.postgres import throwaway_postgres

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--hide-scrollbars"]
LOOKS: Final[Mapping[str, dict[str, Any]]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
}
_CHAT: Final = "gen_ai.operation.name"


class Scene:
    """Made-up tasks in a gateway. Times are seconds, before now if negative."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._spans = 10

    def record(self, *batch: Any) -> None:
        """Record observations as if they had been received."""
        self._gateway.pipeline.ask(self._gateway.pipeline.record(batch))

    def begin(self, trace: int, name: str, at: float, *, span: int = 1, parent: int = 0, **said: Any) -> dict[str, Any]:
        """Begin a task or a sub-agent; return its attributes."""
        about = {"agent.task.name": name, _CHAT: "invoke_agent", "agent.task.id": f"task-{trace}-{span}"}
        about |= {key.replace("__", "."): value for key, value in said.items()}
        self.record(started(trace=trace, span=span, parent=parent, name="agent", attributes=about, at=at))
        return about

    def end(self, trace: int, about: dict[str, Any], at: float, until: float, **more: Any) -> None:
        """End a task."""
        of = {"span": 1, "name": "agent", "attributes": about} | more
        self.record(ended(trace=trace, at=at, seconds=until - at, **of))

    def say(self, trace: int, at: float, name: str = "agent.checkpoint", *, span: int = 1, **said: Any) -> None:
        """Report an event of a task."""
        self._spans += 1
        about = {key.replace("__", "."): value for key, value in said.items()}
        self.record(an_event(trace=trace, span=span, name=name, index=self._spans, attributes=about, at=at))

    def model(self, trace: int, at: float, seconds: float, tokens: int, parent: int = 1, model: str = "gpt-4o") -> None:
        """Report a model call."""
        self._spans += 1
        said = {
            _CHAT: "chat", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": tokens,
            "gen_ai.usage.output_tokens": tokens // 30, "gen_ai.response.id": f"r{self._spans}",
            "gen_ai.usage.cache_read.input_tokens": tokens // 3,
        }  # fmt: skip
        of = {"trace": trace, "span": self._spans, "parent": parent, "name": f"chat {model}", "attributes": said}
        self.record(ended(**of, at=at, seconds=seconds))

    def tool(self, trace: int, at: float, seconds: float, tool: str, parent: int = 1, *, fails: bool = False) -> None:
        """Report a tool call."""
        self._spans += 1
        said = {_CHAT: "execute_tool", "gen_ai.tool.name": tool} | ({"error.type": "TimeoutError"} if fails else {})
        of = {"trace": trace, "span": self._spans, "parent": parent, "name": f"execute_tool {tool}"}
        status, why = (Status.ERROR, "no answer after 30 s") if fails else (Status.OK, "")
        self.record(ended(**of, attributes=said, at=at, seconds=seconds, status=status, status_message=why))


def play(scene: Scene) -> None:
    """Record the tasks that the pictures show."""
    shop = {"gen_ai__agent__name": "release", "agent__repo": "acme/shop", "deployment__environment__name": "prod"}
    by = {"agent__requested_by": "mina@example.com", "gen_ai__conversation__id": "chat-4711"}
    # A task at work, with agents: one waits for a person, one failed.
    scene.begin(101, "Migrate the shop to Python 3.14", -900, **shop, **by)
    steps = ["Read the code", "Split the work", "Migrate the services", "Run the tests", "Deploy to staging"]
    for n, name in enumerate(steps[:3]):
        scene.say(101, -890 + 200 * n, agent__step__name=name, agent__step__index=n + 1, agent__step__count=5)
    for n in range(12):
        scene.model(101, -880 + 65 * n, 9, 12_000 + 8_500 * n)
        scene.tool(101, -868 + 65 * n, 14 + n, ("read_file", "grep", "run_tests")[n % 3], fails=n == 7)
    for n, name in enumerate(("search", "mailer", "billing"), 2):
        scene.begin(101, f"Migrate {name}", -420 + 20 * n, span=n, parent=1, gen_ai__agent__name=f"migrate-{name}")
        for k in range(5):
            scene.model(101, -330 + 50 * k + 5 * n, 12, 9_000 + 3_000 * k, parent=n, model="claude-sonnet-4-5")
            scene.tool(101, -315 + 50 * k + 5 * n, 20, "edit_file", parent=n)
    about = {"agent.task.name": "Migrate search", _CHAT: "invoke_agent", "agent.task.id": "task-101-2"}
    scene.end(
        101,
        about | {"gen_ai.agent.name": "migrate-search"},
        -380,
        -60,
        span=2,
        parent=1,
        status=Status.ERROR,
        status_message="ImportError: no module named 'distutils'\n  File \"search/setup.py\", line 3",
    )
    scene.say(
        101,
        -45,
        "agent.approval.requested",
        span=3,
        agent__approval__id="drop",
        agent__approval__risk="high",
        agent__approval__question="May I drop support for Python 3.9 in mailer?",
        agent__approval__detail="setup.cfg: python_requires = >=3.10\n3 callers in acme/legacy still run 3.9.",
    )
    scene.say(101, -20, agent__checkpoint__message="billing: 41 of 58 files migrated", agent__progress=48.0)
    # One that asks itself.
    scene.begin(102, "Deploy 1.8.2 to production", -240, **shop, agent__requested_by="omar@example.com")
    scene.model(102, -235, 8, 21_000)
    scene.tool(102, -220, 31, "run_tests")
    scene.say(
        102,
        -170,
        "agent.approval.requested",
        agent__approval__id="deploy",
        agent__approval__risk="high",
        agent__approval__question="Deploy 1.8.2 to production now?",
        agent__approval__tool="deploy",
    )
    # Work under way, near a limit.
    scene.begin(
        103, "Summarise the incident of Tuesday", -130, gen_ai__agent__name="writer", agent__repo="acme/ops", **by
    )
    scene.model(103, -120, 20, 112_000)
    scene.say(103, -15, agent__checkpoint__message="Timeline written, causes next", agent__progress=65.0)
    for n in range(104, 110):
        scene.begin(
            n,
            f"Review pull request {n * 7}",
            -60.0 * (n - 102),
            gen_ai__agent__name="reviewer",
            agent__repo="acme/web" if n % 2 else "acme/api",
            agent__requested_by=f"dev{n % 3}@example.com",
        )
        scene.model(n, -30, 6, 8_000 + 900 * n, model="gemini-2.5-pro")
        scene.say(n, -8, agent__checkpoint__message=f"{n - 100} of 12 files read", agent__progress=8.0 * (n - 100))
    # Ended ones: a failure, and one with a result.
    failed = scene.begin(
        120, "Roll out the edge configuration", -700, gen_ai__agent__name="rollout", agent__repo="acme/edge"
    )
    for n, name in enumerate(("Check", "Canary", "All hosts")):
        scene.say(120, -695 + 60 * n, agent__step__name=name, agent__step__index=n + 1, agent__step__count=3)
    scene.tool(120, -600, 45, "apply_config", fails=True)
    scene.model(120, -550, 7, 18_000)
    log = "RolloutFailed: 3 of 40 hosts do not answer\n" + "\n".join(
        f"edge-{n:02}: connection refused" for n in range(30)
    )
    scene.end(120, failed, -700, -500, status=Status.ERROR, status_message=log)
    done = scene.begin(
        121, "Update the dependencies", -500, gen_ai__agent__name="updater", agent__repo="acme/api", **by
    )
    for n in range(4):
        scene.model(121, -490 + 40 * n, 9, 10_000 + 6_000 * n)
        scene.tool(121, -475 + 40 * n, 20, ("read_file", "edit_file", "run_tests", "git_push")[n])
    scene.model(121, -333, 2, 30_000)
    scene.say(
        121,
        -330,
        "agent.artifact",
        agent__artifact__name="Update 14 dependencies",
        agent__artifact__kind="pr",
        agent__artifact__uri="https://github.com/acme/api/pull/812",
    )
    scene.end(
        121,
        done | {"agent.result.updated": 14, "agent.link.ci": "https://ci.example/812"},
        -500,
        -310,
        status=Status.OK,
    )
    for n in range(130, 175):
        about = scene.begin(
            n,
            f"Answer ticket {n}",
            -3600.0 * (n - 129),
            gen_ai__agent__name=("support", "triage")[n % 2],
            agent__repo="acme/help",
            agent__requested_by=f"team-{n % 5}",
        )
        scene.model(n, -3600.0 * (n - 129) + 2, 5, 4_000 + 300 * n, model=("gpt-4o", "claude-sonnet-4-5")[n % 2])
        scene.end(
            n,
            about,
            -3600.0 * (n - 129),
            -3600.0 * (n - 129) + 40 + n % 50,
            status=Status.ERROR if n % 9 == 0 else Status.OK,
            status_message="the mail server is away" if n % 9 == 0 else "",
        )


@contextmanager
def gateway(home: Path) -> Iterator[Gateway]:
    """A gateway of this machine, whose annotations reach no Grafana."""
    for name in [name for name in os.environ if name.startswith("SPANPOST_") or name == "DATABASE_URL"]:
        del os.environ[name]
    os.chdir(home)
    with throwaway_postgres() as dsn:
        asyncio.run(upgrade(dsn))
        made = Gateway(load(
            database={"url": dsn, "data_dir": home / "data"}, gateway={"http_port": 0, "grpc_port": -1},
            api={"local_roles": ["operator", "approver", "auditor"], "trace_url": "https://traces.example/{trace_id}"},
            interactions={},
            launchers={
                "named": {"fix": {"kind": "command", "command": ["/bin/true"]}}, "retries": [{"launcher": "fix"}],
            },
            budgets=[{"name": "all", "limit_usd": 40, "period": "month"}],
            grafana={"url": "http://127.0.0.1:9", "token": "none"}, alerts={},
        ))  # fmt: skip
        made.start()
        try:
            yield made
        finally:
            made.stop()


class Camera:
    """A browser that opens pages of one gateway."""

    def __init__(self, browser: Browser, made: Gateway, to: Path, only: str) -> None:
        self._browser, self._made, self._to, self._only = browser, made, to, only
        self._api = browser.new_context(
            base_url=made.http_url, extra_http_headers={"authorization": f"Bearer {made.local_token}"}
        )

    def page_of(self, name: str) -> str:
        """Return the path of a task's page."""
        found = self._api.request.get("/api/tasks", params={"q": name, "all": "true"}).json()["items"]
        return f"/board/tasks/{next(one['uid'] for one in found if name in one['title'])}"

    def open(self, path: str, look: str, wait: str, *, is_known: bool = True, scale: float = 1) -> Page:
        """Open a page and wait until a part of it is shown."""
        context = self._browser.new_context(base_url=self._made.http_url, device_scale_factor=scale, **LOOKS[look])
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.goto(f"{path}#token={self._made.local_token}" if is_known else path)
        page.locator(wait).first.wait_for()
        page.wait_for_timeout(700)  # the stream, and what is read after the page
        return page

    def take(self, name: str, path: str, wait: str, **more: Any) -> None:
        """Take a page in every look, if its name begins as asked for."""
        if not name.startswith(self._only):
            return
        for look in LOOKS:
            page = self.open(path, look, wait, **more)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                print(f"{name} ({look}): {wide} px wider than the window")
            # What is out of sight is not painted: here the whole page is in sight.
            page.evaluate("document.querySelectorAll('.block').forEach(one => one.style.contentVisibility = 'visible')")
            page.screenshot(path=self._to / f"{name}-{look}.png", full_page=True)
            page.context.close()


def take_all(camera: Camera, tasks: LiveTasks, calls: int) -> None:
    """Take every page and state."""
    camera.take("now", "/", "a.row")
    camera.take("now-filtered", "/?person=nobody", "text=Nothing runs with these filters")
    camera.take("questions", "/board/approvals", "text=Deploy 1.8.2 to production now?")
    camera.take("history", "/board/history", ".facets button")
    camera.take("history-empty", "/board/history?q=no such thing", "text=No task is like that")
    camera.take("cost", "/board/costs?days=7", "svg")
    camera.take("system", "/board/system", "text=Components")
    for name, title in (
        ("working", "Migrate the shop"),
        ("asked", "Deploy 1.8.2"),
        ("failed", "Roll out"),
        ("complete", "Update the"),
    ):
        camera.take(f"task-{name}", camera.page_of(title), ".timeline li")
    camera.take("task-unknown", "/board/tasks/nothing", "text=Not here")
    camera.take("page-unknown", "/board/nowhere", "text=There is no such page")
    camera.take("sign-in", "/", "form.signin", is_known=False)
    camera.take("api", "/docs", "code >> text=tasks.csv")
    tasks.begin([900], seconds_ago=calls, name="Index the whole archive")
    tasks.calls(900, calls)
    camera.take("task-10000", camera.page_of("Index the whole"), ".tracks .bar-of")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", type=Path, help="take every page and state into this directory")
    parser.add_argument("--only", default="", metavar="NAME", help="of those only these, by the beginning of a name")
    parser.add_argument("--calls", type=int, default=10_000, help="calls of the longest task")
    asked = parser.parse_args()
    directory = asked.all.absolute() if asked.all else IMAGES
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, gateway(Path(home)) as made, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=_chromium(), args=ARGUMENTS)
        camera = Camera(browser, made, directory, asked.only)
        if asked.all:
            camera.take("now-empty", "/", "text=Nothing runs")
            camera.take("cost-empty", "/board/costs", "text=No model call")
        play(Scene(made))
        time.sleep(12)  # calls are finalized some seconds after their end
        if asked.all:
            take_all(camera, LiveTasks(made.http_url), asked.calls)
        for name, path, wait in (
            ("board", "/", "a.row"),
            ("board-task", camera.page_of("Migrate the shop"), ".tracks .bar-of"),
        ):
            page = camera.open(path, "light", wait, scale=1.5)
            page.screenshot(path=IMAGES / f"{name}.png")
            page.context.close()
        browser.close()


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


if __name__ == "__main__":
    main()
