"""A sink that writes each checkpoint as one line of a file: the smallest that a sink can be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from spanpost import Delivery, RateLimit, Receipt, SinkCall, SinkPlugin, SinkSettings
from spanpost.tasks.json_form import checkpoint_json


class DiarySettings(SinkSettings):
    """Checkpoints as lines of a file: SPANPOST_DIARY__PATH."""

    path: Path


class DiarySink:
    """Appends lines. A line that may have been written is looked up in the file before it is written again."""

    name = "diary"

    def __init__(self, settings: DiarySettings) -> None:
        self._path = settings.path

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Append one line; the task's states are no checkpoints and are left out."""
        if delivery.checkpoint is None:
            return Receipt(skipped="only checkpoints are written")
        said = checkpoint_json(delivery.checkpoint, delivery.task.task_id)
        # Text of agents is untrusted: a line break in it would be a line of somebody else.
        line = f"{said['kind']}: {delivery.task.name}: {said['text']}".replace("\n", " ")
        await asyncio.to_thread(self._append, f"{line}  #{delivery.key}\n")
        return Receipt(ref={"line": delivery.key})

    def _append(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(line)

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Look for each line in the file."""
        written = await asyncio.to_thread(self._path.read_text) if self._path.exists() else ""
        return {one.id: Receipt(ref={"line": one.key}) if f"#{one.key}\n" in written else None for one in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """A file needs no pace."""
        return ()

    async def close(self) -> None:
        """Nothing stays open."""


def _open(settings: DiarySettings) -> DiarySink:
    return DiarySink(settings)


plugin = SinkPlugin(name="diary", settings=DiarySettings, open=_open)
