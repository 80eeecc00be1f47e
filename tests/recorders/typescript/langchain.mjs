// LangChain and LangGraph, by OpenInference.
import { provide, attempt, end, run } from "./otel.mjs";

const provider = provide();
const { LangChainInstrumentation } = await import("@arizeai/openinference-instrumentation-langchain");
const manager = await import("@langchain/core/callbacks/manager");
new LangChainInstrumentation({ tracerProvider: provider }).manuallyInstrument(manager);
const { createAgent, humanInTheLoopMiddleware, tool } = await import("langchain");
const { Command, MemorySaver, MessagesAnnotation, StateGraph, START, END } = await import("@langchain/langgraph");
const { ChatOpenAI } = await import("@langchain/openai");
const { z } = await import("zod");

const model = new ChatOpenAI({ model: "gpt-4o", maxRetries: 0, streaming: run === "stream", configuration: { baseURL: process.env.OPENAI_BASE_URL } });
const weather = tool(
  async ({ city }) => {
    if (run === "toolfail") throw new Error(`no station in ${city}`);
    return `rain in ${city}`;
  },
  { name: "get_weather", description: "weather", schema: z.object({ city: z.string() }) },
);
const deleteFile = tool(async () => "deleted", { name: "delete_file", description: "deletes", schema: z.object({ path: z.string() }) });
const ask = (content) => ({ messages: [{ role: "user", content }] });
const text = (state) => state.messages.at(-1).content;

if (run === "approval") {
  const agent = createAgent({
    model, name: "ops_agent", tools: [deleteFile], checkpointer: new MemorySaver(),
    middleware: [humanInTheLoopMiddleware({ interruptOn: { delete_file: true } })],
  });
  const config = { configurable: { thread_id: "thread-7" } };
  const asked = await attempt(() => agent.invoke(ask("Delete /tmp/x"), config));
  console.log("asked", asked?.__interrupt__?.length);
  await attempt(async () => text(await agent.invoke(new Command({ resume: { decisions: [{ type: "approve" }] } }), config)));
} else if (run === "interrupt") {
  const { interrupt } = await import("@langchain/langgraph");
  const risky = tool(async ({ path }) => (interrupt({ question: `Delete ${path}?` }) ? "deleted" : "kept"), {
    name: "delete_file", description: "deletes", schema: z.object({ path: z.string() }),
  });
  const agent = createAgent({ model, name: "ops_agent", tools: [risky], checkpointer: new MemorySaver() });
  const config = { configurable: { thread_id: "thread-8" } };
  await attempt(async () => Object.keys(await agent.invoke(ask("Delete /tmp/x"), config)));
  await attempt(async () => text(await agent.invoke(new Command({ resume: true }), config)));
} else if (run === "handoff") {
  const triage = createAgent({ model, name: "triage_agent", tools: [weather] });
  const expert = createAgent({ model, name: "weather_expert", tools: [weather] });
  const desk = new StateGraph(MessagesAnnotation)
    .addNode("triage_agent", triage.graph).addNode("weather_expert", expert.graph)
    .addEdge(START, "triage_agent").addEdge("triage_agent", "weather_expert").addEdge("weather_expert", END)
    .compile({ name: "weather_desk" });
  await attempt(async () => text(await desk.invoke(ask("Weather in Oslo?"))));
} else if (run === "conv") {
  const agent = createAgent({ model, name: "weather_agent", tools: [weather], checkpointer: new MemorySaver() });
  for (const said of ["Weather in Oslo?", "And in Bergen?", "Thank you."])
    await attempt(async () => text(await agent.invoke(ask(said), { configurable: { thread_id: "thread-9" } })));
} else if (run === "stream") {
  const agent = createAgent({ model, name: "weather_agent", tools: [weather] });
  await attempt(async () => {
    for await (const chunk of await agent.stream(ask("Weather in Oslo?"), { streamMode: "messages" })) void chunk;
    return "streamed";
  });
} else if (run === "structured") {
  const { toolStrategy } = await import("langchain");
  const agent = createAgent({ model, name: "weather_agent", tools: [weather], responseFormat: toolStrategy(z.object({ city: z.string(), sky: z.string() })) });
  await attempt(async () => (await agent.invoke(ask("Weather in Oslo?"))).structuredResponse);
} else if (run === "maxsteps") {
  const agent = createAgent({ model, name: "weather_agent", tools: [weather] });
  await attempt(async () => text(await agent.invoke(ask("Weather in Oslo?"), { recursionLimit: 4 })));
} else if (run === "cancel") {
  const agent = createAgent({ model, name: "weather_agent", tools: [weather] });
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 800);
  await attempt(async () => text(await agent.invoke(ask("Weather in Oslo?"), { signal: stop.signal })));
} else {
  const agent = createAgent({ model, name: "weather_agent", tools: [weather] });
  await attempt(async () => text(await agent.invoke(ask("Weather in Oslo?"))));
}
await end(provider);
