// What was: all tasks, by what one asks for. The address holds the question, to be kept and sent.

import { get, headers, refusal } from "./api.js";
import { h, line, put, say } from "./dom.js";
import { Row } from "./row.js";
import { LOOKS, money, moment, plural } from "./words.js";

const SINCE = [["", "any time"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last 7 days"], ["30d", "the last 30 days"]];
const HOURS = { "1h": 1, "1d": 24, "7d": 168, "30d": 720 };
const SORTS = [["newest", "Newest"], ["cost", "Highest cost"], ["duration", "Longest"]];
const WHICH = [["", "all tasks"], ["roots", "topmost tasks"], ["below", "sub-agents"]];
//: Filters whose values are counted, by the API's names; each may be chosen several times.
const FACETS = [["status", "Status"], ["agent", "Agent"], ["model", "Model"], ["person", "Person"], ["repo", "Repository"], ["environment", "Environment"], ["topic", "Topic"], ["type", "Kind"]];
//: Filters that are typed, with their kinds of field.
/** @type {[string, string, string, object][]} */
const TYPED = [["error", "Error says", "search", {}], ["session", "Session", "text", {}], ["min_cost", "Cost from, $", "number", { min: 0, step: "any" }], ["max_cost", "to, $", "number", { min: 0, step: "any" }],
  ["min_seconds", "Seconds from", "number", { min: 0, step: "any" }], ["max_seconds", "to", "number", { min: 0, step: "any" }], ["from", "Began from", "datetime-local", {}], ["to", "before", "datetime-local", {}]];
const SHOWN = 8;

export function history(place, board) {
  const control = new AbortController();
  const asked = new URLSearchParams(location.search);
  const list = h("div", { class: "rows" });
  const below = h("p", { class: "more" });
  const total = h("p", { class: "counts", role: "status" });
  const facets = h("aside", { class: "facets", "aria-label": "Filters" });
  const choice = (name, label, options) => h("label", {}, h("span", {}, label), h("select", { name },
    options.map(([value, words]) => h("option", { value, selected: (asked.get(name) ?? "") === value }, words))));
  const input = (name, label, type, more = {}) => h("label", {}, h("span", {}, label), h("input", { name, type, value: asked.get(name) ?? "", autocomplete: "off", ...more }));
  const isMore = TYPED.some(([name]) => asked.get(name));
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); ask(); }, onchange: () => ask() },
    input("q", "Search", "search", { placeholder: "Name or id" }), choice("since", "Since", SINCE), choice("which", "Which", WHICH), choice("sort", "Sort by", SORTS),
    h("button", { type: "submit" }, "Show"),
    h("details", { open: isMore }, h("summary", {}, "More filters"), h("div", { class: "filters" }, TYPED.map(([name, label, type, more]) => input(name, label, type, more)))));

  /** @param {(said: URLSearchParams) => void} change */
  function ask(change = () => {}) {
    const said = new URLSearchParams();
    for (const [name] of FACETS) for (const value of asked.getAll(name)) said.append(name, value);
    for (const field of form.elements) if (field.name && field.value.trim() && !(field.name === "sort" && field.value === "newest")) said.set(field.name, field.value.trim());
    change(said);
    const text = said.toString();
    if (`?${text}` !== location.search && (text || location.search)) board.go(text ? `/board/history?${text}` : "/board/history");
  }

  function toggle(name, value) {
    ask((said) => {
      const others = said.getAll(name).filter((one) => one !== value);
      const isOn = others.length < said.getAll(name).length;
      said.delete(name);
      for (const one of isOn ? others : [...others, value]) said.append(name, one);
    });
  }

  function query() {
    const found = { q: asked.get("q"), error: asked.get("error"), session: asked.get("session") };
    for (const name of ["min_cost", "max_cost", "min_seconds", "max_seconds"]) found[name] = asked.get(name);
    for (const [name] of FACETS) found[name] = asked.getAll(name);
    if (asked.get("since")) found.since = new Date(Date.now() - (HOURS[asked.get("since")] ?? 720) * 3_600_000).toISOString();
    for (const [name, mine] of [["since", "from"], ["until", "to"]]) {
      const at = new Date(asked.get(mine) ?? "");
      if (!Number.isNaN(at.getTime())) found[name] = at.toISOString();
    }
    if (asked.get("which") === "roots") found.roots = true;
    if (asked.get("which") === "below") found.below = true;
    return found;
  }
  const sought = query();

  async function read(cursor) {
    put(below, "Loading …");
    try {
      const found = await get("/api/tasks", { ...sought, sort: asked.get("sort"), limit: 50, cursor }, control.signal);
      for (const task of found.items) list.append(new Row(task, { isPast: true }).element);
      if (found.next) put(below, h("button", { type: "button", onclick: () => read(found.next) }, "More"));
      else put(below, list.childElementCount ? "That is all." : "No task is like that.");
    } catch (error) {
      if (list.childElementCount) put(below, error.message);
      else board.fail(error, error.status === 401 ? undefined : below);
    }
  }

  async function count() {
    const found = await get("/api/facets", sought, control.signal);
    say(total, [plural(found.total, "task"), money(found.cost_usd), found.since && `since ${moment(found.since)}: older ones are listed and not counted`].filter(Boolean).join(", "));
    put(facets, FACETS.map(([name, label]) => facet(name, label, found.fields[name] ?? [], new Set(asked.getAll(name)), (value) => toggle(name, value))));
  }

  async function save() {
    const said = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...sought, sort: asked.get("sort") })) for (const one of [value].flat()) if (one) said.append(name, one);
    const answer = await fetch(`/api/tasks.csv?${said}`, { headers: headers(), credentials: "same-origin", signal: control.signal });
    if (!answer.ok) throw await refusal(answer);
    const link = h("a", { href: URL.createObjectURL(await answer.blob()), download: "tasks.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  const csv = h("button", { type: "button", onclick: () => save().catch((error) => put(below, line(error.message, 300))), title: "The first 10,000 tasks of this list" }, "Export CSV");
  put(place, h("div", { class: "bar-top" }, h("h1", {}, "History"), total, h("span", { class: "right" }, csv)), form, h("div", { class: "faceted" }, facets, h("div", {}, list, below)));
  read("");
  count().catch((error) => error.name !== "AbortError" && say(total, line(error.message, 200)));
  return () => control.abort();
}

// A filter with its values: how many tasks have each. Chosen ones stand first, also where no task has them any more.
function facet(name, label, values, chosen, pick) {
  const known = values.filter((one) => one.value !== null && one.value !== "");
  for (const value of chosen) if (!known.some((one) => one.value === value)) known.push({ value, count: 0 });
  if (!known.length) return null;
  known.sort((a, b) => Number(chosen.has(b.value)) - Number(chosen.has(a.value)) || b.count - a.count);
  const words = (value) => (name === "status" && LOOKS[value] ? `${LOOKS[value][0]} ${LOOKS[value][1]}` : line(value, 60));
  const buttons = known.map((one) => h("button", { type: "button", class: "facet", "aria-pressed": String(chosen.has(one.value)), onclick: () => pick(one.value) },
    h("span", { class: "value" }, words(one.value)), h("span", { class: "n" }, one.count.toLocaleString("en"))));
  return h("section", {}, h("h2", {}, label), buttons.slice(0, SHOWN), buttons.length > SHOWN && h("details", {}, h("summary", {}, `${buttons.length - SHOWN} more`), buttons.slice(SHOWN)));
}
