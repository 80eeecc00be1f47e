"""What Slack would show, in the terminal."""

from __future__ import annotations

from spanpost.domain.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.console.settings import ConsoleSettings
from spanpost.sinks.plugin import SinkPlugin
from spanpost.tongues import tongue


def _open(settings: ConsoleSettings) -> Sink:
    try:
        from spanpost.sinks.console.sink import ConsoleSink, Form
    except ImportError as error:
        raise ConfigError(f"console: {error.name} is missing; install it with: pip install 'spanpost[console]'") from error
    return ConsoleSink(form=Form(settings.form), tongue=tongue(settings.language))


plugin = SinkPlugin(name="console", settings=ConsoleSettings, open=_open)
