"""``spanpost check``: findings, and what to do about each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from spanpost.cli.health_check import component_findings, token_findings
from spanpost.cli.limits_check import examine_limits, stored_findings
from spanpost.cli.listening import NamedFinding, examine_gateway, examine_metrics
from spanpost.cli.task_rules_check import examine_task_rules
from spanpost.cli.trial_message import send
from spanpost.model.access_tokens import AccessToken, ending
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.model.findings import Finding
from spanpost.model.fleet import Fleet
from spanpost.model.launch_orders import LAUNCH
from spanpost.model.tenant_limits import TenantStorage
from spanpost.settings import config_path, describe_database, foreign_database, is_sdk_disabled
from spanpost.sinks import registry
from spanpost.sinks.base import CheckingSink, Installs
from spanpost.text.rules import RedactionAction, RedactionRule
from spanpost.text.sanitise import line
from spanpost.text.secrets import ALL_KINDS

if TYPE_CHECKING:
    from spanpost.runtime.workspaces import Workspaces
    from spanpost.settings import Settings

T = TypeVar("T")

#: Time limit for the check of one sink or launcher, seconds.
SINK_TIMEOUT = 30.0
#: Time limit of one request to the forward endpoint, seconds.
FORWARD_TIMEOUT = 5.0


def examine(settings: Settings, *, sends: bool = False) -> list[NamedFinding]:
    """Check everything that can be wrong before the start; the settings themselves were accepted already.

    `sends`: each sink posts a test message.
    """
    found = [*_settings()]
    if settings.cells is not None:
        found += _cells(settings)
    elif settings.forward is None:
        found += _database(settings)
    return [
        *found,
        examine_task_rules(settings),
        _redaction(settings),
        *_retention(settings),
        *examine_limits(settings),
        *_sealing(settings),
        *_forward(settings),
        *examine_metrics(settings),
        *examine_gateway(settings),
        *_kafka(settings),
        *_interactions(settings),
        *_slack_oauth(settings),
        *_sinks(settings, sends=sends),
        *_launchers(settings),
    ]


def _settings() -> Iterator[NamedFinding]:
    path = config_path()
    yield NamedFinding(
        "settings", True, f"read from {path} and the environment" if path else "read from the environment"
    )
    if is_sdk_disabled():
        yield NamedFinding("otel", False, "OTEL_SDK_DISABLED is true: agents send nothing", "unset it to follow agents")


def _database(settings: Settings) -> Iterator[NamedFinding]:
    """Check the database, and report access tokens that end soon."""
    if settings.dsn:
        where = f"PostgreSQL at {describe_database(settings.dsn)}"
    else:
        other = foreign_database()
        where = f"embedded PostgreSQL in {settings.database.data_dir}"
        where += f" (DATABASE_URL names {other} and is not used)" if other else ""
    try:
        counts, server, ends, stored, fleet = asyncio.run(_counts(settings))
    except SpanpostError as error:
        section = str(error).partition(":")[0]  # of the settings that the store was opened with
        name = section if section in type(settings).model_fields else "database"
        yield NamedFinding(name, False, str(error))  # the message says what to do
        return
    rows = ", ".join(f"{name} {value}" for name, value in counts.items() if isinstance(value, int))
    yield NamedFinding("database", True, f"{where}: reachable, schema current{server}; {rows}")
    yield from stored_findings(settings, stored)
    yield from component_findings(fleet)
    yield from token_findings(ends)


async def _counts(
    settings: Settings,
) -> tuple[dict[str, object], str, list[AccessToken], list[TenantStorage], Fleet | None]:
    """Return numbers of rows, facts of the server, tokens that end soon, what tenants have stored, and metrics."""
    from spanpost.runtime import assembly
    from spanpost.store.postgres import PostgresStore

    store = assembly.open_store(settings)
    await store.open()
    try:
        server = store.server if isinstance(store, PostgresStore) else None
        state = await store.access_tokens.state()
        ends = ending(state.tokens if state is not None else (), datetime.now(UTC))
        about = f"; {server}" if server is not None else ""
        stored = await store.tenant_totals.stored()
        return await store.counts(), about, ends, stored, await store.fleet(is_asked=True)
    finally:
        await store.close()


def _cells(settings: Settings) -> Iterator[NamedFinding]:
    """Check the cells of a routing gateway, which has no database."""
    from spanpost.runtime.router_check import examined

    for each in examined(settings):
        yield NamedFinding("cells", each.ok, each.found, each.cure)


def _redaction(settings: Settings) -> NamedFinding:
    """Report which secrets are removed."""
    section = settings.redaction
    if not section.enabled:
        cure = 'remove redaction.enabled = false, or keep single kinds by a rule: action = "keep", kinds = [...]'
        return NamedFinding("redaction", True, "off: secrets in telemetry are kept and shown", cure)
    everywhere = {kind for rule in section.rules if _keeps_kinds(rule) for kind in rule.kinds}
    left = f"; {', '.join(sorted(everywhere))} are kept" if everywhere else ""
    own = f", {len(section.rules)} rules" if section.rules else ""
    tenants = "".join(
        f"; {len(one.rules)} more rules of tenant {line(name, 60)}" for name, one in section.tenants.items()
    )
    kinds = len(set(ALL_KINDS) - everywhere)
    return NamedFinding("redaction", True, f"{kinds} kinds of secrets are removed{own}{left}{tenants}")


def _keeps_kinds(rule: RedactionRule) -> bool:
    return rule.action is RedactionAction.KEEP and not rule.attributes and not rule.parts


def _retention(settings: Settings) -> Iterator[NamedFinding]:
    """Report how long rows are kept, and whether the archives can be used."""
    section = settings.retention
    if not settings.has_database or settings.forward is not None:
        return
    if section.directory is None:
        cure = "set retention.directory to archive and remove old rows"
        yield NamedFinding("retention", True, "all rows stay in the database", cure)
        return
    from spanpost.runtime import archives
    from spanpost.store.archiving import parquet

    kept = ", ".join(f"{kind.replace('_', ' ')} {time.days} days" for kind, time in section.by_kind.items())
    kept += ", also less than half a year" if section.allow_short else ""
    own = "".join(f"; tenant {line(name, 60)} has times of its own" for name in section.tenants)
    off = "" if section.enabled else "; not by itself (retention.enabled = false)"
    try:
        parquet.library()
        error = archives.last_error(settings)
    except SpanpostError as missing:
        yield NamedFinding("retention", False, str(missing))  # the message says what to do
        return
    if error:
        yield NamedFinding("retention", False, f"the last run failed: {line(error, 300)}", "run `spanpost archive run`")
    yield NamedFinding("retention", True, f"kept: {kept}{own}; archives in {section.directory}{off}")


def _sealing(settings: Settings) -> Iterator[NamedFinding]:
    """Report whether rows are sealed, and whether checkpoints leave the premises."""
    section = settings.sealing
    if not settings.has_database or settings.forward is not None:
        return
    if not section.enabled:
        cure = "set sealing.enabled = true to notice rows that were changed later"
        yield NamedFinding("sealed log", True, "audit rows are not sealed", cure)
        return
    from spanpost.runtime import checkpoint_ways, sealed_logs, sealing

    try:
        sealing.key_of(sealing.signing_key(settings)[0])
        checkpoint_ways.ways(section)
        found = sealed_logs.list_logs(settings)
    except SpanpostError as error:
        yield NamedFinding("sealed log", False, str(error))
        return
    if not section.ways:
        cure = "set sealing.file, sealing.webhook, sealing.slack_webhook or sealing.timestamp_url"
        yield NamedFinding("sealed log", False, "no checkpoint leaves the premises, so the log proves nothing", cure)
    failures = {one["failure"] for one in found if one["failure"]}
    for failure in sorted(failures)[:3]:
        yield NamedFinding(
            "sealed log", False, f"a checkpoint could not leave: {line(failure, 200)}", "see the setting"
        )
    leaves = sum(one["size"] for one in found)
    ways = ", ".join(section.ways) or "none"
    yield NamedFinding("sealed log", True, f"{leaves:,} leaves in {len(found)} logs; checkpoints leave by: {ways}")


def _forward(settings: Settings) -> Iterator[NamedFinding]:
    """Send an empty request of each signal to the forward endpoint: a receiver that accepts it accepts more."""
    section = settings.forward
    if section is None:
        return
    from spanpost.receivers.forward_target import try_out
    from spanpost.runtime.forwarding import target_of

    try:
        target = target_of(section)
        target.timeout = min(target.timeout, FORWARD_TIMEOUT)
        target.check()
    except ConfigError as error:
        yield NamedFinding("forward", False, str(error))  # the message says what to do
        return
    for signal in ("traces", "logs"):
        trouble = try_out(target, signal)
        where = f"{target.endpoint} ({target.protocol})"
        if not trouble:
            yield NamedFinding("forward", True, f"{where} takes {signal}")
            continue
        cure = (
            "start `spanpost run` or the Collector there, or mend SPANPOST_FORWARD__ENDPOINT; "
            "SPANPOST_FORWARD__PROTOCOL says http or grpc if the port does not say it"
        )
        yield NamedFinding("forward", False, f"{where} does not take {signal}: {line(trouble, 300)}", cure)


def _kafka(settings: Settings) -> Iterator[NamedFinding]:
    """Ask the brokers about the topics, if the section is set."""
    if settings.kafka is None:
        return
    from spanpost.runtime.kafka import examined

    try:
        found = examined(settings.kafka)
    except ConfigError as error:
        yield NamedFinding("kafka", False, str(error))  # the message says what to do
        return
    for each in found:
        yield NamedFinding("kafka", each.ok, each.found, each.cure)


def _interactions(settings: Settings) -> Iterator[NamedFinding]:
    """Check the Slack apps, their tokens and the authorization rules."""
    section = settings.interactions
    if section is None or not section.enabled:
        return
    if not section.has_app:
        cure = (
            "set SPANPOST_INTERACTIONS__APP_TOKEN (Socket Mode), or "
            "SPANPOST_INTERACTIONS__SIGNING_SECRET (HTTP, in the gateway)"
        )
        yield NamedFinding(
            "interactions", False, "no answers are received: neither an app token nor a signing secret is set", cure
        )
        return
    if settings.forward is not None:
        yield NamedFinding(
            "interactions",
            True,
            "no answers are received in this process: the gateway receives those of forwarded tasks",
        )
        return
    from spanpost.runtime.interactions_check import examine

    try:
        seen = asyncio.run(_bounded(examine(settings)))
    except ConfigError as error:
        yield NamedFinding("interactions", False, str(error))  # the message says what to do
        return
    for each in seen:
        yield NamedFinding("interactions", each.ok, each.found, each.cure)


async def _bounded(check: Awaitable[Sequence[Finding]]) -> Sequence[Finding]:
    async with asyncio.timeout(SINK_TIMEOUT):
        return await check


def _slack_oauth(settings: Settings) -> Iterator[NamedFinding]:
    """Check the workspaces in which the Slack app is installed."""
    from spanpost.runtime.workspaces import examined, refuse_unfit

    try:
        refuse_unfit(settings)
        if settings.slack_oauth is None or not settings.slack_oauth.enabled or settings.forward is not None:
            return
        found = asyncio.run(_with_workspaces(settings, examined))
    except SpanpostError as error:
        yield NamedFinding("slack_oauth", False, str(error))  # the message says what to do
        return
    for each in found:
        yield NamedFinding("slack_oauth", each.ok, each.found, each.cure)


async def _with_workspaces(settings: Settings, question: Callable[[Workspaces], Awaitable[T]]) -> T:
    from spanpost.cli.options import opened
    from spanpost.runtime.workspaces import workspaces_of

    async with opened(settings) as store:
        workspaces = workspaces_of(settings, store)
        assert workspaces is not None
        return await question(workspaces)


def _sinks(settings: Settings, *, sends: bool) -> Iterator[NamedFinding]:
    for name in registry.names():
        whose = registry.distribution(name)
        try:
            registry.find(name)
        except ConfigError as error:
            yield NamedFinding(name, False, str(error), f"upgrade or uninstall {whose}")
            continue
        section = settings.sinks.get(name)
        if section is not None and section.enabled:
            yield NamedFinding(name, True, f"on; of {whose}")
            try:
                sink = registry.open_sink(name, section)
            except ConfigError as error:
                yield NamedFinding(name, False, str(error))  # the message says what to do
                continue
            addresses = sorted({"", *(route.address for route in settings.routes if route.sink == name)})
            looks: list[Callable[[], Awaitable[Sequence[Finding]]]] = []
            looks += [partial(_check_sink, sink, addresses, settings)] if isinstance(sink, CheckingSink) else []
            looks += [partial(send, sink, addresses, settings.intake.tenant)] if sends else []
            for each in asyncio.run(_run_check(partial(_all, looks) if looks else None, sink.close)):
                yield NamedFinding(name, each.ok, each.found, each.cure)


async def _all(looks: Sequence[Callable[[], Awaitable[Sequence[Finding]]]]) -> list[Finding]:
    return [finding for look in looks for finding in await look()]


async def _check_sink(sink: CheckingSink, addresses: Sequence[str], settings: Settings) -> Sequence[Finding]:
    """Run the check of a sink, with the tokens of installed workspaces if they are available."""
    section = settings.slack_oauth
    if not isinstance(sink, Installs) or section is None or not section.enabled or settings.forward is not None:
        return await sink.check(addresses)

    async def ask(workspaces: Workspaces) -> Sequence[Finding]:
        assert isinstance(sink, Installs)
        sink.installed(workspaces)
        return await sink.check(addresses)

    try:
        return await _with_workspaces(settings, ask)
    except SpanpostError:  # reported before; check the other workspaces
        return await sink.check(addresses)


def _launchers(settings: Settings) -> Iterator[NamedFinding]:
    """Check that each launcher could launch. Nothing is started."""
    from spanpost.launchers import base, registry

    for name, (kind, section) in settings.launchers.opened().items():
        try:
            launcher = registry.open_launcher(name, kind, section)
        except ConfigError as error:
            yield NamedFinding(f"{LAUNCH}{name}", False, str(error))  # the message says what to do
            continue
        look = launcher.check if isinstance(launcher, base.CheckingLauncher) else None
        yield NamedFinding(
            f"{LAUNCH}{name}", True, f"on; {kind}{'' if look is not None else ', which has no check of its own'}"
        )
        for each in asyncio.run(_run_check(look, launcher.close)):
            yield NamedFinding(f"{LAUNCH}{name}", each.ok, each.found, each.cure)


async def _run_check(
    look: Callable[[], Awaitable[Sequence[Finding]]] | None, close: Callable[[], Awaitable[object]]
) -> Sequence[Finding]:
    """Run the check of a sink or launcher, if it has one. A timeout is a finding, too."""
    try:
        if look is None:
            return ()
        async with asyncio.timeout(SINK_TIMEOUT):
            return await look()
    except TimeoutError:
        return (
            Finding(
                ok=False, found=f"no answer within {SINK_TIMEOUT:g} s", cure="check whether its server can be reached"
            ),
        )
    except Exception as error:  # a plugin must not end the check of the others
        return (
            Finding(
                ok=False,
                found=line(f"its check raised {type(error).__name__}: {error}", 300),
                cure="report it to its author",
            ),
        )
    finally:
        await close()
