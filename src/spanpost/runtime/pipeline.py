"""Everything in one process: the only module that knows all parts. It opens the store, connects the
receivers and starts the sinks.

`Pipeline` stands behind `attach` and behind the command line. Everything asynchronous runs in one loop in
one daemon thread, so that the agent's own loop and threads are never used.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanpost.model.errors import ConfigError, SpanpostError, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.forks import after_fork
from spanpost.runtime import workers
from spanpost.runtime.assembly import enabled_sinks, open_launchers, open_sinks, open_store, rules_of
from spanpost.runtime.fanout import Fanout
from spanpost.runtime.interactions import InteractionsRuntime, needs_interactions
from spanpost.runtime.prices import Prices
from spanpost.runtime.process import Sigterm
from spanpost.runtime.spool_location import open_spool, spool_settings
from spanpost.runtime.workspaces import Workspaces, lend, workspaces_of
from spanpost.settings import MetricsSettings, Settings
from spanpost.sinks.base import CallingSink

if TYPE_CHECKING:
    from concurrent.futures import Future

    from spanpost.agent.control import Control
    from spanpost.dispatch.dispatcher import Dispatcher
    from spanpost.interactions.answers import Answers
    from spanpost.launchers.carrier import Carrier
    from spanpost.metrics import Metrics
    from spanpost.model.interventions import ApprovalRow, Verdict
    from spanpost.receivers.attachment import Attachment
    from spanpost.receivers.follower import TellEnd
    from spanpost.receivers.spool import Spool
    from spanpost.receivers.spool_recovery import Recovery
    from spanpost.receivers.worker import Feed
    from spanpost.runtime.summaries import Summaries
    from spanpost.runtime.webhooks import Hooks
    from spanpost.sinks.base import Sink
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost")
T = TypeVar("T")
R = TypeVar("R", bound=Recorded | None)

#: Pauses between attempts to record while the database is down: first and longest, seconds.
_OUTAGE = (0.2, 5.0)
#: How long a batch waits for prices to load, seconds; after that its calls have no price.
_PRICES = 2.0
#: Time limit to record a batch of a dead process, seconds; later it stays in the spool.
_IMPORT = 60.0
#: Time that the loop may take beyond the timeout of a call, seconds.
_GRACE = 0.5
#: Interval between counts of the open tasks, seconds; a third of a process's turn (`store.fleet.TURN`).
_PUBLISH = 10.0
#: Time for cancelled tasks to end, and for closing a store that hangs. Seconds.
_CANCELLED, _CUT = 0.3, 2.5
#: Reasons that are not reported as losses: plain log lines that were superseded, and items after the shutdown.
_EXPECTED = ("superseded", "closed")


async def _untraced(question: Coroutine[Any, Any, T]) -> T:
    """Await in a context without the caller's span and with instrumentation suppressed: spanpost's own work
    is never traced.
    """
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, otel_context.Context()))
    return await question


class Pipeline:
    """A store, a dispatcher, sinks and metrics in one process, in a loop of their own.

    `start` raises `ConfigError` if a part is not available; afterwards nothing raises. After a fork the
    child opens a store of its own at its first batch.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        is_gateway: bool = False,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.settings = settings
        self._is_gateway = is_gateway
        self._new_loop = new_loop
        self.attachment: Attachment | None = None
        self._feed: Feed | None = None
        #: Called with each ended span as well as its observation; None if not needed.
        self._tell_end: TellEnd | None = None
        self.metrics_url: str | None = None
        #: True in a process that is not followed: nothing is opened, started or recorded.
        self.is_off = False
        #: Called once at the shutdown.
        self.when_shut: Callable[[Pipeline], None] | None = None
        self._rules = rules_of(settings)
        self._spools = spool_settings(settings)
        #: Made once. Its file belongs to the process; in a forked child it starts again with the feed.
        self._spool: Spool | None = None
        self._sigterm: Sigterm | None = None
        #: Kept alive after a fork, so that the child does not close the parent's sockets.
        self._parents_parts: list[Any] = []
        self._begin()
        after_fork(self._begin_in_child)

    def _begin_in_child(self) -> None:
        parts = (
            self._loop,
            self._store,
            self._dispatcher,
            self._sinks,
            self._launchers,
            self.hooks,
            self._metrics,
            self.interactions_runtime,
        )
        self._parents_parts.append(parts)
        self._begin()

    def _begin(self) -> None:
        """Set up what belongs to this process alone; after a fork, open resources belong to the parent."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._dispatcher: Dispatcher | None = None
        self._sinks: dict[str, Sink] = {}
        self._metrics: Metrics | None = None
        #: Receives everything that this process newly recorded.
        self.recorded = Fanout()
        #: Receives people's answers; None if there are none to receive.
        self.interactions_runtime: InteractionsRuntime | None = None
        #: Workspaces in which the Slack app is installed; None if it cannot be installed.
        self.workspaces: Workspaces | None = None
        #: Webhooks of other programs; None without providers.
        self.hooks: Hooks | None = None
        self._launchers: dict[str, Carrier] = {}
        self._summaries: Summaries | None = None
        self._recovery: Recovery | None = None
        self._answers: Answers | None = None
        self._publishing: Future[None] | None = None
        #: The loading of prices; None until a call needs one.
        self._pricing: asyncio.Future[None] | None = None
        self._is_shut = False
        self._dropped_before = 0
        self._starting = threading.Lock()

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store, start the dispatcher, serve the metrics."""
        with self._starting:
            if self._loop is not None or self.is_off:
                return
            self._sinks = open_sinks(self.settings)
            self._launchers = open_launchers(self.settings)
            self._store = open_store(self.settings, self._rules)
            if self._spools is not None and self._spool is None:
                self._spool = open_spool(self._spools)
            loop = self._new_loop()
            thread = threading.Thread(target=self._run, args=(loop,), name="spanpost-pipeline", daemon=True)
            thread.start()
            self._loop, self._thread = loop, thread
            try:
                self._ask(self._open())
                self._serve_metrics()
            except BaseException:
                self._stop()
                raise
            self._recover()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        if self._feed is not None:
            self._feed.disown_thread()
        loop.run_forever()
        if self._feed is not None:
            self._feed.return_thread()

    def _recover(self) -> None:
        """Start recording what dead processes left in the spool."""
        if self._spools is None:
            return
        from spanpost.receivers.spool_recovery import Recovery

        self._recovery = Recovery(self._spools, lambda batch: self._ask(self.record(batch), _IMPORT))
        self._recovery.start()

    async def _open(self) -> None:
        from spanpost.dispatch.dispatcher import DeliveryCarrier, Dispatcher

        assert self._store is not None
        await self._store.open()
        self.workspaces = workspaces_of(self.settings, self._store, wake=self.wake)
        lend(self._sinks.values(), self.workspaces)
        self._metrics = self._make_metrics()
        self.recorded = Fanout()  # a new one: a failed start may have subscribed already
        if self._metrics is not None:
            self.recorded.subscribe(self._metrics.counting)
            self.recorded.subscribe(partial(self._count_losses, self._metrics))
        self.recorded.subscribe(lambda _: self.wake())
        from spanpost.runtime.summaries import Summaries

        summaries = Summaries(
            self._store.reader,
            self._store.launch_orders,
            self._sinks,
            lambda: self._rules.routes,
            self.settings.intake.tenant,
            self.wake,
        )
        carriers: dict[str, DeliveryCarrier] = {**self._sinks, **self._launchers, **summaries.carriers}
        if self.settings.webhooks.providers and self._is_gateway:
            from spanpost.runtime.webhooks import Hooks

            self.hooks = Hooks(self.settings, self._store, self.take)
            carriers |= self.hooks.carriers
        self._dispatcher = Dispatcher(
            self._store.outbox, self._store, carriers, watch=self._metrics, publish=self.recorded.publish
        )
        self._dispatcher.start()
        self._summaries = summaries
        summaries.start()
        if needs_interactions(self.settings, is_gateway=self._is_gateway):
            self.interactions_runtime = InteractionsRuntime(
                self.settings,
                self._store,
                self.take,
                workspaces=self.workspaces,
                watch=self._metrics,
            )
            self.interactions_runtime.start()

    def _make_metrics(self) -> Metrics | None:
        try:
            from spanpost.metrics import Metrics
        except ImportError:
            return None
        section = self.settings.metrics or MetricsSettings()
        bridge = None
        if section.otlp and section.enabled:
            from spanpost.metrics.bridge import Bridge

            bridge = Bridge()
        metrics = Metrics(
            max_values=section.max_values,
            max_series=section.max_series,
            expire_after=section.expire_after,
            bridge=bridge,
        )
        for name, sink in self._sinks.items():
            # Start at 0, so that the first deliveries are an increase for `rate`.
            metrics.delivery_age.labels(name)
            if isinstance(sink, CallingSink):
                sink.when_called = partial(metrics.called, name)
        return metrics

    def _serve_metrics(self) -> None:
        section = self.settings.metrics
        if section is None or not section.enabled or not workers.is_first():
            return
        if self._metrics is None:
            raise ConfigError("metrics: prometheus_client is missing; install it with: pip install 'spanpost[metrics]'")
        from spanpost.metrics.series import MULTIPROCESS
        from spanpost.settings.guards import metrics_guard

        if section.exposure:
            log.warning("%s", section.exposure)
        try:
            tokens = [bytes.fromhex(digest) for digest in section.tokens]
            port = self._metrics.serve(section.host, section.port, guard=metrics_guard(section), tokens=tokens)
        except ConfigError as error:
            # A gateway must have its port. An agent goes on without: its work and its notifications matter more than
            # a page of metrics, and another process of this host probably has the port. Workers of one server share
            # their metrics, so the port of any one shows the numbers of all.
            if (
                self._is_gateway
                and "port" in section.model_fields_set
                and (MULTIPROCESS not in os.environ or workers.current is not None)
            ):
                raise
            log.warning("this process serves no metrics on a port of their own: %s", error)
            return
        host = f"[{section.host}]" if ":" in section.host else section.host
        self.metrics_url = f"http://{host}:{port}/metrics"

        self.publish()

    def publish(self) -> None:
        """Start updating the gauges of all processes, in turn with the other processes."""
        if self._publishing is None and self._metrics is not None and self._store is not None:
            publishing = self._publish(self._store, self._metrics)
            assert self._loop is not None
            self._publishing = asyncio.run_coroutine_threadsafe(_untraced(publishing), self._loop)

    @staticmethod
    async def _publish(store: Store, metrics: Metrics) -> None:
        while True:
            try:
                metrics.fleet(await store.fleet())
                metrics.store_up.set(1)
            except StoreUnavailable:
                metrics.fleet(None)
                metrics.store_up.set(0)
            await asyncio.sleep(_PUBLISH)

    def _ask(self, question: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(_untraced(question), self._loop).result(timeout)

    # --- recording --------------------------------------------------------------------------------------------------

    def receive(self, batch: Sequence[Observation]) -> None:
        """Record a batch, from a worker thread of a receiver. While the store is down it waits and tries
        again.
        """
        if self.is_off:
            return
        pause = _OUTAGE[0]
        while True:
            try:
                if self._is_shut and self._loop is None:
                    raise StoreUnavailable("it was shut down")
                if self._loop is None:  # first batch of a forked child, whose store may be down too
                    self.start()
                self._ask(self.record(batch))
                return
            except (StoreUnavailable, ConfigError) as error:
                if self._is_shut:
                    raise
                log.warning("the store is unavailable, trying again: %s", error)
                time.sleep(pause)
                pause = min(pause * 2, _OUTAGE[1])

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Record a batch (`Store.record`), in the pipeline's own loop, and wake the dispatcher."""
        if self._store is None:
            raise StoreUnavailable("the pipeline has not started")
        await self.price(batch)
        if self._metrics is not None and self._feed is not None:
            self._metrics.queued.set(len(self._feed.queue))
        return await self.counted(self._store.record(batch, is_whole=is_whole))

    async def price(self, batch: Sequence[Observation]) -> None:
        """Load prices, if the batch needs them and they are not loaded."""
        prices = self._rules.prices
        if isinstance(prices, Prices) and not prices.is_ready and prices.are_needed(batch):
            await self.load_prices()

    async def load_prices(self) -> None:
        """Load prices if they are not loaded; wait a while for them."""
        prices = self._rules.prices
        if isinstance(prices, Prices) and not prices.is_ready:
            # Receivers go on meanwhile. A process that is about to end must not lose a batch because prices still load.
            if self._pricing is None or self._pricing.done():
                self._pricing = asyncio.ensure_future(asyncio.to_thread(prices.load))
            await asyncio.wait({self._pricing}, timeout=_PRICES)

    async def counted(self, recording: Awaitable[R]) -> R:
        """Return the result of a recording, after it is counted and its deliveries are queued."""
        metrics = self._metrics
        began = time.perf_counter()
        try:
            recorded = await recording
        except StoreUnavailable:
            if metrics is not None:
                metrics.not_committed()
            raise
        if recorded is None:
            return recorded
        if metrics is not None:
            metrics.committed(time.perf_counter() - began)
        await self.recorded.publish(recorded)
        return recorded

    def take(self, recorded: Recorded) -> None:
        """Publish what an intervention or an order recorded. Call it in the pipeline's thread."""
        self.recorded.publish_now(recorded)

    def _count_losses(self, metrics: Metrics, _: Recorded) -> None:
        if self.attachment is not None:
            metrics.count_dropped_so_far("intake", self.attachment.dropped)
        if self._spool is not None:
            metrics.spooled(self._spool.bypassed.totals(), self._spool.size)
        if self._recovery is not None:
            metrics.count_dropped_so_far("spool", self._recovery.dropped.totals())

    def wake(self) -> None:
        """Report that deliveries may be due. Call it in the pipeline's thread."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    @property
    def answers(self) -> Answers:
        """Answers of people for agents; it lives in the pipeline's loop."""
        if self._answers is None:
            from spanpost.interactions.answers import Answers

            store = self.store
            self._answers = Answers(
                store.reader, store.interventions, store.budgets, record=self.record, wake=self.wake
            )
        return self._answers

    @property
    def feed(self) -> Feed:
        """The queue of this process's receivers, with a worker that passes batches to `receive`."""
        if self._feed is None:
            from spanpost.receivers.attachment import Attachment
            from spanpost.receivers.worker import Feed

            intake = self.settings.intake
            self._feed = Feed(
                self.receive,
                tenant=intake.tenant,
                capacity=intake.queue_size,
                scan_interval=intake.poll_interval.total_seconds(),
                spool=self._spool,
                beat_every=intake.heartbeat_interval.total_seconds(),
                tell_end=self._tell_end,
            )
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._feed.disown_thread)
            self.attachment = Attachment(self._feed)
        return self._feed

    # --- ending -----------------------------------------------------------------------------------------------------

    def force_flush(self, timeout: float = 2.0) -> bool:
        """Wait until earlier observations are recorded and due deliveries are delivered; after a start,
        those of a killed process too.

        False if it took longer than `timeout` seconds, or if an observation was dropped since the last
        flush.
        """
        until = time.monotonic() + timeout
        if self._is_shut:
            return False
        while self.attachment is not None and not self.attachment.flush(until - time.monotonic()):
            if self._has_dropped() or time.monotonic() >= until:
                return False
            time.sleep(0.01)  # an earlier flush is still in progress; ask again
        if self._recovery is not None and not self._recovery.wait(until - time.monotonic()):
            return False
        return self._drain(until - time.monotonic()) and not self._has_dropped()

    def _has_dropped(self) -> bool:
        """Return whether observations were dropped since the last call."""
        dropped = sum(count for reason, count in self.dropped.items() if reason not in _EXPECTED)
        before, self._dropped_before = self._dropped_before, dropped
        return dropped != before

    def _drain(self, timeout: float) -> bool:
        if self._dispatcher is None or self._loop is None:
            return True
        timeout = max(0.0, timeout)
        try:
            return self._ask(self._dispatcher.drain(timeout), timeout + _GRACE)
        except (TimeoutError, SpanpostError):
            return False

    def shutdown(self, timeout: float = 3.0) -> bool:
        """Record and deliver what is left and close everything, within about one and a half times `timeout`
        seconds.

        False, and a line in the log, if not everything could be done. Safe to repeat.
        """
        if self._is_shut:
            return True
        until = time.monotonic() + timeout * 1.5
        is_done = self.attachment is None or self.attachment.shutdown(timeout)
        self._is_shut = True
        atexit.unregister(self.shutdown)
        if self.when_shut is not None:
            self.when_shut(self)
        if self._sigterm is not None:
            self._sigterm.remove()
        if self._recovery is not None:
            self._recovery.stop(min(timeout / 2, until - time.monotonic()))
        if self._loop is not None:
            is_done = self._drain(min(timeout / 2, until - time.monotonic())) and is_done
            self._stop(until - time.monotonic())
        if not is_done and not self.is_off:
            log.warning(
                "not everything was recorded and delivered before the end (%d observations dropped)",
                sum(self.dropped.values()),
            )
        return is_done

    def _stop(self, timeout: float = 3.0) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None
        assert thread is not None
        try:
            timeout = max(timeout, _GRACE)
            self._ask(self._close(timeout), timeout + _CUT)
        except TimeoutError:
            log.warning("not everything could be closed in time")
        except Exception as error:
            log.warning("not everything could be closed: %s", error)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_GRACE)
        if not thread.is_alive():
            loop.close()
        self._loop = None
        if self._metrics is not None:
            self._metrics.close()

    async def _close(self, timeout: float) -> None:  # noqa: ASYNC109
        """Close what was opened, each within its share of the time: a part that hangs must not keep another
        open.
        """
        if self._publishing is not None:
            self._publishing.cancel()
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
        if self._store is not None:
            await self._store.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CANCELLED)

    def flush_on_sigterm(self) -> bool:
        """Flush at SIGTERM from now on, before the previous handler; False if that is impossible. Main
        thread only.
        """
        if self._sigterm is None:
            self._sigterm = Sigterm(self.force_flush, self.shutdown)
        return self._sigterm.install()

    # --- access -----------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> Metrics | None:
        """The metrics, if their package is installed and the pipeline has started."""
        return self._metrics

    def reload(self, settings: Settings) -> None:
        """Use new rules from the next batch on. Raises `ConfigError`, and then nothing has changed.

        Rules are routes, the maximum age of notifications, context windows and kept content; sinks and
        databases are opened at the start.
        """
        rules = rules_of(settings)
        if enabled_sinks(settings) != enabled_sinks(self.settings):
            raise ConfigError("sinks are turned on and off at the start: restart spanpost, or undo the change")
        if settings.launchers.named != self.settings.launchers.named:
            raise ConfigError(
                "launchers.named: launchers are opened at the start: restart spanpost, or undo the change"
            )
        if self.hooks is not None:
            self.hooks.reload(settings)
        if self.interactions_runtime is not None:
            self.interactions_runtime.reload(settings)
        self._rules = rules
        store = self._store
        if store is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(setattr, store, "rules", rules)

    @property
    def store(self) -> Store:
        """The store; it lives in the pipeline's loop (`ask`)."""
        if self._store is None:
            raise SpanpostError("the pipeline has not started")
        return self._store

    def ask(self, question: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        """Await something in the pipeline's loop, from another thread."""
        return self._ask(question, timeout)

    def control(self) -> Control | None:
        """Return the source of people's answers for the agents of this process; None: that of the environment."""
        from spanpost.runtime.control import InProcess

        return InProcess(self)

    def questions(self) -> list[ApprovalRow]:
        """Return the open questions, oldest first."""
        from spanpost.model.queries import ApprovalQuery

        query = ApprovalQuery(tenant=self.settings.intake.tenant, state="open", limit=1000)
        return self._ask(self.store.interventions.approvals(query))[::-1]

    def decide(self, approval: str, decision: str, *, by: str, comment: str = "") -> Verdict:
        """Answer an open question of this process's agents, by its id: ``approve``, ``deny`` or one of its
        options.

        For programs that ask people in their own way, and for tests: authorization rules do not apply.
        Raises `ConfigError` for an unknown question and for a word that is not an answer to it.
        """
        from spanpost.runtime.decisions import decide

        async def work() -> Verdict:
            verdict = await decide(
                self.store.interventions, approval, decision, by=by, comment=comment, tenant=self.settings.intake.tenant
            )
            if verdict.recorded is not None:
                self.take(verdict.recorded)
            return verdict

        return self._ask(work())

    def begin(self, question: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something in the pipeline's loop, from another thread."""
        if self._loop is None:
            question.close()
            raise StoreUnavailable("the pipeline does not run")
        return asyncio.run_coroutine_threadsafe(_untraced(question), self._loop)

    @property
    def is_shut(self) -> bool:
        """True after the shutdown."""
        return self._is_shut

    @property
    def dropped(self) -> dict[str, int]:
        """Observations that were dropped, by reason."""
        return self.attachment.dropped if self.attachment is not None else {}
