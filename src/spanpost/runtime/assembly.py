"""Parts that the settings make: the rules of the task state, the store, the sinks, the launchers.

A section of the settings is the rule that pure code is given. This file only puts sections together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanpost.launchers import registry as launcher_registry
from spanpost.launchers.carrier import Carrier
from spanpost.model.errors import ConfigError
from spanpost.model.launch_orders import LAUNCH
from spanpost.readers.redaction import Redaction
from spanpost.routing.matching import is_wanted
from spanpost.routing.routes import Route, Routes
from spanpost.runtime.context_windows import given_names, load_outputs, load_windows
from spanpost.runtime.prices import Prices
from spanpost.settings import Settings
from spanpost.settings.routes import RouteSettings
from spanpost.sinks import registry
from spanpost.sinks.base import Figured, Linking, Restarts, Routed, Silences
from spanpost.sinks.outputs import Figures
from spanpost.sinks.plugin import SinkSettings
from spanpost.sinks.redaction import RedactingCarrier
from spanpost.tasks.folded import FoldRules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spanpost.sinks.base import Sink
    from spanpost.sinks.redaction import DeliveryCarrier
    from spanpost.store.protocols import Store


def rules_of(settings: Settings) -> FoldRules:
    """Return the rules of the task state."""
    return FoldRules(
        routes=routes_of(settings),
        context=settings.context,
        windows=load_windows(settings.context.windows),
        given_windows=given_names(settings.context.windows),
        outputs=load_outputs(),
        keeps_content=settings.intake.capture_content,
        prices=prices_of(settings),
        approvals=settings.approvals,
        people=people_of(settings),
        launches=settings.launchers,
        resume=_resuming(settings),
        tasks=settings.tasks,
        stall_rules=settings.stall,
        loops=settings.loops,
        budgets=settings.budgets,
        redaction=redaction_of(settings),
        shown=frozenset().union(
            *(query.kept for query in settings.outputs.queries.values()),
            *(settings.sinks[name].kept for name in enabled_sinks(settings)),
        ),
    )


def people_of(settings: Settings) -> Mapping[str, str]:
    """Return Slack user ids by the names in `agent.requested_by`, in lower case."""
    return settings.interactions.people if settings.interactions is not None else {}


def _resuming(settings: Settings) -> str:
    """Return the launcher that resumes headless runs; empty: none. Raises `ConfigError`."""
    name = settings.hooks.resume
    if name and name not in settings.launchers.launchers:
        known = ", ".join(sorted(settings.launchers.launchers)) or "none"
        raise ConfigError(f"hooks.resume: there is no enabled launcher {name!r} in launchers.named (known: {known})")
    return name


def redaction_of(settings: Settings) -> Redaction | None:
    """Return the redaction of secrets; None if it is off."""
    section = settings.redaction
    return Redaction(section, key=section.key) if section.enabled else None


def prices_of(settings: Settings) -> Prices | None:
    """Return the prices of model calls, not loaded yet; None if costs are not computed."""
    return Prices(settings.cost.prices) if settings.cost.enabled else None


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
        routes=tuple(_route(route, settings.sinks[route.sink]) for route in (*settings.routes, *rest)),
        editing=frozenset(name for name in sinks if registry.find(name).edits_checkpoints),
        max_age=settings.notifications.max_age,
    )


def _route(route: RouteSettings, sink: SinkSettings) -> Route:
    """Return a route with its sink's settings; it receives only the owner's tasks if its address belongs to
    one tenant.
    """
    if (route.digest or route.board or route.preset) and not registry.find(route.sink).summarises:
        what = "digest" if route.digest else "board" if route.board else "preset"
        raise ConfigError(f"routes: {what}: the sink {route.sink!r} has none; use slack, or remove it")
    try:
        own = sink.tenant_of(route.address)
    except ValueError as error:
        raise ConfigError(f"routes: {route.address!r}: {error}") from None
    if own is not None and not is_wanted(route.tenant, own):
        raise ConfigError(
            f"routes: {route.address!r} receives tasks of tenant {own!r} only, and the route receives those of "
            f"{route.tenant!r}: remove tenant from the route, or name another address"
        )
    return route.completed(sink, own)


def open_launchers(settings: Settings) -> dict[str, Carrier]:
    """Return the enabled launchers as carriers for the dispatcher."""
    made = [
        Carrier(name, launcher_registry.open_launcher(name, kind, section))
        for name, (kind, section) in settings.launchers.opened().items()
    ]
    return {carrier.name: carrier for carrier in made}


def enabled_sinks(settings: Settings) -> tuple[str, ...]:
    """Return the names of the enabled sinks."""
    return tuple(name for name, section in settings.sinks.items() if section.is_on)


def open_sinks(settings: Settings) -> dict[str, Sink]:
    """Return the enabled sinks, with the routes, figures and retry rules that they ask for."""
    sinks = {
        name: registry.open_sink(name, with_buttons(settings.sinks[name], settings)) for name in enabled_sinks(settings)
    }
    table, figures, launches = routes_of(settings).routes, figures_of(settings), settings.launchers
    for name, sink in sinks.items():
        if figures is not None and isinstance(sink, Figured):
            sink.figured(figures)
        if isinstance(sink, Restarts):
            sink.restarts(lambda task: bool(launches.retrier(task)))
        if isinstance(sink, Linking):
            sink.links_to(settings.api.public_url, people_of(settings))
        if isinstance(sink, Silences):
            sink.silences(lambda alert: settings.alerts.alertmanager_of(alert, settings.intake.tenant) is not None)
        if isinstance(sink, Routed):
            sink.routed([route for route in table if route.sink == name])
    return sinks


def carriers_of(
    settings: Settings,
    sinks: Mapping[str, Sink],
    launchers: Mapping[str, Carrier],
    routes: Callable[[], Sequence[Route]],
) -> dict[str, DeliveryCarrier]:
    """Return the sinks and launchers, each with the rules for what leaves by it."""
    found: dict[str, DeliveryCarrier] = {}
    for name, sink in sinks.items():
        is_own = registry.find(name).redacts
        found[name] = sink if is_own else RedactingCarrier(sink, settings.sinks[name].redact, routes)
    sections = {LAUNCH + name: section for name, (_, section) in settings.launchers.opened().items()}
    for name, carrier in launchers.items():
        found[name] = RedactingCarrier(carrier, sections[name].redact, tuple)
    return found


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
    """Return what queries figures of ended tasks and of entities; None without any query."""
    section = settings.outputs
    if not section.queries and not section.commands:
        return None
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise ConfigError("outputs: aiohttp is missing; install it with: pip install 'spanpost[slack]'") from error
    token = section.token.get_secret_value() if section.token is not None else ""
    return Figures(section.url, section.queries, token=token, timeout=section.timeout.total_seconds())


def open_store(settings: Settings, rules: FoldRules | None = None) -> Store:
    """Return the store of the settings, not opened yet: PostgreSQL, the embedded one, or memory."""
    rules = rules if rules is not None else rules_of(settings)
    database = settings.database
    lease = 2 * settings.notifications.delivery_timeout
    if settings.dsn is None and not database.embedded:
        from spanpost.store.memory import MemoryStore

        return MemoryStore(rules, lease=lease)
    try:
        from spanpost.store.postgres import PostgresStore
    except ImportError as error:
        extra = "postgres" if settings.dsn is not None else "embedded"
        raise ConfigError(
            f"database: {error.name} is missing; install it with: pip install 'spanpost[{extra}]'"
        ) from error
    options: dict[str, Any] = {
        "rules": rules,
        "lease": lease,
        "pool_size": database.pool_size,
        "statement_cache": database.statement_cache,
        "batch_budget": database.batch_budget.total_seconds(),
        "trace_budget": database.trace_budget.total_seconds(),
    }
    if settings.dsn is not None:
        return PostgresStore(settings.dsn, **options)
    from spanpost.store.embedded_store import EmbeddedStore

    return EmbeddedStore(database.data_dir, pg_bin=database.pg_bin, **options)
