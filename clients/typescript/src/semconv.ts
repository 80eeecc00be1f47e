/** The `agent.*` names of docs/reference/conventions.md that this package emits. */

export const TASK_ID = "agent.task.id";
export const TASK_NAME = "agent.task.name";
export const TASK_TYPE = "agent.task.type";
export const TASK_PARENT_ID = "agent.task.parent_id";
export const NAME = "agent.name";
export const REPO = "agent.repo";
export const TOPIC = "agent.topic";
export const REQUESTED_BY = "agent.requested_by";
export const RETRY_OF = "agent.retry_of";
export const CAUSED_BY = "agent.caused_by";
export const ORDER_ID = "agent.order.id";
export const LINK_PREFIX = "agent.link.";
export const RESULT_PREFIX = "agent.result.";

export const STATUS = "agent.status";
export const PROGRESS = "agent.progress";
export const ACTION = "agent.action";
export const STEP_NAME = "agent.step.name";
export const STEP_INDEX = "agent.step.index";
export const STEP_COUNT = "agent.step.count";
export const CONTEXT_USED = "agent.context.used_tokens";
export const CONTEXT_WINDOW = "agent.context.window_tokens";

export const EVENT_CHECKPOINT = "agent.checkpoint";
export const CHECKPOINT_MESSAGE = "agent.checkpoint.message";
export const EVENT_ARTIFACT = "agent.artifact";
export const ARTIFACT_NAME = "agent.artifact.name";
export const ARTIFACT_URI = "agent.artifact.uri";
export const ARTIFACT_KIND = "agent.artifact.kind";

export const EVENT_APPROVAL_REQUESTED = "agent.approval.requested";
export const EVENT_APPROVAL_RESOLVED = "agent.approval.resolved";
export const APPROVAL_ID = "agent.approval.id";
export const APPROVAL_QUESTION = "agent.approval.question";
export const APPROVAL_DETAIL = "agent.approval.detail";
export const APPROVAL_OPTIONS = "agent.approval.options";
export const APPROVAL_RISK = "agent.approval.risk";
export const APPROVAL_EXPIRES_AT = "agent.approval.expires_at";
export const APPROVAL_AT_EXPIRY = "agent.approval.at_expiry";
export const APPROVAL_TOOL = "agent.approval.tool";
export const APPROVAL_NEEDS = "agent.approval.needs";
export const APPROVAL_TO = "agent.approval.to";
export const APPROVAL_TO_AFTER = "agent.approval.to_after";
export const APPROVAL_DIGEST = "agent.approval.digest";
export const APPROVAL_DECISION = "agent.approval.decision";
export const APPROVAL_BY = "agent.approval.by";
export const APPROVAL_COMMENT = "agent.approval.comment";
export const SPAN_APPROVAL_WAIT = "agent.approval.wait";

/** Limits of a question in code points, and of its number of options. */
export const QUESTION_LIMIT = 8192;
export const OPTION_LIMIT = 512;
export const OPTIONS_LIMIT = 20;

export type Status =
  | "starting" | "working" | "waiting" | "paused" | "stalled" | "context_warning" | "error" | "complete" | "cancelled";
export const FINAL_STATUSES: ReadonlySet<string> = new Set(["error", "complete", "cancelled"]);
