"""Acts as providers request them, before anything is verified, and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.interactions import texts
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.model.alerts import SilenceFailure
from spanpost.model.interventions import Result, Verb, Verdict
from spanpost.model.standing_approvals import Scope
from spanpost.routing.parameters import sentence_of
from spanpost.tasks.titles import title
from spanpost.text.locales import ENGLISH, Locale, LocaleMessage


class RequestedAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act as the provider sent it. Nothing of it is verified yet."""

    verb: Verb
    key: UUID
    user: str
    message: PersonMessage
    #: The provider itself marks the user as a member of another workspace.
    is_foreign: bool = False
    #: For `APPROVE`: how far it goes.
    scope: Scope = Scope.ONCE
    #: For `CHOOSE`: the index of the option, from 0; for `RATE`: the index in `RATINGS`.
    option: int | None = None
    #: For `SILENCE`: its end, as `until`.
    parameters: dict[str, str] = {}
    text: str = ""
    idempotency_key: str
    at: datetime


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A request to start work, as the provider sent it."""

    launcher: str
    text: str = ""
    parameters: dict[str, str] = {}
    user: str
    #: Where it was requested.
    message: PersonMessage
    is_foreign: bool = False
    #: The same for every repeat of the request.
    idempotency_key: str
    at: datetime


class ActOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an act; `answer` is for the person in Slack, and empty if the message will show it."""

    verb: Verb
    result: Result
    answer: str = ""
    asked: Asked | None = None
    #: The store's answer, and why the rules refused the act, in plain words.
    verdict: Verdict | None = None
    refusal: str = ""
    #: Why Alertmanager did not do it.
    failure: SilenceFailure | None = None
    #: The language of `answer`.
    locale: Locale = ENGLISH

    @property
    def sentence(self) -> str:
        """The outcome in plain text: the same words at every endpoint, with the next step."""
        assert self.verdict is not None
        if self.refusal:
            return self.refusal
        if self.result is not Result.DONE:
            return texts.verdict(self.verb, self.verdict, self.locale)
        task = self.asked.task if self.asked is not None else None
        name = (self.asked.launcher if self.asked is not None else "") or (title(task) if task else "")
        return texts.done(self.verb, self.verdict, name, self.locale)


class WrongParameters(Exception):
    """The parameters of a start do not fit the launcher's declaration. Nothing was recorded."""

    def __init__(self, faults: Mapping[str, LocaleMessage]) -> None:
        self.faults = faults
        super().__init__(sentence_of(faults, ENGLISH.tell))
