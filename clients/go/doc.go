// Package spanpost lets an agent ask people and follow their requests through a spanpost gateway, and report its task.
//
// It emits plain OpenTelemetry and needs the OpenTelemetry API alone. The gateway is found by
// SPANPOST_CONTROL__ENDPOINT and SPANPOST_CONTROL__TOKEN, else by the variables of the OTLP exporter.
//
//	err := spanpost.AgentTask(ctx, "Release 1.4", nil, func(ctx context.Context, task *spanpost.Task) error {
//		decision, err := spanpost.Approval(ctx, "Deploy to production?", &spanpost.Question{ID: "release-1.4", Risk: "high"})
//		if err != nil || !decision.Approved() {
//			return err
//		}
//		return deploy(ctx)
//	})
//
// No answer is never a yes: an error, a timeout or a deadline that passed leaves [Decision.Approved] false.
package spanpost

// Version of this package.
const Version = "0.1.0"
