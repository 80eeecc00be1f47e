"""Parts that the settings make: the rules of the task state, the store, the sinks; and maintenance of a
whole database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha512
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spanpost.launchers import registry as launcher_registry
from spanpost.launchers.carrier import Carrier
from spanpost.model.errors import ConfigError
from spanpost.readers.redaction import Redaction
from spanpost.routing.launch_orders import Launches, OnEnd, Retry
from spanpost.routing.matching import is_wanted
from spanpost.routing.routes import Match, Route, Routes, Severity, Verbosity
from spanpost.runtime.context_windows import given_names, load_outputs, load_windows
from spanpost.runtime.prices import Prices, Row
from spanpost.settings import Settings
from spanpost.settings.launchers import OnEndSettings, RetrySettings
from spanpost.settings.routes import RouteSettings
from spanpost.sinks import registry
from spanpost.sinks.base import Figured, Restarts, Routed
from spanpost.sinks.outputs import Figures, OutputQuery
from spanpost.sinks.plugin import SinkSettings
from spanpost.tasks.approvals import Expiry
from spanpost.tasks.budgets import WORDS, Budget, Period
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import StallRules

if TYPE_CHECKING:
    from spanpost.sinks.base import Sink
    from spanpost.store.protocols import Store
    from spanpost.store.retention import Pruned

T = TypeVar("T")

#: Default interval between two milestones of one task.
MILESTONE_INTERVAL: Final = timedelta(seconds=30)


def rules_of(settings: Settings) -> FoldRules:
    """Return the rules of the task state."""
    context = settings.context
    return FoldRules(
        routes=routes_of(settings),
        windows=load_windows(context.windows),
        given_windows=given_names(context.windows),
        default_window=context.default_window,
        outputs=load_outputs(),
        warn_at=tuple(round(share * 1000) for share in context.warn_at),
        warn_tokens=context.warn_tokens,
        ahead_calls=context.ahead_calls,
        ahead_seconds=context.ahead.total_seconds(),
        keeps_content=settings.intake.capture_content,
        prices=prices_of(settings),
        expiry=Expiry(after=settings.approvals.expire_after, then=settings.approvals.at_expiry),
        launches=launches_of(settings),
        stall_rules=StallRules(
            stall=settings.stall.stall_after, gone=settings.stall.interrupt_after, call=settings.stall.open_call_after
        ),
        budgets=budgets_of(settings),
        redaction=redaction_of(settings),
    )


def redaction_of(settings: Settings, *, spares_questions: bool = False) -> Redaction | None:
    """Return the redaction of secrets; None if it is off."""
    section = settings.redaction
    if not section.enabled:
        return None
    key = section.hash_key.get_secret_value().encode() if section.hash_key is not None else b""
    return Redaction(
        off=section.off,
        tenants={name: one.off for name, one in section.tenants.items()},
        patterns=[(one.kind, one.compiled) for one in section.patterns],
        key=key if len(key) <= 64 else sha512(key).digest(),
        spares_questions=spares_questions,
    )


def budgets_of(settings: Settings) -> tuple[Budget, ...]:
    """Return the budgets that are set."""
    section = settings.spend
    return tuple(
        Budget(
            name=said.name,
            period=Period(said.period),
            per=tuple(WORDS.get(name, name) for name in said.per),
            match=Match(
                tenant=said.tenant,
                agent=said.agent,
                environment=said.environment,
                attributes=tuple(sorted(said.attributes.items())),
            ),
            limit_usd=said.limit_usd,
            limit_tokens=said.limit_tokens,
            warn_at=said.warn_at,
            zone=section.timezone,
        )
        for said in section.budgets
    )


def routes_of(settings: Settings) -> Routes:
    """Return the routing table: the routes of the settings, then each sink's default route."""
    sinks = enabled_sinks(settings)
    unknown = sorted({route.sink for route in settings.routes} - set(sinks))
    if unknown:
        known = ", ".join(sinks) or "none"
        raise ConfigError(
            f"routes: sink {unknown[0]!r} is not on (on: {known}); turn it on in its own settings or drop the route"
        )
    rest = [RouteSettings(sink=sink) for sink in sinks]
    return Routes(
        sinks=sinks,
        routes=tuple(_route(route, settings) for route in (*settings.routes, *rest)),
        editing=frozenset(name for name in sinks if registry.find(name).edits_checkpoints),
    )


def _route(said: RouteSettings, settings: Settings) -> Route:
    section = settings.sinks[said.sink]
    defaults = section.route_defaults()
    said = said.model_copy(update={"tenant": _tenant(said, settings)})
    verbosity = Verbosity(said.verbosity or section.verbosity) if said.enabled else Verbosity.MUTE
    interval = said.interval if said.interval is not None else section.interval
    if interval is None:
        interval = MILESTONE_INTERVAL if verbosity is Verbosity.MILESTONES else timedelta(0)
    if (said.digest or said.board) and not registry.find(said.sink).summarises:
        what = "digest" if said.digest else "board"
        raise ConfigError(f"routes: {what}: the sink {said.sink!r} has none; use slack, or remove it")
    hours, _, minutes = said.digest_at.partition(":")
    return Route(
        sink=said.sink,
        address=said.address,
        match=Match(
            tenant=said.tenant,
            agent=said.agent,
            topic=said.topic,
            environment=said.environment,
            service=said.service,
            repo=said.repo,
            status=said.status,
            least=Severity[said.severity.upper()] if said.severity else Severity.INFO,
            cost_usd=said.cost_usd,
            attributes=tuple(sorted(said.attributes.items())),
        ),
        verbosity=verbosity,
        max_age=settings.notifications.max_age,
        interval=interval,
        mention=defaults.mention if said.mention is None else said.mention,
        prefix=said.prefix,
        fallback=defaults.fallback if said.fallback is None else said.fallback,
        shows_content=defaults.shows_content if said.content is None else said.content,
        is_dry=said.dry_run or defaults.is_dry,
        language=said.language or defaults.language,
        digest=(said.digest or "") if said.enabled else "",
        digest_at=int(hours) * 60 + int(minutes),
        zone=said.timezone,
        includes_failures=said.digest_failures,
        has_board=said.board and said.enabled,
        board_interval=said.board_interval,
    )


def _tenant(said: RouteSettings, settings: Settings) -> str | tuple[str, ...] | None:
    """Return the tenants whose tasks a route receives: only the owner if its address belongs to one tenant."""
    try:
        own = settings.sinks[said.sink].tenant_of(said.address)
    except ValueError as error:
        raise ConfigError(f"routes: {said.address!r}: {error}") from None
    if own is not None and not is_wanted(said.tenant, own):
        raise ConfigError(
            f"routes: {said.address!r} receives tasks of tenant {own!r} only, and the route receives those of "
            f"{said.tenant!r}: "
            "remove tenant from the route, or name another address"
        )
    return own if own is not None else said.tenant


def launches_of(settings: Settings) -> Launches:
    """Return what may be started, and by which launchers."""
    section = settings.launchers
    on = frozenset(section.launchers())
    return Launches(
        launchers=on,
        retries=tuple(
            Retry(launcher=one.launcher, match=_match(one), type=one.type)
            for one in section.retries
            if one.launcher in on
        ),
        rules=tuple(
            OnEnd(
                name=one.name,
                start=tuple(name for name in dict.fromkeys(one.start) if name in on),
                match=_match(one),
                type=one.type,
                status=one.status,
                text=one.text,
                parameters=tuple(one.parameters.items()),
                is_of_parts=one.parts,
            )
            for one in section.rules
        ),
        depth=section.max_depth,
        hourly=section.max_hourly,
        max_age=section.max_age,
    )


def _match(said: RetrySettings | OnEndSettings) -> Match:
    return Match(
        tenant=said.tenant,
        agent=said.agent,
        topic=said.topic,
        environment=said.environment,
        service=said.service,
        repo=said.repo,
    )


def open_launchers(settings: Settings) -> dict[str, Carrier]:
    """Return the enabled launchers as carriers for the dispatcher."""
    made = [
        Carrier(name, launcher_registry.open_launcher(name, kind, section))
        for name, (kind, section) in settings.launchers.launchers().items()
    ]
    return {carrier.name: carrier for carrier in made}


def prices_of(settings: Settings) -> Prices | None:
    """Return the prices of model calls, not loaded yet; None if costs are not computed."""
    section = settings.cost
    if not section.enabled:
        return None
    own = {
        model: Row(p.input, p.output, p.cache_read, p.cache_write, p.reasoning) for model, p in section.prices.items()
    }
    return Prices(own)


def enabled_sinks(settings: Settings) -> tuple[str, ...]:
    """Return the names of the enabled sinks."""
    return tuple(name for name, section in settings.sinks.items() if section.enabled)


def open_sinks(settings: Settings) -> dict[str, Sink]:
    """Return the enabled sinks, with the routes, figures and retry rules that they ask for."""
    sinks = {
        name: registry.open_sink(name, with_buttons(settings.sinks[name], settings)) for name in enabled_sinks(settings)
    }
    table, figures, launches = routes_of(settings).routes, figures_of(settings), launches_of(settings)
    for name, sink in sinks.items():
        if figures is not None and isinstance(sink, Figured):
            sink.figured(figures)
        if isinstance(sink, Restarts):
            sink.restarts(lambda task: bool(launches.retrier(task)))
        if isinstance(sink, Routed):
            sink.routed([route for route in table if route.sink == name])
    return sinks


def with_buttons(section: SinkSettings, settings: Settings) -> SinkSettings:
    """Return a sink's settings; if they leave `interactive` open, there are buttons if any app can receive
    answers.
    """
    if getattr(section, "interactive", True) is not None:
        return section
    return section.model_copy(
        update={"interactive": settings.interactions is not None and settings.interactions.has_app}
    )


def figures_of(settings: Settings) -> Figures | None:
    """Return the queries for figures of ended tasks; None without any."""
    section = settings.outputs
    if not section.queries:
        return None
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise ConfigError("outputs: aiohttp is missing; install it with: pip install 'spanpost[slack]'") from error
    queries = [
        OutputQuery(name=name, query=q.query, is_compared=q.compare, unit=q.unit) for name, q in section.queries.items()
    ]
    token = section.token.get_secret_value() if section.token is not None else ""
    return Figures(section.url, queries, token=token, timeout=section.timeout.total_seconds())


def open_store(settings: Settings, rules: FoldRules | None = None) -> Store:
    """Return the store of the settings, not opened yet: PostgreSQL, the embedded one, or memory."""
    rules = rules if rules is not None else rules_of(settings)
    database = settings.database
    if settings.dsn is None and not database.embedded:
        from spanpost.store.memory import MemoryStore

        return MemoryStore(rules)
    try:
        from spanpost.store.postgres import PostgresStore
    except ImportError as error:
        extra = "postgres" if settings.dsn is not None else "embedded"
        raise ConfigError(
            f"database: {error.name} is missing; install it with: pip install 'spanpost[{extra}]'"
        ) from error
    options: dict[str, Any] = {
        "rules": rules,
        "pool_size": database.pool_size,
        "statement_cache": database.statement_cache,
        "batch_budget": database.batch_budget.total_seconds(),
        "trace_budget": database.trace_budget.total_seconds(),
    }
    if settings.dsn is not None:
        return PostgresStore(settings.dsn, **options)
    from spanpost.store.embedded_store import EmbeddedStore

    return EmbeddedStore(database.data_dir, pg_bin=database.pg_bin, **options)


def upgrade_database(settings: Settings) -> str:
    """Upgrade the schema to this version; return its revision."""
    from spanpost.store.embedded_roles import READER
    from spanpost.store.embedded_store import reachable
    from spanpost.store.sql import schema

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(schema.upgrade(dsn, reader="" if settings.dsn is not None else READER))[1]


def grant_roles(settings: Settings, *, writer: str, reader: str) -> list[str]:
    """Grant roles of the database what writing and reading need; return the SQL."""
    from spanpost.store import roles
    from spanpost.store.sql import schema

    if settings.dsn is None:
        raise ConfigError(
            "db grant: the embedded database has its own roles; for another, set DATABASE_URL or give --database-url"
        )
    names = roles.named(writer, reader)

    async def work(connection: Any) -> list[str]:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
            return await roles.grant(connection, names)

    return _as_owner(settings, work, ("grant", ", ".join(f"{right}: {name}" for right, name in names.items())))


def end_sessions(settings: Settings) -> None:
    """End the sessions of all people who logged in."""
    from spanpost.store.sessions import end_all

    async def work(connection: Any) -> None:
        async with connection.transaction():
            await end_all(connection)

    _as_owner(settings, work, ("end sessions", "all"))


def prune_database(settings: Settings, older_than: timedelta, *, is_done: bool) -> Pruned:
    """Delete old rows, or only count them."""
    from spanpost.store.retention import prune

    noted = ("prune", f"older than {older_than}") if is_done else None
    return _as_owner(settings, lambda connection: prune(connection, older_than, is_done=is_done), noted)


def _as_owner(settings: Settings, work: Callable[[Any], Awaitable[T]], noted: tuple[str, str] | None = None) -> T:
    """Run maintenance of the tables on a connection of its own. Raises `ConfigError` if the database
    refuses.

    `noted` is recorded with the system's user: the operation, and its detail.
    """
    import asyncpg

    from spanpost.runtime.system_user import system_user
    from spanpost.store.embedded_store import reachable
    from spanpost.store.intervention_rows import note_operation
    from spanpost.store.sql import schema

    async def run(dsn: str) -> T:
        try:
            connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
            try:
                misfit = await schema.check(connection)
                if misfit is None:
                    if noted is not None:
                        await note_operation(connection, noted[0], system_user(), noted[1])
                    return await work(connection)
            finally:
                await connection.close()
        except (*schema.UNREACHABLE, asyncpg.InterfaceError) as error:
            raise ConfigError(schema.unreachable(error)) from None
        except asyncpg.PostgresError as error:
            raise ConfigError(f"the database refuses: {error}. Run it with the role that made the tables") from error
        raise ConfigError(misfit)

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(run(dsn))
