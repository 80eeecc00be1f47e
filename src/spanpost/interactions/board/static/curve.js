// How full the context window was, call after call: a drawing, and the same in words.

import { h, line, svg } from "./dom.js";
import { count, moment, number, share } from "./words.js";

const WIDE = 320;
const HIGH = 96;
const WARM = 0.7;
const HOT = 0.85;
const MOST = 600;

/** Draw the curve of a context; null where nothing is known of it. */
export function curve(found, task) {
  const points = thin((found?.items ?? []).map((one) => ({ at: Date.parse(one.at), used: number(one.used_tokens ?? one.context_used_tokens), kind: one.kind }))
    .filter((one) => one.used !== null && !Number.isNaN(one.at)));
  const window = number(task.context_window_tokens ?? found?.window_tokens);
  const used = number(task.context_used_tokens);
  if (used === null && !points.length) {
    return null;
  }
  const full = share(task);
  const said = `${count(used)}${window ? ` of ${count(window)} tokens` : " tokens"}`;
  const known = { table: "by the model's name", given: "as your settings say", said: "as the agent says", observed: "as was observed", default: "the default" }[task.context_window_source];
  const meter = full === null ? null : h("span", { class: `fill ${heat(full)}` });
  if (meter) meter.style.transform = `scaleX(${Math.min(full, 1)})`;
  return [h("h2", {}, "Context window"),
    h("p", {}, h("b", {}, full === null ? said : `${(full * 100).toFixed(0)} %`), full === null ? "" : ` · ${said}`, known && h("span", { class: "small" }, ` (${known})`)),
    points.length > 1 ? draw(points, window) : meter && h("span", { class: "bar" }, meter),
    forecast(task.context_forecast)];
}

function forecast(told) {
  if (!told) return null;
  return h("p", { class: "small" }, `${line(told.limit, 40)} in about ${told.calls} ${told.calls === 1 ? "call" : "calls"} (${told.calls_low} to ${told.calls_high})`);
}

const heat = (full) => (full >= HOT ? "hot" : full >= WARM ? "warm" : "cool");

// Of many points those that show the shape: of each stretch its least and its most.
function thin(points) {
  if (points.length <= MOST) return points;
  const kept = [];
  const size = Math.ceil(points.length / (MOST / 2));
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size);
    const least = part.reduce((a, b) => (b.used < a.used ? b : a));
    const most = part.reduce((a, b) => (b.used > a.used ? b : a));
    kept.push(...(least === most ? [most] : least.at <= most.at ? [least, most] : [most, least]));
  }
  return kept;
}

function draw(points, window) {
  const top = Math.max(window || 0, ...points.map((one) => one.used)) || 1;
  const [first, last] = [points[0].at, points[points.length - 1].at];
  // Calls that came in one moment stand side by side all the same.
  const x = last > first ? (one) => ((one.at - first) / (last - first)) * WIDE : (one, i) => (i / (points.length - 1)) * WIDE;
  const y = (tokens) => HIGH - (tokens / top) * (HIGH - 4);
  const path = points.map((one, i) => `${i ? "L" : "M"}${x(one, i).toFixed(1)} ${y(one.used).toFixed(1)}`).join("");
  /** @type {[number, string][]} */
  const limits = [[WARM, "70 %"], [HOT, "85 %"], [1, count(window)]];
  const marks = window ? limits.filter(([at]) => at * window <= top) : [];
  const most = Math.max(...points.map((one) => one.used));
  const words = `${points.length} calls from ${count(points[0].used)} to ${count(points[points.length - 1].used)} tokens, at most ${count(most)}`;
  return h("figure", { class: "curve" },
    svg("svg", { viewBox: `0 -6 ${WIDE + 40} ${HIGH + 12}`, role: "img", "aria-label": `Context use: ${words}` },
      marks.map(([at, label]) => [
        svg("line", { x1: 0, x2: WIDE, y1: y(at * window), y2: y(at * window), class: `mark m${Math.round(at * 100)}` }),
        svg("text", { x: WIDE + 4, y: y(at * window) + 3.5, class: "label" }, label)]),
      svg("path", { d: `${path}L${WIDE} ${HIGH}L0 ${HIGH}Z`, class: "area" }),
      svg("path", { d: path, class: "stroke" }),
      points.length <= 60 && points.map((one, i) => svg("circle", { cx: x(one, i).toFixed(1), cy: y(one.used).toFixed(1), r: 1.8, class: "point" },
        svg("title", {}, `${moment(one.at)}: ${count(one.used)} tokens`)))),
    h("figcaption", { class: "small" }, words));
}
