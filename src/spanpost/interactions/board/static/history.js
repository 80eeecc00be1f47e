// What was: all tasks, newest first, by what one asks for. The address holds the question, to be kept and sent.

import { get } from "./api.js";
import { h, put } from "./dom.js";
import { Row } from "./row.js";
import { LOOKS } from "./words.js";

const ASKED = ["q", "status", "agent", "topic", "environment", "since"];
const SINCE = [["", "any time"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last 7 days"], ["30d", "the last 30 days"]];
const HOURS = { "1h": 1, "1d": 24, "7d": 168, "30d": 720 };

export function history(place, board) {
  const control = new AbortController();
  const asked = new URLSearchParams(location.search);
  const list = h("div", { class: "rows" });
  const below = h("p", { class: "more" });
  const field = (name, label, more = {}) => h("label", {}, h("span", {}, label),
    h("input", { name, type: name === "q" ? "search" : "text", value: asked.get(name) ?? "", autocomplete: "off", ...more }));
  const choice = (name, label, options) => h("label", {}, h("span", {}, label), h("select", { name },
    options.map(([value, words]) => h("option", { value, selected: (asked.get(name) ?? "") === value }, words))));
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); ask(); }, onchange: () => ask() },
    field("q", "Search", { placeholder: "Name or id" }),
    choice("status", "Status", [["", "any"], ...Object.entries(LOOKS).map(([value, [sign, word]]) => [value, `${sign} ${word}`])]),
    field("agent", "Agent"), field("topic", "Topic"), field("environment", "Environment"),
    choice("since", "Since", SINCE),
    h("button", { type: "submit" }, "Show"));

  function ask() {
    const said = new URLSearchParams();
    for (const name of ASKED) if (form.elements[name].value) said.set(name, form.elements[name].value.trim());
    const text = said.toString();
    if (`?${text}` !== location.search && (text || location.search)) board.go(text ? `/board/history?${text}` : "/board/history");
  }

  async function read(cursor) {
    const query = Object.fromEntries(ASKED.map((name) => [name, asked.get(name)]));
    if (query.since) query.since = new Date(Date.now() - (HOURS[query.since] ?? 720) * 3_600_000).toISOString();
    put(below, "Loading …");
    try {
      const found = await get("/api/tasks", { ...query, roots: true, limit: 50, cursor }, control.signal);
      for (const task of found.items) list.append(new Row(task, { isPast: true }).element);
      if (found.next) put(below, h("button", { type: "button", onclick: () => read(found.next) }, "Older"));
      else put(below, list.childElementCount ? "That is all." : "No task is like that.");
    } catch (error) {
      if (list.childElementCount) put(below, error.message);
      else board.fail(error, error.status === 401 ? undefined : below);
    }
  }

  put(place, h("div", { class: "bar-top" }, h("h1", {}, "History")), form, list, below);
  read("");
  return () => control.abort();
}
