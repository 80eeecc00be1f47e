package spanpost

import (
	"context"
	"errors"
	"sync"
	"time"
)

// firstAnswer is the longest time that the first query of a task waits for an answer.
const firstAnswer = time.Second

// Message is a person's message to the agent.
type Message struct {
	Text string
	By   string
	At   time.Time
}

// requests are people's requests to one task. It listens from the first query until the task ends.
type requests struct {
	ref       string
	once      sync.Once
	ctx       context.Context
	stop      context.CancelFunc
	answered  chan struct{}
	cancelled chan struct{}
	firstOnce sync.Once

	mu       sync.Mutex
	after    int64
	isPaused bool
	messages []Message
}

func newRequests(ref string) *requests {
	ctx, stop := context.WithCancel(context.Background())
	return &requests{ref: ref, ctx: ctx, stop: stop, answered: make(chan struct{}), cancelled: make(chan struct{})}
}

// Cancelled reports whether a person asked to stop the task. It is cheap after the first call: call it in loops.
func (t *Task) Cancelled() bool { return t.requests.ready().isCancelled() }

// Paused reports whether a person asked to pause the task and did not resume it.
func (t *Task) Paused() bool {
	r := t.requests.ready()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isPaused
}

// Messages returns the messages to the task since the last call.
func (t *Task) Messages() []Message {
	r := t.requests.ready()
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.messages
	r.messages = nil
	return found
}

// WithCancel returns a context that a person's cancel of the task ends, with the cause [ErrCancelled].
func (t *Task) WithCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	t.requests.start()
	go func() {
		select {
		case <-t.requests.cancelled:
			cancel(ErrCancelled)
		case <-t.requests.ctx.Done():
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Cancelled reports whether a person asked to stop the current task; false outside a task.
func Cancelled(ctx context.Context) bool {
	task := CurrentTask(ctx)
	return task != nil && task.Cancelled()
}

// Paused reports whether a person asked to pause the current task; false outside a task.
func Paused(ctx context.Context) bool {
	task := CurrentTask(ctx)
	return task != nil && task.Paused()
}

// Messages returns the messages to the current task since the last call.
func Messages(ctx context.Context) []Message {
	if task := CurrentTask(ctx); task != nil {
		return task.Messages()
	}
	return nil
}

func (r *requests) isCancelled() bool {
	select {
	case <-r.cancelled:
		return true
	default:
		return false
	}
}

// ready starts the listener and waits for its first answer, at most a second.
func (r *requests) ready() *requests {
	r.start()
	timer := time.NewTimer(firstAnswer)
	defer timer.Stop()
	select {
	case <-r.answered:
	case <-r.ctx.Done():
	case <-timer.C:
	}
	return r
}

func (r *requests) start() {
	r.once.Do(func() {
		client, err := FromEnvironment()
		if err == nil && r.ref == "" {
			err = &ControlUnavailableError{"the task has neither an id nor a trace"}
		}
		if err != nil {
			logger().Warn("people's requests to a task cannot be received", "error", err.Error())
			r.isAnswered()
			return
		}
		go r.listen(client)
	})
}

func (r *requests) isAnswered() { r.firstOnce.Do(func() { close(r.answered) }) }

func (r *requests) close() { r.stop() }

func (r *requests) listen(client *Client) {
	trying := retries{failure: "people's requests to a task cannot be received at the moment"}
	for wait := time.Duration(0); r.ctx.Err() == nil; {
		began := time.Now()
		answer, err := client.task(r.ctx, r.ref, r.after, wait)
		if err != nil {
			if r.ctx.Err() != nil || trying.pause(r.ctx, err) != nil {
				return
			}
			continue
		}
		trying.succeeded()
		hasActs := answer != nil && r.apply(answer)
		r.isAnswered()
		var err2 error
		switch {
		case answer == nil: // spanpost does not know the task yet
			err2 = sleep(r.ctx, shortest)
		case wait > 0 && !hasActs && time.Since(began) < soon:
			err2 = sleep(r.ctx, soon)
		}
		if errors.Is(err2, context.Canceled) {
			return
		}
		wait = longPoll
	}
}

func (r *requests) apply(answer *taskAnswer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, act := range answer.Acts {
		switch act.Verb {
		case "cancel":
			if !r.isCancelled() {
				close(r.cancelled)
			}
		case "pause":
			r.isPaused = true
		case "resume":
			r.isPaused = false
		case "message":
			r.messages = append(r.messages, Message{Text: act.Text, By: act.By, At: act.At})
		}
	}
	r.after = answer.After
	return len(answer.Acts) > 0
}
