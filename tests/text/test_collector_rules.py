"""The Collector's exporter has the rules of this package."""

from __future__ import annotations

import runpy

from spanpost import semconv
from spanpost.testing.observed import ended
from spanpost.text.content import is_content, without_content
from tests.conftest import ROOT


def test_the_exporters_rules_are_current() -> None:
    """The rules in collector/ are those that the script writes now."""
    written = runpy.run_path(str(ROOT / "scripts" / "write_collector_rules.py"))
    current = (ROOT / written["PATH"]).read_text()
    assert current == written["rules"](), "run scripts/write_collector_rules.py"


def test_what_was_left_out_before_stays() -> None:
    """The size that an exporter wrote in place of content is not replaced by its own size."""
    said = {
        "gen_ai.prompt": "[content not kept: 7 characters]",
        "gen_ai.completion": "[content not kept: x characters]",
    }
    kept = without_content(ended(trace=1, span=1, name="chat", attributes=said))
    assert kept.attributes == {
        "gen_ai.prompt": "[content not kept: 7 characters]",
        "gen_ai.completion": "[content not kept: 32 characters]",
    }


def test_live_telemetry_has_no_content_in_its_envelope() -> None:
    """An exporter that drops content leaves the record of a started span whole."""
    assert not [name for name in semconv.ENVELOPE if is_content(name)]
