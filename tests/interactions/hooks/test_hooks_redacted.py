"""A word that a rule hides, in every text of a permission hook: nothing that the store keeps has it."""

from __future__ import annotations

import pytest

from spanpost.model.interventions import Verb
from spanpost.readers.redaction import Redaction, RedactionRules
from spanpost.tasks.folded import FoldRules
from spanpost.text.rules import RedactionAction, RedactionRule
from tests.interactions.hooks.harness import Station
from tests.store.contents import texts

WORD = "wombatmarker"
INPUT = {"command": f"echo {WORD}", WORD: "a name", "nested": {"list": [WORD, {"deep": f"x{WORD}y"}]}, "text": WORD * 2}


async def _kept_of_a_call(rules: FoldRules) -> list[str]:
    """Ask for a call with the word in each of its texts; return all texts that the store keeps."""
    station = Station(rules=rules, input=True)
    call = station.call(tool_input=INPUT, cwd=f"/home/{WORD}/shop", description=f"says {WORD}")
    await station.open()
    await station.decide(Verb.DENY)
    await call.answer()
    await station.closed()
    found = list(texts(station.store))
    assert any("Claude Code asks to use Bash" in text for text in found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("action", ["hash", "drop", "redact"])
async def test_a_hidden_word_of_a_call_is_kept_nowhere(action: str) -> None:
    """Input, names in it, directory and description of a call are hidden in its question, task and deliveries."""
    rule = RedactionRule(action=RedactionAction(action), pattern=WORD)
    rules = FoldRules(redaction=Redaction(RedactionRules(rules=(rule,)), key=b"k" * 32))
    assert [text for text in await _kept_of_a_call(rules) if WORD in text] == []
    assert [text for text in await _kept_of_a_call(FoldRules()) if WORD in text] != []
