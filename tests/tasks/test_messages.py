"""One task, one message: for any order of a history the last messages are true, and none is left out of date."""

from __future__ import annotations

from random import Random

import pytest

from tests.tasks.histories import history, resumptions
from tests.tasks.posting import LIMITED_LOG, posted
from tests.tasks.test_property import HISTORIES
from tests.thorough import by_seeds


@pytest.mark.slow
@by_seeds(
    max(50, HISTORIES // 4),
    (1518, 0),  # what torn histories used to leave standing
    (0, 332812),
    (4294967296, 537),  # a task loses its calls to another, and the rest of it is dissolved within it
    (61, 427),  # a checkpoint of a task of which nothing else is known yet, and that moves
    (51, 357),  # a checkpoint that is retracted while its arrival is unknown
    (64213504, 64213504),  # a task is torn loose while its checkpoint waits below a message that is never shown
)
def test_each_message_shows_its_task_or_has_ended_and_each_checkpoint_is_posted_once(seed: int, order: int) -> None:
    """In any order and with any delay a message shows the current state of its task, or names the successor.

    Each announced root has one message in each place that routes name; each checkpoint is posted once, below one.
    """
    for batch in (history(Random(seed)), resumptions(Random(seed))):
        assert posted(batch, Random(order)).faults() == []


@pytest.mark.slow
@by_seeds(
    max(25, HISTORIES // 8),
    (5000047, 35000330),  # a checkpoint moves to a task whose message was not worth beginning before
)
def test_where_few_checkpoints_are_posted_none_is_posted_without_its_message(seed: int, order: int) -> None:
    """A message that appears only with its first important checkpoint comes before that checkpoint."""
    for batch in (history(Random(seed)), resumptions(Random(seed))):
        assert posted(batch, Random(order), LIMITED_LOG).far.wrongs == []


@pytest.mark.slow
def test_histories_end_messages() -> None:
    """The random histories hold many messages that end."""
    ended = 0
    for seed in range(30):
        for batch in (history(Random(seed)), resumptions(Random(seed))):
            ended += sum(shown.has_moved for shown in posted(batch, Random(seed)).far.stands.values())
    assert ended > 20
