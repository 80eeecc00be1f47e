package spanpost

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Budget is one budget that a task spends from, as of its last finalized call.
type Budget struct {
	Name string `json:"budget"`
	// Scope has the attributes of the tasks that it limits; empty: all tasks of the tenant.
	Scope  map[string]string `json:"scope"`
	EndsAt time.Time         `json:"ends_at"`
	// SpentUSD and LeftUSD are decimal numbers; LeftUSD and LeftTokens are nil without a limit.
	SpentUSD    string  `json:"cost_usd"`
	SpentTokens int64   `json:"tokens"`
	LeftUSD     *string `json:"left_usd"`
	LeftTokens  *int64  `json:"left_tokens"`
}

// Allows reports whether something is left, and at least this much.
func (b Budget) Allows(usd float64, tokens int64) bool {
	if b.LeftUSD != nil {
		left, err := strconv.ParseFloat(*b.LeftUSD, 64)
		if err != nil || left <= 0 || left < usd {
			return false
		}
	}
	return b.LeftTokens == nil || (*b.LeftTokens > 0 && *b.LeftTokens >= tokens)
}

// Allowance has all budgets that a task spends from. Without any, nothing is limited.
type Allowance struct{ Budgets []Budget }

// Allows reports whether every budget has something left, and at least this much.
func (a Allowance) Allows(usd float64, tokens int64) bool {
	for _, budget := range a.Budgets {
		if !budget.Allows(usd, tokens) {
			return false
		}
	}
	return true
}

// Budgets returns the remaining budgets of the context's task. Nothing is reserved; only finalized calls count.
//
// An error is a [ControlUnavailableError] or the cause of ctx, also after five seconds without an answer. The agent
// then decides.
func Budgets(ctx context.Context) (Allowance, error) {
	client, err := FromEnvironment()
	if err != nil {
		return Allowance{}, err
	}
	span := trace.SpanFromContext(ctx)
	ref := ""
	if task := CurrentTask(ctx); task != nil {
		span, ref = task.span, task.requests.ref
	} else if span.SpanContext().IsValid() {
		ref = span.SpanContext().TraceID().String()
	}
	said := map[string]any{}
	own, _ := span.(interface{ Attributes() []attribute.KeyValue }) // the SDK's span
	all := client.Resource
	if own != nil {
		all = append(append([]attribute.KeyValue{}, all...), own.Attributes()...)
	}
	for _, one := range all[max(0, len(all)-100):] {
		switch one.Value.Type() {
		case attribute.STRING, attribute.BOOL, attribute.INT64, attribute.FLOAT64:
			said[string(one.Key)] = one.Value.AsInterface()
		}
	}
	limited, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	var answer struct {
		Budgets []Budget `json:"budgets"`
	}
	body := map[string]any{"ref": ref, "attributes": said}
	_, err = client.request(limited, http.MethodPost, "/control/v1/budget", 0, body, &answer)
	if err == nil {
		return Allowance{answer.Budgets}, nil
	}
	var known *ControlUnavailableError
	if errors.As(err, &known) || ctx.Err() != nil {
		return Allowance{}, err
	}
	return Allowance{}, &ControlUnavailableError{"what may be spent cannot be asked just now: " + cut(err.Error())}
}
