import { createHash, randomUUID } from "node:crypto";
import type { Attributes } from "@opentelemetry/api";
import * as c from "./semconv.js";

export type AtExpiry = "wait" | "deny" | "escalate" | "expire";

/** The wording of a question and its deadline. Durations are in milliseconds. */
export interface QuestionOptions {
  /** Name of the decision within your tenant; left out, the question belongs to this call alone. */
  id?: string;
  /** Answers to choose from, in place of approve and deny. */
  options?: readonly string[];
  detail?: string;
  risk?: string;
  /** Name of the tool that it asks for: people may grant it a standing approval. */
  tool?: string;
  /** Number of different people who must approve. */
  needs?: number;
  /** Who is asked, one after the other, and how long each has before the next is asked. */
  to?: readonly string[];
  toAfter?: number;
  /** Deadline, from now; `expiresAt` is the same as a moment. */
  expiresIn?: number;
  expiresAt?: Date;
  /** What happens when the deadline passes; left out, a setting of spanpost says so. */
  atExpiry?: AtExpiry;
}

/** The question is too long to be kept whole. A person may approve only what they can read. */
export class QuestionTooLong extends RangeError {
  override readonly name = "QuestionTooLong";
}

// White space as the gateway removes it around an option: wider than String.prototype.trim in places.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const AROUND = new RegExp(`^${SPACE}|${SPACE}$`, "g");

/** Return a text as every receiver keeps it: without U+0000 and lone surrogates. */
export function questionText(text: string): string {
  return text.replaceAll("\0", "\u2400").replace(/\p{Surrogate}/gu, "\ufffd");
}

const trimmed = (text: string): string => text.replace(AROUND, "");

/** Return the mark of a question: SHA-256, in hex, of its texts as canonical JSON (docs/reference/control.md). */
export function questionMark(
  question: string, detail: string, options: readonly string[], risk: string, tool = "",
): string {
  const given = options.map((option) => trimmed(questionText(option))).filter((option) => option !== "");
  const words = [questionText(question), questionText(detail), given, questionText(risk)];
  if (tool !== "") words.push(questionText(tool));
  return createHash("sha256").update(JSON.stringify(words), "utf8").digest("hex");
}

/** One question, checked. */
export class AskedQuestion {
  readonly id: string;
  readonly text: string;
  /** Names the wording: an answer to another wording does not count. */
  readonly mark: string;
  /** The options as they are asked, each with the agent's own text. */
  readonly options: ReadonlyMap<string, string>;
  readonly attributes: Attributes;
  /** When it was asked, in nanoseconds since 1970. */
  readonly atNs: bigint;

  constructor(question: string, given: QuestionOptions) {
    if (typeof question !== "string" || trimmed(question) === "") {
      throw new TypeError("approval: the question is empty; say what a person is to decide");
    }
    if (given.id !== undefined && trimmed(given.id) === "") {
      throw new TypeError("approval: the id is empty; leave it out, or name the decision");
    }
    this.options = checkedOptions(given.options ?? []);
    this.id = questionText(given.id ?? randomUUID());
    this.text = limited("question", question, c.QUESTION_LIMIT);
    const detail = limited("detail", given.detail ?? "", c.QUESTION_LIMIT);
    const risk = limited("risk", given.risk ?? "", c.OPTION_LIMIT);
    const tool = limited("tool", given.tool ?? "", c.OPTION_LIMIT);
    const options = [...this.options.keys()];
    this.mark = questionMark(this.text, detail, options, risk, tool);
    const nowMs = Date.now();
    this.atNs = BigInt(nowMs) * 1_000_000n;
    const until = given.expiresAt ?? deadline(nowMs, given.expiresIn);
    this.attributes = {
      [c.APPROVAL_ID]: this.id,
      [c.APPROVAL_QUESTION]: this.text,
      ...(detail && { [c.APPROVAL_DETAIL]: detail }),
      ...(options.length > 0 && { [c.APPROVAL_OPTIONS]: options }),
      ...(risk && { [c.APPROVAL_RISK]: risk }),
      ...(tool && { [c.APPROVAL_TOOL]: tool }),
      ...((given.needs ?? 1) > 1 && { [c.APPROVAL_NEEDS]: given.needs! }),
      ...(given.to && given.to.length > 0 && { [c.APPROVAL_TO]: [...given.to] }),
      ...(given.toAfter && { [c.APPROVAL_TO_AFTER]: given.toAfter / 1000 }),
      ...(until && { [c.APPROVAL_EXPIRES_AT]: until.toISOString() }),
      ...(given.atExpiry && { [c.APPROVAL_AT_EXPIRY]: given.atExpiry }),
      [c.APPROVAL_DIGEST]: this.mark,
    };
  }
}

function deadline(nowMs: number, expiresIn: number | undefined): Date | undefined {
  if (expiresIn === undefined) return undefined;
  if (!Number.isFinite(expiresIn) || expiresIn <= 0) {
    throw new RangeError("approval: expiresIn must be more than 0 milliseconds");
  }
  return new Date(nowMs + expiresIn);
}

function limited(name: string, given: string, most: number): string {
  const text = questionText(given);
  const length = [...text].length;
  if (length > most) {
    throw new QuestionTooLong(`approval: the ${name} has ${length} characters, and people can be shown ${most}; shorten it`);
  }
  return text;
}

function checkedOptions(given: readonly string[]): Map<string, string> {
  if (!Array.isArray(given)) throw new TypeError("approval: options are a list of words");
  const options = new Map(given.map((option) => [trimmed(questionText(option)), option]));
  const isFit = [...options.keys()].every((option) => option !== "" && [...option].length <= c.OPTION_LIMIT);
  if (options.size !== given.length || !isFit || options.size > c.OPTIONS_LIMIT) {
    throw new RangeError(
      `approval: options are up to ${c.OPTIONS_LIMIT} different texts of 1 to ${c.OPTION_LIMIT} characters`,
    );
  }
  if (options.has("expired")) {
    throw new RangeError("approval: 'expired' is the answer when a deadline passes; name the option otherwise");
  }
  return options;
}
