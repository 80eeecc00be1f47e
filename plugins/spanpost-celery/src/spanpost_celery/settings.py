"""The settings of the launcher."""

from __future__ import annotations

from pydantic import Field, SecretStr

from spanpost import LauncherSettings


class CelerySettings(LauncherSettings):
    """Orders as tasks of Celery workers."""

    broker: SecretStr = Field(
        description="URL of the broker: `amqp://...`, `redis://...`. Never printed: it holds a password."
    )
    task: str = Field(
        min_length=1,
        max_length=300,
        description="Name of the Celery task, as its worker knows it: `agents.run`. It is called with `order=`.",
    )
    queue: str | None = Field(
        default=None, min_length=1, description="Queue of the task; not given: the broker's default."
    )
    expires: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which a worker no longer begins it; not given: it waits for as long as it takes.",
    )
    retry_uncertain: bool = Field(
        default=True,
        description="Queue the order again if it is unknown whether it was queued; the Celery task's id is the "
        "order's id, by which a worker recognises a repeat. `false`: a person decides.",
    )
