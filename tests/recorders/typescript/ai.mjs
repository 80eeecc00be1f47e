// Vercel's AI SDK with @ai-sdk/otel.
import { createOpenAI } from "@ai-sdk/openai";
import { OpenTelemetry } from "@ai-sdk/otel";
import { generateObject, generateText, isStepCount, Output, registerTelemetry, streamText, tool, ToolLoopAgent } from "ai";
import { z } from "zod";
import { attempt, end, provide, run } from "./otel.mjs";

const provider = provide();
registerTelemetry(new OpenTelemetry());
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const model = openai.chat("gpt-4o");

const city = z.object({ city: z.string() });
const weather = tool({
  description: "weather",
  inputSchema: city,
  execute: async ({ city }) => {
    if (run === "toolfail") throw new Error(`no station in ${city}`);
    return `rain in ${city}`;
  },
});
const deleteFile = tool({ description: "deletes", inputSchema: z.object({ path: z.string() }), execute: async () => "deleted" });
const telemetry = { functionId: "weather_agent" };
const base = { model, maxRetries: 0, telemetry, tools: { get_weather: weather }, stopWhen: isStepCount(5) };
const prompt = "Weather in Oslo?";

if (run === "stream") {
  await attempt(async () => {
    const answer = streamText({ ...base, prompt });
    for await (const part of answer.textStream) process.stdout.write(part);
    return answer.text;
  });
} else if (run === "conv") {
  const messages = [];
  for (const said of ["Weather in Oslo?", "And in Bergen?", "Thank you."]) {
    messages.push({ role: "user", content: said });
    const answer = await attempt(() => generateText({ ...base, messages }));
    messages.push(...answer.response.messages);
  }
} else if (run === "approval") {
  const agent = new ToolLoopAgent({
    model, telemetry: { functionId: "ops_agent" }, tools: { delete_file: deleteFile }, toolApproval: { delete_file: "user-approval" },
  });
  const messages = [{ role: "user", content: "Delete /tmp/x" }];
  const asked = await agent.generate({ messages });
  messages.push(...asked.response.messages);
  const requests = asked.content.filter((part) => part.type === "tool-approval-request");
  console.log("asked", requests.length);
  messages.push({ role: "tool", content: requests.map((r) => ({ type: "tool-approval-response", approvalId: r.approvalId, approved: true })) });
  await attempt(async () => (await agent.generate({ messages })).text);
} else if (run === "agenttool") {
  const expert = new ToolLoopAgent({ model, telemetry: { functionId: "weather_expert" }, tools: { get_weather: weather } });
  const ask = tool({
    description: "asks the expert", inputSchema: z.object({ question: z.string() }),
    execute: async ({ question }) => (await expert.generate({ prompt: question })).text,
  });
  const boss = new ToolLoopAgent({ model, telemetry: { functionId: "triage_agent" }, tools: { ask_expert: ask } });
  await attempt(async () => (await boss.generate({ prompt })).text);
} else if (run === "maxsteps") {
  await attempt(async () => (await generateText({ ...base, prompt, stopWhen: isStepCount(2) })).finishReason);
} else if (run === "structured") {
  await attempt(async () => (await generateText({ ...base, prompt, output: Output.object({ schema: city }) })).output);
} else if (run === "object") {
  await attempt(async () => (await generateObject({ model, schema: city, prompt, telemetry })).object);
} else if (run === "cancel") {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(async () => (await generateText({ ...base, prompt, abortSignal: stop.signal })).text);
} else {
  await attempt(async () => (await generateText({ ...base, prompt })).text);
}
await end(provider);
