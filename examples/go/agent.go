// An agent in Go that asks a person before it deploys. It emits OpenTelemetry and waits at the gateway.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	spanpost "github.com/spanpost/spanpost/clients/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
)

func release(ctx context.Context, task *spanpost.Task) error {
	task.Checkpoint("tests pass", spanpost.Progress{Percent: spanpost.Percent(80)})
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	decision, err := spanpost.Approval(ctx, "Deploy 1.4 to production?", &spanpost.Question{ID: "release-go", Risk: "high"})
	if err != nil {
		return err
	}
	if !decision.Approved() {
		fmt.Println("not deployed")
		return nil
	}
	fmt.Println("deployed, as", decision.By, "decided")
	return nil
}

func main() {
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx) // OTEL_EXPORTER_OTLP_ENDPOINT
	if err != nil {
		log.Fatal(err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	err = spanpost.AgentTask(ctx, "Release 1.4", &spanpost.TaskOptions{Agent: "releaser"}, release)
	if closed := provider.Shutdown(ctx); err == nil {
		err = closed
	}
	if err != nil {
		log.Fatal(err)
	}
}
