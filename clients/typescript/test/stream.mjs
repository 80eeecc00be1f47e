// A program that runs one small task after the other until SIGTERM: node stream.mjs RUN ASIDE
// What was acknowledged is in the file ASIDE: trace, span and task, a line each.
import { appendFileSync } from "node:fs";
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import * as spanpost from "../dist/index.js";

const [run, aside] = process.argv.slice(2);
const line = (span) => {
  const { traceId, spanId } = span.spanContext();
  return `${traceId} ${spanId} ${span.attributes["agent.task.id"] ?? "-"}\n`;
};

class Acknowledging extends OTLPTraceExporter {
  export(spans, done) {
    super.export(spans, (result) => {
      if (result.code === 0) appendFileSync(aside, spans.map(line).join(""));
      done(result);
    });
  }
}

const processor = new BatchSpanProcessor({ exporter: new Acknowledging(), scheduledDelayMillis: 200 });
const provider = new TracerProvider({ spanProcessors: [processor] });
trace.setGlobalTracerProvider(provider);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

let isOver = false;
process.on("SIGTERM", () => { isOver = true; });
const call = { "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 12 };
for (let number = 0; !isOver; number++) {
  const options = { taskId: `typescript-${run}-${number}`, agent: "typescript" };
  await spanpost.agentTask(`TypeScript ${run}-${number}`, options, async (task) => {
    for (let part = 0; part < 3; part++) {
      const span = trace.getTracer("stream").startSpan("chat gpt-4o", { attributes: call });
      await new Promise((resolve) => setTimeout(resolve, 500));
      task.checkpoint(`part ${part}`);
      span.end();
    }
  });
}
await provider.shutdown();
