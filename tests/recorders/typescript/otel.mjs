// OpenTelemetry as each program here sets it up: spans by OTLP to where the environment says.
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

export const live = process.env.LIVE_PROCESSOR ? [new (await import(process.env.LIVE_PROCESSOR)).LiveSpanProcessor()] : [];

export const exporter = () => new OTLPTraceExporter();
export const processors = () => [...live, new BatchSpanProcessor(exporter(), { scheduledDelayMillis: 200 })];

export function provide(serviceName = "weather-service", spanProcessors = processors()) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": serviceName }),
    spanProcessors,
  });
  provider.register({ contextManager: new AsyncLocalStorageContextManager() });
  return provider;
}

export const run = process.argv[2];
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Say what went wrong, and go on: a run that fails is a recording too. */
export async function attempt(work) {
  try {
    const done = await work();
    console.log("done:", typeof done === "string" ? done : JSON.stringify(done)?.slice(0, 300));
    return done;
  } catch (error) {
    console.log("failed:", error?.name, String(error?.message ?? error).slice(0, 200));
    return undefined;
  }
}

/** End the process when its spans are out; some frameworks keep it alive. */
export async function end(...providers) {
  for (const provider of providers) await provider.forceFlush?.();
  for (const provider of providers) await provider.shutdown?.();
  process.exit(0);
}
