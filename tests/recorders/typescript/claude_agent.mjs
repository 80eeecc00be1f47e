// Claude Agent SDK: it starts the genuine Claude Code, whose own OpenTelemetry is on; CLAUDE_BY=openinference adds OpenInference's.
import * as sdk from "@anthropic-ai/claude-agent-sdk";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attempt, end, provide, run } from "./otel.mjs";

let { query } = sdk;
let provider;
if (process.env.CLAUDE_BY === "openinference") {
  provider = provide();
  const { ClaudeAgentSDKInstrumentation } = await import("@arizeai/openinference-instrumentation-claude-agent-sdk");
  query = new ClaudeAgentSDKInstrumentation({ tracerProvider: provider }).manuallyInstrument(sdk).query;
}
const home = mkdtempSync(join(tmpdir(), "home-"));
const cwd = mkdtempSync(join(tmpdir(), "shop-"));
writeFileSync(join(cwd, "notes.txt"), "Rain in Oslo.\n");
const env = {
  PATH: process.env.PATH, HOME: home, CLAUDE_CONFIG_DIR: home, LANG: "C.UTF-8",
  ANTHROPIC_BASE_URL: process.env.ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY: "sk-stub",
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1", DISABLE_AUTOUPDATER: "1", CLAUDE_CODE_MAX_RETRIES: "0",
};
if (process.env.CLAUDE_BY !== "openinference")
  Object.assign(env, {
    CLAUDE_CODE_ENABLE_TELEMETRY: "1", CLAUDE_CODE_ENHANCED_TELEMETRY_BETA: "1",
    OTEL_TRACES_EXPORTER: "otlp", OTEL_LOGS_EXPORTER: "otlp", OTEL_METRICS_EXPORTER: "otlp",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_EXPORTER_OTLP_ENDPOINT: process.env.OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_LOGS_EXPORT_INTERVAL: "300", OTEL_METRIC_EXPORT_INTERVAL: "1000", OTEL_TRACES_EXPORT_INTERVAL: "300",
  });
const base = { cwd, env, model: "claude-sonnet-4-5", permissionMode: "default", allowedTools: ["Bash", "Read", "Task", "Agent"], settingSources: [], tools: ["Bash", "Read", "Task"] };
const canUseTool = async (name, input) => {
  await new Promise((done) => setTimeout(done, 700)); // a person thinks
  return run === "deny" ? { behavior: "deny", message: "A person said no." } : { behavior: "allow", updatedInput: input };
};

async function ask(prompt, options = {}) {
  let last;
  for await (const message of query({ prompt, options: { ...base, ...options } })) {
    if (message.type === "result") last = { subtype: message.subtype, session: message.session_id, error: message.is_error };
  }
  return last;
}

if (run === "conv") {
  let resume;
  for (const said of ["List the files", "Once more", "Thank you"]) {
    const done = await attempt(() => ask(said, resume ? { resume } : {}));
    resume = done?.session;
  }
} else if (run === "approval" || run === "deny") {
  await attempt(() => ask("Make a file", { allowedTools: [], canUseTool }));
} else if (run === "subagent") {
  const agents = { weather_expert: { description: "Knows the weather", prompt: "Say the weather.", tools: ["Bash"] } };
  await attempt(() => ask("Ask the expert", { agents }));
} else if (run === "maxsteps") {
  await attempt(() => ask("List the files", { maxTurns: 2 }));
} else if (run === "structured") {
  const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  await attempt(() => ask("Which city?", { outputFormat: { type: "json_schema", schema } }));
} else if (run === "cancel") {
  const abortController = new AbortController();
  setTimeout(() => abortController.abort(), 4000);
  await attempt(() => ask("List the files", { abortController }));
} else {
  await attempt(() => ask("List the files"));
}
await new Promise((done) => setTimeout(done, 1500));
await end(...(provider ? [provider] : []));
