package spanpost

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// shortest and longest are the limits of a pause between two tries.
	shortest = 200 * time.Millisecond
	longest  = 5 * time.Second
	// soon: an answer without news that comes sooner is not from a long poll.
	soon = 500 * time.Millisecond
)

func logger() *slog.Logger { return slog.Default().With("logger", "spanpost.control") }

// retries makes growing pauses between tries, and logs the first failure of a row.
type retries struct {
	failure  string
	next     time.Duration
	isLogged bool
}

func (r *retries) pause(ctx context.Context, err error) error {
	if !r.isLogged {
		r.isLogged = true
		logger().Warn(r.failure+", trying again", "error", cut(err.Error()))
	}
	if r.next == 0 {
		r.next = shortest
	}
	jittered := time.Duration(float64(r.next) * (0.5 + rand.Float64()/2))
	r.next = min(r.next*2, longest)
	return sleep(ctx, jittered)
}

func (r *retries) succeeded() { r.next, r.isLogged = 0, false }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
