// Command driver is an agent on strings: it runs the commands of its standard input (a line of JSON each), all at once,
// and writes their results.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	spanpost "github.com/spanpost/spanpost/clients/go"
)

type command struct {
	N         int      `json:"n"`
	Do        string   `json:"do"`
	Question  string   `json:"question"`
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Task      string   `json:"task"`
	Token     string   `json:"token"`
	Detail    string   `json:"detail"`
	Options   []string `json:"options"`
	Risk      string   `json:"risk"`
	Tool      string   `json:"tool"`
	AtExpiry  string   `json:"at_expiry"`
	ExpiresIn float64  `json:"expires_in"`
	Timeout   float64  `json:"timeout"`
	Abort     float64  `json:"abort"`
}

var output sync.Mutex

func say(n int, said map[string]any) {
	output.Lock()
	defer output.Unlock()
	said["n"] = n
	line, _ := json.Marshal(said)
	fmt.Printf("%s\n", line)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func do(ctx context.Context, c command) (map[string]any, error) {
	switch c.Do {
	case "mark":
		return map[string]any{"mark": spanpost.QuestionMark(c.Question, c.Detail, c.Options, c.Risk)}, nil
	case "approval":
		return approval(ctx, c)
	case "task":
		return task(ctx, c)
	}
	return nil, errors.New("no such command")
}

func approval(ctx context.Context, c command) (map[string]any, error) {
	question := &spanpost.Question{
		ID: c.ID, Options: c.Options, Detail: c.Detail, Risk: c.Risk, Tool: c.Tool,
		ExpiresIn: seconds(c.ExpiresIn), AtExpiry: spanpost.AtExpiry(c.AtExpiry),
	}
	if c.Token != "" {
		client, err := spanpost.NewClient(os.Getenv("SPANPOST_CONTROL__ENDPOINT"), c.Token)
		if err != nil {
			return nil, err
		}
		question.Client = client
	}
	if limit := max(c.Timeout, c.Abort); limit > 0 {
		limited, stop := context.WithTimeout(ctx, seconds(limit))
		defer stop()
		ctx = limited
	}
	var found spanpost.Decision
	ask := func(ctx context.Context, _ *spanpost.Task) (err error) {
		found, err = spanpost.Approval(ctx, c.Question, question)
		return err
	}
	var err error
	if c.Task != "" {
		err = spanpost.AgentTask(ctx, c.Task, &spanpost.TaskOptions{Agent: "go"}, ask)
	} else {
		err = ask(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"decision": map[string]any{
		"id": found.ID, "decision": found.Decision, "by": found.By, "comment": found.Comment,
		"expired": found.Expired, "source": found.Source, "approved": found.Approved(), "denied": found.Denied(),
	}}, nil
}

func task(ctx context.Context, c command) (map[string]any, error) {
	ctx, running := spanpost.StartTask(ctx, c.Name, &spanpost.TaskOptions{TaskID: c.ID, Agent: "go", Repo: "acme/shop"})
	running.Checkpoint("read the diff", spanpost.Progress{
		Percent: spanpost.Percent(20), Step: "read", StepIndex: 1, StepCount: 2,
	})
	running.Artifact("review.md", "", "file")
	running.Result("tests", "42 passed")
	say(c.N, map[string]any{"started": running.Span().SpanContext().TraceID().String()})
	working, stop := running.WithCancel(ctx)
	defer stop()
	found, isPaused := []map[string]string{}, false
	read := func() {
		for _, message := range spanpost.Messages(ctx) {
			found = append(found, map[string]string{"text": message.Text, "by": message.By})
		}
	}
	for !spanpost.Cancelled(ctx) {
		read()
		isPaused = isPaused || spanpost.Paused(ctx)
		select {
		case <-working.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	<-working.Done()
	read()
	allowance, err := spanpost.Budgets(ctx)
	names := []string{}
	for _, budget := range allowance.Budgets {
		names = append(names, budget.Name)
	}
	running.End(context.Cause(working))
	aborted := errors.Is(context.Cause(working), spanpost.ErrCancelled)
	return map[string]any{"messages": found, "paused": isPaused, "aborted": aborted, "budgets": names}, err
}

func main() {
	ctx := context.Background()
	if len(os.Args) > 1 {
		if err := stream(ctx, os.Args[1], os.Args[2]); err != nil {
			panic(err)
		}
		return
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		panic(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(100*time.Millisecond)))
	otel.SetTracerProvider(provider)
	var running sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		running.Go(func() {
			said, err := do(ctx, c)
			if err != nil {
				said = map[string]any{"error": fmt.Sprintf("%T", err), "message": err.Error()}
				if errors.Is(err, context.DeadlineExceeded) {
					said["error"] = "DeadlineExceeded"
				}
			}
			say(c.N, said)
		})
	}
	running.Wait()
	_ = provider.Shutdown(ctx)
}
