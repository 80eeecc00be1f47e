"""Which delivery of an ordering key goes first."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from spanpost.model.deliveries import Mode, Receipt, Urgency
from spanpost.routing import claiming, delivery_states
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.planned import PlannedDelivery
from spanpost.testing.nouns import NOON

UID = UUID(int=1)


def _planned(mode: Mode, urgency: Urgency) -> PlannedDelivery:
    return PlannedDelivery(
        sink="slack",
        ordering_key="k",
        mode=mode,
        key="k" if mode is Mode.STATE else "line",
        urgency=urgency,
        task_uid=UID,
    )


def _line() -> OutboxEntry:
    return delivery_states.begin(_planned(Mode.CHECKPOINT, Urgency.NORMAL), NOON)


@pytest.mark.parametrize("urgencies", [(Urgency.START, Urgency.END), (Urgency.END, Urgency.START)])
def test_the_end_of_a_run_that_began_while_its_edit_waited_goes_before_the_lines(
    urgencies: tuple[Urgency, Urgency],
) -> None:
    """A run of a task that has a message begins and ends before it is edited, in either order: the edit goes first."""
    line, state = _line(), delivery_states.begin(_planned(Mode.STATE, urgencies[0]), NOON)
    state = msgspec.structs.replace(state, receipt=Receipt(ref={}))
    state = delivery_states.put(state, _planned(Mode.STATE, urgencies[1]), NOON + timedelta(seconds=1))
    assert claiming.first([line, state], has_message_receipt=True) is state


def test_progress_is_edited_after_the_lines() -> None:
    """The edit of a task at work goes after the lines that wait."""
    line, state = _line(), delivery_states.begin(_planned(Mode.STATE, Urgency.NORMAL), NOON)
    assert claiming.first([line, state], has_message_receipt=True) is line
