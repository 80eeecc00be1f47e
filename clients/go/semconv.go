package spanpost

// Names of the agent.* conventions that this package emits (docs/reference/conventions.md).
const (
	attrTaskID      = "agent.task.id"
	attrTaskName    = "agent.task.name"
	attrTaskType    = "agent.task.type"
	attrParentID    = "agent.task.parent_id"
	attrName        = "agent.name"
	attrRepo        = "agent.repo"
	attrTopic       = "agent.topic"
	attrRequestedBy = "agent.requested_by"
	attrRetryOf     = "agent.retry_of"
	attrCausedBy    = "agent.caused_by"
	attrOrderID     = "agent.order.id"
	linkPrefix      = "agent.link."
	resultPrefix    = "agent.result."

	attrStatus        = "agent.status"
	attrProgress      = "agent.progress"
	attrAction        = "agent.action"
	attrStepName      = "agent.step.name"
	attrStepIndex     = "agent.step.index"
	attrStepCount     = "agent.step.count"
	attrContextUsed   = "agent.context.used_tokens"
	attrContextWindow = "agent.context.window_tokens"

	eventCheckpoint = "agent.checkpoint"
	attrMessage     = "agent.checkpoint.message"
	eventArtifact   = "agent.artifact"
	attrArtName     = "agent.artifact.name"
	attrArtURI      = "agent.artifact.uri"
	attrArtKind     = "agent.artifact.kind"

	eventRequested = "agent.approval.requested"
	eventResolved  = "agent.approval.resolved"
	attrApprovalID = "agent.approval.id"
	attrQuestion   = "agent.approval.question"
	attrDetail     = "agent.approval.detail"
	attrOptions    = "agent.approval.options"
	attrRisk       = "agent.approval.risk"
	attrTool       = "agent.approval.tool"
	attrNeeds      = "agent.approval.needs"
	attrTo         = "agent.approval.to"
	attrToAfter    = "agent.approval.to_after"
	attrExpiresAt  = "agent.approval.expires_at"
	attrAtExpiry   = "agent.approval.at_expiry"
	attrDigest     = "agent.approval.digest"
	attrDecision   = "agent.approval.decision"
	attrBy         = "agent.approval.by"
	attrComment    = "agent.approval.comment"
	spanWait       = "agent.approval.wait"
)

// Limits of a question in code points, and of its number of options.
const (
	questionLimit = 8192
	optionLimit   = 512
	optionsLimit  = 20
)
