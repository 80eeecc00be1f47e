// An agent on strings: runs the commands of its standard input (a line of JSON each), all at once, and writes their results.
import { createInterface } from "node:readline";
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import * as spanpost from "../dist/index.js";

const processor = new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), scheduledDelayMillis: 100 });
const provider = new TracerProvider({ spanProcessors: [processor] });
trace.setGlobalTracerProvider(provider);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

const say = (n, said) => process.stdout.write(`${JSON.stringify({ n, ...said })}\n`);
const seconds = (given) => (given === undefined ? undefined : given * 1000);

const does = {
  async mark({ question, detail, options, risk }) {
    return { mark: spanpost.questionMark(question, detail, options, risk) };
  },
  async approval({ n: _, question, token, task, expires_in, timeout, at_expiry, abort, ...more }) {
    const client = token && new spanpost.GatewayClient(process.env.SPANPOST_CONTROL__ENDPOINT, {
      headers: { authorization: `Bearer ${token}` },
    });
    const options = {
      ...more,
      ...(expires_in && { expiresIn: seconds(expires_in) }),
      ...(timeout && { timeout: seconds(timeout) }),
      ...(at_expiry && { atExpiry: at_expiry }),
      ...(abort && { signal: AbortSignal.timeout(seconds(abort)) }),
      ...(client && { client }),
    };
    const ask = async () => {
      const found = await spanpost.approval(question, options);
      const { id, decision, by, comment, expired, source, approved, denied } = found;
      return { decision: { id, decision, by, comment, expired, source, approved, denied } };
    };
    return task ? spanpost.agentTask(task, { agent: "typescript" }, ask) : ask();
  },
  async task({ n, name, id }) {
    return spanpost.agentTask(name, { taskId: id, agent: "typescript", repo: "acme/shop" }, async (task) => {
      task.checkpoint("read the diff", { progress: 20, step: "read", stepIndex: 1, stepCount: 2 });
      task.artifact("review.md", undefined, "file");
      task.result("tests", "42 passed");
      say(n, { started: task.span.spanContext().traceId });
      const found = [];
      const read = async () => found.push(...(await spanpost.messages()).map(({ text, by }) => ({ text, by })));
      let isPaused = false;
      while (!(await spanpost.cancelled())) {
        await read();
        isPaused ||= await spanpost.paused();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await read();
      const allowance = await spanpost.budget();
      task.set({ status: "cancelled" });
      return { messages: found, paused: isPaused, aborted: task.signal.aborted, budgets: allowance.budgets.map((b) => b.name) };
    });
  },
};

const running = [];
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const { do: what, ...given } = command;
  const one = does[what](given).then(
    (said) => say(command.n, said),
    (error) => say(command.n, { error: error.name, message: error.message }),
  );
  running.push(one);
}
await Promise.all(running);
await provider.shutdown();
