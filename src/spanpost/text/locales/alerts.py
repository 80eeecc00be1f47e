"""Phrases about alerts and what people do with them."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

ENGLISH: Final[dict[str, Phrase]] = {
    "alert.firing": "firing",
    "alert.resolved": "resolved",
    "alert.unnamed": "alert",
    "alert.head": "alert",
    "alert.after": "after {time}",
    "alert.resolved_at": "resolved {at}",
    "alert.since": "since {at}",
    "alert.acknowledged": "👀 acknowledged by {by}",
    "alert.silenced": "🔕 silenced by {by}, silence {id}",
    "alert.silenced_until": "until {at}",
    "alert.not_silenced": "⚠️ not silenced, as {by} asked: {why}",
    "alert.still_silenced": "⚠️ the silence could not be ended: {why}",
    "alert.failed_unreachable": "Alertmanager cannot be reached",
    "alert.failed_timeout": "Alertmanager does not answer in time",
    "alert.failed_credentials": "Alertmanager does not accept the credentials of the settings",
    "alert.failed_unknown_alert": "Alertmanager has no alert with exactly these labels any more",
    "alert.failed_refused": "Alertmanager refuses it",
    "button.acknowledge": "Acknowledge",
    "button.silence": "Silence…",
    "button.silence_now": "Silence",
    "button.unsilence": "Unsilence",
    "interactions.too_late_for_alert": "Too late: the alert is resolved, or that end is not in the next 30 days.",
    "interactions.no_alertmanager": "No Alertmanager is set up here that this alert came from.",
    "interactions.alertmanager_unreachable": "Not done: Alertmanager cannot be reached. Nothing has changed; please "
    "try again.",
    "interactions.alertmanager_timeout": "Not done: Alertmanager does not answer in time. Please try again; there will "
    "be one silence.",
    "interactions.alertmanager_credentials": "Not done: Alertmanager does not accept spanpost's credentials. Its "
    "operator must set alerts.alertmanagers.",
    "interactions.alertmanager_unknown_alert": "Not done: Alertmanager has no alert with exactly these labels any "
    "more.",
    "interactions.alertmanager_refused": "Not done: Alertmanager refuses it.",
    "interactions.acknowledged": "acknowledged",
    "interactions.silenced": "silenced",
    "interactions.unsilenced": "without a silence",
    "done.acknowledge": "Acknowledged: {name}.",
    "done.silence": "Silenced: {name}.",
    "done.unsilence": "No longer silenced: {name}.",
    "action.acknowledge": "acknowledge",
    "action.silence": "silence",
    "action.unsilence": "unsilence",
    "show.silence": "Silence this alert",
    "show.silence_for": "For how long",
    "show.silence_1h": "1 hour",
    "show.silence_4h": "4 hours",
    "show.silence_morning": "until tomorrow 9:00",
    "show.silence_comment": "Why (kept in Alertmanager)",
    "show.silenced": "The alert is silenced.",
}

KOREAN: Final[dict[str, Phrase]] = {
    "alert.firing": "발생 중",
    "alert.resolved": "해소됨",
    "alert.unnamed": "경보",
    "alert.head": "경보",
    "alert.after": "{time} 지속",
    "alert.resolved_at": "해소 {at}",
    "alert.since": "발생 {at}",
    "alert.acknowledged": "👀 {by} 님이 확인함",
    "alert.silenced": "🔕 {by} 님이 무음 처리, 무음 {id}",
    "alert.silenced_until": "{at}까지",
    "alert.not_silenced": "⚠️ {by} 님이 요청했으나 무음 처리되지 않음: {why}",
    "alert.still_silenced": "⚠️ 무음을 해제하지 못함: {why}",
    "alert.failed_unreachable": "Alertmanager에 연결할 수 없음",
    "alert.failed_timeout": "Alertmanager가 제시간에 응답하지 않음",
    "alert.failed_credentials": "Alertmanager가 설정된 자격 증명을 받아들이지 않음",
    "alert.failed_unknown_alert": "Alertmanager에 레이블이 정확히 같은 경보가 더 이상 없음",
    "alert.failed_refused": "Alertmanager가 거절함",
    "button.acknowledge": "확인",
    "button.silence": "무음…",
    "button.silence_now": "무음",
    "button.unsilence": "무음 해제",
    "interactions.too_late_for_alert": "늦었습니다. 경보가 이미 해소되었거나, "
    "종료 시각이 앞으로 30일 안에 있지 않습니다.",
    "interactions.no_alertmanager": "이 경보를 보낸 Alertmanager가 여기에 설정되어 있지 않습니다.",
    "interactions.alertmanager_unreachable": "처리되지 않음: Alertmanager에 연결할 수 없습니다. "
    "변경된 것은 없으니 다시 시도해 주십시오.",
    "interactions.alertmanager_timeout": "처리되지 않음: Alertmanager가 제시간에 응답하지 않습니다. "
    "다시 시도해 주십시오. 무음은 하나만 생깁니다.",
    "interactions.alertmanager_credentials": "처리되지 않음: Alertmanager가 설정된 자격 증명을 "
    "받아들이지 않습니다. 운영자가 설정을 고쳐야 합니다.",
    "interactions.alertmanager_unknown_alert": "처리되지 않음: Alertmanager에 레이블이 정확히 같은 "
    "경보가 더 이상 없습니다.",
    "interactions.alertmanager_refused": "처리되지 않음: Alertmanager가 거절했습니다.",
    "interactions.acknowledged": "확인됨",
    "interactions.silenced": "무음 처리됨",
    "interactions.unsilenced": "무음이 아님",
    "done.acknowledge": "확인했습니다: {name}.",
    "done.silence": "무음 처리했습니다: {name}.",
    "done.unsilence": "무음을 해제했습니다: {name}.",
    "action.acknowledge": "확인",
    "action.silence": "무음",
    "action.unsilence": "무음 해제",
    "show.silence": "이 경보를 무음으로",
    "show.silence_for": "기간",
    "show.silence_1h": "1시간",
    "show.silence_4h": "4시간",
    "show.silence_morning": "내일 9:00까지",
    "show.silence_comment": "이유 (Alertmanager에 남음)",
    "show.silenced": "경보가 무음 처리되었습니다.",
}
