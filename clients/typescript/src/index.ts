/** Ask people from an agent, follow their requests, and report a task: plain OpenTelemetry, and a spanpost gateway. */

export { approval, type ApprovalOptions, ApprovalTimeout, Decision } from "./approval.js";
export { type AgentBudget, Allowance, budget } from "./budget.js";
export { ControlUnavailable, GatewayClient, type GatewayOptions } from "./gateway.js";
export { type AtExpiry, questionMark, type QuestionOptions, QuestionTooLong } from "./question.js";
export { cancelled, type Message, messages, paused } from "./requests.js";
export { type Status } from "./semconv.js";
export { agentTask, currentTask, type Progress, startedBy, type Task, type TaskOptions } from "./task.js";
