"""The protocol between a receiver in the agent's process and what takes its observations."""

from __future__ import annotations

from typing import Protocol

from spanpost.model.observations import Observation


class Receive(Protocol):
    """**Protocol:** takes observations from a receiver. Called in the worker's thread, one batch at a time.

    Returns when the batch is as safe as it will be: `flush` reports that. It may block; meanwhile the queue
    fills, and then drops and counts. An exception is counted (``receive``) and the batch is dropped: an
    implementation that can retry must keep the batch itself.
    """

    def __call__(self, batch: list[Observation], /) -> object: ...
