"""The components of a pipeline: store, sinks, launchers, dispatcher, metrics, summaries, webhooks, interactions.

Made from the settings, opened in the pipeline's loop, and closed in turn. A forked child makes its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.runtime.assembly import carriers_of, enabled_sinks, open_launchers, open_sinks, open_store
from spanpost.runtime.fanout import Fanout
from spanpost.runtime.interactions import InteractionsRuntime, needs_interactions, slack_of
from spanpost.runtime.own_metrics import count_calls, metrics_of
from spanpost.runtime.workspaces import Workspaces, lend, workspaces_of
from spanpost.settings import MetricsSettings, Settings
from spanpost.tasks.folded import FoldRules

if TYPE_CHECKING:
    from spanpost.dispatch.dispatcher import Dispatcher
    from spanpost.interactions.answers import Answers
    from spanpost.launchers.carrier import Carrier
    from spanpost.metrics.recorder import Metrics
    from spanpost.runtime.schedules import Schedules
    from spanpost.runtime.summaries import Summaries
    from spanpost.runtime.webhooks import Hooks
    from spanpost.sinks.base import Sink
    from spanpost.sinks.redaction import DeliveryCarrier

log = logging.getLogger("spanpost")


#: Seconds that closing replaced sinks may take.
_CLOSE: Final = 5.0
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
        self._schedules: Schedules | None = None
        self._answers: Answers | None = None
        self._replacing: set[asyncio.Task[None]] = set()

    async def open(self, count_losses: Callable[[Metrics], None]) -> None:
        """Open the store and start the rest. `count_losses` is called whenever something was recorded."""
        from spanpost.dispatch.dispatcher import Dispatcher, Pace
        from spanpost.runtime.schedules import Schedules
        from spanpost.runtime.summaries import Summaries

        settings, store, sinks = self._settings, self.store, self._sinks
        await store.open()
        self.workspaces = workspaces_of(settings, store, wake=self.wake)
        lend(sinks.values(), self.workspaces)
        self.metrics = metrics = metrics_of(settings.metrics or MetricsSettings(), sinks)
        if metrics is not None:
            self.recorded.subscribe(metrics.counting)
            self.recorded.subscribe(lambda _: count_losses(metrics))
        if settings.evaluations.otlp:
            from spanpost.runtime.rating_events import RatingEvents

            self.recorded.subscribe(RatingEvents().emit)
        if settings.approvals.otlp:
            from spanpost.runtime.pause_events import PauseEvents

            self.recorded.subscribe(PauseEvents().emit)
        self.recorded.subscribe(lambda _: self.wake())
        summaries = Summaries(
            store.reader,
            store.launch_orders,
            sinks,
            lambda: self._rules.routes,
            settings.intake.tenant,
            self.wake,
        )
        carriers: dict[str, DeliveryCarrier] = {
            **carriers_of(settings, sinks, self._launchers, lambda: self._rules.routes.routes),
            **summaries.carriers,
        }
        if settings.webhooks.providers and self._is_gateway:
            from spanpost.runtime.webhooks import Hooks

            self.hooks = Hooks(settings, store, self.take)
            carriers |= self.hooks.carriers
        pace = Pace.of_timeout(settings.notifications.delivery_timeout)
        self._dispatcher = Dispatcher(
            store.outbox, store, carriers, pace=pace, watch=metrics, publish=self.recorded.publish
        )
        self._dispatcher.start()
        self._summaries = summaries
        summaries.start()
        if self._is_gateway:
            tenant = settings.intake.tenant
            self._schedules = Schedules(store.launch_orders, lambda: self._rules.launches, tenant, self.wake)
            self._schedules.start()
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

    def reloading(self, settings: Settings, rules: FoldRules) -> Callable[[], None]:
        """Return a function that applies new settings, to be called in the loop. Raises `ConfigError`.

        A secret may have been replaced: sinks and launchers are opened again where their settings have changed.
        """
        refuse_changes(self._settings, settings)
        parts = (self.hooks, self.interactions_runtime)
        applying = [part.reloading(settings) for part in parts if part is not None]
        if self.workspaces is not None and settings.slack_oauth is not None:
            applying.append(partial(self.workspaces.use, settings.slack_oauth, slack_of(settings)))
        if _of_carriers(settings) != _of_carriers(self._settings):
            sinks, launchers = open_sinks(settings), open_launchers(settings)
            applying.append(lambda: self._keep(self._replace(sinks, launchers)))

        def apply() -> None:
            for each in applying:
                each()
            self._settings, self._rules = settings, rules
            self.store.rules = rules

        return apply

    async def relogin(self, settings: Settings) -> None:
        """Log in at the database with a new user or password. Raises `ConfigError` if it refuses them."""
        dsn = settings.dsn
        if dsn == self._settings.dsn:
            return
        from spanpost.settings.database_url import server_of
        from spanpost.store.postgres import PostgresStore

        store = self.store
        if dsn is None or not isinstance(store, PostgresStore) or server_of(store.dsn) != server_of(dsn):
            raise ConfigError("database.url: another database is used after a restart: restart, or undo the change")
        await store.relogin(dsn)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, sinks: dict[str, Sink], launchers: dict[str, Carrier]) -> None:
        """Deliver to newly opened sinks and launchers, and close the old ones after their last delivery."""
        assert self._dispatcher is not None
        assert self._summaries is not None
        lend(sinks.values(), self.workspaces)
        if self.metrics is not None:
            count_calls(self.metrics, sinks)
        old = (*self._sinks.values(), *self._launchers.values())
        self._sinks, self._launchers = sinks, launchers
        await self._dispatcher.replace({**sinks, **launchers, **self._summaries.carriers_to(sinks)})
        # What the old secrets closed is tried again at once.
        with suppress(StoreUnavailable):
            closed = await self.store.outbox.rate_limits(is_closed=True)
            await self.store.outbox.reopen([one.key for one in closed if one.key.partition(":")[0] in sinks])
        self.wake()
        await _closed(old, _CLOSE)

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
        for clocked in (self._summaries, self._schedules):
            if clocked is not None:
                await clocked.close()
        if self._dispatcher is not None:
            await self._dispatcher.close(timeout / 3)
        for replacing in self._replacing:
            replacing.cancel()
        await _closed((*self._sinks.values(), *self._launchers.values()), timeout / 3)
        await self.store.close()


async def _closed(opened: Iterable[Sink | Carrier], timeout: float) -> None:  # noqa: ASYNC109
    closing = [asyncio.create_task(one.close()) for one in opened]
    if not closing:
        return
    done, late = await asyncio.wait(closing, timeout=timeout)
    for each in late:
        each.cancel()
    for each in done:
        if (error := each.exception()) is not None:
            log.warning("a sink or launcher could not be closed: %s", error)


def _of_carriers(settings: Settings) -> tuple[Any, ...]:
    """Return the settings that sinks and launchers are opened with."""
    has_buttons = settings.interactions is not None and settings.interactions.has_app
    return settings.sinks, settings.routes, settings.outputs, settings.launchers, settings.alerts, has_buttons


def refuse_changes(before: Settings, after: Settings) -> None:
    """Raise `ConfigError` if new settings need other components."""
    if enabled_sinks(after) != enabled_sinks(before):
        raise ConfigError("sinks are turned on and off at the start: restart spanpost, or undo the change")
    if after.launchers.opened().keys() != before.launchers.opened().keys():
        raise ConfigError("launchers.named: they are added and removed at the start: restart spanpost, or undo it")
    oauth = [one.slack_oauth.client_id if one.slack_oauth is not None else "" for one in (before, after)]
    if oauth[0] != oauth[1]:
        raise ConfigError("slack_oauth.client_id: it is read at the start: restart spanpost, or undo the change")
