// What runs, live. What waits for a person stands first; what ended a moment ago stands last.

import { get } from "./api.js";
import { h, line, put, say } from "./dom.js";
import { Group } from "./group.js";
import { Row } from "./row.js";
import { start } from "./start.js";
import { Stream } from "./stream.js";
import { ACTIVE, isFinal, isResting, number, plural, title, waitsForPerson } from "./words.js";

//: How many are read at once, and at most; of those that ended so many stay in sight.
const PAGE = 200;
const MOST = 3000;
const ENDED = 12;
/** @type {[string, string, (task: any) => boolean][]} */
const GROUPS = [
  ["waiting", "Waits for a person", (task) => waitsForPerson(task) || (!isFinal(task) && Boolean(task.child_question))],
  ["trouble", "Worth a look", (task) => task.status === "stalled" || task.status === "context_warning"],
  ["running", "Running", (task) => !isFinal(task) && !isResting(task)],
  ["resting", "Between prompts", isResting],
  ["ended", "Ended a moment ago", isFinal],
];

//: Filters, by the API's names.
const ONLY = [["person", "Asked by"], ["repo", "Repository"], ["session", "Session"]];

//: What rows are sorted by; the greatest comes first.
const ORDERS = {
  newest: ["Newest first", (task) => startOf(task)],
  quiet: ["Longest quiet first", (task) => -(Date.parse(task.last_activity_at ?? task.last_event_at ?? "") || 0)],
  cost: ["Highest cost first", (task) => number(task.cost_usd) ?? 0],
};

export function now(place, board) {
  const view = new Now(place, board);
  return () => view.close();
}

class Now {
  constructor(place, board) {
    this.place = place;
    this.board = board;
    this.rows = new Map();
    this.dirty = new Map();
    this.control = new AbortController();
    this.starts = h("span", { class: "starts" });
    start(this.starts, this.control.signal);
    this.counts = h("p", { class: "counts", role: "status" });
    const asked = new URLSearchParams(location.search);
    const sought = asked.get("q") ?? "";
    /** @type {Record<string, string>} */
    this.only = {};
    for (const [name] of ONLY) if (asked.get(name)) this.only[name] = asked.get(name) ?? "";
    const only = new URLSearchParams(this.only);
    this.filters = h("form", { class: "filters only", onsubmit: (event) => { event.preventDefault(); this.narrow(); } },
      h("details", { open: only.size > 0 }, h("summary", {}, "Filters"), h("div", { class: "filters" },
        ONLY.map(([name, label]) => h("label", {}, h("span", {}, label), h("input", { name, type: "text", value: this.only[name] ?? "", autocomplete: "off" }))),
        h("button", { type: "submit" }, "Show"), only.size > 0 && h("a", { href: "/", "data-route": true, class: "button" }, "All tasks"))));
    this.field = h("input", { type: "search", id: "sought", value: sought, placeholder: "Name, agent, repository …", autocomplete: "off", oninput: () => this.sift() });
    this.order = "newest";
    this.asked = this.waiting = 0;
    this.sorting = h("select", { "aria-label": "Order", onchange: () => { this.order = this.sorting.value; this.sort(); } },
      Object.entries(ORDERS).map(([value, [words]]) => h("option", { value }, words)));
    this.groups = GROUPS.map(([id, name]) => new Group(id, name));
    this.empty = h("div", { class: "empty", hidden: true });
    // Followed first and read then, so that nothing falls between.
    this.stream = new Stream(`/api/events?event=task&roots=true${only.size ? `&${only}` : ""}`, {
      hear: (name, data) => (name === "task" ? this.hear(data) : name === "reset" && this.read().catch(() => {})),
      tell: (state, why) => {
        this.board.tell(state, why);
        if (state === "lost" && !this.isThere) this.read().catch((error) => this.fail(error));
      },
      again: () => this.read().catch((error) => this.fail(error)),
    });
    this.clock = setInterval(() => this.tick(), 1000);
  }

  close() {
    this.control.abort();
    this.stream.close();
    clearInterval(this.clock);
    cancelAnimationFrame(this.frame);
  }

  fail(error) {
    if (error.name === "AbortError") return;
    if (this.isThere) this.board.tell("lost", error.message);
    else this.board.fail(error);
  }

  /** Read all that is under way, and the last that ended. What came by the stream meanwhile is newer, and stays. */
  async read() {
    if (this.isReading) return;
    this.isReading = true;
    this.heard = new Set();
    try {
      const seen = new Set();
      const recent = get("/api/tasks", { ...this.only, roots: true, limit: 50 }, this.control.signal);
      recent.catch(() => {}); // awaited below, unless the page was left before
      let cursor = "";
      do {
        const found = await get("/api/tasks", { ...this.only, status: ACTIVE, roots: true, limit: PAGE, cursor }, this.control.signal);
        this.take(found.items, seen);
        cursor = found.next;
        this.open();
      } while (cursor && seen.size < MOST);
      this.more = Boolean(cursor);
      this.take((await recent).items, seen);
      for (const [key, row] of this.rows) if (!seen.has(key) && !this.heard.has(key) && !isFinal(row.task)) this.drop(key);
      this.flush();
    } finally {
      this.isReading = false;
    }
  }

  take(items, seen) {
    for (const task of items) {
      const key = keyOf(task);
      seen.add(key);
      if (!this.heard.has(key)) this.dirty.set(key, task);
    }
    this.flush();
  }

  open() {
    if (this.isThere) return;
    this.isThere = true;
    put(this.place,
      h("div", { class: "bar-top" }, h("h1", {}, "Now"), this.counts, this.starts, this.sorting,
        h("label", { class: "sought", for: "sought" }, h("span", { class: "hidden" }, "Search "), this.field)),
      this.filters, this.empty, this.groups.map((group) => group.element));
    this.flush();
  }

  hear(task) {
    if (!keyOf(task) || task.announced === false) return;
    this.heard?.add(keyOf(task));
    this.dirty.set(keyOf(task), task);
    // However many events come, the page is written once a frame, and less often where many change at once.
    if (!this.frame) this.frame = requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const [key, task] of this.dirty) {
      const row = this.rows.get(key);
      if (row) row.show({ ...row.task, ...task });
      else this.rows.set(key, new Row(task));
      this.settle(this.rows.get(key));
    }
    this.dirty.clear();
    if (this.isThere) this.tally();
  }

  /** Put a row where it belongs: newest first. A row that stays in its group is not moved. */
  settle(row) {
    const at = GROUPS.findIndex(([, , holds]) => holds(row.task));
    const group = this.groups[at];
    if (row.group === group) return;
    row.group?.remove(row);
    row.group = group;
    row.began = this.rank(group, row.task);
    row.element.row = row;
    this.match(row);
    group.add(row);
  }

  rank(group, task) {
    return group.id === "ended" ? endOf(task) : ORDERS[this.order][1](task);
  }

  /** Put the rows of each group into the chosen order. */
  sort() {
    for (const group of this.groups) {
      const rows = group.rows.map((row) => [this.rank(group, row.task), row]).sort(([a], [b]) => b - a);
      if (rows.every(([began, row], i) => (row.began = began, group.rows[i] === row))) continue;
      for (const [, row] of rows) group.remove(row);
      for (const [, row] of rows) group.add(row);
    }
  }

  drop(key) {
    const row = this.rows.get(key);
    row.group.remove(row);
    this.rows.delete(key);
  }

  tally() {
    const ended = this.groups[GROUPS.length - 1];
    while (ended.rows.length > ENDED) this.drop(keyOf(ended.rows[ended.rows.length - 1].task));
    let shown = 0;
    for (const group of this.groups) {
      const visible = this.words ? group.rows.filter((row) => !row.element.hidden).length : group.rows.length;
      group.element.hidden = !visible;
      say(group.count, visible.toLocaleString("en"));
      shown += visible;
    }
    const [waiting, trouble, running, resting] = this.groups.map((group) => group.rows.length);
    // Rows are topmost tasks; one may wait for several answers.
    let asked = 0;
    for (const { task } of this.groups[0].rows) asked += (task.open_approvals ?? 0) + (task.open_child_approvals ?? 0);
    if (asked !== this.asked || waiting !== this.waiting) this.board.count();
    [this.asked, this.waiting] = [asked, waiting];
    const parts = [plural(waiting + trouble + running + resting, "task") + " under way"];
    if (waiting) parts.push(`${waiting} waiting for a person`);
    if (resting) parts.push(`${resting} between prompts`);
    say(this.counts, parts.join(", ") + (this.more ? `; the newest ${MOST} are shown` : ""));
    this.empty.hidden = shown > 0;
    if (!shown) this.tellEmpty();
  }

  tellEmpty() {
    if (this.words) {
      put(this.empty, h("p", {}, `Nothing here is called “${line(this.field.value, 60)}”. `, h("a", { href: `/board/history?q=${encodeURIComponent(this.field.value)}`, "data-route": true }, "Look in the history")));
      return;
    }
    if (Object.keys(this.only).length) {
      const asked = new URLSearchParams(this.only);
      put(this.empty, h("h2", {}, "Nothing runs with these filters"), h("p", {}, h("a", { href: `/board/history?${asked}`, "data-route": true }, "Look in the history"), " or at ", h("a", { href: "/", "data-route": true }, "all tasks"), "."));
      return;
    }
    put(this.empty, h("h2", {}, "Nothing runs"),
      h("p", {}, "An agent that reports to this gateway stands here from its first span on. In its Python process:"),
      h("pre", {}, `import spanpost\n\nspanpost.attach(endpoint="${location.origin}")`),
      h("p", {}, "or, from any language, OpenTelemetry sent to this address: ", h("code", {}, `OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}`)));
  }

  sift() {
    this.words = this.field.value.trim().toLowerCase();
    for (const row of this.rows.values()) this.match(row);
    this.board.go(this.address(this.only), true);
    this.tally();
  }

  /** The address of the page with these filters and what is searched. */
  address(only) {
    const said = new URLSearchParams(only);
    if (this.field.value.trim()) said.set("q", this.field.value.trim());
    return said.size ? `/?${said}` : "/";
  }

  /** Show only what the filters' fields say. */
  narrow() {
    const said = Object.fromEntries([...new FormData(this.filters)].map(([name, value]) => [name, String(value).trim()]).filter(([, value]) => value));
    const to = this.address(said);
    if (to !== location.pathname + location.search) this.board.go(to);
  }

  match(row) {
    const words = this.words ?? (this.words = this.field.value.trim().toLowerCase());
    const { task } = row;
    row.element.hidden = Boolean(words) && ![title(task), task.agent_name, task.repo, task.environment, task.topic, task.task_id]
      .some((one) => String(one ?? "").toLowerCase().includes(words));
  }

  tick() {
    const at = Date.now();
    if (document.hidden) return;
    if (this.order !== "newest" && (this.turn = ((this.turn ?? 0) + 1) % 5) === 0) this.sort();
    for (const group of this.groups) if (group.id !== "ended") group.tick(at);
  }
}

const keyOf = (task) => task.uid ?? task.task_id;
const startOf = (task) => Date.parse(task.started_at ?? "") || 0;
const endOf = (task) => Date.parse(task.ended_at ?? task.last_event_at ?? task.started_at ?? "") || 0;
