package spanpost

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const token = "spt_secret"

type answer struct {
	status int
	body   string
}

// serve answers in turn, the last for ever.
func serve(t *testing.T, answers ...answer) (*Client, *atomic.Int64) {
	t.Helper()
	var asked, count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		if r.Method == http.MethodPost {
			_, _ = w.Write([]byte("{}"))
			return
		}
		one := answers[min(int(asked.Add(1)), len(answers))-1]
		if one.status == 302 {
			w.Header().Set("Location", "http://127.0.0.1:1/")
		}
		if one.status != 0 {
			w.WriteHeader(one.status)
		}
		_, _ = w.Write([]byte(one.body))
	}))
	t.Cleanup(server.Close)
	client, err := NewClient(server.URL, token)
	if err != nil {
		t.Fatal(err)
	}
	return client, &count
}

const yes = `{"state":"decided","decision":"approve","source":"api","by":"Ann"}`

// An answer without a source, in another state or malformed is not taken.
func TestNoAnswerIsAYes(t *testing.T) {
	for _, body := range []string{
		`{"state":"decided","decision":"approve"}`, `{"decision":"approve","source":"api"}`, `{`, `[]`, ``,
	} {
		client, _ := serve(t, answer{body: body})
		ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		decision, err := Approval(ctx, "Deploy?", &Question{Client: client})
		stop()
		if decision.Approved() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, %v", body, decision, err)
		}
	}
}

// The wait goes on through failures of the gateway.
func TestGoesOn(t *testing.T) {
	client, count := serve(t, answer{status: 503}, answer{status: 401}, answer{body: `{"state":"open"}`}, answer{body: yes})
	decision, err := Approval(context.Background(), "Deploy?", &Question{Client: client})
	if !decision.Approved() || err != nil || count.Load() != 5 {
		t.Error(decision, err, count.Load())
	}
}

// A deadline that passed is not an approval, and a void question neither.
func TestExpired(t *testing.T) {
	for _, body := range []string{
		`{"state":"expired","decision":"approve","source":"spanpost","is_expired":true}`,
		`{"state":"void","decision":"approve","source":"api"}`,
	} {
		client, _ := serve(t, answer{body: body})
		decision, err := Approval(context.Background(), "Deploy?", &Question{Client: client})
		if err != nil || decision.Approved() || !decision.Expired {
			t.Error(decision, err)
		}
	}
}

// A redirect is not followed, and the token is in no error.
func TestTheTokenStays(t *testing.T) {
	for _, status := range []int{302, 401, 403, 500} {
		client, count := serve(t, answer{status: status})
		_, err := client.task(context.Background(), "t", 0, 0)
		if err == nil || strings.Contains(err.Error(), token) || count.Load() != 1 {
			t.Error(status, err, count.Load())
		}
	}
	if _, err := NewClient("http://h", token+"\n"); err == nil || strings.Contains(err.Error(), token) {
		t.Error(err)
	}
}

// A question that people cannot read whole, or that is none, is refused before it is sent.
func TestRefusedBefore(t *testing.T) {
	client, count := serve(t, answer{body: yes})
	_, err := Approval(context.Background(), strings.Repeat("x", 8193), &Question{Client: client})
	if !errors.Is(err, ErrQuestionTooLong) {
		t.Error(err)
	}
	for _, given := range []*Question{
		{Options: []string{"a", "a "}}, {Options: []string{"expired"}}, {ExpiresIn: -1}, {ID: " "},
	} {
		given.Client = client
		if _, err := Approval(context.Background(), "?", given); !errors.Is(err, ErrInvalidQuestion) {
			t.Error(given, err)
		}
	}
	if count.Load() != 0 {
		t.Error(count.Load())
	}
}

// A task that ends leaves no goroutine, and what is no UTF-8 is marked as what a receiver keeps.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Setenv("SPANPOST_CONTROL__ENDPOINT", "http://127.0.0.1:1")
	_ = AgentTask(context.Background(), "t", &TaskOptions{TaskID: "t"}, func(ctx context.Context, task *Task) error {
		_, stop := task.WithCancel(ctx)
		defer stop()
		if Cancelled(ctx) || Paused(ctx) || len(Messages(ctx)) > 0 {
			t.Error("a request without a gateway")
		}
		return nil
	})
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal(runtime.NumGoroutine(), before)
		}
	}
	for given, want := range map[string]string{"a\xed\xa0\x80b": "a\ufffdb", "\xff\xfe": "\ufffd\ufffd", "a\x00": "a\u2400"} {
		if got := questionText(given); got != want {
			t.Errorf("%q: %q", given, got)
		}
	}
}
