// Program adk runs one scenario of the Agent Development Kit with the telemetry that it ships.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	"google.golang.org/adk/v2/agent/workflowagents/loopagent"
	"google.golang.org/adk/v2/agent/workflowagents/sequentialagent"
	"google.golang.org/adk/v2/model/gemini"
	"google.golang.org/adk/v2/runner"
	"google.golang.org/adk/v2/session"
	"google.golang.org/adk/v2/telemetry"
	"google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/agenttool"
	"google.golang.org/adk/v2/tool/functiontool"
	"google.golang.org/adk/v2/tool/toolconfirmation"
	"google.golang.org/genai"
)

type where struct {
	City string `json:"city"`
}

type weather struct {
	Report string `json:"report"`
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	run := os.Args[1]
	ctx := context.Background()
	providers := must(telemetry.New(ctx))
	providers.SetGlobalOtelProviders()
	model := must(gemini.NewModel(ctx, "gemini-2.5-flash", &genai.ClientConfig{}))
	call := func(_ agent.Context, in where) (weather, error) {
		time.Sleep(20 * time.Millisecond)
		if run == "toolfail" {
			return weather{}, errors.New("the weather service does not answer")
		}
		return weather{in.City + ": 4 °C and rain"}, nil
	}
	get := must(functiontool.New(functiontool.Config{Name: "get_weather", Description: "Tells the weather of a city."}, call))
	ask := must(functiontool.New(functiontool.Config{
		Name: "book_flight", Description: "Books a flight.", RequireConfirmation: true,
	}, call))
	of := func(name string, tools []tool.Tool, below ...agent.Agent) agent.Agent {
		config := llmagent.Config{Name: name, Model: model, Description: "Answers on weather.",
			Instruction: "Answer on weather.", Tools: tools, SubAgents: below}
		if run == "structured" {
			config.OutputSchema = &genai.Schema{Type: genai.TypeObject,
				Properties: map[string]*genai.Schema{"city": {Type: genai.TypeString}}}
		}
		return must(llmagent.New(config))
	}
	expert := []tool.Tool{get}
	var root agent.Agent
	switch run {
	case "handoff":
		root = of("triage_agent", nil, of("weather_expert", expert))
	case "agenttool":
		root = of("triage_agent", []tool.Tool{agenttool.New(of("weather_expert", expert), nil)})
	case "sequential":
		root = must(sequentialagent.New(sequentialagent.Config{AgentConfig: agent.Config{Name: "weather_desk",
			SubAgents: []agent.Agent{of("researcher", expert), of("writer", nil)}}}))
	case "loop":
		root = must(loopagent.New(loopagent.Config{MaxIterations: 2, AgentConfig: agent.Config{Name: "weather_loop",
			SubAgents: []agent.Agent{of("researcher", expert)}}}))
	case "asked", "approval":
		root = of("weather_agent", []tool.Tool{ask})
	case "structured":
		root = of("weather_agent", nil)
	default:
		root = of("weather_agent", expert)
	}
	r := must(runner.New(runner.Config{AppName: "weather", Agent: root,
		SessionService: session.InMemoryService(), AutoCreateSession: true}))
	mode := agent.StreamingModeNone
	if run == "stream" {
		mode = agent.StreamingModeSSE
	}
	turn := func(message *genai.Content) (asked string) {
		for event, err := range r.Run(ctx, "user", "session-1", message, agent.RunConfig{StreamingMode: mode}) {
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			if event.Content == nil {
				continue
			}
			for _, part := range event.Content.Parts {
				if call := part.FunctionCall; call != nil && call.Name == toolconfirmation.FunctionCallName {
					asked = call.ID
				}
				fmt.Println(event.Author, part.Text)
			}
		}
		return asked
	}
	asked := turn(genai.NewContentFromText("What is the weather in Paris?", genai.RoleUser))
	if run == "conv" {
		turn(genai.NewContentFromText("And in Rome?", genai.RoleUser))
		turn(genai.NewContentFromText("And in Oslo?", genai.RoleUser))
	}
	if run == "approval" && asked != "" {
		turn(&genai.Content{Role: genai.RoleUser, Parts: []*genai.Part{{FunctionResponse: &genai.FunctionResponse{
			ID: asked, Name: toolconfirmation.FunctionCallName, Response: map[string]any{"confirmed": true}}}}})
	}
	if err := providers.Shutdown(ctx); err != nil {
		log.Print(err)
	}
}
