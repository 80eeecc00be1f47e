"""`spanpost check`: what it finds about the forwarding target and the gateway's files, with remedies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spanpost.cli.examination import examine
from spanpost.cli.listening import NamedFinding
from spanpost.settings import load
from spanpost.testing.gateway import GrpcGateway, RunningGateway
from tests.eventually import free_port

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_environment")]


def found(name: str, **sections: object) -> list[NamedFinding]:
    return [
        finding for finding in examine(load(**{"database": {"embedded": False}, **sections})) if finding.name == name
    ]


def forward(endpoint: str, **more: object) -> list[NamedFinding]:
    return found("forward", forward={"endpoint": endpoint, **more})


def test_where_it_is_forwarded_to_is_tried() -> None:
    """Check sends an empty request of each signal with the settings' token, by HTTP and by gRPC."""
    with RunningGateway() as http, GrpcGateway() as grpc:
        for url, protocol in ((http.url, "http"), (grpc.url, "grpc")):
            result = forward(url, protocol=protocol, token="spt_secret")
            assert [finding.ok for finding in result] == [True, True], result
        assert [path for path, _, _ in http.requests] == ["/v1/traces", "/v1/logs"]
        assert {headers["authorization"] for _, headers, _ in http.requests} == {"Bearer spt_secret"}


def test_what_is_wrong_there_is_said() -> None:
    """An unreachable target, a refused token and a wrong path are each reported with a next step."""
    nobody = free_port()
    for finding in forward(f"http://127.0.0.1:{nobody}", timeout=1):
        assert not finding.ok
        assert "spanpost run" in finding.next_step
    assert found("database", forward={"endpoint": f"http://127.0.0.1:{nobody}", "timeout": 1}) == []
    with RunningGateway() as gateway:
        gateway.answers.extend([401, 401])
        result = forward(gateway.url, token="spt_secret")
        assert [finding.ok for finding in result] == [False, False]
        assert "forward.token" in result[0].finding
        assert not any("spt_secret" in text for finding in result for text in (finding.finding, finding.next_step))
        gateway.paths = {"/v1/traces"}
        assert [finding.ok for finding in forward(gateway.url)] == [True, False]
    [finding] = forward("https://127.0.0.1:1", certificate="nowhere.pem")
    assert "nowhere.pem" in finding.finding


def test_a_mistake_in_a_section_has_its_name(tmp_path: Path) -> None:
    """A route to a sink that is not on is a finding of `routes`, not of the database."""
    sections = {"database": {"embedded": True, "data_dir": tmp_path}, "routes": [{"sink": "slak"}]}
    [finding] = [one for one in examine(load(**sections)) if not one.ok and "slak" in one.finding]
    assert finding.name == "routes"


def test_launchers_are_looked_at(tmp_path: Path) -> None:
    """Each launcher that is on reports a missing program with the remedy, and starts nothing."""
    mark = tmp_path / "started"
    named = {
        "good": {"kind": "command", "command": ["/bin/sh", "-c", f"touch {mark}"]},
        "bad": {"kind": "command", "command": [str(tmp_path / "nowhere")]},
        "off": {"kind": "command", "command": [str(tmp_path / "nowhere")], "enabled": False},
    }
    result = {name: found(f"launch:{name}", launchers={"named": named}) for name in named}
    assert {name: [finding.ok for finding in findings] for name, findings in result.items()} == {
        "good": [True, True], "bad": [True, False], "off": [],
    }  # fmt: skip
    assert "nowhere" in result["bad"][1].finding
    assert result["bad"][1].next_step
    assert not mark.exists()


def test_the_gateways_files_are_looked_at(tmp_path: Path) -> None:
    """A missing socket directory, another file in its place and unreadable certificates are found."""
    ports = {"http_port": 0, "grpc_port": 0}
    nowhere, file = tmp_path / "nowhere" / "otlp.sock", tmp_path / "file"
    file.touch()
    for path, says in ((nowhere, "install -d"), (file, "another path")):
        [bad] = [finding for finding in found("gateway", gateway={**ports, "grpc_socket": str(path)}) if not finding.ok]
        assert says in bad.next_step
    tls = {"tls_certificate": str(file), "tls_key": str(file)}
    [bad] = [finding for finding in found("gateway", gateway={**ports, **tls}) if not finding.ok]
    assert "PEM" in bad.finding
    assert all(
        finding.ok for finding in found("gateway", gateway={**ports, "grpc_socket": str(tmp_path / "otlp.sock")})
    )


def test_public_metrics_without_a_token_are_reported(clean_environment: Path) -> None:
    """Check reports, before the start, that the network could read names of tenants and agents, and what to
    set.
    """
    found = [one.finding for one in examine(load(metrics={"host": "0.0.0.0", "port": 0})) if one.name == "metrics"]
    assert any("metrics.tokens" in one for one in found)
    found = [one.finding for one in examine(load(metrics={"host": "127.0.0.1", "port": 0})) if one.name == "metrics"]
    assert not any("metrics.tokens" in one for one in found)


def test_a_test_message_is_sent_to_each_place(tmp_path: Path) -> None:
    """With `--send` each address of the routes gets a message of its own, which says that it is a test."""
    calls = tmp_path / "calls.jsonl"
    sections = {"slack": {"preview_file": calls}, "routes": [{"sink": "slack", "address": "#deploys", "agent": "x"}]}
    settings = load(**{"database": {"embedded": False}, **sections})
    said = [one.finding for one in examine(settings, sends=True) if one.name == "slack" and one.ok]
    assert "a test message was sent to its default place" in said
    assert "a test message was sent to #deploys" in said
    posted = [json.loads(call)["arguments"] for call in calls.read_text().splitlines()]
    assert [call["channel"] for call in posted] == ["#agents", "#deploys"]
    assert all("Test message of spanpost check" in call["text"] for call in posted)
    calls.write_text("")
    examine(settings)
    assert calls.read_text() == ""
