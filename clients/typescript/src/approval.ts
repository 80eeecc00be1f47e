import { randomBytes } from "node:crypto";
import { type Attributes, context, type HrTime, type Span, trace } from "@opentelemetry/api";
import { type ApprovalAnswer, ControlUnavailable, GatewayClient, LONG_POLL, type SpanIds, Unreachable } from "./gateway.js";
import { AskedQuestion, type QuestionOptions } from "./question.js";
import { log, pause, Retries, SHORTEST, SOON } from "./retries.js";
import * as c from "./semconv.js";
import { currentTask, resourceOf, type Task } from "./task.js";

/** Milliseconds after which a question that the gateway does not know is logged. */
const UNKNOWN = 30_000;

/** No decision came within the `timeout` of the agent. The question stays open. */
export class ApprovalTimeout extends Error {
  override readonly name = "ApprovalTimeout";
}

export interface ApprovalOptions extends QuestionOptions {
  /** Milliseconds after which this wait alone ends, with `ApprovalTimeout`. */
  timeout?: number;
  /** Ends this wait alone, with the signal's reason. */
  signal?: AbortSignal;
  /** The task that asks; left out, the current one, else the current span. */
  task?: Task;
  client?: GatewayClient;
}

/** A person's decision, or that none came before the deadline (`expired`). */
export class Decision {
  constructor(
    readonly id: string,
    /** approve, deny, expired, or one of the `options`. */
    readonly decision: string,
    readonly by: string,
    readonly comment: string,
    /** The deadline passed without a decision. It is `denied` only if the question asked for that. */
    readonly expired: boolean,
    /** Where the decision was made: slack, api, cli; `spanpost` for a deadline. */
    readonly source: string,
  ) {}

  /** True when a person approved through spanpost. With `options` of your own, compare `decision`. */
  get approved(): boolean {
    return this.decision === "approve" && this.source !== "" && !this.expired;
  }

  /** True when it was refused; a question without an answer is not denied. */
  get denied(): boolean {
    return this.decision === "deny";
  }
}

/**
 * Ask a person, and wait for the answer.
 *
 * Goes on through outages of the network and of the gateway. Throws `ControlUnavailable` where no gateway can be asked,
 * `QuestionTooLong`, `ApprovalTimeout`, and the reason of `signal`.
 */
export async function approval(question: string, options: ApprovalOptions = {}): Promise<Decision> {
  const asked = new AskedQuestion(question, options);
  const client = options.client ?? GatewayClient.fromEnvironment();
  const tracer = trace.getTracer("spanpost.agent");
  const owner = (options.task ?? currentTask())?.span ?? trace.getActiveSpan();
  const identity = { [c.APPROVAL_ID]: asked.id, [c.APPROVAL_DIGEST]: asked.mark };
  const parent = owner === undefined ? context.active() : trace.setSpan(context.active(), owner);
  const wait = tracer.startSpan(c.SPAN_APPROVAL_WAIT, { attributes: identity }, parent);
  const span = owner !== undefined && trace.isSpanContextValid(owner.spanContext()) ? owner : wait;
  span.addEvent(c.EVENT_APPROVAL_REQUESTED, asked.attributes, hrTime(asked.atNs));
  try {
    const answer = await answered(client, asked, span, options);
    const decision = decisionOf(asked, answer);
    const said: Attributes = {
      [c.APPROVAL_DECISION]: decision.decision,
      ...(decision.by && { [c.APPROVAL_BY]: decision.by }),
      ...(decision.comment && { [c.APPROVAL_COMMENT]: decision.comment }),
    };
    wait.setAttributes(said);
    span.addEvent(c.EVENT_APPROVAL_RESOLVED, { ...identity, ...said });
    return decision;
  } finally {
    wait.end();
  }
}

function decisionOf(asked: AskedQuestion, answer: ApprovalAnswer): Decision {
  const word = String(answer.decision ?? "");
  return new Decision(
    asked.id,
    asked.options.get(word) ?? word,
    String(answer.by ?? ""),
    String(answer.comment ?? ""),
    Boolean(answer.is_expired),
    String(answer.source ?? ""),
  );
}

async function answered(
  client: GatewayClient, asked: AskedQuestion, span: Span, options: ApprovalOptions,
): Promise<ApprovalAnswer> {
  options.signal?.throwIfAborted();
  const ended = new AbortController();
  const quit = (): void => ended.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", quit, { once: true });
  const late = new ApprovalTimeout(`nobody decided within ${options.timeout} ms: ${asked.text.slice(0, 100)}`);
  const timer = options.timeout === undefined ? undefined : setTimeout(() => ended.abort(late), options.timeout);
  try {
    const known = span.spanContext();
    // Without tracing, the question is a trace of its own.
    const ids = trace.isSpanContextValid(known)
      ? known
      : { traceId: randomBytes(16).toString("hex"), spanId: randomBytes(8).toString("hex") };
    await ask(client, asked, ids, resourceOf(span), ended.signal);
    return await awaited(client, asked, ids, ended.signal);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", quit);
  }
}

async function ask(
  client: GatewayClient, asked: AskedQuestion, ids: SpanIds, resource: Attributes, signal: AbortSignal,
): Promise<void> {
  const retries = new Retries(`the question ${asked.id} cannot be asked yet`);
  for (;;) {
    try {
      return await client.ask(asked.attributes, ids, asked.atNs, resource, signal);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      await retries.pause(error, signal);
    }
  }
}

async function awaited(
  client: GatewayClient, asked: AskedQuestion, ids: SpanIds, signal: AbortSignal,
): Promise<ApprovalAnswer> {
  const retries = new Retries(`the answer to ${asked.id} cannot be waited for at the moment`);
  let askedAt = performance.now();
  // The first request does not wait: an agent should know at once that its question cannot be approved.
  for (let isFirst = true, isWarned = false; ; ) {
    const began = performance.now();
    let answer: ApprovalAnswer | undefined;
    try {
      answer = await client.approval(asked.id, asked.mark, ids.traceId, isFirst ? 0 : LONG_POLL, signal);
    } catch (error) {
      // The gateway accepted the question: its token is being replaced, or it is being moved. A person may have
      // answered.
      if (!(error instanceof Unreachable || error instanceof ControlUnavailable)) throw error;
      await retries.pause(error, signal);
      continue;
    }
    retries.succeeded();
    if (answer === undefined) {
      if (performance.now() - askedAt > UNKNOWN) {
        askedAt = performance.now();
        log.warn(`the gateway does not know the question ${asked.id}: is it the gateway that was asked?`);
      }
      await pause(SHORTEST, signal);
      continue;
    }
    if (answer.reason && !isWarned) {
      isWarned = true;
      log.warn(`the question ${asked.id}: ${String(answer.reason).slice(0, 500)}`);
    }
    // A decision without a source was not made through spanpost.
    if ((answer.state === "decided" || answer.state === "expired") && answer.source) return answer;
    if (answer.state === "void") {
      return { ...answer, decision: "expired", is_expired: true, comment: "it was asked again in other words" };
    }
    if (!isFirst && performance.now() - began < SOON) await pause(SOON, signal);
    isFirst = false;
  }
}

function hrTime(ns: bigint): HrTime {
  return [Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n)];
}
