// What budgets came to, and the figures of the tasks by agent and status.

import { h, line } from "./dom.js";
import { LOOKS, count, elapsed, moment, money, number } from "./words.js";

/** Return tables of the sums of `/api/stats`. */
export function figures(found) {
  const failed = (row) => row.status === "error";
  return [
    table("Tasks by agent", "Agent", [...(found.agents ?? [])].sort((x, y) => (number(y.cost_usd) ?? 0) - (number(x.cost_usd) ?? 0)), (row) => line(row.agent_name, 60) || "(no name)"),
    table("Tasks by status", "Status", found.statuses ?? [], (row) => h("span", { class: failed(row) ? "bad" : null }, LOOKS[row.status] ? `${LOOKS[row.status][0]} ${LOOKS[row.status][1]}` : line(row.status, 30))),
  ];
}

/** Return a table of budgets; null without any. */
export function budgets(all) {
  if (!all.length) return null;
  const spent = (one) => [
    one.limit_usd !== null && `${money(one.cost_usd)} of ${money(one.limit_usd)}`,
    one.limit_tokens !== null && `${count(one.tokens)} of ${count(one.limit_tokens)} tokens`,
    one.limit_calls !== null && `${count(one.calls)} of ${count(one.limit_calls)} calls`,
    one.limit_tool_calls !== null && `${count(one.tool_calls)} of ${count(one.limit_tool_calls)} tool calls`,
    one.limit_seconds !== null && `${elapsed(one.wall_seconds)} of ${elapsed(one.limit_seconds)}`,
    one.raises.length > 0 && `raised by ${one.raises.map((each) => line(each.by, 60)).join(", ")}`,
  ].filter(Boolean).join("; ");
  return h("section", {}, h("h2", {}, "Budgets"), h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Budgets" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Budget", "Used", "Spent", "Until"].map((words, i) => h("th", { scope: "col", class: i ? "n" : null }, words)))),
    h("tbody", {}, all.slice(0, 200).map((one) => {
      const bar = h("span", { class: `spread ${one.share >= 1 ? "hot" : one.share >= 0.8 ? "warm" : ""}`, "aria-hidden": "true" });
      bar.style.width = `${Math.min(100, 100 * one.share)}%`;
      const whose = Object.values(one.scope).map((each) => line(each, 60)).join(", ");
      return h("tr", {}, h("th", { scope: "row" }, line(one.budget, 60), whose && h("span", { class: "small" }, ` ${whose}`), bar),
        h("td", { class: "n" }, `${(100 * one.share).toFixed(0)} %`), h("td", { class: "n" }, spent(one)), h("td", { class: "n" }, moment(one.ends_at)));
    })))));
}

/** @type {[string, (row: any) => number | null, (n: any) => string | Node][]} */
const COLUMNS = [
  ["Tasks", (row) => number(row.tasks), (n) => n.toLocaleString("en")],
  ["Ended", (row) => number(row.ended), (n) => n.toLocaleString("en")],
  ["Failed", (row) => number(row.failed), (n) => (n ? h("span", { class: "bad" }, n.toLocaleString("en")) : "0")],
  ["Model calls", (row) => number(row.llm_calls), count],
  ["Tool errors", (row) => number(row.tool_errors), count],
  ["Tool calls", (row) => number(row.tool_calls), count],
  ["Tokens in", (row) => number(row.input_tokens), count],
  ["Tokens out", (row) => number(row.output_tokens), count],
  ["Cost", (row) => number(row.cost_usd), money],
  ["p50", (row) => number(row.seconds_p50), elapsed],
  ["p95", (row) => number(row.seconds_p95), elapsed],
];

function table(caption, first, rows, name) {
  if (!rows.length) return null;
  const columns = COLUMNS.filter(([, read]) => rows.some((row) => read(row) !== null));
  // The bar is the share of the cost, where there is any.
  const of = rows.some((row) => number(row.cost_usd) > 0) ? (row) => number(row.cost_usd) ?? 0 : COLUMNS[0][1];
  const most = Math.max(...rows.map((row) => of(row) ?? 0)) || 1;
  return h("section", {}, h("h2", {}, caption), h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, first), columns.map(([words]) => h("th", { scope: "col", class: "n" }, words)))),
    h("tbody", {}, rows.map((row) => {
      const bar = h("span", { class: "spread", "aria-hidden": "true" });
      bar.style.width = `${(100 * (of(row) ?? 0)) / most}%`;
      return h("tr", {}, h("th", { scope: "row" }, name(row), bar), columns.map(([, read, write]) => {
        const value = read(row);
        return h("td", { class: "n" }, value === null ? "" : write(value));
      }));
    })))));
}
