// A task and the tasks below it on one axis of time: what ran when, how full the context was, what it cost until then.

import { get, taskPath } from "./api.js";
import { Axis, clock } from "./axis.js";
import { h, line, link, put, say, svg } from "./dom.js";
import { tracks } from "./tracks.js";
import { NEWS, count, elapsed, isFinal, money, number, plural } from "./words.js";

//: A running task is read again after so many milliseconds at least, and after so many times the last read's duration.
const REST = 3000;
const SHARE = 20;
const CURVE = 64;
const LEAST = 20;

export class Waterfall {
  /** `seek(at)` lets the timeline go to a moment (milliseconds). */
  constructor(id, signal, seek, loaded) {
    this.id = id;
    this.signal = signal;
    this.seek = seek;
    this.loaded = loaded;
    this.at = null;
    this.traceId = "";
    this.from = null;
    this.to = null;
    this.picked = null;
    this.took = 0;
    this.chart = svg("svg", { class: "tracks", role: "group", "aria-label": "Calls of each agent by time" });
    this.curve = svg("svg", { class: "uses", role: "img" });
    this.moment = h("input", { type: "range", class: "moment", min: "0", max: "1000", value: "1000", "aria-label": "Moment", oninput: () => this.point(this.axis.at((this.moment.value / 1000) * this.axis.wide), true) });
    this.readout = h("output", { class: "readout", "aria-live": "off" });
    this.about = h("div", { class: "about", role: "status" });
    this.jump = h("input", { type: "time", step: "1", "aria-label": "Jump to a time", onchange: () => this.leap() });
    this.back = h("button", { type: "button", onclick: () => this.zoom(null, null) }, "Whole task");
    const nearer = h("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.closer(0.5) }, "+");
    const farther = h("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.closer(2) }, "−");
    this.frame = h("div", { class: "frame" }, this.chart);
    this.box = h("div", { class: "drawing" }, this.frame, this.curve, this.moment);
    this.element = h("section", { class: "waterfall", hidden: true },
      h("div", { class: "between" }, h("h2", {}, "When it did what"), h("div", { class: "tools" }, h("label", { class: "small" }, "Jump to ", this.jump), farther, nearer, this.back)),
      this.box, this.readout, this.about);
    this.chart.addEventListener("pointermove", (event) => this.move(event));
    this.chart.addEventListener("pointerdown", (event) => this.press(event));
    this.chart.addEventListener("pointerup", (event) => this.release(event));
    this.chart.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.watch = new ResizeObserver(() => this.found && this.draw());
    this.watch.observe(this.frame);
    signal.addEventListener("abort", () => { this.watch.disconnect(); clearTimeout(this.later); });
  }

  /** Something happened: read it again, soon. */
  hear() {
    this.later ??= setTimeout(() => {
      this.later = null;
      this.read().catch((error) => error.name !== "AbortError" && this.found === undefined && put(this.about, line(error.message, 300)));
    }, this.found ? Math.max(REST, SHARE * this.took) : 0);
  }

  async read() {
    const began = performance.now();
    const whole = times(await get(`${taskPath(this.id)}/waterfall`, {}, this.signal));
    this.took = performance.now() - began;
    this.whole = whole;
    this.found = whole;
    if (whole.is_folded && this.from !== null) await this.part();
    this.element.hidden = !(whole.bars.length || whole.questions.length || whole.ticks.length > 1);
    this.draw();
    this.loaded();
  }

  /** The cost of the task with all below it; null where it has none, or where not all are known. */
  get totals() {
    const all = this.whole?.tracks ?? [];
    return all.length > 1 && all.length < 40 ? { tasks: all.length, cost_usd: all.reduce((sum, one) => sum + (number(one.cost_usd) ?? 0), 0) } : null;
  }

  // Of very many calls only those in the window, one by one.
  async part() {
    const [from, to] = [this.from, this.to];
    const found = await get(`${taskPath(this.id)}/waterfall`, { since: new Date(from).toISOString(), until: new Date(to).toISOString() }, this.signal);
    if (from === this.from && to === this.to) this.found = times(found);
  }

  draw() {
    const { found, whole } = this;
    const wide = this.frame.clientWidth;
    if (!found || !wide) return;
    const [begin, end] = bounds(whole.tracks);
    const margin = (end - begin) * 0.01 + 1;
    const axis = this.axis = new Axis(this.from ?? begin - margin, this.to ?? end + margin, wide);
    const made = tracks(found, axis);
    this.places = made.places;
    for (const [element, high] of [[this.chart, made.high], [this.curve, CURVE + 18]]) {
      element.setAttribute("width", wide);
      element.setAttribute("height", high);
    }
    this.line = svg("line", { class: "cursor", y1: 0, y2: made.high, x1: -9, x2: -9 });
    this.span = svg("rect", { class: "chosen", y: 0, height: made.high, width: 0, x: 0 });
    put(this.chart, svg("defs", {}, hatch()), made.drawn, this.span, this.line);
    this.under = svg("line", { class: "cursor", y1: 0, y2: CURVE, x1: -9, x2: -9 });
    put(this.curve, this.uses(axis), this.under);
    this.back.disabled = this.from === null;
    this.element.classList.toggle("folded", found.is_folded);
    this.point(this.at ?? end, false);
    if (!this.picked) this.tellAbout();
  }

  // Context of the task and cost of all, on the same axis.
  uses(axis) {
    const [task] = this.whole.tracks;
    const own = this.whole.uses.filter((one) => one.task_uid === task?.uid && one.used_tokens !== null);
    const top = Math.max(number(task?.context_window_tokens) ?? 0, ...own.map((one) => one.used_tokens), 1);
    const paid = this.whole.uses.filter((one) => one.cost !== null);
    const most = Math.max(...paid.map((one) => one.cost), 0) || 1;
    const y = (share) => CURVE - 2 - share * (CURVE - 14);
    const steps = (items, of) => items.map((one, i) => `${i ? `H${axis.x(one.begin).toFixed(1)}V` : `M${axis.x(one.begin).toFixed(1)} `}${y(of(one)).toFixed(1)}`).join("") + (items.length ? `H${axis.x(this.end()).toFixed(1)}` : "");
    const context = steps(own, (one) => one.used_tokens / top);
    this.curve.setAttribute("aria-label", own.length || paid.length ? `Context ${own.length ? `up to ${count(Math.max(...own.map((one) => one.used_tokens)))} tokens` : "unknown"}, cost ${paid.length ? money(paid[paid.length - 1].cost) : "unknown"}` : "No model call yet");
    return [
      axis.marks().map(([at, words]) => [svg("line", { x1: axis.x(at), x2: axis.x(at), y1: 0, y2: CURVE, class: "grid" }), svg("text", { x: Math.min(Math.max(axis.x(at), 26), axis.wide - 26), y: CURVE + 14, class: "time" }, words)]),
      task?.context_window_tokens && [[0.7, "warm"], [0.85, "hot"]].map(([at, heat]) => svg("line", { x1: 0, x2: axis.wide, y1: y(at), y2: y(at), class: `limit ${heat}` })),
      context && svg("path", { d: `${context}V${CURVE}H${axis.x(own[0].begin).toFixed(1)}Z`, class: "area" }),
      context && svg("path", { d: context, class: "stroke" }),
      paid.length > 0 && svg("path", { d: steps(paid, (one) => one.cost / most), class: "paid" }),
      own.length > 0 && svg("text", { x: 3, y: 10, class: "key context" }, `context${task.context_window_tokens ? ` of ${count(task.context_window_tokens)}` : ""}`),
      paid.length > 0 && svg("text", { x: axis.wide - 3, y: 10, class: "key paid-key" }, `cost, ${money(most)}`),
    ];
  }

  end() {
    return bounds(this.whole.tracks)[1];
  }

  /** Put the cursor at a moment, and say what was there. */
  point(at, isMoved, task = null) {
    if (!this.axis) return;
    if (isMoved) this.at = at;
    const x = this.axis.x(at);
    for (const one of [this.line, this.under]) for (const side of ["x1", "x2"]) one.setAttribute(side, x.toFixed(1));
    const said = this.saying(at, task);
    say(this.readout, said);
    this.moment.value = String(Math.round((1000 * x) / this.axis.wide));
    this.moment.setAttribute("aria-valuetext", said);
  }

  saying(at, task) {
    const is = (one) => one.begin <= at && at <= one.end && (!task || one.task_uid === task.uid);
    const busy = this.found.bars.filter(is);
    const calls = busy.filter((one) => one.kind !== "step");
    const shown = [...new Set((calls.length ? calls : busy).map((one) => `${line(one.name, 50)}${one.count > 1 ? ` ×${one.count}` : ""}`))];
    const asked = this.found.questions.find(is);
    const news = this.found.ticks.findLast((one) => one.begin <= at && (!task || one.task_uid === task.uid));
    const what = asked ? `waits: ${line(asked.question, 80)}` : shown.length ? shown.slice(0, 3).join(", ") + (shown.length > 3 ? ` and ${shown.length - 3} more` : "") : news ? `after “${line(news.text, 60)}”` : "nothing";
    const of = task ?? this.whole.tracks[0];
    const use = this.whole.uses.findLast((one) => one.begin <= at && one.task_uid === of?.uid && one.used_tokens !== null);
    const paid = this.whole.uses.findLast((one) => one.begin <= at && one.cost !== null);
    const context = use && (of.context_window_tokens ? `${((100 * use.used_tokens) / of.context_window_tokens).toFixed(0)} % context` : `${count(use.used_tokens)} tokens of context`);
    return `${clock(at, this.axis.to - this.axis.from)}: ${[what, context, paid && money(paid.cost)].filter(Boolean).join(", ")}`;
  }

  move(event) {
    const { x, y } = this.place(event);
    if (this.pressed !== undefined && Math.abs(x - this.pressed) > 4) {
      this.span.setAttribute("x", Math.min(x, this.pressed));
      this.span.setAttribute("width", Math.abs(x - this.pressed));
    }
    const track = this.places?.length > 1 ? this.places.find((one) => y >= one.top && y < one.bottom) : null;
    this.point(this.axis.at(x), true, track?.task);
  }

  place(event) {
    const box = this.chart.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  press(event) {
    if (event.button || event.target.closest("a")) return;
    this.pressed = this.place(event).x;
    if (event.pointerType === "mouse") this.chart.setPointerCapture(event.pointerId);
  }

  release(event) {
    const from = this.pressed;
    this.pressed = undefined;
    if (from === undefined) return;
    const { x, y } = this.place(event);
    if (Math.abs(x - from) > 8) {
      this.zoom(this.axis.at(Math.min(from, x)), this.axis.at(Math.max(from, x)));
      return;
    }
    this.move(event);
    const at = this.axis.at(x);
    const near = ((this.axis.to - this.axis.from) / this.axis.wide) * 4;
    const track = this.places.find((one) => y >= one.top && y < one.bottom);
    const found = document.elementsFromPoint(event.clientX, event.clientY).map((one) => /** @type {any} */ (one).bar).find(Boolean)
      ?? this.found.bars.filter((one) => one.task_uid === track?.task.uid && one.begin - near <= at && one.end + near >= at).sort((a, b) => a.end - a.begin - (b.end - b.begin))[0];
    this.picked = found ?? null;
    this.tellAbout();
    this.seek(at);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.closer(event.deltaY > 0 ? 1.25 : 0.8, this.axis.at(this.place(event).x));
  }

  closer(factor, around = this.at) {
    if (!this.axis) return;
    const { from, to } = this.axis;
    const middle = around !== null && around >= from && around <= to ? around : (from + to) / 2;
    this.zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }

  zoom(from, to) {
    const [begin, end] = bounds(this.whole.tracks);
    const isWhole = from === null || to - from >= (end - begin) * 1.02;
    this.from = isWhole ? null : Math.max(from, begin - 1000);
    this.to = isWhole ? null : Math.max(to, this.from + LEAST);
    this.found = this.whole;
    this.draw();
    clearTimeout(this.zooming);
    if (this.whole.is_folded && !isWhole) this.zooming = setTimeout(() => this.part().then(() => this.draw()).catch(() => {}), 150);
  }

  // The time of day, on the day on which the task began or on the next one.
  leap() {
    const [hours, minutes, seconds = 0] = this.jump.value.split(":").map(Number);
    if (!this.axis || Number.isNaN(minutes)) return;
    const [begin, end] = bounds(this.whole.tracks);
    const day = new Date(begin);
    day.setHours(hours, minutes, seconds, 0);
    let at = day.getTime();
    while (at + 1000 < begin && at + 86_400_000 <= end) at += 86_400_000;
    this.look(Math.min(Math.max(at, begin), end));
  }

  /** Go to a moment, near enough to see its calls. */
  look(at) {
    const [begin, end] = bounds(this.whole.tracks);
    const half = Math.max((end - begin) / 40, 5000);
    this.at = at;
    this.zoom(at - half, at + half);
    this.seek(at);
  }

  tellAbout() {
    const one = this.picked;
    const trace = this.whole.trace_url;
    const id = one?.trace_id ?? this.traceId;
    const known = [id && h("span", { class: "small" }, "Trace ", h("code", { class: "id" }, id)), trace && link(trace, "Open the trace")].filter(Boolean);
    if (!one) {
      const many = this.whole.bars.reduce((sum, each) => sum + each.count, 0);
      put(this.about, h("p", { class: "small" }, this.found.is_folded ? `${plural(many, "call")}: a bar stands for several. Zoom in to see each. ${this.found.is_cut ? "Only the newest 20,000 calls of an agent are drawn. " : ""}` : "", "Drag to zoom, click a bar for its figures. ", known));
      return;
    }
    const took = (one.end - one.begin) / 1000;
    const [sign, word] = NEWS[one.kind];
    const tokens = number(one.input_tokens) === null ? "" : `${count(one.input_tokens)} in${one.cache_read_tokens ? ` (${count(one.cache_read_tokens)} from cache)` : ""} · ${count(one.output_tokens ?? 0)} out`;
    const model = one.model && one.model !== one.name ? line(one.model, 60) : "";
    const figures = [`${clock(one.begin, 0)}`, one.ended_at ? (took < 10 ? `${took.toFixed(took < 1 ? 3 : 1)}s` : elapsed(took)) : "still open", model, tokens, money(one.cost_usd), one.errors ? plural(one.errors, "failure") : ""].filter(Boolean).join(" · ");
    put(this.about, h("p", {}, h("span", { class: "sign", role: "img", "aria-label": word }, sign), " ", h("b", {}, line(one.name, 120)), one.count > 1 ? ` ×${one.count}` : "", " ", h("span", { class: one.errors ? "bad" : "" }, figures)),
      h("p", { class: "small" }, one.span_id && ["Span ", h("code", { class: "id" }, one.span_id), " "], known));
  }
}

// Each with its begin and end in milliseconds.
function times(found) {
  const now = Date.now();
  const stamp = (text, other) => (text ? Date.parse(text) : other);
  for (const one of found.tracks) {
    one.begin = stamp(one.started_at, now);
    one.end = stamp(one.ended_at, isFinal(one) ? one.begin : now);
  }
  const ends = new Map(found.tracks.map((one) => [one.uid, one.end]));
  for (const one of found.bars) [one.begin, one.end] = [Date.parse(one.started_at), stamp(one.ended_at, Math.max(ends.get(one.task_uid) ?? now, Date.parse(one.started_at)))];
  for (const one of found.questions) [one.begin, one.end] = [Date.parse(one.asked_at), stamp(one.closed_at, ends.get(one.task_uid) ?? now)];
  for (const one of found.ticks) one.begin = one.end = Date.parse(one.at);
  for (const one of found.uses) [one.begin, one.cost] = [Date.parse(one.at), number(one.cost_usd)];
  for (const one of found.tracks) one.end = Math.max(one.end, ...found.ticks.filter((each) => each.task_uid === one.uid).map((each) => each.begin));
  return found;
}

function bounds(all) {
  if (!all.length) return [Date.now() - 1000, Date.now()];
  return [Math.min(...all.map((one) => one.begin)), Math.max(...all.map((one) => one.end))];
}

function hatch() {
  return svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 6, height: 6, class: "hatch-back" }), svg("line", { x1: 0, x2: 0, y1: 0, y2: 6, class: "hatch-line" }));
}
