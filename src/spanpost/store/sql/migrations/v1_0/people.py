"""People: what they are asked, what they do, and how they come in."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.sealing import WRITTEN_IN, by_transaction
from spanpost.store.sql.migrations.v1_0.shared import RECORDED, SUBTREE, TENANT

APPROVALS: Final = table(
    "approvals",
    "One row per question to a person, with its answer. A question that is asked again in other words is another row.",
    [
        (
            "key",
            "uuid PRIMARY KEY",
            "Value that a button carries. Made of tenant, approval id, mark and the trace that asked.",
        ),
        TENANT,
        ("approval_id", "text NOT NULL", "The question's id, as the agent gave it."),
        (
            "mark",
            "text NOT NULL",
            "Hash of the words: question, detail, options and risk, as spanpost computed it (SHA-256, hex).",
        ),
        ("task_uid", "uuid NOT NULL", "Task that asked: agent_tasks.uid."),
        ("span", "text NOT NULL", "Trace and span that asked last, hex, with a dash between."),
        # The question.
        ("question", "text NOT NULL", "The question: untrusted text."),
        ("detail", "text NOT NULL", "Longer text behind the question."),
        ("options", "jsonb NOT NULL", "Answers that the agent offers; empty: approve or deny."),
        ("risk", "text NOT NULL", "Risk as the agent says."),
        ("tool", "text NOT NULL DEFAULT ''", "Name of the tool that it asks for: untrusted text; empty: none."),
        ("needs", "integer NOT NULL DEFAULT 1", "Number of different people who must approve."),
        ("places", "jsonb NOT NULL DEFAULT '[]'", "Places that are asked one after the other."),
        (
            "places_after",
            "double precision NOT NULL DEFAULT 0",
            "Seconds that each place has before the next is asked.",
        ),
        (
            "votes",
            "jsonb NOT NULL DEFAULT '[]'",
            "Approvals while more are needed, one for each person: decision, by, by_id, email, at.",
        ),
        ("asked", "jsonb NOT NULL DEFAULT '[]'", "Places that were asked so far: place, at."),
        (
            "resume",
            "jsonb NOT NULL DEFAULT '[]'",
            "Session and directory of the run that a decision resumes: untrusted text; empty: none.",
        ),
        (
            "is_asked",
            "boolean NOT NULL DEFAULT false",
            "The agent asks spanpost itself: the question has its mark, or an agent waits. Telemetry cannot answer it.",
        ),
        (
            "is_cut",
            "boolean NOT NULL DEFAULT false",
            "Its text is not stored exactly as it was sent: it can only be denied.",
        ),
        ("requested_at", "timestamptz NOT NULL", "When it was last asked, by the sender's clock."),
        ("expires_at", "timestamptz", "Deadline, by the database's clock; null: none."),
        ("at_expiry", "text NOT NULL", "What happens then: wait, deny, escalate or expire."),
        ("escalated_at", "timestamptz", "When it was posted once more because it had no answer."),
        # The answer.
        (
            "state",
            "text NOT NULL CHECK (state IN ('open', 'decided', 'void', 'expired', 'withdrawn', 'ended'))",
            "open, decided, void (asked again in other words), expired (no decision in time), withdrawn "
            "(nothing waits for it any more) or ended (with its task, without an answer).",
        ),
        (
            "decision",
            "text NOT NULL",
            "approve, deny, expired, withdrawn, or one of the options; empty while it is open.",
        ),
        ("by", "text NOT NULL", "Name of the person who decided."),
        (
            "by_id",
            "text NOT NULL",
            "Identity of that person: provider, team and id; empty for a decision reported by the agent.",
        ),
        ("comment", "text NOT NULL", "Comment of that person."),
        (
            "source",
            "text NOT NULL",
            "slack, api, app, cli, spanpost (a deadline), rule (a standing approval), withdrawal. Empty for a "
            "decision that only telemetry reported: no person made it here.",
        ),
        ("decided_at", "timestamptz", "When it was decided."),
        ("rule", "text NOT NULL DEFAULT ''", "Standing approval that decided it, or that its decision granted."),
        (
            "reported_decision",
            "jsonb",
            "Decision that telemetry reported: decision, by, comment, at. It decided nothing. Null: none.",
        ),
        RECORDED,
    ],
    options="WITH (fillfactor = 80)",
    indexes=[
        "CREATE INDEX approvals_id ON approvals USING hash (approval_id)",
        "CREATE INDEX approvals_open ON approvals (requested_at) WHERE state = 'open'",
        "CREATE INDEX approvals_task ON approvals (task_uid)",
    ],
)

INTERVENTIONS: Final = table(
    "human_interventions",
    "One row per act through spanpost, granted or refused: of a person, a standing approval, a budget or a "
    "deadline; and per operation on the database or a gateway (archive, reload and the like), which has no task and no "
    "tenant. Rows are added, and neither changed nor deleted.",
    [
        ("id", "uuid PRIMARY KEY", "Identity of the act: the same when it is repeated."),
        ("number", "bigint GENERATED ALWAYS AS IDENTITY", "Ascending; agents ask for the acts after a number."),
        TENANT,
        (
            "task_uid",
            "uuid NOT NULL",
            "Task, as known now: agent_tasks.uid. The only column that is written again, when that task is "
            "merged into another.",
        ),
        ("key", "uuid", "Subject of the act: approvals.key, alerts.id, or agent_tasks.uid as it was then."),
        (
            "idempotency_key",
            "text",
            "Idempotency key: the same when the act is repeated; null for a deadline or an operation.",
        ),
        # The act.
        (
            "verb",
            "text NOT NULL DEFAULT ''",
            "What the person asked for: approve, deny, choose, cancel, retry, pause, resume, mute, unmute, "
            "message, dismiss, rate, start, revoke, acknowledge, silence, unsilence; expire, escalate, ask_next or "
            "withdraw of a program; or the operation.",
        ),
        ("action", "text NOT NULL", "resolved for a decision that stands; else as in verb."),
        ("decision", "text NOT NULL", "The answer; empty for an act that is none."),
        ("comment", "text NOT NULL", "The person's comment."),
        # Who did it, where, and by which database role.
        ("actor", "text NOT NULL", "Name of the person. From the command line: the name given with --as."),
        (
            "actor_id",
            "text NOT NULL DEFAULT ''",
            "Identity: provider, team and id. From the command line: the operating system's user and host.",
        ),
        ("actor_email", "text NOT NULL DEFAULT ''", "Email address, as verified by the provider; empty when unknown."),
        (
            "via",
            "text NOT NULL",
            "Where it came from: slack, api (a token), oidc (a session), local (this machine), cli, app, hook, "
            "budget, gateway, spanpost (a deadline), withdrawal or rule (a standing approval; the actor is its owner).",
        ),
        (
            "credential",
            "text NOT NULL DEFAULT ''",
            "What proved the identity: slack, token NAME, session ID, machine token, hook NAME, standing approval ID, "
            "system user. Empty for a program of spanpost.",
        ),
        ("client", "text NOT NULL DEFAULT ''", "Program that called the API, as it says itself: board, mcp, cli."),
        (
            "os_user",
            "text NOT NULL DEFAULT ''",
            "Operating system's user and host of the process that wrote the row: NAME@HOST.",
        ),
        ("scope", "text NOT NULL DEFAULT ''", "How far an approval goes: once, task, hour or always."),
        ("rule", "uuid", "Standing approval that the act granted, used or revoked: standing_approvals.id."),
        ("launcher", "text NOT NULL DEFAULT ''", "Launcher of a start or a retry."),
        ("parameters", "jsonb NOT NULL DEFAULT '{}'", "Parameters of a start; of a silence its end."),
        ("database_role", "text NOT NULL DEFAULT session_user", "Database role that wrote the row."),
        # Its outcome.
        (
            "result",
            "text NOT NULL DEFAULT ''",
            "Outcome: done, counted, decided, void, expired, too_late, hidden, no_scope, refused or unknown.",
        ),
        ("refusal", "text NOT NULL DEFAULT ''", "Why the authorization rules refused it."),
        ("verdict", "jsonb", "The answer, given again when the act is repeated."),
        ("order_id", "uuid", "Launch order that it placed: launch_orders.id; its task is agent_tasks.order_id."),
        # The question as it stood then.
        ("approval_id", "text NOT NULL", "The question's id, as the agent gave it."),
        ("mark", "text NOT NULL DEFAULT ''", "Hash of the question's words: approvals.mark."),
        ("question", "text NOT NULL", "The question: untrusted text."),
        ("detail", "text NOT NULL", "Longer text behind the question; of an operation what it was about."),
        ("options", "jsonb NOT NULL", "Answers that the agent offers."),
        ("risk", "text NOT NULL", "Risk as the agent says."),
        ("expires_at", "text NOT NULL", "When the question expires, as the agent wrote it."),
        ("trace_id", "bytea NOT NULL", "Trace that asked, or empty."),
        ("span_id", "bytea NOT NULL", "Span that asked, or empty."),
        SUBTREE,
        ("at", "timestamptz NOT NULL", "When it happened."),
        RECORDED,
        WRITTEN_IN,
    ],
    indexes=[
        by_transaction("human_interventions"),
        "CREATE UNIQUE INDEX human_interventions_idempotency_key ON human_interventions (idempotency_key, tenant) "
        "WHERE idempotency_key IS NOT NULL",
        "CREATE UNIQUE INDEX human_interventions_numbers ON human_interventions (number)",
        # What agents ask for: the acts on a task that were granted.
        "CREATE INDEX human_interventions_number ON human_interventions (task_uid, number) WHERE result = 'done'",
        "CREATE INDEX human_interventions_task ON human_interventions (task_uid, at)",
        "CREATE INDEX human_interventions_approval ON human_interventions USING hash (approval_id)",
        "CREATE INDEX human_interventions_at ON human_interventions (at)",
        "CREATE INDEX human_interventions_key ON human_interventions USING hash (key)",
        "CREATE INDEX human_interventions_order ON human_interventions (order_id) WHERE order_id IS NOT NULL",
    ],
)

READS: Final = table(
    "content_reads",
    "One row per person, task, kind of content and hour in which that person read it, where "
    "interactions.log_reads is set. Its counts grow until the hour is over.",
    [
        ("id", "uuid PRIMARY KEY", "Keyed hash of tenant, task, hour, kind, reader, credential and client."),
        TENANT,
        ("task_uid", "uuid NOT NULL", "Task whose content was read: agent_tasks.uid; zeros: of no single task."),
        ("hour", "timestamptz NOT NULL", "Beginning of the hour, by the clock of the process that answered."),
        ("content", "text NOT NULL", "What was read: recorded, question, message, acts, query or proof."),
        ("actor_id", "text NOT NULL", "Identity of the reader: provider, team and id."),
        ("actor", "text NOT NULL", "Name of the reader."),
        ("credential", "text NOT NULL", "As human_interventions.credential."),
        ("client", "text NOT NULL", "As human_interventions.client."),
        ("detail", "text NOT NULL", "Of a query: the beginning of the last statement."),
        ("reads", "bigint NOT NULL", "Number of reads in that hour."),
        ("first_at", "timestamptz NOT NULL", "First of them, by the clock of the process that answered."),
        ("last_at", "timestamptz NOT NULL", "Last of them, by that clock."),
        ("os_user", "text NOT NULL", "As human_interventions.os_user, of the last of them."),
        ("database_role", "text NOT NULL DEFAULT session_user", "Database role that wrote the row."),
    ],
    indexes=[
        "CREATE INDEX content_reads_hour ON content_reads (hour)",
        "CREATE INDEX content_reads_task ON content_reads (task_uid)",
    ],
)

STANDING: Final = table(
    "standing_approvals",
    "One row per standing approval: a person's approval of future questions of one tool, until it ends.",
    [
        ("id", "uuid PRIMARY KEY", "Identity, made of the act that granted it."),
        TENANT,
        ("scope", "text NOT NULL CHECK (scope IN ('task', 'hour', 'always'))", "task, hour or always."),
        # What it covers: compared exactly.
        ("tool", "text NOT NULL CHECK (tool <> '')", "The tool: untrusted text."),
        ("risk", "text NOT NULL", "Risk that the question stated; questions with another risk are not covered."),
        ("task_uid", "uuid NOT NULL", "Task of the scope task; of the others the task in which it was granted."),
        ("agent", "text", "Agent, of the scopes hour and always."),
        ("repo", "text", "Repository, of the scopes hour and always; null: the task named none."),
        ("service", "text", "Service, of the scopes hour and always; null: the task named none."),
        ("environment", "text", "Environment, of the scopes hour and always; null: the task named none."),
        ("requested_by", "text", "Person for whom the task runs, of the scope hour; null: the task named none."),
        # Who granted it.
        ("granted_by", "text NOT NULL", "Name of the owner, the person who granted it."),
        ("granted_by_id", "text NOT NULL", "Identity of the owner: provider, team and id."),
        ("granted_by_email", "text NOT NULL", "Email address, as verified by the provider; empty when unknown."),
        ("source", "text NOT NULL", "Where it was granted: slack, api, app, cli."),
        ("reason", "text NOT NULL", "The owner's comment."),
        ("approval_key", "uuid NOT NULL", "The question on which it was granted: approvals.key."),
        ("granted_at", "timestamptz NOT NULL", "When it was granted, by the database's clock."),
        # Its end.
        ("expires_at", "timestamptz NOT NULL", "When it ends, by the database's clock."),
        ("revoked_at", "timestamptz", "When it was revoked; null: it was not."),
        ("revoked_by", "text NOT NULL DEFAULT ''", "Name of the person who revoked it."),
        ("revoked_by_id", "text NOT NULL DEFAULT ''", "Identity of that person."),
        # Its use.
        ("used", "bigint NOT NULL DEFAULT 0", "Questions that it decided."),
        ("last_used_at", "timestamptz", "When it last decided a question."),
        RECORDED,
    ],
    indexes=[
        "CREATE INDEX standing_approvals_tool ON standing_approvals (tenant, tool) WHERE revoked_at IS NULL",
        "CREATE INDEX standing_approvals_task ON standing_approvals (task_uid)",
        "CREATE INDEX standing_approvals_granted ON standing_approvals (granted_at)",
    ],
)

REQUESTS: Final = table(
    "interaction_requests",
    "Internal: requests from Slack and other providers, so that a duplicate is recognised.",
    [
        ("key", "bytea PRIMARY KEY", "Hash by which a duplicate is recognised."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it came, by the database's clock."),
    ],
    indexes=["CREATE INDEX desk_requests_at ON interaction_requests (at)"],
)

SESSION_SECRET: Final = table(
    "session_secret",
    "One row: the key that signs the sessions of people who logged in, the same in all gateways. A new key "
    "ends all sessions.",
    [
        ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "True: there is one row."),
        ("secret", "bytea NOT NULL CHECK (length(secret) >= 32)", "Random bytes."),
        ("made_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was made, by the database's clock."),
    ],
)

ENDED_SESSIONS: Final = table(
    "ended_sessions",
    "One row per session that was ended by logging out, until it would have expired.",
    [
        ("id", "text PRIMARY KEY", "The session's id, as its cookie says."),
        ("until", "timestamptz NOT NULL", "When it would have expired; the row is deleted after that."),
    ],
)

INSTALLATIONS: Final = table(
    "slack_installations",
    "One row per Slack app and workspace that it was installed in by /slack/install. Removed ones stay, "
    "without tokens.",
    [
        ("client", "text NOT NULL", "The app: its client id at Slack."),
        ("team", "text NOT NULL", "The workspace (T...)."),
        ("enterprise", "text NOT NULL", "The workspace's organisation (E...); empty without one."),
        ("team_name", "text NOT NULL", "Its name, as Slack said at the installation: untrusted text."),
        ("app_id", "text NOT NULL", "The app (A...)."),
        ("bot", "text NOT NULL", "The app's bot there (B...)."),
        ("bot_user", "text NOT NULL", "The user of that bot (U...)."),
        ("scopes", "jsonb NOT NULL", "Scopes of the token."),
        ("by", "text NOT NULL", "User id of the person who installed it."),
        ("encrypted", "bytea", "The tokens, encrypted with slack_oauth.key. Null once it was removed."),
        ("expires_at", "timestamptz", "When the token expires; null: never."),
        ("refreshing_until", "timestamptz", "While one process fetches the next token: until when it may."),
        (
            "installed_at",
            "timestamptz NOT NULL DEFAULT clock_timestamp()",
            "When it was last installed, by the database's clock.",
        ),
        ("removed_at", "timestamptz", "When it was removed; null while it is installed."),
        ("why", "text NOT NULL DEFAULT ''", "Why it was removed: uninstalled, revoked, or by hand."),
        ("revision", "bigint NOT NULL DEFAULT 1", "Counts up with each write, so that none overwrites a later one."),
    ],
    rules=["PRIMARY KEY (client, team)"],
)
