"""The components of a pipeline: store, sinks, launchers, dispatcher, metrics, summaries, webhooks, interactions.

Made from the settings, opened in the pipeline's loop, and closed in turn. A forked child makes its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from spanpost.model.errors import ConfigError
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.runtime.assembly import enabled_sinks, open_launchers, open_sinks, open_store
from spanpost.runtime.fanout import Fanout
from spanpost.runtime.interactions import InteractionsRuntime, needs_interactions
from spanpost.runtime.own_metrics import metrics_of
from spanpost.runtime.workspaces import Workspaces, lend, workspaces_of
from spanpost.settings import MetricsSettings, Settings
from spanpost.tasks.folded import FoldRules

if TYPE_CHECKING:
    from spanpost.dispatch.dispatcher import DeliveryCarrier, Dispatcher
    from spanpost.interactions.answers import Answers
    from spanpost.metrics.recorder import Metrics
    from spanpost.runtime.summaries import Summaries
    from spanpost.runtime.webhooks import Hooks

log = logging.getLogger("spanpost")


#: Records a batch, priced and counted.
Record: TypeAlias = Callable[[Sequence[Observation]], Awaitable[Recorded]]


class Components:
    """What one process opened. Raises `ConfigError` if a part is not available."""

    def __init__(self, settings: Settings, rules: FoldRules, record: Record, *, is_gateway: bool) -> None:
        self._settings = settings
        self._rules = rules
        self._record = record
        self._is_gateway = is_gateway
        self._sinks = open_sinks(settings)
        self._launchers = open_launchers(settings)
        self.store = open_store(settings, rules)
        #: Receives everything that this process newly recorded.
        self.recorded = Fanout()
        self.metrics: Metrics | None = None
        #: Receives people's answers; None if there are none to receive.
        self.interactions_runtime: InteractionsRuntime | None = None
        #: Workspaces in which the Slack app is installed; None if it cannot be installed.
        self.workspaces: Workspaces | None = None
        #: Webhooks of other programs; None without providers.
        self.hooks: Hooks | None = None
        self._dispatcher: Dispatcher | None = None
        self._summaries: Summaries | None = None
        self._answers: Answers | None = None

    async def open(self, count_losses: Callable[[Metrics], None]) -> None:
        """Open the store and start the rest. `count_losses` is called whenever something was recorded."""
        from spanpost.dispatch.dispatcher import Dispatcher
        from spanpost.runtime.summaries import Summaries

        settings, store, sinks = self._settings, self.store, self._sinks
        await store.open()
        self.workspaces = workspaces_of(settings, store, wake=self.wake)
        lend(sinks.values(), self.workspaces)
        self.metrics = metrics = metrics_of(settings.metrics or MetricsSettings(), sinks)
        if metrics is not None:
            self.recorded.subscribe(metrics.counting)
            self.recorded.subscribe(lambda _: count_losses(metrics))
        self.recorded.subscribe(lambda _: self.wake())
        summaries = Summaries(
            store.reader,
            store.launch_orders,
            sinks,
            lambda: self._rules.routes,
            settings.intake.tenant,
            self.wake,
        )
        carriers: dict[str, DeliveryCarrier] = {**sinks, **self._launchers, **summaries.carriers}
        if settings.webhooks.providers and self._is_gateway:
            from spanpost.runtime.webhooks import Hooks

            self.hooks = Hooks(settings, store, self.take)
            carriers |= self.hooks.carriers
        self._dispatcher = Dispatcher(store.outbox, store, carriers, watch=metrics, publish=self.recorded.publish)
        self._dispatcher.start()
        self._summaries = summaries
        summaries.start()
        if needs_interactions(settings, is_gateway=self._is_gateway):
            self.interactions_runtime = InteractionsRuntime(
                settings, store, self.take, workspaces=self.workspaces, watch=metrics
            )
            self.interactions_runtime.start()

    def wake(self) -> None:
        """Report that deliveries may be due. Call it in the pipeline's thread."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def take(self, recorded: Recorded) -> None:
        """Publish what an intervention or an order recorded. Call it in the pipeline's thread."""
        self.recorded.publish_now(recorded)

    @property
    def answers(self) -> Answers:
        """Answers of people for agents."""
        if self._answers is None:
            from spanpost.interactions.answers import Answers

            store = self.store
            self._answers = Answers(
                store.reader, store.interventions, store.budgets, record=self._record, wake=self.wake
            )
        return self._answers

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Deliver what is due; False if something is left after `timeout` seconds."""
        return self._dispatcher is None or await self._dispatcher.drain(timeout)

    def reload(self, settings: Settings, rules: FoldRules) -> None:
        """Use new settings. The caller gives the rules to the store, in its loop. Raises `ConfigError`."""
        if self.hooks is not None:
            self.hooks.reload(settings)
        if self.interactions_runtime is not None:
            self.interactions_runtime.reload(settings)
        self._rules = rules

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109
        """Close what was opened, each within its share of the time: a part that hangs must not keep another
        open.
        """
        if self._answers is not None:
            self._answers.end()
        if self.interactions_runtime is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout / 3):
                    await self.interactions_runtime.close()
        if self._summaries is not None:
            await self._summaries.close()
        if self._dispatcher is not None:
            await self._dispatcher.close(timeout / 3)
        closing = [asyncio.create_task(one.close()) for one in (*self._sinks.values(), *self._launchers.values())]
        if closing:
            done, late = await asyncio.wait(closing, timeout=timeout / 3)
            for each in late:
                each.cancel()
            for each in done:
                if (error := each.exception()) is not None:
                    log.warning("a sink or launcher could not be closed: %s", error)
        await self.store.close()


def refuse_changes(before: Settings, after: Settings) -> None:
    """Raise `ConfigError` if new settings need other components."""
    if enabled_sinks(after) != enabled_sinks(before):
        raise ConfigError("sinks are turned on and off at the start: restart spanpost, or undo the change")
    if after.launchers.named != before.launchers.named:
        raise ConfigError("launchers.named: launchers are opened at the start: restart spanpost, or undo the change")
