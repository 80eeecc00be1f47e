"""Text that poses as ours: as the line that says who decided, or as a button.

Our own verdicts stand without quotation marks, at the head of a line of their own. What an agent writes in their manner is
shown in quotation marks, so that nobody takes a report of a decision for the decision. A rule, not a filter: quotation marks
do no harm where it is mistaken.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Deliveries that look like Latin ones.
_ALIKE: Final = str.maketrans(
    "аеорсухіјѕԁһкмтвпгԛԝѵᴀᴅᴇᴏᴘᴠʙʏɪᴛαορνιτκхуɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧ0135@",
    "aeopcyxijsdhkmtbnrqwvadeopvbyitaopvitkxygabezhikmnoptyxoiesa",
)
_DECIDED: Final = "approv|denied|deny|reject|declin|grant|accept|allow|decid|cancel|mut|paus|resum|retr|confirm|authori[sz]|sign"
_VERDICT: Final = re.compile(rf"(?:{_DECIDED})[a-z]{{0,6}}(?:by|via|inslack|from)")
_BUTTONS: Final = re.compile(
    r"(?:approved?|deny|denied|allow|accept|reject|cancel|retry|mute|unmute|showmore|yes|no|or|clickto){1,6}"
)
#: The same in Korean: a decision that is done, whoever did it; and the labels of our buttons, and what is like them.
_VERDICT_KO: Final = re.compile(
    unicodedata.normalize(
        "NFKD",
        "(?:승인|거부|반려|거절|허가|허용|수락|선택|결정|취소|재개|중지)(?:을|를|이|가|은|는)?(?:함|됨|됐|된|했|한|하였|되었|완료|처리)",
    )
)
_BUTTONS_KO: Final = re.compile(
    unicodedata.normalize(
        "NFKD",
        "(?:승인|거부|반려|거절|허용|수락|취소|작업취소|재시도|재개|알림끄기|알림켜기|음소거|자세히보기|더보기|답변|뒤로|계속실행|예|네|아니요|아니오|확인|또는)"
        "{1,6}",
    )
)
_SINGLE: Final = str.maketrans('“”„‟«»"〝〞＂', "‘’‚‛‹›'‘’'")
#: How far is looked; and what is longer is prose.
_READ: Final = 400


def disarmed(said: str) -> str:
    """Return a line of an agent's as it is shown: in quotation marks where it poses as a verdict or a button of ours."""
    if said and _poses(said[:_READ]):
        return quoted(said)
    return said


def quoted(said: str) -> str:
    """Return somebody's words in quotation marks, which end where the words do: those within are single."""
    return f"“{said.translate(_SINGLE)}”"


def _poses(said: str) -> bool:
    plain = "".join(ch for ch in unicodedata.normalize("NFKD", said).casefold() if not unicodedata.combining(ch)).translate(_ALIKE)
    deliveries = "".join(ch for ch in plain if ch.isalpha())
    if _VERDICT.search(deliveries) is not None or _BUTTONS.fullmatch(deliveries) is not None:
        return True
    return _VERDICT_KO.search(deliveries) is not None or _BUTTONS_KO.fullmatch(deliveries) is not None
