import { setTimeout as sleep } from "node:timers/promises";
import { diag } from "@opentelemetry/api";

/** Shortest and longest pause between two tries, milliseconds. */
export const SHORTEST = 200;
const LONGEST = 5000;
/** An answer without news that comes sooner than this is not from a long poll; milliseconds. */
export const SOON = 500;

export const log = diag.createComponentLogger({ namespace: "spanpost.control" });

/** Sleep; rejects with the signal's reason. `isBackground`: does not keep the process alive. */
export async function pause(ms: number, signal?: AbortSignal, isBackground = false): Promise<void> {
  try {
    await sleep(ms, undefined, { ref: !isBackground, ...(signal && { signal }) });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}

/** Growing pauses between tries. The first failure of a row is logged. */
export class Retries {
  #pause = SHORTEST;
  #isLogged = false;

  constructor(private readonly failure: string, private readonly isBackground = false) {}

  async pause(error: Error, signal?: AbortSignal): Promise<void> {
    if (!this.#isLogged) {
      this.#isLogged = true;
      log.warn(`${this.failure}, trying again: ${error.message.slice(0, 300)}`);
    }
    await pause(this.#pause * (0.5 + Math.random() / 2), signal, this.isBackground);
    this.#pause = Math.min(this.#pause * 2, LONGEST);
  }

  succeeded(): void {
    this.#pause = SHORTEST;
    this.#isLogged = false;
  }
}
