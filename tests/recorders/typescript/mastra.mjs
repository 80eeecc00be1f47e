// Mastra with its OpenTelemetry exporter, or (MASTRA_BY=bridge) its bridge to the SDK's spans.
import { createOpenAI } from "@ai-sdk/openai";
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { createTool } from "@mastra/core/tools";
import { InMemoryStore } from "@mastra/core/storage";
import { Memory } from "@mastra/memory";
import { Observability } from "@mastra/observability";
import { z } from "zod";
import { attempt, end, provide, run, sleep } from "./otel.mjs";

let telemetry, provider;
if (process.env.MASTRA_BY === "bridge") {
  provider = provide();
  const { OtelBridge } = await import("@mastra/otel-bridge");
  telemetry = { bridge: new OtelBridge() };
} else {
  const { OtelExporter } = await import("@mastra/otel-exporter");
  const endpoint = `${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`;
  telemetry = { exporters: [new OtelExporter({ provider: { custom: { endpoint, protocol: "http/protobuf" } } })] };
}
const observability = new Observability({ configs: { otel: { serviceName: "weather-service", ...telemetry } } });
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const model = openai.chat("gpt-4o");
const weather = createTool({
  id: "get_weather", description: "weather", inputSchema: z.object({ city: z.string() }), outputSchema: z.object({ w: z.string() }),
  execute: async () => {
    if (run === "toolfail") throw new Error("no station in Oslo");
    return { w: "rain" };
  },
});
const deleteFile = createTool({
  id: "delete_file", description: "deletes", inputSchema: z.object({ path: z.string() }), requireApproval: true, execute: async () => ({ done: true }),
});
const storage = new InMemoryStore();
const made = (name, more = {}) => new Agent({ id: name, name, instructions: "Say the weather.", model, maxRetries: 0, tools: { get_weather: weather }, ...more });
const guard = { id: "on_topic", name: "on_topic", processInput: async ({ abort }) => abort("off topic") };
const expert = made("weather_expert", { description: "Knows the weather." });
const agents = {
  weather_agent: made("weather_agent", run === "conv" ? { memory: new Memory() } : {}),
  guarded: made("guarded_agent", { inputProcessors: [guard] }),
  ops_agent: made("ops_agent", { tools: { delete_file: deleteFile } }),
  triage_agent: made("triage_agent", { tools: {}, agents: { weather_expert: expert } }),
};
const mastra = new Mastra({ agents, storage, observability, logger: false });
const agent = (name) => mastra.getAgent(name);
const prompt = "Weather in Oslo?";
const text = async (promised) => (await promised).text;

if (run === "stream") {
  await attempt(async () => {
    const answer = await agent("weather_agent").stream(prompt);
    for await (const part of answer.textStream) void part;
    return answer.text;
  });
} else if (run === "conv") {
  for (const said of ["Weather in Oslo?", "And in Bergen?", "Thank you."])
    await attempt(() => text(agent("weather_agent").generate(said, { memory: { thread: "thread-3", resource: "user-1" } })));
} else if (run === "agenttool") {
  await attempt(() => text(agent("triage_agent").generate(prompt)));
} else if (run === "approval") {
  const asked = await agent("ops_agent").generate("Delete /tmp/x");
  console.log("asked", asked.finishReason, asked.runId);
  await attempt(() => text(agent("ops_agent").approveToolCallGenerate({ runId: asked.runId, toolCallId: asked.suspendPayload?.toolCallId })));
} else if (run === "maxsteps") {
  await attempt(async () => (await agent("weather_agent").generate(prompt, { maxSteps: 2 })).finishReason);
} else if (run === "structured") {
  const structuredOutput = { schema: z.object({ city: z.string() }) };
  await attempt(async () => (await agent("weather_agent").generate(prompt, { structuredOutput })).object);
} else if (run === "guardrail") {
  await attempt(async () => (await agent("guarded").generate("Write my homework")).tripwire);
} else if (run === "cancel") {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(() => text(agent("weather_agent").generate(prompt, { abortSignal: stop.signal })));
} else {
  await attempt(() => text(agent("weather_agent").generate(prompt)));
}
await sleep(300);
await observability.shutdown?.();
await mastra.shutdown?.();
await end(...(provider ? [provider] : []));
