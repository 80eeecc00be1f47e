"""Ask people from an agent, and read how much a task may spend.

Functions: `approval`, `cancelled`, `paused`, `messages`, `budget`, `budget_reserved`.

    from spanpost.agent import agent_task
    from spanpost.agent.control import approval

    async with agent_task("Release 1.4"):
        decision = await approval("Deploy to production?", detail=plan, risk="high", id="release-1.4")
        if decision.approved:
            deploy()

In a process that called `spanpost.attach` the answers come without a network; elsewhere they come from the
gateway (`agent.gateway` says how it is found). spanpost stores the question: an agent that was restarted and
asks again under the same `id` gets the decision that was made meanwhile. A deadline that passed is no
refusal: see `Decision.expired`. Needs opentelemetry-api and the standard library alone.
"""

from __future__ import annotations

from spanpost.agent.approvals import ApprovalTimeout, Decision, approval, approval_sync
from spanpost.agent.gateway import ControlUnavailable
from spanpost.agent.provider import Control as Control
from spanpost.agent.provider import install as install
from spanpost.agent.questions import AtExpiry as AtExpiry
from spanpost.agent.questions import QuestionTooLong
from spanpost.agent.requests import Message, cancelled, messages, messages_sync, paused
from spanpost.agent.reservations import BudgetRefused, BudgetReservation, budget_reserved
from spanpost.agent.spending import AgentBudget, Allowance, budget, budget_sync

__all__ = [
    "AgentBudget",
    "Allowance",
    "ApprovalTimeout",
    "BudgetRefused",
    "BudgetReservation",
    "ControlUnavailable",
    "Decision",
    "Message",
    "QuestionTooLong",
    "approval",
    "approval_sync",
    "budget",
    "budget_reserved",
    "budget_sync",
    "cancelled",
    "messages",
    "messages_sync",
    "paused",
]
