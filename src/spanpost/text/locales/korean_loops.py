"""spanpost's texts about loops, in Korean."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

PHRASES: Final[dict[str, Phrase]] = {
    "kind.loop": "같은 작업 반복",
    "figure.loop": "{tools} 반복 ×{count:,}",
    "button.pause": "일시 중지",
    "button.dismiss": "그대로 두기",
    "button.cancel_whole": "이 작업의 모든 에이전트에 중지를 요청합니다.",
    "checkpoint.asked_dismiss": "{who} 님이 그대로 두기로 함",
    "checkpoint.loop_same_call": "{tools} 도구를 같은 인자로 반복 호출: {count:,}회, 새로운 결과 없음",
    "checkpoint.loop_cycle": "{tools} 도구를 번갈아 호출: {count:,}차례, 새로운 결과 없음",
    "checkpoint.loop_same_error": "{tools} 도구가 같은 오류로 실패: {count:,}회",
    "checkpoint.loop_same_result": "{tools} 도구를 다른 인자로 호출해도 결과가 같음: {count:,}회",
    "checkpoint.loop_no_progress": "새로운 결과 없이 {count:,}회 호출: {tools}",
    "action.dismiss": "그대로 두기",
}
