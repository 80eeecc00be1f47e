"""Rules about agents: their tasks, questions, context, budgets and scores."""

from __future__ import annotations

from observing.alert import Alert

WHO = "agent, environment, tenant"
_A = 'agent="coder",environment="prod",tenant="t"'
_WHO = {"agent": "coder", "environment": "prod", "tenant": "t"}

AGENT_ALERTS = (
    Alert(
        name="SpanpostTaskStalled",
        severity="warning",
        expr=f'sum by ({WHO}) (spanpost_tasks_open{{status="stalled"}}) > 0',
        hold="2m",
        summary="A task of {{ $labels.agent }} is stalled",
        means="A running task has sent no telemetry for longer than `stall.stall_after` (5 minutes), and no "
        "call is known to be open.",
        todo=(
            "Open the task in the dashboard *Task*: its last step and last tool call show where it stopped.",
            "Check whether its process still runs. Tasks of a lost process are shown as *interrupted*, not as stalled.",
            "Retry or cancel it in its Slack thread.",
        ),
        dashboard="fleet",
        fires={f'spanpost_tasks_open{{status="stalled",task_type="x",{_A}}}': "1x90"},
        quiet={
            f'spanpost_tasks_open{{status="working",task_type="x",{_A}}}': "5x90",
            'spanpost_tasks_open{status="stalled"}': "0x90",
        },
        labels=_WHO,
        about="stalled",
    ),
    Alert(
        name="SpanpostTasksFailing",
        severity="warning",
        expr=f'sum by ({WHO}) (increase(spanpost_tasks_ended_total{{status="error"}}[15m])) >= 3'
        f' and sum by ({WHO}) (increase(spanpost_tasks_ended_total{{status="error"}}[15m]))'
        f" / sum by ({WHO}) (increase(spanpost_tasks_ended_total[15m])) > 0.5",
        hold="0m",
        summary="More than half of the tasks of {{ $labels.agent }} fail",
        means="At least three runs of one agent failed within 15 minutes, and more failed than succeeded.",
        todo=(
            "Look at the errors by type in *Fleet*. One type means one cause (a key, a provider, a deploy). Many "
            "types mean the agent itself.",
            "List the tasks with `spanpost tasks --status error`. Each task's thread has the end of its log.",
        ),
        dashboard="fleet",
        fires={
            f'spanpost_tasks_ended_total{{status="error",{_A}}}': "0+1x90",
            f'spanpost_tasks_ended_total{{status="complete",{_A}}}': "0x90",
        },
        quiet={
            f'spanpost_tasks_ended_total{{status="error",{_A}}}': "0+1x90",
            f'spanpost_tasks_ended_total{{status="complete",{_A}}}': "0+4x90",
        },
        labels=_WHO,
    ),
    Alert(
        name="SpanpostRetriesExhausted",
        severity="warning",
        expr=f"max by ({WHO}) (spanpost_task_retries) >= 3",
        hold="0m",
        summary="A task of {{ $labels.agent }} failed again after three retries",
        means="A task failed within the last hour. It was the third retry in a row, and there was no further retry. "
        "The limit of three is in this rule's expression.",
        todo=(
            "Compare the errors of the attempts: `spanpost tasks --status error` lists them, and each names the task "
            "that it retries. If the error is always the same, another retry will fail, too.",
            "Find what changed before the first failure: a deploy, a key, a quota, the input.",
            "If a program retries by itself, stop it until you know the cause.",
        ),
        dashboard="fleet",
        fires={f"spanpost_task_retries{{{_A}}}": "3x90"},
        quiet={f"spanpost_task_retries{{{_A}}}": "2x90"},
        labels=_WHO,
    ),
    Alert(
        name="SpanpostScoresLow",
        severity="warning",
        expr=f'sum by (evaluation, {WHO}) (increase(spanpost_evaluation_score_bucket{{le="0.5"}}[1h])) >= 3'
        f' and sum by (evaluation, {WHO}) (increase(spanpost_evaluation_score_bucket{{le="0.5"}}[1h]))'
        f" / sum by (evaluation, {WHO}) (increase(spanpost_evaluation_score_count[1h])) > 0.5",
        hold="0m",
        summary="More than half of the scores of {{ $labels.agent }} are low ({{ $labels.evaluation }})",
        means="Within an hour, at least three evaluations of one name, and more than half of them, had a score of 0.5 "
        "or less. The evaluation `person_rating` is people's own 👍 (1) and 👎 (0).",
        todo=(
            "Look at *Scores* in *Fleet*. If one evaluation fell, one property of the work changed. If all fell, look "
            "at the agent, its model or its prompt.",
            "Read people's comments and the explanations: "
            "`SELECT * FROM evaluations WHERE score <= 0.5 ORDER BY at DESC`.",
            "If an evaluator has another scale than 0 to 1, exclude its name in this rule, and write a rule for it.",
        ),
        dashboard="fleet",
        fires={
            f'spanpost_evaluation_score_bucket{{le="0.5",source="person",evaluation="person_rating",{_A}}}': "0+1x90",
            f'spanpost_evaluation_score_count{{source="person",evaluation="person_rating",{_A}}}': "0+1x90",
        },
        quiet={
            f'spanpost_evaluation_score_bucket{{le="0.5",source="person",evaluation="person_rating",{_A}}}': "0+1x90",
            f'spanpost_evaluation_score_count{{source="person",evaluation="person_rating",{_A}}}': "0+4x90",
        },
        labels={"evaluation": "person_rating", **_WHO},
    ),
    Alert(
        name="SpanpostApprovalWaiting",
        severity="warning",
        expr=f"max by ({WHO}) (spanpost_approval_oldest_seconds) > 1800",
        hold="0m",
        summary="{{ $labels.agent }} waits for a person for more than half an hour",
        means="A question to a person has had no answer for 30 minutes. The task waits meanwhile.",
        todo=(
            "Answer it in its Slack thread, or cancel the task.",
            "If no person saw it, check that its route leads to a channel that people read.",
        ),
        dashboard="fleet",
        fires={f"spanpost_approval_oldest_seconds{{{_A}}}": "0+60x90"},
        quiet={f"spanpost_approval_oldest_seconds{{{_A}}}": "0+10x90"},
        labels=_WHO,
        about="waiting",
    ),
    Alert(
        name="SpanpostTaskLoops",
        severity="warning",
        expr=f"sum by ({WHO}) (spanpost_tasks_looping) > 0",
        hold="1m",
        summary="{{ $labels.agent }} repeats itself without progress",
        means="A running task repeats its calls and nothing new happens: the same arguments with the same result, the "
        "same error, or a few calls in turn. It costs money without progress.",
        todo=(
            "Read its thread, which names the tool and the count. `spanpost show TASK` lists the calls.",
            "In the thread, *Pause* or *Cancel* it, and send it a message that says what to do instead.",
            "If the task only waits for something, choose *Let it be*. To allow it for all such tasks, add the tool to "
            "`loops.patient_tools` or the agent to `loops.ignore_agents`.",
        ),
        dashboard="fleet",
        fires={f"spanpost_tasks_looping{{{_A}}}": "1x90"},
        quiet={f"spanpost_tasks_looping{{{_A}}}": "0x90"},
        labels=_WHO,
    ),
    Alert(
        name="SpanpostContextNearlyFull",
        severity="warning",
        expr=f"max by ({WHO}) (spanpost_context_used_ratio) > 0.85",
        hold="0m",
        summary="The context window of {{ $labels.agent }} is more than 85 % full",
        means="A running task has used more than 85 % of its model's context window. It will soon compact, "
        "forget or fail.",
        todo=(
            "Let it finish its step. Then compact, or continue in a new task.",
            "Find in *Task* what filled the window: usually one tool's output.",
        ),
        dashboard="spend",
        fires={f"spanpost_context_used_ratio{{{_A}}}": "0.9x90"},
        quiet={f"spanpost_context_used_ratio{{{_A}}}": "0.84x90"},
        labels=_WHO,
        about="context_warning",
    ),
    Alert(
        name="SpanpostContextForecast",
        severity="info",
        expr=f"min by ({WHO}) (spanpost_context_forecast_seconds) < 120",
        hold="0m",
        summary="The context window of {{ $labels.agent }} is forecast to be full within two minutes",
        means="At the pace of its last calls a task reaches its last warning threshold within two minutes.",
        todo=("Do nothing at once. If it happens often, give the agent smaller tool outputs or a larger window.",),
        dashboard="spend",
        fires={f"spanpost_context_forecast_seconds{{{_A}}}": "60x90"},
        quiet={f"spanpost_context_forecast_seconds{{{_A}}}": "600x90"},
        labels=_WHO,
    ),
    *(
        Alert(
            name=name,
            severity=severity,
            expr=f"max by (budget, tenant) (spanpost_budget_used_ratio) >= {share}",
            hold="0m",
            summary=f"{{{{ $labels.tenant }}}} has spent {percent} of the budget {{{{ $labels.budget }}}}",
            means=f"Usage of the budget's current period reached {percent} of its limit (`budgets`). "
            "A budget with `per` reached it in one of its scopes. Calls without a known price are not included: see "
            "`spanpost_unpriced_calls_total`.",
            todo=(
                "List what is spent in each scope with `spanpost spending`. *Spend and context* shows it by agent "
                "and model.",
                "Look at `at_limit` of the budget. With `ask`, `pause` or `cancel` it acts: "
                "`spanpost_budget_acts_total` counts the acts, and the tasks' threads show them. With `warn` it stops "
                "no task: cancel tasks yourself, or change `at_limit`.",
                "Raise the limit in the settings. With `ask`, *+20 %* in the thread raises it until the period ends, "
                "for people to whom the rules allow `raise`.",
            ),
            dashboard="spend",
            fires={'spanpost_budget_used_ratio{budget="research",tenant="t"}': f"{share + 0.05:g}x90"},
            quiet={'spanpost_budget_used_ratio{budget="research",tenant="t"}': f"{share - 0.05:g}x90"},
            labels={"tenant": "t", "budget": "research"},
        )
        for name, severity, share, percent in (
            ("SpanpostBudgetNearlySpent", "warning", 0.8, "80 %"),
            ("SpanpostBudgetSpent", "critical", 1, "all"),
        )
    ),
    Alert(
        name="SpanpostAgentUnhealthy",
        severity="warning",
        expr="min by (agent, tenant) (spanpost_agent_health_score) < 60",
        hold="15m",
        summary="The health of {{ $labels.agent }} is below 60 of 100",
        means="Failed, stalled or interrupted tasks, unanswered questions and a spent budget together cost the "
        "agent more than 40 of 100 points.",
        todo=(
            'Run `spanpost db query "SELECT * FROM agent_health ORDER BY score"`: it shows the points lost by cause.',
            "Look at these tasks in *Fleet*.",
        ),
        dashboard="fleet",
        fires={'spanpost_agent_health_score{agent="coder",tenant="t"}': "45x90"},
        quiet={'spanpost_agent_health_score{agent="coder",tenant="t"}': "75x90"},
        labels={"agent": "coder", "tenant": "t"},
    ),
    Alert(
        name="SpanpostAgentsAtQuota",
        severity="critical",
        # Only working agents count: an agent that met a limit and ended must not stand for another.
        expr="count((sum by (agent) (increase(spanpost_provider_limits_total[10m])) > 0)"
        ' and on (agent) (sum by (agent) (spanpost_tasks_open{agent!=""}) > 0))'
        ' >= count(sum by (agent) (spanpost_tasks_open{agent!=""}) > 0)',
        hold="2m",
        summary="All working agents are held back by their providers' limits",
        means="Every agent with a running task met a rate limit or a quota within ten minutes.",
        todo=(
            "Look at the provider's console for a spent quota, or a limit per minute.",
            "Run fewer tasks at once, or use another account.",
        ),
        dashboard="spend",
        fires={
            f'spanpost_provider_limits_total{{limit="rate_limit",model="m",{_A}}}': "0+1x90",
            f'spanpost_tasks_open{{status="working",{_A}}}': "1x90",
        },
        quiet={
            f'spanpost_provider_limits_total{{limit="rate_limit",model="m",{_A}}}': "0+1x90",
            f'spanpost_tasks_open{{status="working",{_A}}}': "1x90",
            'spanpost_tasks_open{status="working",agent="writer",environment="prod",tenant="t"}': "1x90",
            'spanpost_provider_limits_total{limit="quota",model="m",agent="done",environment="prod",'
            'tenant="t"}': "0+1x90",
        },
    ),
    Alert(
        name="SpanpostErrorsUnusual",
        severity="warning",
        expr="spanpost:errors:rate30m > 3 * avg_over_time(spanpost:errors:rate30m[6h] offset 30m)"
        ' and sum by (agent) (increase(spanpost_errors_total{scope="part"}[30m])) >= 5',
        hold="5m",
        summary="{{ $labels.agent }} meets far more errors than usual",
        means="Calls and parts of one agent fail three times as often as in the previous six hours, and at "
        "least five times in half an hour.",
        todo=(
            "Find the error that is new: *Fleet*, errors by type.",
            "Find what changed: a tool, a model or the agent itself.",
        ),
        dashboard="fleet",
        fires={f'spanpost_errors_total{{error_type="X",scope="part",{_A}}}': "0+0.01x420 4+2x60"},
        quiet={f'spanpost_errors_total{{error_type="X",scope="part",{_A}}}': "0+1x480"},
        at="7h30m",
        labels={"agent": "coder"},
    ),
    Alert(
        name="SpanpostTokensUnusual",
        severity="warning",
        expr="spanpost:tokens:rate1h > 4 * avg_over_time(spanpost:tokens:rate1h[6h] offset 1h) and "
        "spanpost:tokens:rate1h > 100",
        hold="10m",
        summary="{{ $labels.agent }} uses far more tokens than usual",
        means="One agent uses more than four times the tokens of the previous six hours, and more than 100 a second.",
        todo=("Look for a loop: *Task* shows repeated calls.", "Cancel a runaway task in its Slack thread."),
        dashboard="spend",
        fires={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+600x420 260000+60000x90"},
        quiet={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+60000x510"},
        at="8h",
        labels={"agent": "coder"},
    ),
)
