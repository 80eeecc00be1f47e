"""The shipped table of context windows, and a user's overrides."""

from __future__ import annotations

import importlib.util
import json
import re
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from spanpost.runtime.context_windows import load_windows
from spanpost.tasks.context import canonical_model, model_names, window_of

SCRIPT = Path(__file__).parents[2] / "scripts/generate_model_windows.py"


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-4", 8_192),
        ("gpt-4-32k-0613", 32_768),
        ("gpt-4-1106-preview", 128_000),
        ("openai/gpt-4o-2024-08-06", 128_000),
        ("o1-preview", 128_000),
        ("o1", 200_000),
        ("gpt-5", 272_000),
        ("gpt-5.1-codex", 272_000),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 200_000),
        ("claude-sonnet-4-5[1m]", 1_000_000),
        ("publishers/google/models/gemini-2.5-pro", 1_048_576),
        ("llama3:8b", 8_192),
        ("azure/mistral-large-2402", 32_000),
        ("nobody/knows-this-model", None),
    ],
)
def test_models_that_people_use_are_known(model: str, window: int | None) -> None:
    """Well-known models, as their services name them, have their makers' windows."""
    assert window_of(model, load_windows()) == window


def test_the_shipped_table_is_sound() -> None:
    """Each name is found by itself, each context window is plausible, and the file names its source."""
    table = json.loads(resources.files("spanpost.runtime").joinpath("data/model_windows.json").read_text())
    assert table["licence"] == "MIT"
    assert "Permission is hereby granted" in table["notice"]
    assert table["source"].startswith("litellm")
    assert re.fullmatch(r"\d+\.\d+\.\d+ \d{4}-\d\d-\d\d", f"{table['version']} {table['date']}")
    assert len(table["models"]) > 1000
    for name, (window, _) in table["models"].items():
        assert model_names(name)[0] == name
        assert 500 <= window <= 20_000_000, name


def test_an_override_wins_however_it_is_written() -> None:
    """An override without a date applies to every spelling and every date of the model, and to no other
    model.
    """
    table = load_windows({"openai/GPT-4o": 64_000, "qwen-plus": 1_000, "my-model": 5_000})
    for model in ("gpt-4o", "azure/eu/gpt-4o", "gpt-4o-2024-08-06"):
        assert window_of(model, table) == 64_000
    assert window_of("gpt-4o-mini", table) == window_of("gpt-4o-mini", load_windows()) != 64_000
    assert window_of("qwen-plus-2025-07-28", table) == 1_000 != window_of("qwen-plus-2025-07-28", load_windows())
    assert window_of("vllm/my-model", table) == 5_000


def test_a_dated_override_yields_to_an_undated_one() -> None:
    """An override with a date applies to that date, and to the model without date unless that has its own."""
    alone = load_windows({"claude-sonnet-4-5-20250929": 500_000})
    assert [window_of(m, alone) for m in ("claude-sonnet-4-5", "claude-sonnet-4-5@20250929")] == [500_000, 500_000]
    for both in ({"gpt-4o-2024-08-06": 1_000, "gpt-4o": 2_000}, {"gpt-4o": 2_000, "gpt-4o-2024-08-06": 1_000}):
        table = load_windows(both)
        assert [window_of(m, table) for m in ("gpt-4o-2024-08-06", "gpt-4o", "gpt-4o-2024-11-20")] == [
            1_000,
            2_000,
            2_000,
        ]


def test_one_table_does_not_change_another() -> None:
    """A caller's changes to its table, and one caller's overrides, do not affect the next."""
    load_windows({"gpt-4o": 1})["gpt-4"] = 1
    table = load_windows()
    assert (table["gpt-4o"], table["gpt-4"]) == (128_000, 8_192)


@pytest.mark.parametrize(
    ("model", "window"), [("gpt-4o", 0), ("gpt-4o", -1), ("gpt-4o", True), ("gpt-4o", "128k"), (" ", 10)]
)
def test_a_bad_override_is_refused_by_name(model: str, window: Any) -> None:
    """A window that is no positive number, or that belongs to no model, is refused with its name."""
    with pytest.raises(ValueError, match="gpt-4o" if model.strip() else "empty model name"):
        load_windows({model: window})


@pytest.fixture(scope="module")
def generate() -> Callable[[list[str]], int]:
    spec = importlib.util.spec_from_file_location("generate_model_windows", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main


def entry(provider: str, window: Any, output: int | None = None, mode: str = "chat") -> dict[str, Any]:
    return {"litellm_provider": provider, "max_input_tokens": window, "max_output_tokens": output, "mode": mode}


LISTED = {
    "sample_spec": entry("one of …", "max input tokens"),
    "gpt-4o": entry("openai", 128_000, 16_384),
    "gmi/gpt-4o": entry("gmi", 1_000),
    "github_copilot/gpt-4o": entry("github_copilot", 64_000),
    "ft:gpt-4o-2024-08-06": entry("openai", 1),
    "gpt-5.1-codex": entry("openai", 400_000, 128_000),
    "azure/gpt-5.1-codex": entry("azure", 272_000, 128_000),
    "a/open-8b": entry("a", 8_000),
    "b/open-8b": entry("b", 131_000),
    "c/open-8b": entry("c", 128_000),
    "c/eu/open-8b": entry("c", 900_000),
    "mistral/mistral-large-latest": entry("mistral", 262_144),
    "mistral/mistral-large-2411": entry("mistral", 128_000),
    "azure/mistral-large-2402": entry("azure", 32_000),
    "text-embedding-3-small": entry("openai", 8_191, mode="embedding"),
    "openai/no-window": entry("openai", None),
}
COLLAPSED = {
    "gpt-4o": [128_000, 16_384],
    "gpt-5.1-codex": [272_000, 128_000],
    "mistral-large": [262_144, None],
    "mistral-large-2402": [32_000, None],
    "mistral-large-2411": [128_000, None],
    "open-8b": [128_000, None],
}


def test_the_table_is_made_by_its_rules(generate: Callable[[list[str]], int], tmp_path: Path) -> None:
    """From a wheel or its file: makers first, totals undone, the median of others, differing dates kept."""
    wheel, listed, target = (
        tmp_path / "litellm-9.8.7-py3-none-any.whl",
        tmp_path / "listed.json",
        tmp_path / "table.json",
    )
    listed.write_text(json.dumps(LISTED))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(listed, "litellm/model_prices_and_context_window_backup.json")
    for source in ([str(wheel)], [str(listed), "--version", "9.8.7"]):
        assert generate([*source, "--date", "2026-01-02", "--target", str(target)]) == 0
        table = json.loads(target.read_text())
        assert (table["version"], table["date"], table["models"]) == ("9.8.7", "2026-01-02", COLLAPSED)
    assert {canonical_model(name) for name in COLLAPSED} == {"gpt-4o", "gpt-5.1-codex", "mistral-large", "open-8b"}
