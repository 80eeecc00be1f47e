"""Messages in the terminal, as Slack would show them."""

from __future__ import annotations

from spanpost.model.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.console.settings import ConsoleSettings
from spanpost.sinks.plugin import SinkPlugin
from spanpost.text.locales import locale


def _open(settings: ConsoleSettings) -> Sink:
    try:
        from spanpost.sinks.console.sink import ConsoleForm, ConsoleSink
    except ImportError as error:
        raise ConfigError(
            f"console: {error.name} is missing; install it with: pip install 'spanpost[console]'"
        ) from error
    return ConsoleSink(form=ConsoleForm(settings.form), locale=locale(settings.language))


plugin = SinkPlugin(name="console", settings=ConsoleSettings, open=_open)
