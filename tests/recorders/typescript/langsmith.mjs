// LangSmith's own OpenTelemetry: of JavaScript's runs only those of `traceable` and its wrappers become spans, LangChain's do not.
import { initializeOTEL } from "langsmith/experimental/otel/setup";
import { LangSmithOTLPTraceExporter } from "langsmith/experimental/otel/exporter";
import { LangSmithOTLPSpanProcessor } from "langsmith/experimental/otel/processor";
import { RunTree } from "langsmith";
import { traceable } from "langsmith/traceable";
import { wrapOpenAI } from "langsmith/wrappers";
import OpenAI from "openai";
import { attempt, end, live, provide, run } from "./otel.mjs";

const url = `${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`;
const provider = provide("weather-service", [...live, new LangSmithOTLPSpanProcessor(new LangSmithOTLPTraceExporter({ url, headers: {} }))]);
initializeOTEL({ globalTracerProvider: provider, skipGlobalContextManagerSetup: true });

const client = wrapOpenAI(new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0 }));
const weather = traceable(async ({ city }) => {
  if (run === "toolfail") throw new Error(`no station in ${city}`);
  return `rain in ${city}`;
}, { name: "get_weather", run_type: "tool" });
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];

const agent = traceable(async (messages, signal) => {
  for (;;) {
    const stream = run === "stream";
    const asked = { model: "gpt-4o", messages, tools };
    let message;
    if (stream) {
      const parts = await client.chat.completions.create({ ...asked, stream, stream_options: { include_usage: true } });
      message = { role: "assistant", content: "", tool_calls: [] };
      for await (const { choices: [choice] } of parts) {
        message.content += choice?.delta.content ?? "";
        message.tool_calls.push(...(choice?.delta.tool_calls ?? []));
      }
      if (!message.tool_calls.length) delete message.tool_calls;
    } else {
      message = (await client.chat.completions.create(asked, { signal })).choices[0].message;
    }
    messages.push(message);
    if (!message.tool_calls) return message.content;
    for (const call of message.tool_calls) {
      const content = await weather(JSON.parse(call.function.arguments)).catch((error) => `Error: ${error.message}`);
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}, { name: "weather_agent", run_type: "chain", metadata: { session_id: "conversation-4" } });

if (run === "conv") {
  const messages = [];
  for (const content of ["Weather in Oslo?", "And in Bergen?", "Thank you."]) await attempt(() => agent((messages.push({ role: "user", content }), messages)));
} else if (run === "cancel") {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(() => agent([{ role: "user", content: "Weather in Oslo?" }], stop.signal));
} else {
  await attempt(() => agent([{ role: "user", content: "Weather in Oslo?" }]));
}
await RunTree.getSharedClient().awaitPendingTraceBatches();
await end(provider);
