"""Log lines of the command line on stderr."""

from __future__ import annotations

import json
import logging

import pytest

from spanpost.cli import logs
from spanpost.settings import LogSettings


@pytest.mark.proves("no-token-shown", "log-injection")
def test_lines_are_json_with_time_level_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is one JSON object that a log pipeline can read."""
    logs.configure(LogSettings(json_lines=True))
    logging.getLogger("spanpost.dispatcher").info("the store is back after %d tries", 3)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"]) == (
        "info",
        "spanpost.dispatcher",
        "the store is back after 3 tries",
    )
    assert line["at"].endswith("Z")


@pytest.mark.proves("no-token-shown")
def test_a_token_in_a_message_or_traceback_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Redaction is the last line of defence, in text and in JSON, in messages and in exceptions."""
    token = "xoxb-" + "1234567890-abcdefghijkl"
    for json_lines in (False, True):
        logs.configure(LogSettings(json_lines=json_lines))
        try:
            raise RuntimeError(f"refused {token}")
        except RuntimeError:
            logging.getLogger("spanpost").exception("with %s", token)
    written = capsys.readouterr().err
    assert "refused" in written
    assert token not in written


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest settings apply; a message is not doubled."""
    logs.configure(LogSettings())
    logs.configure(LogSettings(level="WARNING"))
    logging.getLogger("spanpost").info("not heard")
    logging.getLogger("spanpost").warning("heard once")
    assert capsys.readouterr().err == "warning: heard once\n"
