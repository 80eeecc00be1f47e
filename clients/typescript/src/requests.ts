import { ControlUnavailable, GatewayClient, LONG_POLL, type TaskAnswer, Unreachable } from "./gateway.js";
import { log, pause, Retries, SHORTEST, SOON } from "./retries.js";
import { currentTask, type Task } from "./task.js";

/** Longest time that the first query of a task waits for an answer, milliseconds. */
const FIRST_ANSWER = 1000;

/** A person's message to the agent. */
export interface Message {
  text: string;
  by: string;
  at: Date;
}

/** People's requests to one task. Listens from the first query until the task ends; does not keep the process alive. */
export class Requests {
  #after = 0;
  #isPaused = false;
  #messages: Message[] = [];
  #first: Promise<void> | undefined;
  #answered: () => void = () => {};
  readonly #cancel = new AbortController();
  readonly #closed = new AbortController();

  constructor(private readonly ref: string) {}

  /** Aborts when a person cancels the task. The first use starts the listener. */
  get signal(): AbortSignal {
    this.#start();
    return this.#cancel.signal;
  }

  get isCancelled(): boolean {
    return this.#cancel.signal.aborted;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Return the messages since the last call. */
  taken(): Message[] {
    return this.#messages.splice(0);
  }

  /** Wait for the first answer, at most a second. */
  async ready(): Promise<this> {
    this.#start();
    await this.#first;
    return this;
  }

  /** Stop listening. Idempotent. */
  close(): void {
    this.#closed.abort();
    this.#answered();
  }

  #start(): void {
    if (this.#first !== undefined) return;
    this.#first = new Promise((resolve) => {
      const timer = setTimeout(resolve, FIRST_ANSWER);
      this.#answered = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    let client: GatewayClient;
    try {
      if (this.ref === "") throw new ControlUnavailable("the task has neither an id nor a trace");
      client = GatewayClient.fromEnvironment();
    } catch (error) {
      log.warn(`people's requests to a task cannot be received: ${(error as Error).message}`);
      this.#answered();
      return;
    }
    this.#listen(client).catch((error: unknown) => {
      if (!this.#closed.signal.aborted) log.error(`people's requests are no longer received: ${String(error)}`);
    });
  }

  async #listen(client: GatewayClient): Promise<void> {
    const signal = this.#closed.signal;
    const retries = new Retries("people's requests to a task cannot be received at the moment", true);
    for (let isFirst = true; !signal.aborted; ) {
      const began = performance.now();
      let answer: TaskAnswer | undefined;
      let hasActs = false;
      try {
        answer = await client.task(this.ref, this.#after, isFirst ? 0 : LONG_POLL, signal);
        if (answer !== undefined) hasActs = this.#apply(answer);
      } catch (error) {
        if (signal.aborted) return;
        const known = error instanceof Unreachable || error instanceof ControlUnavailable;
        await retries.pause(known ? error : new Unreachable("the answer is malformed"), signal);
        continue;
      }
      retries.succeeded();
      this.#answered();
      if (answer === undefined) await pause(SHORTEST, signal, true); // spanpost does not know the task yet
      else if (!(isFirst || hasActs) && performance.now() - began < SOON) await pause(SOON, signal, true);
      isFirst = false;
    }
  }

  #apply(answer: TaskAnswer): boolean {
    const messages = answer.acts
      .filter((act) => act.verb === "message")
      .map((act) => ({ text: String(act.text), by: String(act.by), at: new Date(act.at) }));
    for (const act of answer.acts) {
      if (act.verb === "cancel") this.#cancel.abort(new DOMException(`cancelled by ${act.by}`, "AbortError"));
      else if (act.verb === "pause") this.#isPaused = true;
      else if (act.verb === "resume") this.#isPaused = false;
    }
    this.#messages.push(...messages);
    this.#after = Number(answer.after);
    return answer.acts.length > 0;
  }
}

/** Return whether a person asked to stop the task (else the current one). Cheap after the first call, never throws. */
export async function cancelled(task: Task | undefined = currentTask()): Promise<boolean> {
  return (await task?.requests.ready())?.isCancelled ?? false;
}

/** Return whether a person asked to pause the task and did not resume it. As cheap as `cancelled`. */
export async function paused(task: Task | undefined = currentTask()): Promise<boolean> {
  return (await task?.requests.ready())?.isPaused ?? false;
}

/** Return the messages to the task since the last call. */
export async function messages(task: Task | undefined = currentTask()): Promise<Message[]> {
  return (await task?.requests.ready())?.taken() ?? [];
}
