// Program genkit runs one scenario of Genkit with the spans that it ships, exported by OpenTelemetry's SDK.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/firebase/genkit/go/ai"
	aix "github.com/firebase/genkit/go/ai/exp"
	"github.com/firebase/genkit/go/genkit"
	genkitx "github.com/firebase/genkit/go/genkit/exp"
	"github.com/firebase/genkit/go/plugins/compat_oai/openai"
	middlewarex "github.com/firebase/genkit/go/plugins/middleware/exp"
	"github.com/openai/openai-go/option"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
)

type where struct {
	City string `json:"city"`
}

const model = "openai/gpt-4o"

func main() {
	run := os.Args[1]
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	plugin := &openai.OpenAI{Opts: []option.RequestOption{
		option.WithBaseURL(os.Getenv("OPENAI_BASE_URL")), option.WithMaxRetries(0)}}
	g := genkit.Init(ctx, genkit.WithPlugins(plugin), genkit.WithDefaultModel(model), genkit.WithExperimental())
	get := genkit.DefineTool(g, "get_weather", "Tells the weather of a city.",
		func(_ *ai.ToolContext, in where) (string, error) {
			time.Sleep(20 * time.Millisecond)
			if run == "toolfail" {
				return "", errors.New("the weather service does not answer")
			}
			return in.City + ": 4 °C and rain", nil
		})
	book := genkit.DefineTool(g, "book_flight", "Books a flight.",
		func(tool *ai.ToolContext, in where) (string, error) {
			if !tool.IsResumed() {
				return "", ai.InterruptWith(tool, in)
			}
			return "booked to " + in.City, nil
		})
	said := func(answer *ai.ModelResponse, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return answer.Text(), nil
	}
	weather := genkit.DefineFlow(g, "weatherFlow", func(ctx context.Context, question string) (string, error) {
		asked := []ai.GenerateOption{ai.WithSystem("Answer on weather."), ai.WithPrompt(question)}
		switch run {
		case "structured":
			return said(genkit.Generate(ctx, g, append(asked, ai.WithOutputType(where{}))...))
		case "stream":
			return said(genkit.Generate(ctx, g, append(asked, ai.WithTools(get),
				ai.WithStreaming(func(context.Context, *ai.ModelResponseChunk) error { return nil }))...))
		case "maxturns":
			return said(genkit.Generate(ctx, g, append(asked, ai.WithTools(get), ai.WithMaxTurns(2))...))
		case "asked", "approval":
			answer, err := genkit.Generate(ctx, g, append(asked, ai.WithTools(book))...)
			if err != nil || run == "asked" {
				return said(answer, err)
			}
			again, err := book.RestartWith(answer.Interrupts()[0], ai.WithResumedMetadata[where](map[string]any{"approved": true}))
			if err != nil {
				return "", err
			}
			return said(genkit.Generate(ctx, g, ai.WithMessages(answer.History()...), ai.WithTools(book), ai.WithToolRestarts(again)))
		default:
			return said(genkit.Generate(ctx, g, append(asked, ai.WithTools(get))...))
		}
	})
	expert := genkitx.DefineAgent(g, "weather_expert",
		aix.InlinePrompt{ai.WithSystem("Answer on weather."), ai.WithTools(get)}, aix.WithDescription[any]("Knows the weather."))
	triage := genkitx.DefineAgent(g, "triage_agent", aix.InlinePrompt{ai.WithSystem("Delegate."),
		ai.WithUse(&middlewarex.Agents{Agents: []aix.AgentRef{expert.Ref()}})}, aix.WithDescription[any]("Delegates."))
	question := "What is the weather in Paris?"
	tell := func(answer any, err error) { fmt.Println(answer, err) }
	switch run {
	case "agent":
		first, err := expert.RunText(ctx, question)
		tell(first, err)
		second, err := expert.RunText(ctx, "What shall I take?", aix.WithState(first.State))
		tell(second, err)
	case "handoff":
		answer, err := triage.RunText(ctx, question)
		tell(answer, err)
	case "conv":
		for _, each := range []string{question, "And in Rome?", "And in Oslo?"} {
			answer, err := weather.Run(ctx, each)
			tell(answer, err)
		}
	default:
		answer, err := weather.Run(ctx, question)
		tell(answer, err)
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Print(err)
	}
}
