"""Settings of the sink `console`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spanpost.sinks.plugin import SinkSettings
from spanpost.text.locales import Language


class ConsoleSettings(SinkSettings):
    """Messages in the terminal, as Slack would show them."""

    form: Literal["auto", "live", "plain", "json"] = Field(
        default="auto",
        description="`live` redraws, `plain` appends, `json` writes JSON lines; `auto` is live in a terminal.",
    )
    language: Language = Field(
        default="en",
        description="Language of spanpost's own text if the route does not say: `en` (English) or `ko` (Korean).",
    )
