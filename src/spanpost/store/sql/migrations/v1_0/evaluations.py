"""Evaluations of tasks."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import RECORDED, TASK, TENANT

EVALUATIONS: Final = table(
    "evaluations",
    "One row per evaluation of a task's work: a person's rating through spanpost, or a result that telemetry "
    "reported. A person's newest rating of a task stands.",
    [
        ("id", "uuid PRIMARY KEY", "Identity: the same however often and in whatever form it is reported."),
        TENANT,
        TASK,
        (
            "source",
            "text NOT NULL CHECK (source IN ('person', 'telemetry'))",
            "person: given through spanpost, with a row in human_interventions. telemetry: reported by an evaluator.",
        ),
        ("name", "text NOT NULL", "Name of the evaluation; person_rating for a person's. Untrusted text."),
        ("score", "double precision", "Score, by the evaluator's own scale; a person's: 1 or 0. Null: none given."),
        ("label", "text NOT NULL", "Its word: up or down of a person; else the evaluator's. Untrusted text."),
        (
            "explanation",
            "text NOT NULL",
            "The person's comment, or the evaluator's words (left out unless content is kept). Untrusted text.",
        ),
        ("by", "text NOT NULL", "Name of the person; empty for telemetry."),
        ("by_id", "text NOT NULL", "Identity of the person: provider, team and id; empty for telemetry."),
        ("subject", "text NOT NULL", "What was evaluated: id of a response, else trace and span, hex, with a dash."),
        ("at", "timestamptz NOT NULL", "When: of a person by the database's clock, else by the sender's."),
        RECORDED,
    ],
    indexes=[
        "CREATE INDEX evaluations_task ON evaluations (task_uid, at)",
        "CREATE INDEX evaluations_at ON evaluations (at)",
    ],
)
