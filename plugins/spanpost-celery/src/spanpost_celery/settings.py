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
        default=None, min_length=1, description="Queue that it is put into; not given: the broker's default."
    )
    expires: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which a worker no longer begins it; not given: it waits for as long as it takes.",
    )
    retry_uncertain: bool = Field(
        default=True,
        description="Put it into the queue again where it is not known whether it was; the Celery task's id is "
        "the order's, by which a worker "
        "can tell. `false`: a person decides.",
    )
