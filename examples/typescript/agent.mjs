// An agent in JavaScript that asks a person before it deploys. It emits OpenTelemetry and waits at the gateway.
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { agentTask, approval } from "@spanpost/agent";

const provider = new TracerProvider({ spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })] });
trace.setGlobalTracerProvider(provider);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

await agentTask("Release 1.4", { agent: "releaser", repo: "acme/shop" }, async (task) => {
  task.checkpoint("tests pass", { progress: 80 });
  const decision = await approval("Deploy 1.4 to production?", { id: "release-js", risk: "high", expiresIn: 3_600_000 });
  if (decision.approved) task.artifact("1.4 in production", undefined, "deploy");
  console.log(decision.approved ? `deployed, as ${decision.by} decided` : "not deployed");
});
await provider.shutdown();
