"""Webhooks made from the settings: the providers, and the carriers of their requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spanpost.interactions.webhooks.base import Provider
from spanpost.interactions.webhooks.carrier import HookCarrier
from spanpost.model.errors import ConfigError
from spanpost.model.recorded import Recorded
from spanpost.settings import Settings

if TYPE_CHECKING:
    from spanpost.store.protocols import Store


def providers_of(settings: Settings) -> dict[str, Provider]:
    """Return the providers by name. Raises `ConfigError` for one that starts an unknown launcher."""
    known = settings.launchers.launchers
    found = {}
    for name, said in settings.webhooks.providers.items():
        for number, does in enumerate(said.does, 1):
            if does.start and does.start not in settings.launchers.named:
                there = ", ".join(sorted(known)) or "none"
                raise ConfigError(
                    f"webhooks.providers.{name}.does number {number}: there is no launcher {does.start!r} in "
                    f"launchers.named (known: {there})"
                )
        found[name] = Provider(
            name=name,
            tenant=said.tenant or settings.intake.tenant,
            scheme=said.declared,
            keys=said.keys,
            idempotency_key=said.idempotency_key,
            window=said.window,
            does=said.does,
        )
    return found


class Hooks:
    """The webhooks of one process: `carriers` for its dispatcher, and the present `providers`.

    `take` receives the records of a request.
    """

    def __init__(self, settings: Settings, store: Store, take: Callable[[Recorded], None]) -> None:
        self._store = store
        self._take = take
        self.providers = providers_of(settings)
        self.launchers = settings.launchers.launchers
        self.carriers = {carrier.name: carrier for carrier in map(self._carrier, self.providers)}

    def _carrier(self, name: str) -> HookCarrier:
        store = self._store
        return HookCarrier(
            name,
            store.reader,
            store.interventions,
            store.launch_orders,
            take=self._take,
            provider=lambda: self.providers.get(name),
            launchers=lambda: self.launchers,
        )

    def reloading(self, settings: Settings) -> Callable[[], None]:
        """Return a function that applies new declarations. Raises `ConfigError`."""
        providers = providers_of(settings)
        if set(providers) != set(self.providers):
            raise ConfigError(
                "webhooks.providers: they are added and removed at the start: restart spanpost, or undo the change"
            )

        def apply() -> None:
            self.providers.update(providers)
            self.launchers = settings.launchers.launchers

        return apply
