"""The cost of model calls."""

from __future__ import annotations

import logging
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.runtime.gateway import Gateway
from spanpost.runtime.prices import Prices
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.prices import ModelPrice
from spanpost.testing.builders import SECOND, a_span, an_event
from tests.eventually import LIMIT
from tests.thorough import thorough

OWN = {
    "my-model": ModelPrice(
        Decimal(2), Decimal(10), cache_read=Decimal("0.2"), cache_write=Decimal("2.5"), reasoning=Decimal(20)
    )
}


def a_call(
    model: str | None = "my-model",
    input: int | None = 1_000_000,
    output: int | None = 100_000,
    span: int = 2,
    **more: Any,
) -> Observation:
    attributes = {"gen_ai.operation.name": "chat", **more}
    for name, value in (("response.model", model), ("usage.input_tokens", input), ("usage.output_tokens", output)):
        if value is not None:
            attributes[f"gen_ai.{name}"] = value
    return a_span(span=span, parent=1, name="chat", end=span * SECOND, attributes=attributes)


def a_root_span(**more: Any) -> Observation:
    return a_span(
        end=60 * SECOND, attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **more}
    )


def task_of(*observations: Observation, prices: Prices | None = None) -> Task:
    """Return the one task of these observations."""
    store = MemoryStore(FoldRules(prices=prices or Prices(OWN, is_published=False)))
    store.record_now(observations)
    (task,) = store.tasks_now(TaskQuery(limit=9))
    return task


def test_each_kind_of_token_has_its_own_price() -> None:
    """Fresh input, cached input, cache writes, output and reasoning are priced separately, and once."""
    usage = Usage(input=1_000_000, output=100_000, cache_read=500_000, cache_write=100_000, reasoning=40_000)
    assert OWN["my-model"].cost(usage) == Decimal("0.8") + Decimal("0.1") + Decimal("0.25") + Decimal("0.6") + Decimal(
        "0.8"
    )
    plain = ModelPrice(Decimal(2), Decimal(10))
    assert plain.cost(usage) == Decimal(3)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input=5),
        Usage(output=5),
        Usage(input=5, output=1, cache_read=6),
        Usage(input=5, output=1, reasoning=2),
    ],
)
def test_what_is_not_known_has_no_cost(usage: Usage) -> None:
    """Without both figures, and with contradictory ones, the cost is unknown and not 0."""
    assert OWN["my-model"].cost(usage) is None
    assert ModelPrice(input=Decimal(1)).cost(Usage(input=1, output=1)) is None
    assert ModelPrice(Decimal(0), Decimal(0)).cost(Usage(input=1, output=1)) == 0


def test_a_call_is_priced_once_however_it_is_reported() -> None:
    """A call within a call, and the same one repeated, cost as much as one."""
    inner = a_span(span=3, parent=2, end=SECOND, attributes=dict(a_call().attributes))
    assert task_of(a_root_span(), a_call(), inner, a_call()).cost_usd == 3


def test_own_prices_hold_for_all_names_of_a_model() -> None:
    """Prefix, date and suffix of a name make no difference; another model has no price."""
    for name in ("openai/my-model", "my-model-2026-01-01", "MY-MODEL-latest"):
        assert task_of(a_root_span(), a_call(name)).cost_usd == 3
    task = task_of(a_root_span(), a_call("my-model-mini"), a_call("my-model", span=3))
    assert (task.cost_usd, task.unpriced_calls) == (3, 1)
    assert task_of(a_root_span(), a_call("my-model-mini")).cost_usd is None


def test_who_says_the_cost_is_believed_in_order() -> None:
    """`agent.cost_usd` takes precedence over the user's prices, and these over an instrumentation's figure."""
    by_span, by_agent = {"operation.cost": 7.0}, {"agent.cost_usd": 9.0}
    assert task_of(a_root_span(), a_call(**by_span)).cost_usd == 3
    assert task_of(a_root_span(), a_call("another", **by_span)).cost_usd == 7
    assert task_of(a_root_span(), a_call(**by_span, **by_agent)).cost_usd == 9
    whole = task_of(a_root_span(**{"agent.cost_usd": 0.5}), a_call(), a_call("another", span=3))
    assert (whole.cost_usd, whole.unpriced_calls) == (Decimal("0.5"), 0)
    so_far = an_event(on=a_root_span(), **{"agent.cost_usd": "0.25"})
    assert task_of(a_root_span(), a_call(), so_far).cost_usd == Decimal("0.25")


def test_a_model_without_a_price_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names a model without price once, however often it is called; calls without tokens are not
    logged.
    """
    prices = Prices(OWN, is_published=False)
    with caplog.at_level(logging.WARNING, logger="spanpost"):
        task_of(
            a_root_span(),
            *(a_call("nobodys", span=n) for n in range(2, 9)),
            a_call("silent", None, None, span=20),
            prices=prices,
        )
    assert [r.getMessage() for r in caplog.records if "no price" in r.getMessage()] == [
        "no price is known for the model nobodys: its cost is shown as unknown; see cost.prices"
    ]


# With the published prices


@pytest.fixture(scope="module")
def published() -> Prices:
    pytest.importorskip("genai_prices")
    prices = Prices(OWN)
    prices.load()
    return prices


@pytest.mark.parametrize(
    ("provider", "model", "cost"),
    [
        ("openai", "gpt-4o-2024-08-06", "3.5"),
        (None, "gpt-4o", "3.5"),
        ("az.ai.openai", "gpt-4o", "3.5"),
        ("some-framework", "gpt-4o", "3.5"),
        (None, "azure/gpt-4o", "3.5"),
        ("aws.bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0", "1.2"),
        ("ollama", "gpt-4o", None),
        (None, "ollama/gpt-4o", None),
        (None, "ft:gpt-4o-2024-08-06:acme::a", None),
        ("openai", "nobodys", None),
        (None, "my-model", "3"),
    ],
)
def test_published_prices_are_found(published: Prices, provider: str | None, model: str, cost: str | None) -> None:
    """A model is found by its provider and by its own names; local servers, tuned and unknown models have no
    price.
    """
    usage = published.priced(a_call(), provider, model, Usage(input=1_000_000, output=100_000))
    assert usage.cost_usd == (None if cost is None else Decimal(cost))


def test_nothing_is_loaded_before_a_call_is_priced() -> None:
    """The published prices are loaded by the first call that needs them, and by nothing else."""
    prices = Prices(OWN)
    assert not prices.are_needed([a_root_span()])
    assert prices.are_needed([a_root_span(), a_call()])
    task_of(a_root_span(), a_call(), prices=prices)
    assert not prices.is_ready


def test_a_gateway_loads_prices_at_its_start(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    """A gateway begins to load published prices before its first call arrives."""
    loaded = threading.Event()
    monkeypatch.setattr(Prices, "load", lambda self: loaded.set())
    gateway = Gateway(load(gateway={"http_port": 0, "grpc_port": -1}, metrics={"enabled": False}))
    gateway.start()
    try:
        assert loaded.wait(LIMIT)
    finally:
        gateway.stop()


def test_a_call_does_not_wait_for_prices_that_another_thread_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call during the loading of prices is recorded unpriced without a warning, and priced afterwards."""
    pytest.importorskip("genai_prices")
    from genai_prices import data_snapshot

    begun, go_on = threading.Event(), threading.Event()
    real = data_snapshot.get_snapshot

    def slow() -> Any:
        begun.set()
        assert go_on.wait(60)
        return real()

    monkeypatch.setattr(data_snapshot, "get_snapshot", slow)
    prices = Prices(OWN)
    loader = threading.Thread(target=prices.load)
    loader.start()
    assert begun.wait(60)
    usage = Usage(input=1_000_000, output=100_000)
    assert prices.priced(a_call(), "openai", "gpt-4o", usage).cost_usd is None
    assert prices.priced(a_call(), None, "my-model", usage).cost_usd == 3
    go_on.set()
    loader.join(60)
    assert prices.priced(a_call(), "openai", "gpt-4o", usage).cost_usd == Decimal("3.5")


@thorough(400)
@given(data=st.data())
def test_costs_equal_those_of_the_package(published: Prices, data: st.DataObject) -> None:
    """For any of its models and any usage of text, a row has the cost that genai-prices itself computes."""
    from genai_prices import Usage as PackageUsage
    from genai_prices import calc_price

    served = data.draw(st.sampled_from(published._snapshot.providers))
    if not served.models:
        return
    model = data.draw(st.sampled_from(served.models)).id
    given_, out = data.draw(st.integers(0, 600_000)), data.draw(st.integers(0, 50_000))
    read = data.draw(st.integers(0, given_))
    write, reasoning = data.draw(st.integers(0, given_ - read)), data.draw(st.integers(0, out))
    usage = Usage(input=given_, output=out, cache_read=read, cache_write=write, reasoning=reasoning)
    ours = published.priced(a_call(), served.id, model, usage).cost_usd
    if ours is None:
        return
    at = a_call().start_ns
    from datetime import UTC, datetime

    try:
        theirs = calc_price(
            PackageUsage(
                input_tokens=given_,
                output_tokens=out,
                cache_read_tokens=read,
                cache_write_tokens=write,
                output_reasoning_tokens=reasoning,
            ),
            model,
            provider_id=served.id,
            genai_request_timestamp=datetime.fromtimestamp(at // SECOND, UTC),
        )
    except LookupError:
        return  # a model that is found not by its own id there, but by another of its names
    assert ours == theirs.total_price, (served.id, model, usage)
