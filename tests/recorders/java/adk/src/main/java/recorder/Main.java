package recorder;

import com.google.adk.agents.BaseAgent;
import com.google.adk.agents.LlmAgent;
import com.google.adk.agents.LoopAgent;
import com.google.adk.agents.RunConfig;
import com.google.adk.agents.SequentialAgent;
import com.google.adk.events.Event;
import com.google.adk.models.Gemini;
import com.google.adk.runner.InMemoryRunner;
import com.google.adk.tools.AgentTool;
import com.google.adk.tools.Annotations.Schema;
import com.google.adk.tools.FunctionTool;
import com.google.genai.Client;
import com.google.genai.types.Content;
import com.google.genai.types.FunctionResponse;
import com.google.genai.types.HttpOptions;
import com.google.genai.types.Part;
import com.google.genai.types.Type;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import java.util.List;
import java.util.Map;

/** Runs one scenario of the Agent Development Kit with the spans that it ships. */
public class Main {

    static String run;

    @Schema(name = "get_weather", description = "Tells the weather of a city.")
    public static Map<String, Object> weather(@Schema(name = "city") String city) throws InterruptedException {
        Thread.sleep(20);
        if (run.equals("toolfail")) {
            throw new IllegalStateException("the weather service does not answer");
        }
        return Map.of("report", city + ": 4 degrees and rain");
    }

    @Schema(name = "book_flight", description = "Books a flight.")
    public static Map<String, Object> book(@Schema(name = "city") String city) {
        return Map.of("booked", city);
    }

    public static void main(String[] args) throws Exception {
        run = args[0];
        SdkTracerProvider provider = SdkTracerProvider.builder()
            .setResource(Resource.getDefault().merge(Resource.create(
                Attributes.of(AttributeKey.stringKey("service.name"), "weather"))))
            .addSpanProcessor(BatchSpanProcessor.builder(OtlpHttpSpanExporter.builder()
                .setEndpoint(System.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + "/v1/traces").build()).build())
            .build();
        OpenTelemetrySdk.builder().setTracerProvider(provider).buildAndRegisterGlobal();

        Object get = FunctionTool.create(Main.class, "weather");
        BaseAgent root = switch (run) {
            case "handoff" -> agent("triage_agent").subAgents(agent("weather_expert").tools(get).build()).build();
            case "agenttool" -> agent("triage_agent")
                .tools(AgentTool.create(agent("weather_expert").tools(get).build())).build();
            case "sequential" -> SequentialAgent.builder().name("weather_desk")
                .subAgents(agent("researcher").tools(get).build(), agent("writer").build()).build();
            case "loop" -> LoopAgent.builder().name("weather_loop").maxIterations(2)
                .subAgents(agent("researcher").tools(get).build()).build();
            case "asked", "approval" -> agent("weather_agent").tools(FunctionTool.create(Main.class, "book", true)).build();
            case "structured" -> agent("weather_agent").outputSchema(com.google.genai.types.Schema.builder()
                .type(Type.Known.OBJECT).properties(Map.of("city", com.google.genai.types.Schema.builder()
                    .type(Type.Known.STRING).build())).build()).build();
            default -> agent("weather_agent").tools(get).build();
        };
        InMemoryRunner runner = new InMemoryRunner(root, "weather");
        runner.sessionService().createSession("weather", "user", null, "session-1").blockingGet();
        String asked = turn(runner, Content.fromParts(Part.fromText("What is the weather in Paris?")));
        if (run.equals("conv")) {
            turn(runner, Content.fromParts(Part.fromText("And in Rome?")));
            turn(runner, Content.fromParts(Part.fromText("And in Oslo?")));
        }
        if (run.equals("approval") && asked != null) {
            turn(runner, Content.builder().role("user").parts(Part.builder().functionResponse(
                FunctionResponse.builder().id(asked).name("adk_request_confirmation")
                    .response(Map.of("confirmed", true)).build()).build()).build());
        }
        provider.shutdown().join(10, java.util.concurrent.TimeUnit.SECONDS);
        System.exit(0);
    }

    static LlmAgent.Builder agent(String name) {
        Client client = Client.builder().apiKey("stub").httpOptions(
            HttpOptions.builder().baseUrl(System.getenv("GOOGLE_GEMINI_BASE_URL")).build()).build();
        return LlmAgent.builder().name(name).description("Answers on weather.").instruction("Answer on weather.")
            .model(new Gemini("gemini-2.5-flash", client));
    }

    static String turn(InMemoryRunner runner, Content message) {
        String asked = null;
        RunConfig.Builder config = RunConfig.builder();
        if (run.equals("stream")) {
            config.setStreamingMode(RunConfig.StreamingMode.SSE);
        }
        try {
            List<Event> events = runner.runAsync("user", "session-1", message, config.build()).toList().blockingGet();
            for (Event event : events) {
                for (var call : event.functionCalls()) {
                    if (call.name().orElse("").equals("adk_request_confirmation")) {
                        asked = call.id().orElse(null);
                    }
                }
                System.out.println(event.author() + " " + event.stringifyContent());
            }
        } catch (RuntimeException error) {
            System.out.println("error: " + error);
        }
        return asked;
    }
}
