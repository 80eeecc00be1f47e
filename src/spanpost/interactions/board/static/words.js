// How things are said: the same words and signs as in Slack and in the terminal.

import { line } from "./dom.js";

export const LOOKS = {
  starting: ["🚀", "starting", "blue"],
  working: ["⚙️", "working", "green"],
  waiting: ["✋", "waiting for a person", "yellow"],
  paused: ["⏸️", "paused", "grey"],
  stalled: ["🐢", "stalled", "yellow"],
  context_warning: ["⚠️", "context filling", "yellow"],
  error: ["❌", "failed", "red"],
  complete: ["✅", "complete", "green"],
  cancelled: ["🛑", "cancelled", "grey"],
};
export const FINAL = new Set(["error", "complete", "cancelled"]);
export const ACTIVE = Object.keys(LOOKS).filter((status) => !FINAL.has(status));

export const NEWS = {
  start: ["🚀", "started"],
  checkpoint: ["📍", "checkpoint"],
  artifact: ["📎", "artifact"],
  error: ["❗", "a part failed"],
  approval_requested: ["✋", "a person must decide"],
  approval_resolved: ["🗳️", "decided"],
  context_warning: ["⚠️", "context is filling"],
  context_forecast: ["🔮", "context will be full"],
  compaction: ["🗜️", "context was compacted"],
  stalled: ["🐢", "no telemetry"],
  loop: ["🔁", "repeats itself"],
  budget_warning: ["💸", "a budget is nearly spent"],
  alert: ["🔔", "alert"],
  milestone: ["📍", "milestone"],
  end: ["🏁", "ended"],
  intervention: ["👤", "a person"],
  llm: ["💬", "model call"],
  tool: ["🔧", "tool call"],
  step: ["▫️", "step"],
  handoff: ["🤝", "handoff"],
};

//: Seconds without a call, a checkpoint or progress after which a task is said to be quiet.
const QUIET = 120;

//: Why a task is over of which nobody told an end.
const ENDS = { interrupted: "its process is gone, without an end" };

export function isFinal(task) {
  return FINAL.has(task.status);
}

/** Tell whether it is a coding session between prompts, which asked nothing. */
export function isResting(task) {
  return task.status === "waiting" && !waitsForPerson(task);
}

/** Tell whether a person has to act before it goes on: not for a coding session between prompts. */
export function waitsForPerson(task) {
  return task.status === "waiting" && task.waits_for_person !== false;
}

/** Return sign, word and colour of a status; a good end over failed parts says so. */
export function look(task) {
  if (task.status === "complete" && task.child_failed > 0) return ["⚠️", `complete, ${task.child_failed} failed`, "yellow"];
  if (isResting(task)) return ["💬", "waiting for its next prompt", "grey"];
  return LOOKS[task.status] ?? ["❔", line(task.status, 30) || "unknown", "grey"];
}

/** The API's title: the same words as in Slack, in the terminal and in Grafana. */
export function title(task, most = 200) {
  return line(task.title, most);
}

/** Return what it is doing now, in a line. */
export function doing(task) {
  if (isFinal(task)) return line(task.failure) || line(task.answer) || ENDS[task.end_reason] || "";
  if (task.question || task.child_question) return line(task.question || task.child_question);
  const said = [line(task.last_checkpoint), line(task.action), family(task)].filter(Boolean);
  return [...new Set(said)].join(" · ") || step(task);
}

/** Tell what its agents do, where one of them waits or failed. */
export function family(task) {
  if (!task.waiting_children && !task.failed_children) return "";
  return [[task.working_children, "at work"], [task.waiting_children, "waiting"], [task.failed_children, "failed"]]
    .filter(([n]) => n).map(([n, what], i) => `${n}${i ? "" : n === 1 ? " agent" : " agents"} ${what}`).join(", ");
}

/** Return for how many seconds a task that should be at work has done nothing; 0 while that is usual. */
export function quiet(task, now = Date.now()) {
  if (isFinal(task) || task.status === "waiting" || task.status === "paused" || task.working_children) return 0;
  const seconds = (now - Date.parse(task.last_activity_at ?? task.last_event_at ?? "")) / 1000;
  return seconds >= QUIET ? seconds : 0;
}

export function isOpen(approval) {
  return approval.state ? approval.state === "open" : !approval.decision && !approval.void && !approval.is_void;
}

export function step(task) {
  const steps = task.steps ?? [];
  const newest = steps.length ? steps[steps.length - 1] : null;
  const name = line(task.step_name ?? newest?.name, 100);
  const index = task.step_index ?? newest?.index;
  if (!index) return name;
  return `${index}${task.step_count ? `/${task.step_count}` : ""} ${name}`.trim();
}

/** Return percent done, 0 to 100, or null. */
export function percent(task) {
  if (task.status === "complete") return task.progress !== null && task.progress !== undefined ? 100 : null;
  const done = number(task.progress);
  if (done !== null) return Math.min(Math.max(done, 0), 100);
  if (task.step_index && task.step_count && task.step_index <= task.step_count) return (100 * (task.step_index - 1)) / task.step_count;
  return null;
}

/** Return how full the context window is, 0 to 1, or null. */
export function share(task) {
  const used = number(task.context_used_tokens);
  const window = number(task.context_window_tokens);
  return used === null || !window ? null : used / window;
}

/** @returns {any} a number, or null */
export function number(value) {
  if (value === null || value === undefined || value === "") return null;
  const made = Number(value);
  return Number.isFinite(made) ? made : null;
}

/** @type {[number, string][]} */
const UNITS = [[1e3, "k"], [1e6, "M"], [1e9, "G"]];

/** Write a number as people say it: 950, 12.4k, 1.2M. */
export function count(value) {
  const n = number(value);
  if (n === null) return "?";
  if (Math.abs(n) < 1000) return String(Math.round(n * 10) / 10);
  for (const [size, unit] of UNITS) {
    if (Math.abs(n) < size * 999.5) {
      const shown = n / size;
      return (shown < 99.95 ? shown.toFixed(1).replace(/\.0$/, "") : shown.toFixed(0)) + unit;
    }
  }
  return `${(n / 1e12).toPrecision(3)}T`;
}

export function money(value) {
  const usd = number(value);
  if (usd === null) return "";
  if (usd && Math.abs(usd) < 0.01) return Math.abs(usd) >= 0.0001 ? `$${usd.toFixed(4)}` : "<$0.0001";
  return `$${usd.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

/** Write a duration in its two largest units: 42s, 3m 07s, 2h 05m, 4d 03h. */
export function elapsed(seconds) {
  const all = Math.max(Math.floor(seconds), 0);
  const two = (n) => String(n).padStart(2, "0");
  if (all < 60) return `${all}s`;
  if (all < 3600) return `${Math.floor(all / 60)}m ${two(all % 60)}s`;
  if (all < 86400) return `${Math.floor(all / 3600)}h ${two(Math.floor((all % 3600) / 60))}m`;
  return `${Math.floor(all / 86400)}d ${two(Math.floor((all % 86400) / 3600))}h`;
}

/** Return how long it took, or has taken. */
export function age(task, now = Date.now()) {
  if (!task.started_at) return "";
  const end = task.ended_at ? Date.parse(task.ended_at) : isFinal(task) ? Date.parse(task.last_event_at ?? task.started_at) : now;
  return elapsed((end - Date.parse(task.started_at)) / 1000);
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Write a moment: the clock today, with its day on another. */
export function moment(at) {
  const when = new Date(at);
  if (Number.isNaN(when.getTime())) return "";
  const said = CLOCK.format(when);
  return when.toDateString() === new Date().toDateString() ? said : `${DAY.format(when)}, ${said}`;
}

/** Write a moment whole, with its zone. */
export function whole(at) {
  const when = new Date(at);
  return Number.isNaN(when.getTime()) ? "" : WHOLE.format(when);
}

export function plural(n, word, words = `${word}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? word : words}`;
}
