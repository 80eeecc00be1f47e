"""Figures of an entity, by a word of the settings: `/agents status dealer-12`.

Authorization. Only the workspaces of the command's tenant may ask, and there those who may list tasks. The entity is
part of a query as quoted text alone. A *Run* button is what its user could type (`/agents start fixer ...`), and is
judged by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from spanpost.interactions.slack.lines import Line
from spanpost.sinks.outputs import EntityCommand, Figures
from spanpost.sinks.slack.blocks import text
from spanpost.text.locales import Locale
from spanpost.text.sanitise import line

_ENTITY: Final = re.compile(r"[\w.:/@+-]{1,100}")


class Entities:
    """Answers the commands of the settings. `default` is the tenant of commands that name none."""

    def __init__(self, commands: Mapping[str, EntityCommand], figures: Figures, default: str) -> None:
        self._commands = commands
        self._figures = figures
        self._default = default

    def words(self, tenant: str) -> dict[str, EntityCommand]:
        """Return the commands of a tenant by their words."""
        return {word: one for word, one in self._commands.items() if (one.tenant or self._default) == tenant}

    def work(self, command: EntityCommand, entity: str) -> dict[str, str]:
        """Return what launchers may be given to do about an entity."""
        if not _ENTITY.fullmatch(entity):
            return {}
        return {name: text.replace("{entity}", entity) for name, text in command.start.items()}

    async def answer(self, command: EntityCommand, entity: str, locale: Locale) -> list[Line]:
        """Return the figures of an entity, or why there are none."""
        if not _ENTITY.fullmatch(entity):
            return [[text(locale.say("command.entity_unreadable"))]]
        found = await self._figures.now(command.queries, {"entity": entity})
        if found is None:
            return [[text(locale.say("command.entity_away"))]]
        if not found:
            return [[text(locale.say("command.entity_unknown", entity=line(entity, 100)))]]
        return [[text(line(entity, 100), "bold")], *([text(line(figure, 200))] for figure in found)]
