package spanpost

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

const scope = "spanpost.agent"

// unknownAfter is the time after which a question that the gateway does not know is logged.
const unknownAfter = 30 * time.Second

// Decision is a person's decision, or that none came before the deadline (Expired). The zero value grants nothing.
type Decision struct {
	ID string
	// Decision is approve, deny, expired, or one of the options.
	Decision string
	By       string
	Comment  string
	// Expired: the deadline passed without a decision. It is denied only if the question asked for that.
	Expired bool
	// Source says where the decision was made: slack, api, cli; spanpost for a deadline.
	Source string
}

// Approved reports whether a person approved through spanpost. With options of your own, compare Decision.
func (d Decision) Approved() bool { return d.Decision == "approve" && d.Source != "" && !d.Expired }

// Denied reports whether it was refused; a question without an answer is not denied.
func (d Decision) Denied() bool { return d.Decision == "deny" }

// Approval asks a person, and waits for the answer; given may be nil.
//
// It goes on through outages of the network and of the gateway. It returns a [ControlUnavailableError] where no gateway
// can be asked, an error that wraps [ErrInvalidQuestion], or the cause of ctx: the question then stays open.
func Approval(ctx context.Context, question string, given *Question) (Decision, error) {
	if given == nil {
		given = &Question{}
	}
	q, err := newAsked(question, *given)
	if err != nil {
		return Decision{}, err
	}
	client := given.Client
	if client == nil {
		if client, err = FromEnvironment(); err != nil {
			return Decision{}, err
		}
	}
	span := trace.SpanFromContext(ctx)
	if task := CurrentTask(ctx); task != nil {
		span = task.span
	}
	identity := texted(attrApprovalID, q.id, attrDigest, q.mark)
	_, wait := otel.Tracer(scope).Start(trace.ContextWithSpan(ctx, span), spanWait, trace.WithAttributes(identity...))
	defer wait.End()
	if !span.SpanContext().IsValid() {
		span = wait
	}
	span.AddEvent(eventRequested, trace.WithTimestamp(q.at), trace.WithAttributes(q.attributes...))
	answer, err := client.answered(ctx, q, span.SpanContext())
	if err != nil {
		return Decision{}, err
	}
	decision := Decision{
		ID: q.id, Decision: answer.Decision, By: answer.By, Comment: answer.Comment,
		Expired: answer.IsExpired, Source: answer.Source,
	}
	if own, isOption := q.options[answer.Decision]; isOption {
		decision.Decision = own
	}
	said := texted(attrDecision, decision.Decision, attrBy, decision.By, attrComment, decision.Comment)
	wait.SetAttributes(said...)
	span.AddEvent(eventResolved, trace.WithAttributes(append(append([]attribute.KeyValue{}, identity...), said...)...))
	return decision, nil
}

// answered asks, then waits.
func (c *Client) answered(ctx context.Context, q *asked, known trace.SpanContext) (*approvalAnswer, error) {
	traceID, spanID := known.TraceID().String(), known.SpanID().String()
	if !known.IsValid() { // without tracing, the question is a trace of its own
		var b [24]byte
		_, _ = rand.Read(b[:]) // never fails
		traceID, spanID = hex.EncodeToString(b[:16]), hex.EncodeToString(b[16:])
	}
	asking := retries{failure: "the question " + q.id + " cannot be asked yet"}
	for {
		err := c.ask(ctx, q, traceID, spanID)
		if err == nil {
			break
		}
		var again *unreachable
		if !errors.As(err, &again) {
			return nil, err
		}
		if err := asking.pause(ctx, err); err != nil {
			return nil, err
		}
	}
	return c.awaited(ctx, q, traceID)
}

func (c *Client) awaited(ctx context.Context, q *asked, traceID string) (*approvalAnswer, error) {
	waiting := retries{failure: "the answer to " + q.id + " cannot be waited for at the moment"}
	askedAt, isWarned := time.Now(), false
	// The first request does not wait: an agent should know at once that its question cannot be approved.
	for wait := time.Duration(0); ; {
		began := time.Now()
		answer, err := c.approval(ctx, q, traceID, wait)
		if err != nil {
			var again *unreachable
			var refused *ControlUnavailableError
			// The gateway accepted the question: its token is being replaced, or it is being moved. A person may
			// have answered.
			if !errors.As(err, &again) && !errors.As(err, &refused) {
				return nil, err
			}
			if err := waiting.pause(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		waiting.succeeded()
		if answer == nil {
			if time.Since(askedAt) > unknownAfter {
				askedAt = time.Now()
				logger().Warn("the gateway does not know the question: is it the gateway that was asked?", "id", q.id)
			}
			if err := sleep(ctx, shortest); err != nil {
				return nil, err
			}
			continue
		}
		if answer.Reason != "" && !isWarned {
			isWarned = true
			logger().Warn("the question cannot be approved as it stands", "id", q.id, "reason", cut(answer.Reason))
		}
		switch answer.State {
		case "decided", "expired":
			if answer.Source != "" { // a decision without a source was not made through spanpost
				return answer, nil
			}
		case "void":
			answer.Decision, answer.IsExpired = "expired", true
			answer.Comment = "it was asked again in other words"
			return answer, nil
		}
		if wait > 0 && time.Since(began) < soon {
			if err := sleep(ctx, soon); err != nil {
				return nil, err
			}
		}
		wait = longPoll
	}
}
