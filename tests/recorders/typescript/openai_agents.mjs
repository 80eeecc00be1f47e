// OpenAI Agents for JavaScript, by OpenInference.
import { OpenAIAgentsInstrumentation } from "@arizeai/openinference-instrumentation-openai-agents";
import * as agents from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { attempt, end, provide, run } from "./otel.mjs";

const provider = provide();
const instrumentation = new OpenAIAgentsInstrumentation({ tracerProvider: provider });
instrumentation.manuallyInstrument(agents);
agents.setDefaultOpenAIClient(new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0 }));
agents.setOpenAIAPI(process.env.OPENAI_API ?? "responses");

const { Agent, tool } = agents;
const weather = tool({
  name: "get_weather", description: "weather", parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    if (run === "toolfail") throw new Error(`no station in ${city}`);
    return `rain in ${city}`;
  },
});
const deleteFile = tool({
  name: "delete_file", description: "deletes", parameters: z.object({ path: z.string() }), needsApproval: true, execute: async () => "deleted",
});
const model = "gpt-4o";
const agent = new Agent({ name: "weather_agent", instructions: "Say the weather.", model, tools: [weather] });
const prompt = "Weather in Oslo?";
const final = async (promised) => (await promised).finalOutput;

if (run === "stream") {
  await attempt(async () => {
    const result = await agents.run(agent, prompt, { stream: true });
    for await (const event of result) void event;
    await result.completed;
    return result.finalOutput;
  });
} else if (run === "conv") {
  let input = [];
  await agents.withTrace("Weather desk", async () => {
    for (const said of ["Weather in Oslo?", "And in Bergen?", "Thank you."]) {
      const result = await attempt(async () => agents.run(agent, [...input, { role: "user", content: said }]));
      input = result.history;
    }
  }, { groupId: "conversation-5" });
} else if (run === "handoff") {
  const expert = new Agent({ name: "weather_expert", instructions: "Say the weather.", model, tools: [weather] });
  const triage = Agent.create({ name: "triage_agent", instructions: "Hand off.", model, handoffs: [expert] });
  await attempt(() => agents.withTrace("Weather desk", () => final(agents.run(triage, prompt))));
} else if (run === "agenttool") {
  const expert = new Agent({ name: "weather_expert", instructions: "Say the weather.", model, tools: [weather] });
  const triage = new Agent({
    name: "triage_agent", instructions: "Ask.", model, tools: [expert.asTool({ toolName: "ask_expert", toolDescription: "asks the expert" })],
  });
  await attempt(() => final(agents.run(triage, prompt)));
} else if (run === "approval") {
  const ops = new Agent({ name: "ops_agent", instructions: "Operate.", model, tools: [deleteFile] });
  const asked = await agents.run(ops, "Delete /tmp/x");
  console.log("asked", asked.interruptions.length);
  for (const one of asked.interruptions) asked.state.approve(one);
  await attempt(() => final(agents.run(ops, asked.state)));
} else if (run === "maxsteps") {
  await attempt(() => final(agents.run(agent, prompt, { maxTurns: 2 })));
} else if (run === "structured") {
  const typed = new Agent({ name: "weather_agent", model, tools: [weather], outputType: z.object({ city: z.string(), sky: z.string() }) });
  await attempt(() => final(agents.run(typed, prompt)));
} else if (run === "guardrail") {
  const guarded = new Agent({
    name: "weather_agent", model, tools: [weather],
    inputGuardrails: [{ name: "on_topic", execute: async () => ({ tripwireTriggered: true, outputInfo: { reason: "off topic" } }) }],
  });
  await attempt(() => final(agents.run(guarded, "Write my homework")));
} else if (run === "cancel") {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(() => final(agents.run(agent, prompt, { signal: stop.signal })));
} else {
  await attempt(() => final(agents.run(agent, prompt)));
}
await agents.getGlobalTraceProvider?.()?.forceFlush?.();
await end(provider);
