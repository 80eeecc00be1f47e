"""Webhook requests as deliveries: each order is read and done after it was stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from spanpost.interactions.subjects import questions_named
from spanpost.interactions.webhooks.base import Does, Provider
from spanpost.interactions.webhooks.reading import chosen, document_of
from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import Rejected, StoreUnavailable, Unavailable
from spanpost.model.ids import named
from spanpost.model.interventions import Actor, Intervention, Result, Verb
from spanpost.model.launch_orders import HOOK, LAUNCH, Order, Taken
from spanpost.model.recorded import Recorded
from spanpost.store.protocols import Interventions, LaunchOrders, Reader
from spanpost.tasks.interventions import verb_of
from spanpost.text.sanitise import line
from spanpost.text.templates import render

#: Characters of a message or comment, of a name, and of a launcher's parameter.
_WORDS, _NAME, _PARAMETER = 4_000, 100, 1_000


class HookCarrier:
    """Does the act that a provider's settings choose for a request.

    Safe to repeat, however an earlier attempt ended. `take` receives the records of a request.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        interventions: Interventions,
        launch_orders: LaunchOrders,
        *,
        take: Callable[[Recorded], None],
        provider: Callable[[], Provider | None],
        launchers: Callable[[], frozenset[str]],
    ) -> None:
        self.name = HOOK + name
        self._reader = reader
        self._interventions = interventions
        self._launch_orders = launch_orders
        self._take = take
        self._provider = provider
        self._launchers = launchers

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Read a request and do it.

        Raises `Rejected` if that is impossible: the delivery is kept and can be retried.
        """
        order, provider = delivery.order, self._provider()
        if order is None or provider is None:
            raise Rejected(
                "its provider is no longer set up: set it up again, then retry this delivery", reason="no_provider"
            )
        document = document_of(order.parameters, order.body)
        if document is None:
            raise Rejected("the request is no JSON", reason="no_json")
        does = chosen(provider, document)
        if does is None:
            return Receipt(skipped="nothing is to be made of it")
        try:
            if does.start:
                return await self._start(order, does, document)
            if does.approval:
                return await self._decide(order, does, document)
            if does.task:
                return await self._ask(order, does, document)
        except StoreUnavailable as error:
            raise Unavailable(f"it could not be recorded: {line(str(error), 200)}", reason="store") from None
        return Receipt(skipped="nothing is to be made of it")

    async def _start(self, order: Order, does: Does, document: Mapping[str, Any]) -> Receipt:
        if does.start not in self._launchers():
            raise Rejected(
                f"there is no launcher {does.start!r} that is on: set it up, then retry this delivery",
                reason="no_launcher",
            )
        made = Order(
            id=UUID(bytes=named(f"{order.id}\0start\0{does.start}")),
            tenant=order.tenant,
            carrier=LAUNCH + does.start,
            text=render(does.text, document)[:_WORDS],
            parameters={name: render(text, document)[:_PARAMETER] for name, text in does.parameters.items()},
            source="hook",
            by=render(does.by, document)[:_NAME] or order.by,
            by_id=self.name,
            at=order.at,
        )
        if await self._launch_orders.place(made) is Taken.NEW:
            self._take(Recorded(deliveries=1))
        return Receipt(ref={"order": str(made.id)})

    async def _ask(self, order: Order, does: Does, document: Mapping[str, Any]) -> Receipt:
        ref = render(does.task, document).strip()
        task = await self._reader.refer(order.tenant, ref) if ref else None
        if task is None:
            raise Rejected(f"there is no task {line(ref, 100)!r}: once there is, retry this delivery", reason="no_task")
        return await self._act(order, does, document, Verb(does.verb), task.uid)

    async def _decide(self, order: Order, does: Does, document: Mapping[str, Any]) -> Receipt:
        id = render(does.approval, document).strip()
        found = await questions_named(self._interventions, order.tenant, id) if id else ()
        if not found:
            raise Rejected(
                f"there is no question {line(id, 100)!r}: once there is, retry this delivery", reason="no_question"
            )
        if len(found) > 1:
            said = (
                f"{line(id, 100)!r} was asked in {len(found)} wordings: give each question an id of its own, "
                "or name it by its key"
            )
            raise Rejected(said, reason="several_questions")
        [question], decision = found, render(does.decision, document).strip()
        verb = verb_of(question, decision)
        if verb is None:
            raise Rejected(f"{line(decision, 100)!r} is no answer to that question", reason="no_answer")
        return await self._act(
            order, does, document, verb, question.key, option=decision if verb is Verb.CHOOSE else ""
        )

    async def _act(
        self, order: Order, does: Does, document: Mapping[str, Any], verb: Verb, key: UUID, *, option: str = ""
    ) -> Receipt:
        by = render(does.by, document)[:_NAME]
        act = Intervention(
            tenant=order.tenant,
            verb=verb,
            key=key,
            actor=Actor(provider="hook", id=order.name, name=by or order.name, credential=f"hook {order.name}"),
            option=option,
            text=render(does.text, document)[:_WORDS],
            source="hook",
            idempotency_key=f"hook:{order.id}",
            at=order.at,
        )
        verdict = await self._interventions.intervene(act)
        if verdict.recorded is not None:
            self._take(verdict.recorded)
        if verdict.result in (Result.DONE, Result.DECIDED):
            return Receipt(ref={"result": str(verdict.result), "task": verdict.task_id})
        raise Rejected(f"it was not done: {verdict.result}", reason=str(verdict.result))

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | None]:
        """Report nothing, so that all are repeated: the request's id prevents duplicates."""
        return {delivery.id: None for delivery in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return no rate limits."""
        return ()

    async def close(self) -> None:
        """Do nothing: there are no connections."""
