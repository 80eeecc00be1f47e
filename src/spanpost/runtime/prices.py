"""Cost of model calls: from prices of the settings, then from `genai-prices` if it is installed (extra
``cost``).

A cost is an exact sum over kinds of tokens, each at its own price: fresh input, input read from the cache,
input written to it, output, reasoning. A kind without its own price has the price of the kind that includes
it. If a needed figure or price is missing, the cost is unknown (None), never 0. Sources of a cost, the
strongest first: ``agent.cost_usd``, prices of the settings, the cost that the span reports, published
prices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from spanpost.model.observations import Observation
from spanpost.model.usage import Usage
from spanpost.semconv import COST_USD
from spanpost.tasks.context import model_names
from spanpost.tasks.prices import ModelPrice
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost")

_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)
_ZERO = Decimal(0)
#: How long a batch waits for prices to load, seconds; after that its calls have no price.
_WAIT = 2.0
#: Maximum number of models whose row is cached, and of those that are logged as unpriced.
_MEMO = 4096
#: Servers on local hardware: published prices of the model do not apply.
_LOCAL = (
    "ollama",
    "vllm",
    "lmstudio",
    "lm_studio",
    "llama.cpp",
    "llamacpp",
    "llamafile",
    "localai",
    "sglang",
    "tgi",
    "mlx",
)


def import_ahead() -> None:
    """Import `httpx2` in the caller's thread, where genai-prices would import it in another.

    The openai package uses the module as soon as it is in `sys.modules`, so a model call beside the import fails.
    """
    if find_spec("genai_prices") is not None:
        with suppress(ImportError):
            import_module("httpx2")


#: Returns the row for a call with this many input tokens at this time.
Priced = Callable[[int, datetime], ModelPrice | None]


def _not_looked_up(tokens: int, at: datetime) -> ModelPrice | None:
    """Mark a model that was not looked up yet; None means that it was, without result."""
    return None


class Prices:
    """The prices of one process. It belongs to the worker's thread; only `load` may be called from another."""

    def __init__(self, own: Mapping[str, ModelPrice] | None = None, *, is_published: bool = True) -> None:
        self._own = _by_name(own or {})
        self._is_published = is_published
        self._snapshot: Any = None
        self._is_loading = False
        self._memo: dict[tuple[str | None, str], Priced | None] = {}
        self._logged: set[tuple[str | None, str]] = set()

    @property
    def is_ready(self) -> bool:
        """True if nothing is left to load."""
        return not self._is_published or self._snapshot is not None

    def load(self) -> None:
        """Load the published prices, which takes about a second. Without the package there are only the
        prices of the settings.
        """
        if self.is_ready or self._is_loading:
            return
        self._is_loading = True
        try:
            from genai_prices.data_snapshot import get_snapshot

            self._snapshot = get_snapshot()
        except Exception as error:
            self._is_published = False
            if not isinstance(error, ImportError):
                log.warning(
                    "the prices of genai-prices cannot be used: %s: %s", type(error).__name__, line(str(error), 200)
                )
        finally:
            self._is_loading = False

    def are_needed(self, batch: Iterable[Observation]) -> bool:
        """Return whether a batch holds calls that may be priced."""
        return any("tokens" in key or "token_count" in key for o in batch for key in o.attributes)

    def priced(self, o: Observation, provider: str | None, model: str | None, usage: Usage) -> Usage:
        """Return the usage of a model call with its cost, if that is known."""
        if model is None or COST_USD in o.attributes:
            return usage
        own = self._own_row(model)
        if own is None and usage.cost_usd is not None:
            return usage
        cost = own.cost(usage) if own is not None else self._published(provider, model, usage, o.start_ns or o.at_ns)
        if cost is None:
            return usage
        return Usage(
            input=usage.input,
            output=usage.output,
            cache_read=usage.cache_read,
            cache_write=usage.cache_write,
            reasoning=usage.reasoning,
            cost_usd=cost,
        )

    def _own_row(self, model: str) -> ModelPrice | None:
        return (
            next((row for name in model_names(model) if (row := self._own.get(name)) is not None), None)
            if self._own
            else None
        )

    def _published(self, provider: str | None, model: str, usage: Usage, at_ns: int) -> Decimal | None:
        if usage.input is None or usage.output is None:
            return None  # without its tokens no model has a price
        key = (provider, model)
        priced = self._memo.get(key, _not_looked_up)
        if priced is _not_looked_up:
            self.load()
            if not self.is_ready:
                return None  # another thread loads them: do not delay the batch for a cost
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            priced = self._memo[key] = self._find(provider, model)
        row = priced(usage.input, _moment(at_ns)) if priced is not None else None
        cost = row.cost(usage) if row is not None else None
        if row is None:
            self._log_unpriced(provider, model)
        return cost

    def _log_unpriced(self, provider: str | None, model: str) -> None:
        """Log once that a model has no price."""
        if (
            (provider, model) in self._logged
            or len(self._logged) >= _MEMO
            or not (self._own or self._snapshot is not None)
        ):
            return
        self._logged.add((provider, model))
        whose = f" of {line(provider, 60)}" if provider else ""
        log.warning(
            "no price is known for the model %s%s: its cost is shown as unknown; see cost.prices",
            line(model, 100),
            whose,
        )

    def _find(self, provider: str | None, model: str) -> Priced | None:
        if self._snapshot is None:
            return None
        for whose, name in _spellings(provider, model):
            try:
                _, info = self._snapshot.find_provider_model(name, None, whose, None)
            except LookupError:
                continue
            except Exception as error:
                log.debug("genai-prices cannot look for %s: %s", line(name, 100), error)
                continue
            return _priced(info)
        return None


class PriceLoader:
    """Loads the prices of one pipeline in a thread, when a batch first needs them. It belongs to the loop."""

    def __init__(self, prices: object) -> None:
        self._prices = prices if isinstance(prices, Prices) else None
        self._loading: asyncio.Future[None] | None = None

    async def load_for(self, batch: Iterable[Observation]) -> None:
        """Load prices, if the batch needs them and they are not loaded."""
        if self._prices is not None and not self._prices.is_ready and self._prices.are_needed(batch):
            await self.load()

    def begin(self) -> asyncio.Future[None] | None:
        """Begin to load prices if they are not loaded; return what ends when they are."""
        if self._prices is None or self._prices.is_ready:
            return None
        if self._loading is None or self._loading.done():
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._prices.load))
        return self._loading

    async def load(self) -> None:
        """Load prices if they are not loaded; wait a while for them."""
        # Receivers go on meanwhile. A process that is about to end must not lose a batch because prices still load.
        if (loading := self.begin()) is not None:
            await asyncio.wait({loading}, timeout=_WAIT)


def _spellings(provider: str | None, model: str) -> Iterable[tuple[str | None, str]]:
    """Yield the names to look up, the surest first: the provider, if it is known, with the model's names."""
    names = tuple(dict.fromkeys((model, *model_names(model))))
    if any(name.startswith("ft:") for name in names):
        names = (model,)  # a tuned model has its own price, or no known one
    whose = provider.strip().lower() if provider else ""
    if whose.startswith(_LOCAL):
        return
    if whose:
        for spelling in dict.fromkeys((whose, whose.replace("_", "-"), whose.replace("_", ""))):
            for name in names:
                yield spelling, name
    head, _, rest = model.partition("/")
    if rest and not whose:
        if head.lower().startswith(_LOCAL):
            return
        yield head.lower(), rest
    # Providers with OpenAI's protocol are often called openai, and frameworks give their own name: use the
    # model alone.
    for name in names:
        yield None, name


def _priced(info: Any) -> Priced | None:
    """Return the price function of a model of genai-prices."""
    rows: dict[tuple[int, int], ModelPrice | None] = {}

    def priced(tokens: int, at: datetime) -> ModelPrice | None:
        prices = info.get_prices(at)
        tier = max(
            (t.start for p in vars(prices).values() for t in getattr(p, "tiers", ()) if tokens > t.start), default=-1
        )
        key = id(prices), tier
        if key not in rows:
            rows[key] = _row(prices, tokens)
        return rows[key]

    return priced


def _row(prices: Any, tokens: int) -> ModelPrice | None:
    """Return the text prices of a call with this many input tokens."""

    def of(name: str) -> Decimal | None:
        price = vars(prices).get(name)
        for tier in reversed(getattr(price, "tiers", ())):
            if tokens > tier.start:
                return Decimal(tier.price)
        price = getattr(price, "base", price)
        return Decimal(price) if price is not None else None

    row = ModelPrice(
        of("input_mtok"),
        of("output_mtok"),
        of("cache_read_mtok"),
        of("cache_write_mtok"),
        of("output_reasoning_mtok"),
        (of("requests_kcount") or _ZERO) / _THOUSAND,
    )
    return None if row.input is None and row.output is None else row


def _by_name(own: Mapping[str, ModelPrice]) -> dict[str, ModelPrice]:
    """Return the prices of the settings by exact name; one without a date applies to all dates, one with a
    date to no other.
    """
    return {model_names(model)[0]: row for model, row in own.items()}


def _moment(ns: int) -> datetime:
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return datetime(1970, 1, 1, tzinfo=UTC)
