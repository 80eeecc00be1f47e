"""Detects text that imitates spanpost: a line that says who decided, or a button.

Spanpost's own verdicts have no quotation marks and start a line of their own. An agent's text in that form
is shown in quotation marks, so that a reported decision is not taken for the decision. This is a rule and
not a filter: quotation marks do no harm where it is mistaken.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Letters that look like Latin ones.
_ALIKE: Final = str.maketrans(
    "аеорсухіјѕԁһкмтвпгԛԝѵᴀᴅᴇᴏᴘᴠʙʏɪᴛαορνιτκхуɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧ0135@",
    "aeopcyxijsdhkmtbnrqwvadeopvbyitaopvitkxygabezhikmnoptyxoiesa",
)
_DECIDED: Final = (
    "approv|denied|deny|reject|declin|grant|accept|allow|decid|cancel|mut|paus|resum|retr|confirm|authori[sz]|sign"
)
_VERDICT: Final = re.compile(rf"(?:{_DECIDED})[a-z]{{0,6}}(?:by|via|inslack|from)")
_BUTTONS: Final = re.compile(
    r"(?:approved?|deny|denied|allow|accept|reject|cancel|stop|open|retry|pause|letitbe|mute|unmute|showmore|yes|no|or|clickto){1,6}"
)
#: The same in Korean: a completed decision by anyone; and the labels of the buttons and similar words.
_VERDICT_KO: Final = re.compile(
    unicodedata.normalize(
        "NFKD",
        "(?:승인|거부|반려|거절|허가|허용|수락|선택|결정|취소|재개|중지)(?:을|를|이|가|은|는)?(?:함|됨|됐|된|했|한|하였|되었|완료|처리)",
    )
)
_BUTTONS_KO: Final = re.compile(
    unicodedata.normalize(
        "NFKD",
        "(?:승인|거부|반려|거절|허용|수락|취소|작업취소|중지|열기|재시도|일시중지|그대로두기|재개|알림끄기|알림켜기|음소거|자세히보기|더보기|답변|뒤로|계속실행|예|네|아니요|아니오|확인|또는){1,6}",
    )
)
_SINGLE: Final = str.maketrans('“”„‟«»"〝〞＂', "‘’‚‛‹›'‘’'")
#: Characters that are examined; a longer text is prose.
_READ: Final = 400


def disarmed(said: str) -> str:
    """Return an agent's line, in quotation marks if it imitates a verdict or a button."""
    if said and _poses(said[:_READ]):
        return quoted(said)
    return said


def quoted(said: str) -> str:
    """Return a text in quotation marks; those inside become single."""
    return f"“{said.translate(_SINGLE)}”"


def _poses(said: str) -> bool:
    plain = "".join(
        ch for ch in unicodedata.normalize("NFKD", said).casefold() if not unicodedata.combining(ch)
    ).translate(_ALIKE)
    letters = "".join(ch for ch in plain if ch.isalpha())
    if _VERDICT.search(letters) is not None or _BUTTONS.fullmatch(letters) is not None:
        return True
    return _VERDICT_KO.search(letters) is not None or _BUTTONS_KO.fullmatch(letters) is not None
