package spanpost

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// ErrCancelled is the cause of a context that a person's cancel ended (see [Task.WithCancel]).
var ErrCancelled = errors.New("a person cancelled the task")

// TaskOptions describes a task. All of it is optional.
type TaskOptions struct {
	// TaskID continues a task of another process.
	TaskID      string
	Agent       string
	Repo        string
	Topic       string
	Type        string
	RequestedBy string
	ParentID    string
	RetryOf     string
	// Links are shown with the task, by name.
	Links      map[string]string
	Attributes []attribute.KeyValue
}

// Progress is what a checkpoint says besides its message; zero values are left out.
type Progress struct {
	// Percent done; nil: not said.
	Percent *float64
	// Status is one of the nine statuses. A final one that is set stays at the end.
	Status string
	// Action is what the agent does now, in one line.
	Action string
	Step   string
	// StepIndex counts from 1.
	StepIndex, StepCount       int
	ContextUsed, ContextWindow int
	// Attributes are put on the event unchanged.
	Attributes []attribute.KeyValue
}

// Percent returns a pointer to a number, for [Progress].
func Percent(n float64) *float64 { return &n }

// Task is a running task. Every method is safe after its end, without any receiver, and in several goroutines.
type Task struct {
	span     trace.Span
	requests *requests

	mu     sync.Mutex
	status string
	ended  bool
}

type taskKey struct{}

// CurrentTask returns the innermost task of a context, or nil.
func CurrentTask(ctx context.Context) *Task {
	task, _ := ctx.Value(taskKey{}).(*Task)
	return task
}

// AgentTask runs an agent's piece of work as a task; options may be nil.
//
// It ends complete; error when fn returns an error or panics; cancelled when that error is a cancelled context's.
func AgentTask(ctx context.Context, name string, options *TaskOptions, fn func(context.Context, *Task) error) error {
	ctx, task := StartTask(ctx, name, options)
	isDone := false
	defer func() {
		if !isDone {
			task.End(errors.New("panic"))
		}
	}()
	err := fn(ctx, task)
	isDone = true
	task.End(err)
	return err
}

// StartTask starts a task that the caller ends. The returned context carries it; options may be nil.
func StartTask(ctx context.Context, name string, options *TaskOptions) (context.Context, *Task) {
	if options == nil {
		options = &TaskOptions{}
	}
	said := texted(
		attrTaskName, name, attrTaskID, options.TaskID, attrTaskType, options.Type, attrParentID, options.ParentID,
		attrName, options.Agent, attrRepo, options.Repo, attrTopic, options.Topic,
		attrRequestedBy, options.RequestedBy, attrRetryOf, options.RetryOf,
	)
	for link, url := range options.Links {
		said = append(said, attribute.String(linkPrefix+link, url))
	}
	if !trace.SpanContextFromContext(ctx).IsValid() {
		said = append(orderOfProcess(), said...)
	}
	said = append(said, options.Attributes...)
	ctx, span := otel.Tracer(scope).Start(ctx, name, trace.WithAttributes(said...))
	ref := options.TaskID
	if known := span.SpanContext(); ref == "" && known.IsValid() {
		ref = known.TraceID().String() + "-" + known.SpanID().String()
	}
	task := &Task{span: span, requests: newRequests(ref)}
	return context.WithValue(ctx, taskKey{}, task), task
}

// Span returns the task's span.
func (t *Task) Span() trace.Span { return t.span }

// Checkpoint reports an event that people are notified of; it is not saved state.
func (t *Task) Checkpoint(message string, progress ...Progress) {
	var said, own []attribute.KeyValue
	for _, one := range progress {
		said = append(said, one.attributes()...)
		own = append(own, one.Attributes...)
	}
	event := append([]attribute.KeyValue{attribute.String(attrMessage, message)}, said...)
	// The event first: a reader of the live span recognises what is new by its events.
	t.span.AddEvent(eventCheckpoint, trace.WithAttributes(append(event, own...)...))
	t.keep(said)
}

// Set sets attributes without a checkpoint.
func (t *Task) Set(progress Progress) { t.keep(progress.attributes()) }

// Artifact reports an artifact: task.Artifact("PR 12", "https://…/pull/12", "pr").
func (t *Task) Artifact(name, uri, kind string) {
	t.span.AddEvent(eventArtifact, trace.WithAttributes(texted(attrArtName, name, attrArtURI, uri, attrArtKind, kind)...))
}

// Result sets a result that is shown at the end: task.Result("tests", "42 passed").
func (t *Task) Result(name, value string) {
	t.span.SetAttributes(attribute.String(resultPrefix+name, value))
}

// Link sets an http(s) link that is shown with the task.
func (t *Task) Link(name, url string) { t.span.SetAttributes(attribute.String(linkPrefix+name, url)) }

func (t *Task) keep(said []attribute.KeyValue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range said {
		if one.Key == attrStatus {
			t.status = one.Value.AsString()
		}
	}
	t.span.SetAttributes(said...)
}

// End ends the span with the status that follows from err, and stops listening. Idempotent.
func (t *Task) End(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	status := "complete"
	switch {
	case t.status == "error" || t.status == "cancelled":
		status = t.status
	case errors.Is(err, context.Canceled) || errors.Is(err, ErrCancelled):
		status = "cancelled"
	case err != nil:
		status = "error"
	}
	t.span.SetAttributes(attribute.String(attrStatus, status))
	if status == "error" {
		message := ""
		if err != nil {
			t.span.RecordError(err)
			message = err.Error()
		}
		t.span.SetStatus(codes.Error, message)
	}
	t.requests.close()
	t.span.End()
}

func (p Progress) attributes() []attribute.KeyValue {
	said := texted(attrStatus, p.Status, attrAction, p.Action, attrStepName, p.Step)
	if p.Percent != nil {
		said = append(said, attribute.Float64(attrProgress, *p.Percent))
	}
	for _, one := range []struct {
		name   string
		number int
	}{
		{attrStepIndex, p.StepIndex}, {attrStepCount, p.StepCount},
		{attrContextUsed, p.ContextUsed}, {attrContextWindow, p.ContextWindow},
	} {
		if one.number != 0 {
			said = append(said, attribute.Int(one.name, one.number))
		}
	}
	return said
}

// orderOfProcess returns this process's launch order, once: a second task or a child process does not get it again.
func orderOfProcess() []attribute.KeyValue {
	text := os.Getenv("SPANPOST_ORDER")
	_ = os.Unsetenv("SPANPOST_ORDER")
	type fields struct {
		ID          string `json:"id"`
		RetryOf     string `json:"retry_of"`
		CausedBy    string `json:"caused_by"`
		RequestedBy string `json:"requested_by"`
	}
	var order struct {
		fields
		Data *fields `json:"data"`
	}
	if text == "" || json.Unmarshal([]byte(text), &order) != nil {
		return nil
	}
	found := order.fields
	if order.Data != nil {
		found = *order.Data
	}
	return texted(
		attrOrderID, found.ID, attrRetryOf, found.RetryOf, attrCausedBy, found.CausedBy, attrRequestedBy, found.RequestedBy)
}
