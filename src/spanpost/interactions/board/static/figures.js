// What it came to: tasks, tokens and cost of the last days, by agent, day and status.

import { get } from "./api.js";
import { h, line, put } from "./dom.js";
import { LOOKS, count, elapsed, moment, money, number } from "./words.js";

const DAYS = [1, 7, 30, 90];

export function figures(place, board) {
  const control = new AbortController();
  const asked = Number(new URLSearchParams(location.search).get("days"));
  const days = DAYS.includes(asked) ? asked : 7;
  const inside = h("div", { class: "figures" }, h("p", { class: "loading" }, "Loading …"));
  const span = h("nav", { class: "tabs", "aria-label": "How long" }, DAYS.map((n) =>
    h("a", { href: `/board/figures?days=${n}`, "data-route": true, "aria-current": n === days ? "true" : null }, n === 1 ? "24 hours" : `${n} days`)));
  put(place, h("div", { class: "bar-top" }, h("h1", {}, "Figures"), span), inside);
  Promise.all([get("/api/stats", { days }, control.signal), get("/api/usage", {}, control.signal)]).then(([found, usage]) => {
    const agents = found.agents ?? [];
    const shown = [
      budgets(usage.budgets ?? []),
      table("By agent", "Agent", agents, (row) => line(row.agent_name, 60) || "(no name)"),
      table("By day", "Day", found.days ?? [], (row) => line(row.day, 20)),
      table("By status", "Status", found.statuses ?? [], (row) => (LOOKS[row.status] ? `${LOOKS[row.status][0]} ${LOOKS[row.status][1]}` : line(row.status, 30))),
    ].filter(Boolean);
    put(inside, shown.length ? shown : h("p", { class: "empty" }, "Nothing ran in that time."));
  }).catch((error) => board.fail(error, error.status === 401 ? undefined : inside));
  return () => control.abort();
}

function budgets(all) {
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

const COLUMNS = [
  ["Tasks", (row) => number(row.tasks), (n) => n.toLocaleString("en")],
  ["Ended", (row) => number(row.ended), (n) => n.toLocaleString("en")],
  ["Model calls", (row) => number(row.llm_calls), count],
  ["Tool calls", (row) => number(row.tool_calls), count],
  ["Tokens in", (row) => number(row.input_tokens), count],
  ["Tokens out", (row) => number(row.output_tokens), count],
  ["Cost", (row) => number(row.cost_usd), money],
  ["Half took under", (row) => number(row.seconds_p50), elapsed],
  ["95 % under", (row) => number(row.seconds_p95), elapsed],
];

function table(caption, first, rows, name) {
  if (!rows.length) return null;
  const columns = COLUMNS.filter(([, of]) => rows.some((row) => of(row) !== null));
  const most = Math.max(...rows.map((row) => COLUMNS[0][1](row) ?? 0), 1);
  return h("section", {}, h("h2", {}, caption), h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, first), columns.map(([words]) => h("th", { scope: "col", class: "n" }, words)))),
    h("tbody", {}, rows.map((row) => {
      const bar = h("span", { class: "spread", "aria-hidden": "true" });
      bar.style.width = `${(100 * (COLUMNS[0][1](row) ?? 0)) / most}%`;
      return h("tr", {}, h("th", { scope: "row" }, name(row), bar), columns.map(([, of, write]) => {
        const value = of(row);
        return h("td", { class: "n" }, value === null ? "" : write(value));
      }));
    })))));
}
