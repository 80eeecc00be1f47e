import { AsyncLocalStorage } from "node:async_hooks";
import { type Attributes, context, type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import { isRecord } from "./gateway.js";
import { Requests } from "./requests.js";
import * as c from "./semconv.js";

/** What a checkpoint says besides its message. */
export interface Progress {
  /** Percent. */
  progress?: number;
  status?: c.Status;
  /** What the agent does now, one line. */
  action?: string;
  step?: string;
  /** Counts from 1. */
  stepIndex?: number;
  stepCount?: number;
  contextUsed?: number;
  contextWindow?: number;
}

export interface TaskOptions {
  /** Continues a task of another process. */
  taskId?: string;
  agent?: string;
  repo?: string;
  topic?: string;
  type?: string;
  requestedBy?: string;
  parentId?: string;
  retryOf?: string;
  /** The launch order that started it, a launcher's JSON; left out, the process's own. */
  order?: Readonly<Record<string, unknown>>;
  links?: Readonly<Record<string, string>>;
  attributes?: Attributes;
}

const tasks = new AsyncLocalStorage<Task>();

/** Return the innermost task that runs here. */
export function currentTask(): Task | undefined {
  return tasks.getStore();
}

/** A running task, to report what it does. Every method is safe after its end, and without any receiver. */
export class Task {
  /** People's requests to the task. */
  readonly requests: Requests;
  #status: string | undefined;

  constructor(readonly span: Span, readonly taskId: string | undefined) {
    this.requests = new Requests(refOf(span, taskId));
  }

  /** Aborts when a person cancels the task: hand it to `fetch` and to the model's client. */
  get signal(): AbortSignal {
    return this.requests.signal;
  }

  /** Report a checkpoint: an event that people are notified of, not saved state. */
  checkpoint(message: string, said: Progress = {}, attributes: Attributes = {}): void {
    const progress = progressAttributes(said);
    // The event first: a reader of the live span recognises what is new by its events.
    this.span.addEvent(c.EVENT_CHECKPOINT, { [c.CHECKPOINT_MESSAGE]: message, ...progress, ...attributes });
    this.#keep(progress);
  }

  /** Report an artifact: `task.artifact("PR 12", "https://…/pull/12", "pr")`. */
  artifact(name: string, uri?: string, kind?: string): void {
    this.span.addEvent(c.EVENT_ARTIFACT, {
      [c.ARTIFACT_NAME]: name,
      ...(uri && { [c.ARTIFACT_URI]: uri }),
      ...(kind && { [c.ARTIFACT_KIND]: kind }),
    });
  }

  /** Set attributes without a checkpoint. A final `status` that is set here stays at the end. */
  set(said: Progress): void {
    this.#keep(progressAttributes(said));
  }

  /** Set a result that is shown at the end: `task.result("tests", "42 passed")`. */
  result(name: string, value: string | number | boolean): void {
    this.#keep({ [c.RESULT_PREFIX + name]: value });
  }

  /** Set an http(s) link that is shown with the task. */
  link(name: string, url: string): void {
    this.#keep({ [c.LINK_PREFIX + name]: url });
  }

  #keep(attributes: Attributes): void {
    const status = attributes[c.STATUS];
    if (typeof status === "string") this.#status = status;
    this.span.setAttributes(attributes);
  }

  /** End the span, with the status that follows from `failure`. */
  finish(failure?: { error: unknown }): void {
    const said = this.#status;
    const isStopped = failure !== undefined && this.requests.isCancelled && isAbort(failure.error, this.signal);
    const status = said === "error" || said === "cancelled" ? said
      : failure === undefined ? "complete" : isStopped ? "cancelled" : "error";
    this.span.setAttribute(c.STATUS, status);
    if (status === "error") {
      const error = failure?.error;
      if (error instanceof Error) this.span.recordException(error);
      this.span.setStatus({ code: SpanStatusCode.ERROR, ...(error !== undefined && { message: String(error) }) });
    }
    this.requests.close();
    this.span.end();
  }
}

function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === "AbortError");
}

/**
 * Run an agent's piece of work as a task: one span, current while it runs.
 *
 * It ends `complete`; `error` when an exception leaves it; `cancelled` when `task.signal` ended it.
 */
export function agentTask<T>(name: string, fn: (task: Task) => T | Promise<T>): Promise<T>;
export function agentTask<T>(name: string, options: TaskOptions, fn: (task: Task) => T | Promise<T>): Promise<T>;
export async function agentTask<T>(
  name: string, second: TaskOptions | ((task: Task) => T | Promise<T>), third?: (task: Task) => T | Promise<T>,
): Promise<T> {
  const [options, fn] = typeof second === "function" ? [{}, second] : [second, third!];
  const isTopmost = currentTask() === undefined && trace.getActiveSpan() === undefined;
  const order = options.order ?? (isTopmost ? orderOfProcess() : undefined);
  const span = trace.getTracer("spanpost.agent").startSpan(name, {
    attributes: { ...(order && startedBy(order)), ...taskAttributes(name, options) },
  });
  const task = new Task(span, options.taskId);
  try {
    const result = await context.with(trace.setSpan(context.active(), span), () => tasks.run(task, () => fn(task)));
    task.finish();
    return result;
  } catch (error) {
    task.finish({ error });
    throw error;
  }
}

function taskAttributes(name: string, options: TaskOptions): Attributes {
  const said: Record<string, string | undefined> = {
    [c.TASK_NAME]: name,
    [c.TASK_ID]: options.taskId,
    [c.TASK_TYPE]: options.type,
    [c.TASK_PARENT_ID]: options.parentId,
    [c.NAME]: options.agent,
    [c.REPO]: options.repo,
    [c.TOPIC]: options.topic,
    [c.REQUESTED_BY]: options.requestedBy,
    [c.RETRY_OF]: options.retryOf,
  };
  for (const [link, url] of Object.entries(options.links ?? {})) said[c.LINK_PREFIX + link] = url;
  const given = Object.entries(said).filter(([, value]) => value !== undefined);
  return { ...(Object.fromEntries(given) as Attributes), ...options.attributes };
}

/** Return the attributes of a task that a launch order started: a launcher's JSON, whole or its `data`. */
export function startedBy(order: Readonly<Record<string, unknown>>): Attributes {
  const fields = isRecord(order["data"]) ? order["data"] : order;
  const names = { id: c.ORDER_ID, retry_of: c.RETRY_OF, caused_by: c.CAUSED_BY, requested_by: c.REQUESTED_BY };
  const found: Attributes = {};
  for (const [key, name] of Object.entries(names)) {
    const value = fields[key];
    if (typeof value === "string" && value !== "") found[name] = value;
  }
  return found;
}

/** Return this process's launch order, once: a second task or a child process does not get it again. */
function orderOfProcess(): Record<string, unknown> | undefined {
  const text = process.env["SPANPOST_ORDER"];
  delete process.env["SPANPOST_ORDER"];
  try {
    const order: unknown = text ? JSON.parse(text) : undefined;
    return isRecord(order) ? order : undefined;
  } catch {
    return undefined;
  }
}

function progressAttributes(said: Progress): Attributes {
  const found: Attributes = {};
  const put = (name: string, value: string | number | undefined): void => {
    if (typeof value === "string" || (typeof value === "number" && Number.isFinite(value))) found[name] = value;
  };
  put(c.STATUS, said.status);
  put(c.ACTION, said.action);
  put(c.PROGRESS, said.progress);
  put(c.STEP_NAME, said.step);
  put(c.STEP_INDEX, said.stepIndex);
  put(c.STEP_COUNT, said.stepCount);
  put(c.CONTEXT_USED, said.contextUsed);
  put(c.CONTEXT_WINDOW, said.contextWindow);
  return found;
}

/** Return a name that spanpost knows the task by; empty without tracing and without an id. */
function refOf(span: Span, taskId: string | undefined): string {
  const { traceId, spanId } = span.spanContext();
  return taskId ?? (trace.isSpanContextValid(span.spanContext()) ? `${traceId}-${spanId}` : "");
}

/** Return the attributes of the resource of the SDK's span. */
export function resourceOf(span: Span): Attributes {
  const resource = (span as { resource?: { attributes?: Attributes } }).resource;
  return { ...resource?.attributes };
}
