"""spanpost's texts about ratings, evaluations and the cost of a result, in each language."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

ENGLISH: Final[dict[str, Phrase]] = {
    "checkpoint.rated_up": "{who} rated this 👍",
    "checkpoint.rated_down": "{who} rated this 👎",
    "action.rate": "rate",
    "rate.up": "Rate this 👍",
    "rate.down": "Rate this 👎",
    "figure.pull_requests": ("{n} pull request", "{n} pull requests"),
    "figure.cost_of": "{what}, {cost}",
    "figure.cost_of_each": "{what}, {cost} ({each} each)",
    "rate.send": "Rate",
    "rate.why_up": "What was good? (optional)",
    "rate.why_down": "What was wrong? (optional)",
}
KOREAN: Final[dict[str, Phrase]] = {
    "checkpoint.rated_up": "{who} 님이 👍로 평가함",
    "checkpoint.rated_down": "{who} 님이 👎로 평가함",
    "action.rate": "평가",
    "rate.up": "👍로 평가",
    "rate.down": "👎로 평가",
    "figure.pull_requests": "풀 리퀘스트 {n}개",
    "figure.cost_of": "{what}, 비용 {cost}",
    "figure.cost_of_each": "{what}, 비용 {cost} (각 {each})",
    "rate.send": "평가",
    "rate.why_up": "어떤 점이 좋았나요? (선택)",
    "rate.why_down": "어떤 점이 문제였나요? (선택)",
}
