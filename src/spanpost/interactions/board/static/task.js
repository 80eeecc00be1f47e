// A task's page: what it does, what it asks, what it made, what it cost, all that was told, and its message in Slack.

import { get, taskPage, taskPath } from "./api.js";
import { acts } from "./acts.js";
import { curve } from "./curve.js";
import { h, line, lines, link, put, route, safe, say } from "./dom.js";
import { message } from "./message.js";
import { question } from "./question.js";
import { Row } from "./row.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";
import { Waterfall } from "./waterfall.js";
import { age, count, doing, elapsed, isFinal, isOpen, look, money, moment, number, percent, plural, quiet, share, step, title, whole } from "./words.js";

export function task(place, board, id) {
  const view = new Task(place, board, id);
  return () => view.close();
}

class Task {
  constructor(place, board, id) {
    this.place = place;
    this.board = board;
    this.id = id;
    this.control = new AbortController();
    this.parts = Object.fromEntries(["head", "questions", "acts", "facts", "context", "error", "after", "steps", "children", "judged", "made", "message"]
      .map((name) => [name, h("section", { class: name })]));
    this.timeline = new Timeline(id, this.control.signal);
    this.waterfall = new Waterfall(id, this.control.signal, (at) => this.timeline.seek(at), () => this.task && this.show());
    this.questions = new Map();
    /** @type {{ show: () => void } | null} */
    this.acts = null; // set by `acts`
    this.drawn = {};
    this.read().then(() => this.follow()).catch((error) => this.board.fail(error));
    this.clock = setInterval(() => this.tick(), 1000);
  }

  close() {
    this.control.abort();
    this.stream?.close();
    clearInterval(this.clock);
    clearTimeout(this.later);
  }

  async read() {
    const found = await get(taskPath(this.id), {}, this.control.signal);
    const isFirst = !this.task;
    this.task = found;
    if (isFirst) {
      put(this.place, this.parts.head, this.parts.questions, this.parts.error, this.waterfall.element,
        h("div", { class: "columns" },
          h("div", {}, this.parts.after, this.parts.steps, this.parts.children, this.timeline.element),
          h("aside", {}, this.parts.acts, this.parts.facts, this.parts.context, this.parts.judged, this.parts.made, this.parts.message)));
      this.timeline.start(isFinal(found) ? "oldest" : "newest");
      this.waterfall.traceId = found.trace_id;
      this.waterfall.hear();
      acts(this.parts.acts, this);
    }
    this.show();
    this.aside();
  }

  /** Read what costs more, where there is any: the curve of the context, and the message. */
  aside() {
    get(`${taskPath(this.id)}/context`, {}, this.control.signal).catch(() => null)
      .then((found) => this.draw("context", [found, this.task.context_used_tokens, this.task.context_window_tokens, this.task.context_forecast], () => curve(found, this.task)));
    get(`${taskPath(this.id)}/message`, {}, this.control.signal).then((found) => {
      const isOpen = this.parts.message.querySelector("details")?.open ?? false;
      this.draw("message", found, () => message(found, isOpen));
    }).catch(() => {});
  }

  follow() {
    this.stream = new Stream(`/api/events?task=${encodeURIComponent(this.task.uid ?? this.task.task_id)}`, {
      hear: (name, data) => {
        if (name === "hello") return;
        if ((data.task_uid ?? data.uid ?? this.task.uid) === this.task.uid) this.timeline.hear();
        this.waterfall.hear();
        this.soon();
      },
      tell: (state, why) => this.board.tell(state, why),
      again: () => { this.soon(); if (!isFinal(this.task)) this.timeline.hear(); this.waterfall.hear(); },
    });
  }

  /** Read it again in a moment: of many changes, once. */
  soon() {
    this.later ??= setTimeout(() => {
      this.later = null;
      this.read().catch((error) => error.name !== "AbortError" && error.status === 0 && this.board.tell("lost", error.message));
    }, 350);
  }

  show() {
    const { task, parts } = this;
    this.board.title(title(task, 80));
    this.head();
    this.ask();
    this.draw("error", task.error, () => task.error && failure(task.error, task.failure));
    const totals = task.totals ?? this.waterfall.totals;
    this.draw("facts", { ...task, totals, last_event_at: isFinal(task) && task.last_event_at, children: null }, () => facts({ ...task, totals }));
    this.age = parts.facts.querySelector(".age");
    const steps = task.steps ?? [];
    this.draw("steps", [steps, task.status], () => steps.length > 0 && [h("h2", {}, "Steps"), h("ol", { class: "steps" }, steps.slice(-40).map((one, i, all) => {
      const isNow = i === all.length - 1 && !isFinal(task);
      const [kind, sign, said] = one.failed ? ["bad", "✗ ", " (failed)"] : isNow ? ["now", "◐ ", " (under way)"] : ["done", "✓ ", ""];
      return h("li", { class: kind, value: one.index ?? null }, h("span", { "aria-hidden": "true" }, sign), line(one.name, 160), said && h("span", { class: "hidden" }, said));
    }))]);
    const children = task.children ?? [];
    this.draw("children", children, () => children.length > 0 && [h("h2", {}, `Agents that it started (${children.length})`), h("div", { class: "rows" }, children.slice(0, 200).map((one) => new Row(one).element))]);
    const after = task.followed_by ?? [];
    const ids = new Set([task.task_id, ...(task.aliases ?? [])]);
    const rows = (name, those) => those.length > 0 && [h("h2", {}, `${name} (${those.length})`), h("div", { class: "rows" }, those.map((one) => new Row(one).element))];
    this.draw("after", after, () => [rows("Tried again", after.filter((one) => ids.has(one.retry_of))), rows("Started by its end", after.filter((one) => !ids.has(one.retry_of)))]);
    this.draw("judged", task.evaluations, () => judged(task.evaluations ?? []));
    this.draw("made", [task.artifacts, task.links, task.results, task.approvals], () => made(task));
    this.acts?.show();
  }

  /** Draw a part where what it shows is new: what somebody reads, marks or has the focus on stays as it is. */
  draw(name, shown, make) {
    const said = JSON.stringify(shown) ?? "";
    if (this.drawn[name] === said) return;
    this.drawn[name] = said;
    put(this.parts[name], make());
  }

  head() {
    const { task } = this;
    const [sign, word, colour] = look(task);
    const done = isFinal(task) ? null : percent(task);
    const bar = done === null ? null : h("span", { class: "fill" });
    if (bar) bar.style.transform = `scaleX(${done / 100})`;
    const parent = task.parent_uid ?? task.parent_task_id;
    put(this.parts.head,
      h("p", { class: "path" }, route("/", "Now"), parent && [" › ", route(`/board/tasks/${encodeURIComponent(parent)}`, "the task that started it")]),
      h("h1", {}, title(task)),
      h("p", { class: `state ${colour}` }, h("span", { class: "chip" }, h("span", { "aria-hidden": "true" }, `${sign} `), word),
        (task.muted ?? task.is_muted) && h("span", { class: "chip grey" }, "muted"),
        task.loop && !task.loop.is_dismissed && !isFinal(task) && h("span", { class: "chip yellow" }, `🔁 repeats ${line(task.loop.tools.join(", "), 80)} ×${task.loop.count}`),
        task.cancel_by && !isFinal(task) && h("span", { class: "chip yellow" }, `stopping, asked by ${line(task.cancel_by, 60)}`),
        h("span", { class: "by" }, apart([line(task.agent_name, 80), task.repo && history("repo", task.repo), line(task.environment, 40), task.requested_by && ["for ", history("person", task.requested_by)]]))),
      bar && h("div", { class: "progress", role: "progressbar", "aria-label": "Progress", "aria-valuenow": done.toFixed(0), "aria-valuemin": "0", "aria-valuemax": "100" },
        h("span", { class: "bar" }, bar), h("span", { class: "done" }, [`${done.toFixed(0)} %`, step(task)].filter(Boolean).join(" · "))),
      task.ask && h("p", { class: "asked-of" }, h("span", { class: "small" }, "Asked: "), line(task.ask, 600)),
      task.answer && h("p", { class: "asked-of" }, h("span", { class: "small" }, "Answered: "), line(task.answer, 1000)),
      task.child_question && !isFinal(task) && h("p", { class: "doing" }, "✋ ", route(`/board/tasks/${encodeURIComponent(task.child_question_uid ?? "")}`, line(task.child_question, 300))),
      this.silence = h("p", { class: "silence", hidden: true }),
      !isFinal(task) && doing(task) && !task.child_question && task.status !== "waiting" && h("p", { class: "doing" }, doing(task)));
  }

  // A question that somebody is writing an answer to is not drawn again.
  ask() {
    const open = (this.task.approvals ?? []).filter(isOpen);
    // What an agent asks by no id is kept nowhere, and can only be answered where it was asked.
    if (!open.length && this.task.question) open.push({ id: "", state: "open", question: this.task.question });
    const keys = new Set(open.map((one) => one.key ?? one.id));
    for (const [key, element] of this.questions) {
      if (!keys.has(key)) { element.remove(); this.questions.delete(key); }
    }
    for (const one of open) {
      const key = one.key ?? one.id;
      if (this.questions.has(key)) continue;
      const element = question(one, { done: () => this.soon() });
      this.questions.set(key, element);
      this.parts.questions.append(element);
    }
  }

  tick() {
    if (!this.task || isFinal(this.task)) return;
    if (this.age) say(this.age, age(this.task));
    const seconds = quiet(this.task);
    this.silence.hidden = !seconds;
    say(this.silence, seconds ? `Quiet for ${elapsed(seconds)}: no call, checkpoint or progress since ${moment(this.task.last_activity_at ?? this.task.last_event_at)}.` : "");
  }
}

// `brief`: class and first line, as they are shown everywhere. The type with its module stands in its title.
function failure(error, brief) {
  const said = lines(error.message, 200_000).trim();
  const [first, ...rest] = said.split("\n");
  const why = line(brief, 400) || [line(error.type, 120), line(first, 300)].filter(Boolean).join(": ");
  return [h("h2", {}, "Why it failed"),
    h("p", { class: "why", title: line(error.type, 400) }, why),
    folded("The whole error", rest.length || first.length > 290 ? said : ""),
    folded("End of the log", lines(error.log_tail, 200_000).trim())];
}

// A long text in a box. What came last says most: the beginning is left out, and told.
function folded(name, text) {
  if (!text) return null;
  const end = text.length > 20_000 ? text.slice(-20_000) : text;
  const many = text.split("\n").length;
  return h("details", {}, h("summary", {}, many > 1 ? `${name}, ${plural(many, "line")}` : name),
    h("pre", { class: "tail", tabindex: "0", "aria-label": name }, end.length < text.length ? `… the beginning is left out\n${end}` : end));
}

// Those that are there, with points between them.
const apart = (parts) => parts.filter(Boolean).flatMap((one, i) => (i ? [" · ", one] : [one]));

// All tasks with that value.
const history = (name, value) => route(`/board/history?${new URLSearchParams({ [name]: value })}`, line(value, 60));

function facts(task) {
  const rows = [];
  const row = (name, ...said) => said.some((one) => one) && rows.push(h("div", {}, h("dt", {}, name), h("dd", {}, said)));
  row("Took", h("span", { class: "age" }, age(task)));
  row("Started", task.started_at && h("time", { datetime: task.started_at, title: whole(task.started_at) }, moment(task.started_at)));
  if (task.ended_at) row("Ended", h("time", { datetime: task.ended_at, title: whole(task.ended_at) }, moment(task.ended_at)));
  row("Model", line(task.model, 80));
  if (number(task.input_tokens) !== null) row("Tokens", `${count(task.input_tokens)} in · ${count(task.output_tokens ?? 0)} out`, task.cache_read_tokens ? h("span", { class: "small" }, ` ${count(task.cache_read_tokens)} from cache`) : null);
  row("Cost", money(task.cost_usd), task.unpriced_calls ? h("span", { class: "small" }, ` + ${plural(task.unpriced_calls, "call")} unpriced`) : null);
  const sums = task.totals;
  if (sums && sums.tasks > 1) row("With its agents", [money(sums.cost_usd), number(sums.input_tokens) !== null && `${count(sums.input_tokens)} in · ${count(sums.output_tokens ?? 0)} out`].filter(Boolean).join(", "));
  if (task.llm_calls) row("Model calls", String(task.llm_calls));
  if (task.tool_calls) row("Tool calls", String(task.tool_calls), task.tool_errors ? h("span", { class: "bad" }, ` (${task.tool_errors} failed)`) : null);
  row("Topic", line(task.topic, 80));
  row("Session", task.session_id && history("session", task.session_id));
  // An id that nobody gave says nothing to a person.
  const other = (id, words) => id && route(`/board/tasks/${encodeURIComponent(id)}`, /^[0-9a-f]{32}(-[0-9a-f]{16})?$/.test(id) ? words : line(id, 80));
  row("Tries again", other(task.retry_of, "an earlier task"));
  row("Started after", other(task.caused_by, "another task"));
  if (task.status && task.inferred) row("Known", "inferred, the agent did not say so");
  row("Id", h("code", { class: "id" }, line(task.task_id, 200)));
  return [h("h2", {}, "Figures"), h("dl", { class: "facts" }, rows)];
}

function judged(evaluations) {
  if (!evaluations.length) return [];
  return [h("h2", {}, "Ratings and evaluations"), h("dl", { class: "facts" }, evaluations.slice(0, 50).map((one) => {
    const said = one.source === "person" ? (one.label === "up" ? "👍" : "👎") : [number(one.score) === null ? "" : String(+one.score.toPrecision(6)), line(one.label, 60)].filter(Boolean).join(" · ");
    return h("div", {}, h("dt", {}, line(one.source === "person" ? one.by : one.name, 80)), h("dd", {}, said, one.explanation && h("span", { class: "small" }, ` ${line(one.explanation, 500)}`)));
  }))];
}

function made(task) {
  const artifacts = task.artifacts ?? [];
  const links = Object.entries(Array.isArray(task.links) ? Object.fromEntries(task.links.map((one) => [one.name, one.url ?? one.uri])) : task.links ?? {}).filter(([, url]) => safe(url));
  const results = Object.entries(task.results ?? {});
  const answered = (task.approvals ?? []).filter((one) => !isOpen(one));
  return [
    artifacts.length > 0 && [h("h2", {}, "Made"), h("ul", { class: "plain" }, artifacts.slice(0, 100).map((one) =>
      h("li", {}, "📎 ", link(one.uri, line(one.name, 200) || line(one.uri, 200)), one.kind && h("span", { class: "small" }, ` ${line(one.kind, 30)}`))))],
    results.length > 0 && [h("h2", {}, "Results"), h("dl", { class: "facts" }, results.slice(0, 50).map(([name, value]) =>
      h("div", {}, h("dt", {}, line(name, 80)), h("dd", {}, line(typeof value === "object" ? JSON.stringify(value) : value, 200)))))],
    links.length > 0 && [h("h2", {}, "Links"), h("ul", { class: "plain" }, links.slice(0, 50).map(([name, url]) => h("li", {}, link(url, line(name, 80)))))],
    answered.length > 0 && [h("h2", {}, "Answered"), answered.slice(-20).map((one) => question(one, { isQuiet: true }))],
  ];
}
