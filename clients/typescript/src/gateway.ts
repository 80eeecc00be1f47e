import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { type Attributes, type AttributeValue, context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";
import { EVENT_APPROVAL_REQUESTED } from "./semconv.js";

/** Longest wait of one long poll, seconds: shorter than the idle timeouts of proxies. */
export const LONG_POLL = 25;
/** Time limit of connecting, and of an answer beyond the requested wait, milliseconds. */
const MARGIN = 15_000;
const MOST_BODY = 4 * 1024 * 1024;
const WHAT_TO_SET =
  "set SPANPOST_CONTROL__ENDPOINT to the HTTP address of a spanpost gateway (http://host:4318) and " +
  "SPANPOST_CONTROL__TOKEN to the tenant's token";
// The key by which OpenTelemetry's SDK recognises requests that are not to be traced.
const SUPPRESSED = createContextKey("OpenTelemetry SDK Context Key SUPPRESS_TRACING");

/** No person can be asked: no gateway is set, or it does not accept the agent. Says what to set. */
export class ControlUnavailable extends Error {
  override readonly name = "ControlUnavailable";
}

/** The gateway cannot be reached at the moment: try again. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** The state of a question, as the gateway answers it. */
export interface ApprovalAnswer {
  state: string;
  decision: string;
  by: string;
  comment: string;
  source: string;
  is_expired: boolean;
  reason: string;
}

/** Requests of people to a task. */
export interface TaskAnswer {
  status: string;
  after: number;
  acts: readonly { number: number; verb: string; by: string; text: string; at: string }[];
}

/** The question's trace, as 32 and 16 hex digits. */
export interface SpanIds {
  traceId: string;
  spanId: string;
}

export interface GatewayOptions {
  /** Header values, such as `authorization`. They are in no error and no log. */
  headers?: Readonly<Record<string, string>>;
  /** PEM text of the authority of the gateway's certificate. */
  ca?: string;
}

/** A client of one gateway. Each request has a connection of its own. */
export class GatewayClient {
  readonly #url: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #ca: string | undefined;

  constructor(endpoint: string, options: GatewayOptions = {}) {
    const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
    if (url === undefined || !["http:", "https:"].includes(url.protocol)) {
      throw new ControlUnavailable(`answers come by HTTP, and the endpoint is no HTTP address: ${WHAT_TO_SET}`);
    }
    this.#url = url;
    this.#headers = options.headers ?? {};
    this.#ca = options.ca;
    if (Object.values(this.#headers).some((value) => !/^[\x20-\x7e]*$/.test(value))) {
      throw new ControlUnavailable("a header for the gateway is not plain ASCII on one line: look at the token");
    }
  }

  /**
   * Return a client of the environment's gateway: `SPANPOST_CONTROL__ENDPOINT` with `SPANPOST_CONTROL__TOKEN`, else
   * `SPANPOST_FORWARD__…`, else OpenTelemetry's own `OTEL_EXPORTER_OTLP_…`. Throws `ControlUnavailable`.
   */
  static fromEnvironment(env: NodeJS.ProcessEnv = process.env): GatewayClient {
    const headers: Record<string, string> = {};
    let endpoint = env["SPANPOST_CONTROL__ENDPOINT"] || env["SPANPOST_FORWARD__ENDPOINT"];
    if (!endpoint) {
      endpoint = env["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] || env["OTEL_EXPORTER_OTLP_ENDPOINT"];
      if (!endpoint) throw new ControlUnavailable(`no person can be asked from here: ${WHAT_TO_SET}`);
      const protocol = env["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"] || env["OTEL_EXPORTER_OTLP_PROTOCOL"];
      if (protocol === "grpc" || (!protocol && /:4317\/?$/.test(endpoint))) {
        throw new ControlUnavailable(`telemetry goes by gRPC, and answers come by HTTP: ${WHAT_TO_SET}`);
      }
      const given = env["OTEL_EXPORTER_OTLP_LOGS_HEADERS"] || env["OTEL_EXPORTER_OTLP_HEADERS"] || "";
      for (const pair of given.split(",")) {
        const [name = "", value = ""] = pair.split(/=(.*)/s);
        if (name.trim().toLowerCase() === "authorization") headers["authorization"] = decoded(value.trim());
      }
      endpoint = endpoint.replace(/\/v1\/logs$/, "");
    }
    const token = env["SPANPOST_CONTROL__TOKEN"] || env["SPANPOST_FORWARD__TOKEN"];
    if (token) headers["authorization"] = `Bearer ${token}`;
    const file = env["SPANPOST_CONTROL__CERTIFICATE"] || env["SPANPOST_FORWARD__CERTIFICATE"] ||
      env["OTEL_EXPORTER_OTLP_CERTIFICATE"];
    return new GatewayClient(endpoint, { headers, ...(file && { ca: pem(file) }) });
  }

  /** Record a question, as the log record of its event. It is stored when this resolves. */
  async ask(
    said: Attributes, span: SpanIds, atNs: bigint, resource: Attributes, signal?: AbortSignal,
  ): Promise<void> {
    const record = {
      timeUnixNano: `${atNs}`,
      severityNumber: 9,
      eventName: EVENT_APPROVAL_REQUESTED,
      attributes: keyValues(said),
      traceId: span.traceId,
      spanId: span.spanId,
    };
    const scopeLogs = [{ scope: { name: "spanpost.agent" }, logRecords: [record] }];
    const body = { resourceLogs: [{ resource: { attributes: keyValues(resource) }, scopeLogs }] };
    const answer = await this.#request("POST", "/v1/logs", 0, signal, body);
    const partly = answer?.["partialSuccess"];
    if (isRecord(partly) && Number(partly["rejectedLogRecords"] ?? 0) !== 0) {
      throw new ControlUnavailable(`the gateway did not take the question: ${text(partly["errorMessage"])}`);
    }
  }

  /** Return the state of a question of a trace, as soon as it is decided; undefined for an unknown one. */
  async approval(
    id: string, mark: string, traceId: string, wait: number, signal?: AbortSignal,
  ): Promise<ApprovalAnswer | undefined> {
    const query = new URLSearchParams({ mark, trace: traceId, wait: wait.toFixed(3) });
    const path = `/control/v1/approvals/${encodeURIComponent(id)}?${query}`;
    return (await this.#request("GET", path, wait, signal)) as ApprovalAnswer | undefined;
  }

  /** Return people's requests to a task after a number; undefined for an unknown task. */
  async task(ref: string, after: number, wait: number, signal?: AbortSignal): Promise<TaskAnswer | undefined> {
    const query = new URLSearchParams({ after: `${after}`, wait: wait.toFixed(3) });
    const path = `/control/v1/tasks/${encodeURIComponent(ref)}?${query}`;
    return (await this.#request("GET", path, wait, signal)) as TaskAnswer | undefined;
  }

  /** Return a task's remaining budgets. It is found by `ref`, else by its attributes. */
  async budget(ref: string, attributes: Attributes, signal?: AbortSignal): Promise<Record<string, unknown>[]> {
    const answer = await this.#request("POST", "/control/v1/budget", 0, signal, { ref, attributes });
    const budgets = answer?.["budgets"];
    return Array.isArray(budgets) ? budgets.filter(isRecord) : [];
  }

  async #request(
    method: string, path: string, wait: number, signal?: AbortSignal, body?: unknown,
  ): Promise<Record<string, unknown> | undefined> {
    const { status, said } = await context.with(ROOT_CONTEXT.setValue(SUPPRESSED, true), () =>
      this.#exchange(method, path, wait * 1000 + MARGIN, signal, body === undefined ? "" : JSON.stringify(body)),
    );
    let parsed: unknown;
    try {
      parsed = said === "" ? {} : JSON.parse(said);
    } catch {
      parsed = undefined;
    }
    if (status === 200 && isRecord(parsed)) return parsed;
    if (status === 404 && isUnknown(parsed)) return undefined;
    const message = isRecord(parsed) ? text(parsed["message"]) : "";
    if ([408, 425, 429].includes(status) || status >= 500 || status === 200) {
      throw new Unreachable(`${status} ${message}`.trim());
    }
    const why: Record<number, string> = {
      401: "the gateway knows no such token",
      403: "the gateway does not allow this token",
      404: "what answers there is no spanpost gateway (a Collector, perhaps)",
    };
    const first = why[status] ?? `the gateway refuses (${status})`;
    throw new ControlUnavailable(`${first}${message && `: ${message}`}; ${WHAT_TO_SET}`);
  }

  #exchange(
    method: string, path: string, limit: number, signal: AbortSignal | undefined, body: string,
  ): Promise<{ status: number; said: string }> {
    return new Promise((resolve, reject) => {
      const isTls = this.#url.protocol === "https:";
      const headers = {
        accept: "application/json",
        ...this.#headers,
        ...(body && { "content-type": "application/json", "content-length": `${Buffer.byteLength(body)}` }),
      };
      const options: https.RequestOptions = {
        method, headers, agent: false, ...(signal && { signal }), ...(isTls && this.#ca && { ca: this.#ca }),
        protocol: this.#url.protocol,
        hostname: this.#url.hostname.replace(/^\[|\]$/g, ""),
        port: this.#url.port,
        path: `${this.#url.pathname.replace(/\/+$/, "")}${path}`,
      };
      const request = (isTls ? https : http).request(options, (response) => {
        const parts: Buffer[] = [];
        let size = 0;
        response.on("data", (part: Buffer) => {
          size += part.length;
          if (size > MOST_BODY) request.destroy(new Unreachable("the answer is too large"));
          else parts.push(part);
        });
        response.on("error", fail);
        response.on("end", () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, said: Buffer.concat(parts).toString("utf8") });
        });
      });
      const timer = setTimeout(() => request.destroy(new Unreachable("no answer in time")), limit);
      function fail(error: NodeJS.ErrnoException): void {
        clearTimeout(timer);
        if (signal?.aborted) reject(signal.reason);
        else if (isCertificateError(error)) reject(notTrusted(error));
        else reject(error instanceof Unreachable ? error : new Unreachable(error.code ?? error.name));
      }
      request.on("error", fail);
      request.end(body);
    });
  }
}

function isCertificateError(error: NodeJS.ErrnoException): boolean {
  return /CERT|SIGNATURE|ISSUER|ALTNAME/.test(error.code ?? "");
}

function notTrusted(error: NodeJS.ErrnoException): ControlUnavailable {
  return new ControlUnavailable(
    `the gateway's certificate is not trusted (${error.code}): set SPANPOST_CONTROL__CERTIFICATE to its authority`,
  );
}

function pem(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    throw new ControlUnavailable(`SPANPOST_CONTROL__CERTIFICATE: ${file} cannot be read; name a PEM file`);
  }
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

function isUnknown(body: unknown): boolean {
  const details = isRecord(body) ? body["details"] : undefined;
  return Array.isArray(details) && details.some((one) => isRecord(one) && one["reason"] === "UNKNOWN");
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const text = (value: unknown): string => (typeof value === "string" ? value.slice(0, 300) : "");

function keyValues(said: Attributes): { key: string; value: unknown }[] {
  return Object.entries(said).flatMap(([key, value]) => (value == null ? [] : [{ key, value: anyValue(value) }]));
}

function anyValue(value: AttributeValue | null): unknown {
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "number") return Number.isInteger(value) ? { intValue: `${value}` } : { doubleValue: value };
  if (Array.isArray(value)) return { arrayValue: { values: value.map((one) => anyValue(one ?? null)) } };
  return { stringValue: String(value ?? "") };
}
