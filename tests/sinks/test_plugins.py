"""Sinks are found by entry points, and plugins that break the contract are refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from spanpost.cli.examination import _sinks
from spanpost.launchers import base as launchers
from spanpost.launchers import registry as launcher_registry
from spanpost.model.errors import ConfigError
from spanpost.runtime.assembly import enabled_sinks, open_sinks
from spanpost.settings import load
from spanpost.sinks import registry

pytestmark = pytest.mark.usefixtures("clean_environment")

ROOT = Path(__file__).parent.parent.parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

TICKER = """
from pathlib import Path
from spanpost import Receipt, SinkPlugin, SinkSettings

class TickerSettings(SinkSettings):
    file: Path

class Ticker:
    name = "ticker"
    def __init__(self, settings):
        self.file = settings.file
    async def deliver(self, delivery):
        if delivery.checkpoint is not None:
            with self.file.open("a") as file:
                print(delivery.checkpoint.kind, delivery.task.name, file=file)
        return Receipt()
    async def reconcile(self, deliveries):
        return {}
    def rate_limits(self, address, call):
        return ()
    async def close(self):
        pass

plugin = SinkPlugin(name="ticker", settings=TickerSettings, open=Ticker)
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with one module and one sink, as pip would."""

    def install(code: str = TICKER, *, name: str = "ticker", dist: str = "strange-ticker", value: str = "") -> Path:
        site = tmp_path / f"site-{dist}"
        module = dist.replace("-", "_")
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[spanpost.sinks]\n{name} = {value or f'{module}:plugin'}\n")
        (site / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return site

    return install


def test_ours_are_registered_as_a_strangers() -> None:
    """Console and Slack are in pyproject.toml's entry points, and not in the code that opens sinks."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][registry.GROUP]
    assert set(declared) <= set(registry.names())
    for name in declared:
        assert registry.find(name).name == name
        assert registry.distribution(name).split()[0] == "spanpost"
        app = ROOT / "src" / "spanpost"
        sections = (
            "app.py",
            "runtime/pipeline.py",
            "runtime/components.py",
            "cli/examination.py",
            "sinks/registry.py",
            "sinks/plugin.py",
        )
        for path in (*(app / section for section in sections), *(app / "settings").glob("*.py")):
            assert f'"{name}"' not in path.read_text()


@pytest.mark.slow
def test_a_foreign_sink_gets_everything(install: Install, tmp_path: Path) -> None:
    """A foreign sink, enabled by one variable in a process of its own, receives an agent's checkpoints in
    order.
    """
    site = install()
    code = (
        "import spanpost; from spanpost.agent import agent_task, checkpoint\n"
        "spanpost.attach()\n"
        "with agent_task('Upgrade', agent='mechanic'): checkpoint('Reading')\n"
        "assert spanpost.attach().shutdown(10)\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src")]),
        "SPANPOST_TICKER__FILE": "told.txt",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told.txt").read_text().splitlines() == ["start Upgrade", "checkpoint Upgrade", "end Upgrade"]


def test_settings_come_from_everywhere(
    install: Install, monkeypatch: pytest.MonkeyPatch, clean_environment: Path
) -> None:
    """A foreign sink's section is read from the file, the environment and arguments, with rising precedence."""
    install()
    (clean_environment / "spanpost.toml").write_text('[ticker]\nfile = "from-toml"\n')
    assert load().sinks["ticker"].file == Path("from-toml")
    monkeypatch.setenv("SPANPOST_TICKER__FILE", "from-env")
    assert load().sinks["ticker"].file == Path("from-env")
    settings = load(ticker={"file": "from-argument"})
    assert settings.sinks["ticker"].file == Path("from-argument")
    assert enabled_sinks(settings) == ("ticker",)
    assert enabled_sinks(load(ticker={"enabled": False})) == ()


def test_a_sink_without_settings_is_off(install: Install) -> None:
    """An installed sink without settings is not even imported."""
    install("raise SystemError('imported')")
    assert load().sinks == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SPANPOST_TICKER__FIEL", "SPANPOST_TICKER__FILE"),
        ("SPANPOST_TICKER_FILE", "SPANPOST_TICKER__FILE"),
        ("SPANPOST_TIKER__FILE", "SPANPOST_TICKER__FILE"),
    ],
)
def test_misspelt_names_are_refused(install: Install, monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A misspelt variable of a foreign sink stops the start, with the closest name."""
    install()
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=rf"^{name}: there is no such setting \(did you mean {meant}\?\)"):
        load()


def test_misspelt_keys_are_refused(install: Install, clean_environment: Path) -> None:
    """So does a misspelt section or key in the file, and in an argument."""
    install()
    (clean_environment / "spanpost.toml").write_text('[ticker]\nfiel = "x"\n[tickr]\nfile = "x"\n')
    with pytest.raises(ConfigError) as refused:
        load()
    assert [line.split(";")[0] for line in str(refused.value).splitlines()] == [
        "spanpost.toml: ticker.fiel: there is no such setting (did you mean file?)",
        "spanpost.toml: [tickr]: there is no such section (did you mean ticker?)",
    ]
    (clean_environment / "spanpost.toml").unlink()
    with pytest.raises(ConfigError, match=r"tickr: there is no such section \(did you mean ticker\?\)"):
        load(tickr={})


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "import nothing_of_that_name",
            "strange_ticker:plugin cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("", "cannot be imported: AttributeError: .*'plugin'"),
        ("def plugin(): ...", "strange_ticker:plugin is a function, not a spanpost.SinkPlugin"),
        (
            "from spanpost import SinkPlugin\nplugin = SinkPlugin(name='ticker')",
            "missing 2 required .*'settings' and 'open'",
        ),
        (TICKER.replace('name="ticker"', 'name="other"'), "it calls itself 'other', its entry point 'ticker'"),
        (
            TICKER.replace("settings=TickerSettings", "settings=dict"),
            "its settings must be a class derived from spanpost.SinkSettings",
        ),
        (TICKER.replace("open=Ticker", "open=None"), "its open cannot be called"),
        (TICKER.replace("open=Ticker", "open=lambda settings: 1 / 0"), "it could not be opened: ZeroDivisionError"),
        (
            TICKER.replace("open=Ticker", "open=lambda settings: None"),
            "what it opens is no sink: deliver, reconcile, rate_limits, close missing",
        ),
        (TICKER.replace("async def reconcile", "async def reconcil"), "what it opens is no sink: reconcile missing"),
        (TICKER.replace('    name = "ticker"', '    name = "other"'), "its sink is named 'other', must be 'ticker'"),
    ],
)
def test_what_breaks_the_contract_is_refused(install: Install, code: str, says: str) -> None:
    """The error names the plugin, its distribution and the missing part."""
    install(code)
    with pytest.raises(
        ConfigError,
        match=rf"^sink plugin 'ticker' \(of strange-ticker 1\.2\): .*{says}.*docs/reference/sink-plugins\.md",
    ):
        open_sinks(load(ticker={"file": "x"}))


@pytest.mark.parametrize("name", ["My|Sink", "two__parts", "9lives"])
def test_a_name_unfit_for_variables_is_refused(install: Install, name: str) -> None:
    """A name must fit a variable, an ordering key and a metric's label."""
    install(name=name)
    with pytest.raises(ConfigError, match="lower-case words"):
        registry.find(name)


def test_a_taken_name_is_refused(install: Install) -> None:
    """A sink cannot have the name of a setting, nor of another distribution's sink."""
    install(name="dsn", dist="strange-dsn")
    with pytest.raises(ConfigError, match=r"sink plugin 'dsn' \(of strange-dsn 1\.2\): the name is taken"):
        load(dsn={})
    install(dist="one-ticker")
    install(dist="two-ticker")
    with pytest.raises(
        ConfigError, match=r"'ticker': provided by one-ticker 1\.2 and two-ticker 1\.2; uninstall all but one"
    ):
        load(ticker={})


def test_check_reports_plugins(install: Install) -> None:
    """`spanpost check` names the distribution of each enabled sink, and finds a broken one that is off."""
    install("raise RuntimeError('broken')")
    found = {
        finding.name: finding for finding in reversed([*_sinks(load(slack={}), sends=False)])
    }  # the first of each name
    assert (found["slack"].ok, found["slack"].finding.split()[:3]) == (True, ["on;", "of", "spanpost"])
    assert not found["ticker"].ok
    assert "RuntimeError: broken" in found["ticker"].finding
    assert found["ticker"].next_step == "upgrade or uninstall strange-ticker 1.2"
    assert "console" not in found


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_our_plugins_are_installed(plugin: Path) -> None:
    """In CI all of plugins/ is installed, so that nothing there goes untested."""
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]
    missing = set(declared.get(registry.GROUP, ())) - set(registry.names())
    missing |= set(declared.get(launchers.GROUP, ())) - set(launcher_registry.kinds())
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"{plugin.name} is not installed: pip install -e {plugin.relative_to(ROOT)}")
    assert missing == set()
    assert project["version"] == "0.1.0"
    assert {path.name for path in plugin.iterdir()} >= {"README.md", "src", "tests"}
