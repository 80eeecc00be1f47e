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
            "Does its process still run? Tasks of a lost process are shown as *interrupted*, not as stalled.",
            "Retry or cancel it from its Slack thread.",
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
            "See the errors by type in *Fleet*: one type means one cause (a key, a provider, a deploy), many "
            "types mean the agent itself.",
            "List the tasks with `spanpost tasks --status error`; each task's thread has the end of its log.",
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
        means="A task failed within the last hour, was a retry of a retry of a retry, and has not been tried again "
        "since. The limit of three is this rule's: change it here.",
        todo=(
            "Compare the errors of the attempts: `spanpost tasks --status error` lists them, and each names the task "
            "that it retries. The same error each time will not go away with another retry.",
            "Find what changed before the first failure: a deploy, a key, a quota, the input.",
            "If a program retries by itself, stop it until the cause is found.",
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
        means="At least three evaluations of one name within an hour had a score of 0.5 or less, and so did more than "
        "half of them. The evaluation `person_rating` is people's own 👍 (1) and 👎 (0).",
        todo=(
            "See *Scores* in *Fleet*: one evaluation that fell means one property of the work, all of them the "
            "agent, its model or its prompt.",
            "Read the comments of people and the explanations: "
            "`SELECT * FROM evaluations WHERE score <= 0.5 ORDER BY at DESC`.",
            "An evaluator with another scale than 0 to 1 needs a rule of its own: exclude its name here.",
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
            "If no person saw it: does its route lead to a channel that people read?",
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
        means="A running task makes the same calls again and again, with nothing new between: the same arguments and "
        "the same result, the same error, or a few calls in turn. It costs money and gets nowhere.",
        todo=(
            "Its thread names the tool and the count. `spanpost show TASK` lists the calls.",
            "*Pause* or *Cancel* it there, and send it a message that says what to do instead.",
            "If it is healthy (it waits for something), *Let it be*; for all tasks of its sort, add the tool to "
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
        means="A running task has used more than 85 % of its model's context window: it will soon compact, "
        "forget or fail.",
        todo=(
            "Let it finish its step, then hand over to a fresh task or compact.",
            "Find in *Task* what filled it: usually one tool's output.",
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
            means=f"Usage that was seen in the budget's current period reached {percent} of its limit (`budgets`); "
            f"for a budget with "
            "`per`, in one of its scopes. Calls without a known price are not included: see "
            "`spanpost_unpriced_calls_total`.",
            todo=(
                "`spanpost spending` lists what is spent in each scope; *Spend and context* shows it by agent "
                "and model.",
                "With `at_limit` the budget asks, pauses or cancels: `spanpost_budget_acts_total` counts that, and "
                "the tasks' threads show it. With `warn` it stops no task: cancel tasks, or set `at_limit`.",
                "A question in the thread raises the limit by 20 % until the period ends; only people to whom the "
                "rules allow `raise` may answer so. Else raise it in the settings.",
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
            '`spanpost db query "SELECT * FROM agent_health ORDER BY score"` shows the points lost by each cause.',
            "*Fleet* shows these tasks.",
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
        todo=("Which error is new in *Fleet*, errors by type?", "Did a tool, a model or the agent itself change?"),
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
        todo=("Is it a loop? *Task* shows repeated calls.", "Cancel a runaway task from its Slack thread."),
        dashboard="spend",
        fires={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+600x420 260000+60000x90"},
        quiet={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+60000x510"},
        at="8h",
        labels={"agent": "coder"},
    ),
)
