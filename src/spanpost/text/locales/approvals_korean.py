"""Texts about standing approvals and questions to several people, in Korean."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

PHRASES: Final[dict[str, Phrase]] = {
    "button.allow_once": "이번만 허용",
    "button.allow_task": "이 작업에서 이 도구 허용",
    "button.allow_hour": "1시간 동안 허용",
    "button.allow_always": "여기서 항상 허용",
    "button.revoke": "허용 철회",
    "button.revoke_title": "이제부터 다시 물어볼까요?",
    "button.revoke_text": "상시 승인이 적용되는 모든 작업에서 끝납니다.",
    "button.revoke_yes": "철회하기",
    "button.revoke_no": "유지하기",
    "grant.what": "다시 묻지 않고 허용: {agent} 에이전트의 {tool} 도구 (위치: {place})",
    "grant.hour": "1시간 동안, 같은 요청자의 작업에만 적용됩니다.",
    "grant.always": "철회할 때까지, 최대 {n}일 동안 적용됩니다.",
    "grant.risk": "위험도가 {risk}인 질문에만 적용됩니다.",
    "grant.no_risk": "위험도를 밝히지 않은 질문에만 적용됩니다.",
    "reply.tool": "도구 {tool}",
    "reply.by_rule": "{by} 님의 상시 승인으로 허용됨",
    "reply.approved_further": "{by} 님이 상시 승인과 함께 승인함{through}",
    "reply.counted": "{needs}명 중 {count}명 승인: {names}",
    "reply.needs": "{needs}명의 승인이 필요합니다",
    "interactions.counted": "승인이 반영되었습니다: {needs}명 중 {count}명. 다른 사람도 승인해야 합니다.",
    "interactions.no_scope": "이 질문은 한 번만 승인할 수 있습니다. 도구 이름이 없거나, 선택지가 있거나, "
    "두 명 이상의 승인이 필요합니다.",
    "interactions.revoked_by": "{by} 님이 이미 철회했습니다.",
    "done.revoke": "철회되었습니다. 이 도구의 다음 질문부터 다시 묻습니다.",
    "checkpoint.counted": "{by} 님이 승인했으며, 다른 사람의 승인이 더 필요합니다",
    "action.grant": "상시 승인 부여",
    "action.revoke": "상시 승인 철회",
    "show.tool": "도구",
    "show.reason": "이유",
    "checkpoint.withdrawn": "에이전트가 실행되는 곳에서 처리되었거나 철회됨",
    "reply.ended": "답변 없이 작업이 종료됨",
    "reply.withdrawn": "에이전트가 실행되는 곳에서 처리되었거나 철회됨",
    "interactions.withdrawn": "에이전트가 실행되는 곳에서 이미 처리되었습니다. 답변은 반영되지 않습니다.",
}
