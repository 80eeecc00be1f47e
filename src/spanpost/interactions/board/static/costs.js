// What it came to: cost by day, model, agent, person, repository and pull request, against the budgets.

import { get } from "./api.js";
import { stacked } from "./bars.js";
import { budgets, figures } from "./figures.js";
import { h, line, link, put, route, safe } from "./dom.js";
import { count, money, number, plural } from "./words.js";

const DAYS = [1, 7, 30, 90];
const BY = [["model", "Model"], ["agent", "Agent"], ["person", "Person"], ["repo", "Repository"]];
const DAY = 86_400_000;

export function costs(place, board) {
  const control = new AbortController();
  const asked = new URLSearchParams(location.search);
  const days = DAYS.includes(Number(asked.get("days"))) ? Number(asked.get("days")) : 30;
  const by = BY.some(([name]) => name === asked.get("by")) ? asked.get("by") : "model";
  const inside = h("div", { class: "figures" }, h("p", { class: "loading" }, "Loading …"));
  const tab = (query, words, isOn) => h("a", { href: `/board/costs?${new URLSearchParams(query)}`, "data-route": true, "aria-current": isOn ? "true" : null }, words);
  put(place, h("div", { class: "bar-top" }, h("h1", {}, "Cost"),
    h("nav", { class: "tabs", "aria-label": "How long" }, DAYS.map((n) => tab({ by, days: n }, n === 1 ? "today" : `${n} days`, n === days))),
    h("nav", { class: "tabs", "aria-label": "By what" }, BY.map(([name, words]) => tab({ by: name, days }, words, name === by)))), inside);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const since = new Date(new Date().setHours(0, 0, 0, 0) - (days - 1) * DAY);
  const read = (path, query) => get(path, query, control.signal);
  Promise.all([read("/api/costs/days", { by, days, zone }), read("/api/usage"), read("/api/stats", { days }), read("/api/costs", { by: "pr", since: since.toISOString(), limit: 30 })]).then(([spent, usage, stats, requests]) => {
    const [, name] = BY.find(([one]) => one === by);
    const shown = [chart(spent.items, days, usage.budgets ?? [], name), keys(spent.items, by, name, since), pulls(requests.items ?? []), budgets(usage.budgets ?? []), figures(stats)].flat().filter(Boolean);
    put(inside, shown.length ? shown : h("p", { class: "empty" }, "Nothing ran in that time."));
  }).catch((error) => board.fail(error, error.status === 401 ? undefined : inside));
  return () => control.abort();
}

const words = (key, by) => (key === null ? "all others" : line(key, 60) || `(no ${by.toLowerCase()})`);

// One bar a day, stacked by what costs most; a line for what a budget allows in a day.
function chart(items, days, all, by) {
  const sums = sumsOf(items);
  if (!sums.length) return h("p", { class: "empty" }, "No model call was counted in that time.");
  const dates = Array.from({ length: days }, (_, i) => dayOf(Date.now() - (days - 1 - i) * DAY));
  const keys = sums.map((one) => one.key);
  const bars = dates.map((day) => {
    const parts = keys.map((key, n) => ({ n, name: words(key, by), value: number(items.find((one) => one.day === day && one.key === key)?.cost_usd) ?? 0 })).filter((one) => one.value > 0);
    return { name: day, parts, sum: parts.reduce((sum, one) => sum + one.value, 0) };
  });
  const total = bars.reduce((sum, one) => sum + one.sum, 0);
  const today = bars[bars.length - 1];
  const limits = all.filter((one) => one.limit_usd !== null && !Object.keys(one.scope).length).map((one) => {
    const long = Math.max((Date.parse(one.ends_at) - Date.parse(one.began_at)) / DAY, 1);
    return { name: `${line(one.budget, 30)}: ${money(number(one.limit_usd) / long)} a day`, value: number(one.limit_usd) / long };
  });
  const before = bars.slice(0, -1).slice(-7);
  const usual = before.length ? before.reduce((sum, one) => sum + one.sum, 0) / before.length : 0;
  const trend = usual > 0 ? `, ${money(usual)} a day in the ${before.length} days before (${today.sum >= usual ? "+" : "−"}${Math.abs(100 * (today.sum / usual - 1)).toFixed(0)} %)` : "";
  return h("section", {}, h("h2", {}, `${money(total)} in ${plural(days, "day")}`), h("p", { class: "small" }, `Today ${money(today.sum)}${trend}. Calls count some seconds after they end.`),
    stacked(bars, limits, `Cost by day: ${money(total)} in ${plural(days, "day")}`),
    h("ul", { class: "legend" }, sums.map((one, n) => h("li", {}, h("span", { class: `swatch s${n}`, "aria-hidden": "true" }), words(one.key, by)))));
}

function sumsOf(items) {
  const found = new Map();
  for (const one of items) {
    const known = found.get(one.key) ?? { key: one.key, cost: 0, calls: 0, unpriced: 0, input: 0, output: 0, cached: 0 };
    known.cost += number(one.cost_usd) ?? 0;
    known.calls += one.calls;
    known.unpriced += one.unpriced;
    known.input += one.input_tokens;
    known.output += one.output_tokens;
    known.cached += one.cache_read_tokens;
    found.set(one.key, known);
  }
  return [...found.values()].sort((a, b) => Number(a.key === null) - Number(b.key === null) || b.cost - a.cost);
}

// A click leads to those tasks in the history.
function keys(items, filter, by, since) {
  const sums = sumsOf(items);
  if (!sums.length) return null;
  const whole = sums.reduce((sum, one) => sum + one.cost, 0);
  const from = new Date(since.getTime() - since.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  return table(`By ${by.toLowerCase()}`, [by, "Cost", "Share", "Calls", "Tokens in", "from cache", "Tokens out"], sums.map((one, n) => [
    h("th", { scope: "row" }, h("span", { class: `swatch s${n}`, "aria-hidden": "true" }), one.key ? route(`/board/history?${new URLSearchParams({ [filter]: one.key, from, sort: "cost" })}`, words(one.key, by)) : words(one.key, by)),
    `${money(one.cost)}${one.unpriced ? ` + ${plural(one.unpriced, "call")} unpriced` : ""}`, whole ? `${((100 * one.cost) / whole).toFixed(0)} %` : "", count(one.calls), count(one.input), one.input ? `${((100 * one.cached) / one.input).toFixed(0)} %` : "", count(one.output)]));
}

function pulls(items) {
  if (!items.length) return null;
  return table("By pull request", ["Pull request", "Cost", "Tasks"], items.map((one) => [
    h("th", { scope: "row" }, safe(one.key) ? link(one.key, line(one.key.replace(/^https?:\/\/[^/]+\//, ""), 60)) : line(one.key, 60)), `${money(one.cost_usd)}${one.partial ? " or more" : ""}`, count(one.tasks)]));
}

/** @param {string} [kind] Class of all columns but the first: `n` for numbers, empty for words. */
export function table(caption, heads, rows, kind = "n") {
  return h("section", {}, h("h2", {}, caption), h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: (i && kind) || null }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => (i ? h("td", { class: kind || null }, cell) : cell))))))));
}

const dayOf = (at) => {
  const day = new Date(at);
  return `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
};
