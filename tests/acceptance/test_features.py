"""The features of `spanpost run`, walked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.features import FEATURES, Deployment, settings, surroundings, walk
from tests.acceptance.gateways import run_gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "local-slack")]


async def test_every_feature_of_this_checkout(dsn: str, tmp_path: Path) -> None:
    """Every feature works with the packages that tests have."""
    async with surroundings(tmp_path) as (slack, webhooks):
        with run_gateway(dsn, tmp_path, **settings(slack, webhooks)) as gateway:
            results = await walk(
                Deployment(
                    gateway=gateway.url,
                    dsn=dsn,
                    slack=slack,
                    webhooks=webhooks,
                    otlp_grpc=f"http://127.0.0.1:{gateway.grpc}",
                )
            )
    assert results == dict.fromkeys(FEATURES, "yes")
