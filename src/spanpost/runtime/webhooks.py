"""Webhooks made from the settings: the providers, the carriers of their requests, and the store behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spanpost.interactions.webhooks.base import Provider
from spanpost.interactions.webhooks.carrier import HookCarrier
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import ApprovalRow, Intervention, Verdict
from spanpost.model.launch_orders import Order, Taken
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.runtime.decisions import questions_named
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
            does=said.does,
        )
    return found


class WebhookStore:
    """The store, as webhooks need it. `take` gets what an intervention recorded."""

    def __init__(self, store: Store, take: Callable[[Recorded], None]) -> None:
        self._store = store
        self._take = take

    async def order(self, order: Order, *, signature: str = "") -> Taken:
        """Place a launch order, and send its delivery."""
        taken = await self._store.order(order, signature=signature)
        if taken is Taken.NEW:
            self._take(Recorded(deliveries=1))
        return taken

    async def intervene(self, intervention: Intervention) -> Verdict:
        """Record an intervention, and send its deliveries."""
        verdict = await self._store.intervene(intervention)
        if verdict.recorded is not None:
            self._take(verdict.recorded)
        return verdict

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids."""
        return await self._store.refer(tenant, ref)

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        """Return a question by its key; or by the agent's id all that an answer may mean, one for each
        wording.
        """
        return await questions_named(self._store, tenant, ref)


class Hooks:
    """The webhooks of one process: `carriers` for its dispatcher, and the present `providers`."""

    def __init__(self, settings: Settings, interaction_store: WebhookStore) -> None:
        self.interaction_store = interaction_store
        self.providers = providers_of(settings)
        self.launchers = settings.launchers.launchers
        self.carriers = {carrier.name: carrier for carrier in map(self._carrier, self.providers)}

    def _carrier(self, name: str) -> HookCarrier:
        return HookCarrier(self.interaction_store, lambda: self.providers.get(name), lambda: self.launchers, name)

    def reload(self, settings: Settings) -> None:
        """Use new declarations from now on. Raises `ConfigError`, and then nothing has changed."""
        providers = providers_of(settings)
        if set(providers) != set(self.providers):
            raise ConfigError(
                "webhooks.providers: they are added and removed at the start: restart spanpost, or undo the change"
            )
        self.providers.update(providers)
