"""The pipeline of one process: records observations in a loop of its own, and publishes what is new.

`Pipeline` stands behind `attach` and behind the command line. Its components (store, dispatcher, sinks,
metrics) are made and closed by `spanpost.runtime.components`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from spanpost.model.errors import ConfigError, SpanpostError, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.forks import after_fork
from spanpost.runtime.assembly import rules_of
from spanpost.runtime.background_loop import BackgroundLoop, cancel_others
from spanpost.runtime.components import Components
from spanpost.runtime.own_metrics import publish, serve
from spanpost.runtime.prices import PriceLoader
from spanpost.runtime.process import Sigterm
from spanpost.runtime.spool_location import open_spool, spool_settings
from spanpost.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from spanpost.agent.control import Control
    from spanpost.metrics.recorder import Metrics
    from spanpost.model.interventions import ApprovalRow, Verdict
    from spanpost.receivers.attachment import Attachment
    from spanpost.receivers.follower import TellEnd
    from spanpost.receivers.spool import Spool
    from spanpost.receivers.spool_recovery import Recovery
    from spanpost.receivers.worker import Feed
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost")
T = TypeVar("T")
R = TypeVar("R", bound=Recorded | None)

#: Pauses between attempts to record while the database is down: first and longest, seconds.
_OUTAGE = (0.2, 5.0)
#: Time limit to record a batch of a dead process, seconds; later it stays in the spool.
_IMPORT = 60.0
#: Time that the loop may take beyond the timeout of a call, seconds.
_GRACE = 0.5
#: Time for closing a store that hangs, seconds.
_CUT = 2.5
#: Reasons that are not reported as losses: plain log lines that were superseded, and items after the shutdown.
_EXPECTED = ("superseded", "closed")


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
        self._parents_parts.append((self._loop, self._components))
        self._begin()

    def _begin(self) -> None:
        """Set up what belongs to this process alone; after a fork, open resources belong to the parent."""
        self._loop: BackgroundLoop | None = None
        self._components: Components | None = None
        self._recovery: Recovery | None = None
        self._publishing: Future[None] | None = None
        self.prices = PriceLoader(self._rules.prices)
        #: True after the shutdown.
        self.is_shut = False
        self._dropped_before = 0
        self._starting = threading.Lock()

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store, start the dispatcher, serve the metrics."""
        with self._starting:
            if self._loop is not None or self.is_off:
                return
            components = Components(self.settings, self._rules, self.record, is_gateway=self._is_gateway)
            if self._spools is not None and self._spool is None:
                self._spool = open_spool(self._spools)
            self._components = components
            self._loop = BackgroundLoop(self._new_loop)
            if self._feed is not None:
                self._loop.call(self._feed.disown_thread)
            try:
                self._loop.ask(components.open(self._count_losses))
                self.metrics_url = serve(components.metrics, self.settings.metrics, is_gateway=self._is_gateway)
                if self.metrics_url is not None:
                    self.publish()
            except BaseException:
                self._stop()
                raise
            self._recover()

    def _recover(self) -> None:
        """Start recording what dead processes left in the spool."""
        if self._spools is None:
            return
        from spanpost.receivers.spool_recovery import Recovery

        self._recovery = Recovery(self._spools, lambda batch: self.ask(self.record(batch), _IMPORT))
        self._recovery.start()

    def publish(self) -> None:
        """Start updating the gauges of all processes, in turn with the other processes."""
        if self._publishing is None and self.metrics is not None:
            self._publishing = self.begin(publish(self.store, self.metrics))

    @property
    def components(self) -> Components:
        """The components of this process; they live in the pipeline's loop."""
        if self._components is None:
            raise SpanpostError("the pipeline has not started")
        return self._components

    @property
    def store(self) -> Store:
        """The store; it lives in the pipeline's loop (`ask`)."""
        return self.components.store

    @property
    def metrics(self) -> Metrics | None:
        """The metrics, if their package is installed and the pipeline has started."""
        return self._components.metrics if self._components is not None else None

    def ask(self, question: Coroutine[Any, Any, T], timeout: float | None = 30.0) -> T:
        """Await something in the pipeline's loop, from another thread."""
        return self.begin(question).result(timeout)

    def begin(self, question: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something in the pipeline's loop, from another thread."""
        if self._loop is None:
            question.close()
            raise StoreUnavailable("the pipeline does not run")
        return self._loop.begin(question)

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
                if self.is_shut and self._loop is None:
                    raise StoreUnavailable("it was shut down")
                if self._loop is None:  # first batch of a forked child, whose store may be down too
                    self.start()
                self.ask(self.record(batch), None)
                return
            except (StoreUnavailable, ConfigError) as error:
                if self.is_shut:
                    raise
                log.warning("the store is unavailable, trying again: %s", error)
                time.sleep(pause)
                pause = min(pause * 2, _OUTAGE[1])

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Record a batch (`Store.record`), in the pipeline's own loop, and wake the dispatcher."""
        if self._components is None:
            raise StoreUnavailable("the pipeline has not started")
        await self.prices.load_for(batch)
        if self.metrics is not None and self._feed is not None:
            self.metrics.queued.set(len(self._feed.queue))
        return await self.counted(self.store.record(batch, is_whole=is_whole))

    async def counted(self, recording: Awaitable[R]) -> R:
        """Return the result of a recording, after it is counted and its deliveries are queued."""
        metrics = self.metrics
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
        await self.components.recorded.publish(recorded)
        return recorded

    def _count_losses(self, metrics: Metrics) -> None:
        if self.attachment is not None:
            metrics.count_dropped_so_far("intake", self.attachment.dropped)
        if self._spool is not None:
            metrics.spooled(self._spool.bypassed.totals(), self._spool.size)
        if self._recovery is not None:
            metrics.count_dropped_so_far("spool", self._recovery.dropped.totals())

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
                self._loop.call(self._feed.disown_thread)
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
        if self.is_shut:
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
        if self._components is None or self._loop is None:
            return True
        timeout = max(0.0, timeout)
        try:
            return self.ask(self._components.drain(timeout), timeout + _GRACE)
        except (TimeoutError, SpanpostError):
            return False

    def shutdown(self, timeout: float = 3.0) -> bool:
        """Record and deliver what is left and close everything, within about one and a half times `timeout`
        seconds.

        False, and a line in the log, if not everything could be done. Safe to repeat.
        """
        if self.is_shut:
            return True
        until = time.monotonic() + timeout * 1.5
        is_done = self.attachment is None or self.attachment.shutdown(timeout)
        self.is_shut = True
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
                "not everything was recorded and delivered before the end (%d observations dropped); what is recorded "
                "waits in the database: the next process or `spanpost run` delivers it",
                sum(self.dropped.values()),
            )
        return is_done

    def _stop(self, timeout: float = 3.0) -> None:
        assert self._loop is not None
        try:
            timeout = max(timeout, _GRACE)
            self._loop.ask(self._close(timeout), timeout + _CUT)
        except TimeoutError:
            log.warning("not everything could be closed in time")
        except Exception as error:
            log.warning("not everything could be closed: %s", error)
        if self._feed is not None:
            self._loop.call(self._feed.return_thread)
        self._loop.stop(_GRACE)
        self._loop = None
        if self.metrics is not None:
            self.metrics.close()

    async def _close(self, timeout: float) -> None:  # noqa: ASYNC109
        if self._publishing is not None:
            self._publishing.cancel()
        await self.components.close(timeout)
        await cancel_others()

    def flush_on_sigterm(self) -> bool:
        """Flush at SIGTERM, before the previous handler; False if that is impossible. Main thread only."""
        if self._sigterm is None:
            self._sigterm = Sigterm(self.force_flush, self.shutdown)
        return self._sigterm.install()

    def reload(self, settings: Settings) -> None:
        """Use new rules from the next batch on. Raises `ConfigError`, and then nothing has changed.

        Sinks and launchers are opened again where their settings have changed; the store logs in anew.
        """
        rules = rules_of(settings)
        if self._components is not None and self._loop is not None:
            apply = self._components.reloading(settings, rules)

            async def applied(components: Components) -> None:
                await components.relogin(settings)
                apply()

            self._loop.ask(applied(self._components))
        self._rules, self.prices = rules, PriceLoader(rules.prices)

    def control(self) -> Control | None:
        """Return the source of people's answers for the agents of this process; None: that of the environment."""
        from spanpost.runtime.control import InProcess

        return InProcess(self)

    def questions(self) -> list[ApprovalRow]:
        """Return the open questions, oldest first."""
        from spanpost.runtime.decisions import open_questions

        return self.ask(open_questions(self.store.interventions, self.settings.intake.tenant), None)

    def decide(self, approval: str, decision: str, *, by: str, comment: str = "", scope: str = "once") -> Verdict:
        """Answer an open question of this process's agents, by its id: ``approve``, ``deny`` or one of its
        options.

        For programs that ask people in their own way, and for tests: authorization rules do not apply.
        Raises `ConfigError` for an unknown question and for a word that is not an answer to it.
        """
        from spanpost.runtime.decisions import decide
        from spanpost.store.system_user import system_user

        async def work() -> Verdict:
            tenant = self.settings.intake.tenant
            said = {"by": by, "comment": comment, "scope": scope, "tenant": tenant, "user": system_user()}
            verdict = await decide(self.store.interventions, approval, decision, **said)
            if verdict.recorded is not None:
                self.components.take(verdict.recorded)
            return verdict

        return self.ask(work(), None)

    @property
    def dropped(self) -> dict[str, int]:
        """Observations that were dropped, by reason."""
        return self.attachment.dropped if self.attachment is not None else {}
