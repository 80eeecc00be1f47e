"""Settings of the sealed log: what cannot work is refused with the field and the next step."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from spanpost.settings.sealing import SealingSettings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"origin": "two words"}, "is no name of a log"),
        ({"origin": "a+b"}, "is no name of a log"),
        ({"key": "short"}, "openssl rand -base64 32"),
        ({"webhook": "ftp://example.com"}, "no http"),
        ({"webhook": "https://user:secret@example.com"}, "without a user name"),
        ({"webhook_token": "t"}, "needs webhook"),
        ({"webhook": "http://example.com", "webhook_token": "t"}, "over https alone"),
        ({"timestamp_url": "http://tsa.example.com"}, "timestamp_roots"),
        ({"interval": "PT0S"}, "greater than or equal"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    """A wrong name, key, URL or combination is an error that says what to write, and quotes no secret."""
    with pytest.raises(ValidationError) as refused:
        SealingSettings(**given)
    assert said in str(refused.value)
    assert "user:secret" not in "".join(error["msg"] for error in refused.value.errors())


def test_ways_are_those_that_are_set() -> None:
    """Each setting by which checkpoints leave is one way; without any there is none."""
    assert SealingSettings().ways == ()
    given = {"file": "/mnt/c.txt", "slack_webhook": "https://hooks.example.com/x", "webhook": "https://example.com/c"}
    assert SealingSettings(**given).ways == ("file", "webhook", "slack_webhook")
