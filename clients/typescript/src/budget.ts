import { type Attributes, trace } from "@opentelemetry/api";
import { ControlUnavailable, GatewayClient, isRecord, Unreachable } from "./gateway.js";
import { currentTask, resourceOf, type Task } from "./task.js";

const TIMEOUT = 5000;
/** Most attributes that are sent, and characters of each. */
const MOST = 100;
const LONGEST = 200;

/** One budget that a task spends from, as of its last finalized call. */
export interface AgentBudget {
  name: string;
  /** Attributes of the tasks that it limits; empty: all tasks of the tenant. */
  scope: Readonly<Record<string, string>>;
  endsAt: Date;
  spentUsd: number;
  spentTokens: number;
  /** The rest, at least 0; undefined: not limited. */
  leftUsd: number | undefined;
  leftTokens: number | undefined;
}

/** All budgets that a task spends from. Without any, nothing is limited. */
export class Allowance {
  constructor(readonly budgets: readonly AgentBudget[]) {}

  /** Dollars left in the tightest budget; undefined: not limited. */
  get leftUsd(): number | undefined {
    return least(this.budgets.map((budget) => budget.leftUsd));
  }

  /** Tokens left in the tightest budget; undefined: not limited. */
  get leftTokens(): number | undefined {
    return least(this.budgets.map((budget) => budget.leftTokens));
  }

  /** Return whether every budget has something left, and at least this much. */
  allows({ usd = 0, tokens = 0 }: { usd?: number; tokens?: number } = {}): boolean {
    const has = (left: number | undefined, asked: number): boolean => left === undefined || (left > 0 && left >= asked);
    return has(this.leftUsd, usd) && has(this.leftTokens, tokens);
  }
}

/**
 * Return the remaining budgets of a task. Nothing is reserved; only finalized calls count.
 *
 * Throws `ControlUnavailable` if no gateway answers within `timeout` milliseconds. The agent then decides.
 */
export async function budget(
  task: Task | undefined = currentTask(),
  { timeout = TIMEOUT, client }: { timeout?: number; client?: GatewayClient } = {},
): Promise<Allowance> {
  const span = task?.span ?? trace.getActiveSpan();
  const context = span?.spanContext();
  const ref = task?.taskId ?? (context && trace.isSpanContextValid(context) ? context.traceId : "");
  const said: Attributes = span === undefined ? {} : {
    ...resourceOf(span),
    ...(span as { attributes?: Attributes }).attributes,
  };
  const plain = Object.entries(said)
    .filter(([, value]) => ["string", "number", "boolean"].includes(typeof value))
    .map(([name, value]) => [name, typeof value === "string" ? value.slice(0, LONGEST) : value])
    .slice(-MOST);
  try {
    const gateway = client ?? GatewayClient.fromEnvironment();
    const found = await gateway.budget(ref, Object.fromEntries(plain) as Attributes, AbortSignal.timeout(timeout));
    return new Allowance(found.map(budgetOf));
  } catch (error) {
    if (error instanceof ControlUnavailable) throw error;
    const why = error instanceof Unreachable ? error.message : `no answer within ${timeout} ms`;
    throw new ControlUnavailable(`what may be spent cannot be asked just now: ${why}`);
  }
}

function budgetOf(answer: Record<string, unknown>): AgentBudget {
  const scope = isRecord(answer["scope"]) ? answer["scope"] : {};
  return {
    name: String(answer["budget"] ?? ""),
    scope: Object.fromEntries(Object.entries(scope).map(([name, value]) => [name, String(value)])),
    endsAt: new Date(String(answer["ends_at"])),
    spentUsd: Number(answer["cost_usd"] ?? 0),
    spentTokens: Number(answer["tokens"] ?? 0),
    leftUsd: answer["left_usd"] == null ? undefined : Number(answer["left_usd"]),
    leftTokens: answer["left_tokens"] == null ? undefined : Number(answer["left_tokens"]),
  };
}

function least(values: readonly (number | undefined)[]): number | undefined {
  const limited = values.filter((value) => value !== undefined);
  return limited.length === 0 ? undefined : Math.min(...limited);
}
