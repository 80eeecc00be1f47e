"""What a gateway did: started, stopped, settings read again. No value of a setting is in a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spanpost.runtime.gateway_acts import changed_keys, settings_hash
from spanpost.settings import load
from spanpost.store.system_user import system_user
from spanpost.testing.postgres import as_role
from tests.conftest import WRITER, Database
from tests.eventually import eventually
from tests.interactions.api.served import Served, tokens

SECRET = "a-secret-that-stays-one"


@pytest.mark.acceptance
def test_starts_reloads_refusals_and_stops_are_rows(dsn: str, database: Database, clean_environment: Path) -> None:
    """Each has the system's user, the program's version and the changed settings by name; a refused reload has its
    reason; neither old nor new values are in a row.
    """

    def rows() -> list[tuple[str, ...]]:
        return database.fetch(
            "SELECT verb, result, detail, refusal, actor_id, via, tenant FROM human_interventions ORDER BY number"
        )

    with Served(as_role(dsn, WRITER)) as served:
        before = {"tokens": [*tokens(), {"name": "new", "sha256": ["ab" * 32], "roles": ["viewer"]}]}
        assert served.reload(interactions=before)
        assert not served.reload(gateway={"http_port": 0, "grpc_port": -1, "tls_cert": SECRET})
        eventually(lambda: len(rows()) == 3)
    found = rows()
    assert [row[:2] for row in found] == [
        ("start_gateway", "done"), ("reload_settings", "done"), ("reload_settings", "refused"),
        ("stop_gateway", "done"),
    ]  # fmt: skip
    assert {row[4:] for row in found} == {(f"gateway:{system_user()}", "gateway", "")}
    assert all("process" in row[2] for row in found)
    changed = found[1][2].partition("changed: ")[2].split(", ")
    assert changed == ["interactions.rules", "interactions.tokens"]
    assert "gateway.tls_cert: there is no such setting" in found[2][3]
    everything = json.dumps(found)
    assert SECRET not in everything
    assert "ab" * 32 not in everything


def test_a_hash_of_settings_is_of_their_values_and_the_key(clean_environment: Path) -> None:
    """The same settings have the same hash, another value or another database's key another one; the changed keys
    are named.
    """
    one, other = load(intake={"tenant": "acme"}), load(intake={"tenant": "other"})
    assert settings_hash(one, b"k") == settings_hash(load(intake={"tenant": "acme"}), b"k")
    assert len({settings_hash(one, b"k"), settings_hash(other, b"k"), settings_hash(one, b"l")}) == 3
    assert changed_keys(one, other) == ["intake.tenant"]
    assert changed_keys(one, one) == []
