package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	spanpost "github.com/spanpost/spanpost/clients/go"
)

// acknowledging is an exporter that appends to a file what was acknowledged: trace, span and task, a line each.
type acknowledging struct {
	sdktrace.SpanExporter
	to *os.File
}

func (e acknowledging) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		return err
	}
	var lines strings.Builder
	for _, span := range spans {
		task := "-"
		for _, attribute := range span.Attributes() {
			if attribute.Key == "agent.task.id" {
				task = attribute.Value.AsString()
			}
		}
		context := span.SpanContext()
		fmt.Fprintf(&lines, "%s %s %s\n", context.TraceID(), context.SpanID(), task)
	}
	_, err := e.to.WriteString(lines.String())
	return err
}

// stream runs one small task after the other until SIGTERM; what was acknowledged is in the file `aside`.
func stream(ctx context.Context, run, aside string) error {
	ended, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	to, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return err
	}
	batches := sdktrace.WithBatcher(acknowledging{exporter, to}, sdktrace.WithBatchTimeout(200*time.Millisecond))
	provider := sdktrace.NewTracerProvider(batches)
	otel.SetTracerProvider(provider)
	for number := 0; ended.Err() == nil; number++ {
		options := &spanpost.TaskOptions{TaskID: fmt.Sprintf("go-%s-%d", run, number), Agent: "go"}
		work := func(ctx context.Context, task *spanpost.Task) error {
			for part := range 3 {
				_, call := otel.Tracer("stream").Start(ctx, "chat gpt-4o")
				call.SetAttributes(
					attribute.String("gen_ai.operation.name", "chat"),
					attribute.String("gen_ai.request.model", "gpt-4o"),
					attribute.Int("gen_ai.usage.input_tokens", 12),
				)
				time.Sleep(500 * time.Millisecond)
				task.Checkpoint(fmt.Sprintf("part %d", part), spanpost.Progress{})
				call.End()
			}
			return nil
		}
		if err := spanpost.AgentTask(ctx, fmt.Sprintf("Go %s-%d", run, number), options, work); err != nil {
			return err
		}
	}
	return provider.Shutdown(ctx)
}
