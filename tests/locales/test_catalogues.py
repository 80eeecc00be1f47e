"""The catalogues: the same keys, the same placeholders, none missing and none unused."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

import spanpost
from spanpost.interactions import texts
from spanpost.model.interventions import Result, Verb, Verdict
from spanpost.testing.strategies import STORED, fields_of
from spanpost.text.locales import ENGLISH, KOREAN, LOCALES, Locale, LocaleMessage, english, korean, locale
from spanpost.text.locales.catalogue import Phrase

PLACE = Path(spanpost.__file__).parent
#: Catalogues without words.
BARE = {
    "figure.percent", "limit.percent", "checkpoint.with_ranges", "checkpoint.with_words", "checkpoint.range_of_time",
    "checkpoint.beside", "checkpoint.spent_usd", "task.nth_step", "root.went_on_after", "command.form_help",
    "checkpoint.ended_because",
}  # fmt: skip
#: Parts of a key with a known set of values: f"status.{status}".
MADE = (
    "end.",
    "status.",
    "kind.",
    "window.",
    "action.",
    "checkpoint.asked_",
    "checkpoint.loop_",
    "checkpoint.rated_",
    "command.form_",
    "command.help_",
    "command.more_",
    "done.",
    "hidden.",
    "rate.",
    "alert.failed_",
    "interactions.alertmanager_",
    "show.silence_",
    "button.",
)


def placeholders(phrase: Phrase) -> set[str]:
    """Names of placeholders; `n` chooses between two forms and may be omitted."""
    forms = [phrase] if isinstance(phrase, str) else phrase
    return {name for form in forms for _, name, _, _ in Formatter().parse(form) if name is not None}


KEY = re.compile(r"[a-z]+\.[a-z_]+")
#: The other modules beside the catalogues use phrases.
CATALOGUES = {path for path in Path(english.__file__).parent.glob("*.py") if path.stem not in ("__init__", "questions")}


def used() -> tuple[set[str], set[str]]:
    """Return the keys that code names, and every text in the code that could be a key."""
    said, constants = set(), set()
    for path in set(PLACE.rglob("*.py")) - CATALOGUES:
        source = path.read_text(encoding="utf-8")
        if not KEY.search(source):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
                constants.add(node.value)
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
                if name in ("say", "_say", "LocaleMessage", "message") and KEY.fullmatch(str(node.args[0].value)):
                    said.add(str(node.args[0].value))
    return said, constants


def test_the_languages_have_the_same_keys_in_the_same_order() -> None:
    """Each language has the same keys in the same order, so that they can be compared side by side."""
    assert list(english.PHRASES) == list(korean.PHRASES)


def test_the_languages_fill_the_same_placeholders() -> None:
    """Each language uses the same placeholders, so that no figure and no name is lost."""
    filled = {key: placeholders(phrase) for key, phrase in english.PHRASES.items()}
    assert {key: placeholders(phrase) for key, phrase in korean.PHRASES.items()} == filled


def test_stored_messages_format_the_same_values() -> None:
    """A value stored as a number is formatted as one by each language's template."""
    for key in STORED:
        asked = {name: spec != "" for name, spec in fields_of(key).items()}
        forms = (korean.PHRASES[key],) if isinstance(korean.PHRASES[key], str) else korean.PHRASES[key]
        assert {
            name: spec != "" for form in forms for _, name, spec, _ in Formatter().parse(form) if name is not None
        } == asked, key


def test_korean_is_korean() -> None:
    """Each Korean message has Korean text, and Latin only for names: commands, API, US$, placeholders."""
    for key, phrase in korean.PHRASES.items():
        assert isinstance(phrase, str), key
        literal = "".join(text for text, *_ in Formatter().parse(phrase))
        assert key in BARE or re.search("[가-힣]", literal), key
        left = re.sub(
            r"(?<![A-Za-z])(?:show|cancel|pause|resume|retry|message|mute|unmute|dismiss|rate|up|down|start|help|Alertmanager|Prometheus|API|here|US|launchers.retries)(?![A-Za-z])",
            "",
            literal,
        )
        assert not re.search("[A-Za-z]", left), key


@pytest.mark.slow
def test_every_key_that_is_said_is_there_and_none_is_left_over() -> None:
    """Code uses no key that the catalogues lack, and every phrase is used."""
    said, constants = used()
    assert len(said) > 100
    assert said <= english.PHRASES.keys()
    left = {key for key in english.PHRASES.keys() - constants if not key.startswith(MADE)}
    assert left == set()


def test_one_and_other() -> None:
    """English has two forms, and Korean one."""
    assert [ENGLISH.say("figure.agents_done", n=n) for n in (0, 1, 2)] == [
        "0 agents done",
        "1 agent done",
        "2 agents done",
    ]
    assert [KOREAN.say("figure.agents_done", n=n) for n in (1, 2)] == ["에이전트 1개 완료", "에이전트 2개 완료"]


@pytest.mark.parametrize(
    ("seconds", "en", "ko"),
    [
        (0, "0 s", "0초"),
        (42, "42 s", "42초"),
        (123, "2 min 03 s", "2분 3초"),
        (300, "5 min 00 s", "5분"),
        (7500, "2 h 05 min", "2시간 5분"),
        (356_400, "4 d 03 h", "4일 3시간"),
    ],
)
def test_lengths_of_time(seconds: int, en: str, ko: str) -> None:
    """A duration has two units, in each language as people write it."""
    assert (ENGLISH.duration(seconds), KOREAN.duration(seconds)) == (en, ko)


def test_a_phrase_can_be_said_later() -> None:
    """A phrase within a phrase is rendered in the current language; braces in values are no placeholders."""
    locale_message = LocaleMessage(
        "why.not_found", {"what": LocaleMessage("why.who_is_in", {"id": "S{0}"}), "reason": "{x}"}
    )
    assert ENGLISH.tell(locale_message) == "the members of S{0} could not be looked up ({x})"
    assert KOREAN.tell(locale_message) == "S{0} 구성원을 확인하지 못했습니다 ({x})"


def test_an_unknown_language_is_english() -> None:
    """An unknown language code gives English, never an error."""
    assert locale("xx") is ENGLISH
    assert {code: locale(code).code for code in LOCALES} == {"en": "en", "ko": "ko"}


@pytest.mark.parametrize("spoken", [ENGLISH, KOREAN], ids=["english", "korean"])
@pytest.mark.parametrize("verb", Verb)
def test_each_act_has_its_sentence(verb: Verb, spoken: Locale) -> None:
    """Every act that took effect, and every refusal of one, has words in every language."""
    assert texts.done(verb, Verdict(result=Result.DONE, decision="approve"), "a name", spoken)
    assert spoken.say(f"action.{verb}")
