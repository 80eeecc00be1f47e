"""Settings of retention: what is too short, and where archives may be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from spanpost.settings.retention import RetentionSettings


@pytest.mark.parametrize("kind", ["audit_rows", "tasks", "interventions"])
def test_less_than_half_a_year_has_to_be_said(kind: str) -> None:
    """Logs are kept for 183 days at least, for each tenant, unless `allow_short` says that less is meant."""
    short = {kind: timedelta(days=30)}
    with pytest.raises(ValidationError, match="less than 183 days"):
        RetentionSettings(**short)
    with pytest.raises(ValidationError, match=f"tenants.acme.{kind}"):
        RetentionSettings(tenants={"acme": short})
    accepted = RetentionSettings(tenants={"acme": short}, allow_short=True)
    assert accepted.kept_for(kind, "acme") == timedelta(days=30)
    assert accepted.kept_for(kind, "other") == getattr(RetentionSettings(), kind)


def test_the_directory_is_absolute() -> None:
    """A relative directory is refused; ~ is the home of the user."""
    with pytest.raises(ValidationError, match="absolute path"):
        RetentionSettings(directory=Path("archive"))
    assert RetentionSettings(directory=Path("~/archive")).directory == Path.home() / "archive"
