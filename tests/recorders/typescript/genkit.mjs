// Genkit, whose own telemetry is given a span processor.
import { openAICompatible } from "@genkit-ai/compat-oai";
import { genkit, z } from "genkit/beta";
import { enableTelemetry, flushTracing } from "genkit/tracing";
import { createRequire } from "node:module";
import { attempt, end, live, run, sleep } from "./otel.mjs";

// Genkit has OpenTelemetry 1 of its own, whose spans only exporters of that version understand.
const own = createRequire(createRequire(import.meta.url).resolve("@genkit-ai/core"));
const { OTLPTraceExporter } = own("@opentelemetry/exporter-trace-otlp-proto");
const { BatchSpanProcessor } = own("@opentelemetry/sdk-trace-base");
process.env.OTEL_SERVICE_NAME = "weather-service";
await enableTelemetry({ spanProcessors: [...live, new BatchSpanProcessor(new OTLPTraceExporter(), { scheduledDelayMillis: 200 })] });
const { compatOaiModelRef, defineCompatOpenAIModel } = await import("@genkit-ai/compat-oai");
const OpenAI = createRequire(createRequire(import.meta.url).resolve("@genkit-ai/compat-oai"))("openai").default;
const client = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0 });
const ai = genkit({
  plugins: [openAICompatible({ name: "stub", apiKey: "stub", baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0,
    initializer: async () => [defineCompatOpenAIModel({ name: "stub/gpt-4o", client, pluginOptions: { name: "stub" }, modelRef: compatOaiModelRef({ name: "stub/gpt-4o" }) })] })],
});
const model = "stub/gpt-4o";
const weather = ai.defineTool(
  { name: "get_weather", description: "weather", inputSchema: z.object({ city: z.string() }), outputSchema: z.string() },
  async ({ city }) => {
    if (run === "toolfail") throw new Error(`no station in ${city}`);
    return `rain in ${city}`;
  },
);
const confirm = ai.defineInterrupt({
  name: "delete_file", description: "deletes", inputSchema: z.object({ path: z.string() }), outputSchema: z.object({ approved: z.boolean() }),
});
const prompt = "Weather in Oslo?";
const flow = (work) => attempt(() => ai.defineFlow("weather_agent", work)());

if (run === "stream") {
  await attempt(async () => {
    const { stream, response } = ai.generateStream({ model, prompt, tools: [weather] });
    for await (const chunk of stream) void chunk;
    return (await response).text;
  });
} else if (run === "conv") {
  const chat = ai.defineAgent({ name: "weather_agent", description: "weather", model, tools: [weather], system: "Say the weather." }).chat();
  for (const said of ["Weather in Oslo?", "And in Bergen?", "Thank you."]) await attempt(async () => (await chat.send(said)).text);
} else if (run === "agenttool") {
  const askExpert = ai.defineTool(
    { name: "ask_expert", description: "asks the expert", inputSchema: z.object({ question: z.string() }), outputSchema: z.string() },
    async ({ question }) => (await ai.generate({ model, prompt: question, tools: [weather] })).text,
  );
  await flow(async () => (await ai.generate({ model, prompt, tools: [askExpert] })).text);
} else if (run === "approval") {
  const asked = await ai.generate({ model, prompt: "Delete /tmp/x", tools: [confirm] });
  console.log("asked", asked.interrupts.length, asked.finishReason);
  const answers = asked.interrupts.map((one) => confirm.respond(one, { approved: true }));
  await attempt(async () => (await ai.generate({ model, tools: [confirm], messages: asked.messages, resume: { respond: answers } })).text);
} else if (run === "maxsteps") {
  await attempt(async () => (await ai.generate({ model, prompt, tools: [weather], maxTurns: 1 })).text);
} else if (run === "structured") {
  await attempt(async () => (await ai.generate({ model, prompt, output: { schema: z.object({ city: z.string() }) } })).output);
} else if (run === "cancel") {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(async () => (await ai.generate({ model, prompt, tools: [weather], abortSignal: stop.signal })).text);
} else if (run === "flow") {
  await flow(async () => (await ai.generate({ model, prompt, tools: [weather] })).text);
} else {
  await attempt(async () => (await ai.generate({ model, prompt, tools: [weather] })).text);
}
await flushTracing?.();
await sleep(400);
await end();
