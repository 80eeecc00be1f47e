"""The section `control` of a process that forwards: where its questions go."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanpost.agent.gateway import GatewayClient, WireOrigin
from spanpost.runtime.forwarding import Forwarding
from spanpost.settings import load

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ({}, ("gateway", "Bearer spans", "/ca.pem")),
        ({"token": "people"}, ("gateway", "Bearer people", "/ca.pem")),
        (
            {"endpoint": "https://people:4318", "certificate": Path("/other.pem")},
            ("people", "Bearer spans", "/other.pem"),
        ),
    ],
)
def test_questions_go_where_the_settings_say(control: dict[str, object], expected: tuple[str, str, str]) -> None:
    """Each field of `control` is used, wherever it was set, and those of `forward` where it is left out."""
    forward = {"endpoint": "https://gateway:4318", "token": "spans", "certificate": "/ca.pem"}
    client = Forwarding(load(forward=forward, control=control, console={})).control()
    assert isinstance(client, GatewayClient)
    assert (client._origin, client._headers["authorization"], client._certificate) == (
        WireOrigin(expected[0], 4318, True),
        *expected[1:],
    )
