// Questions to people: what is open, then what was decided.

import { get } from "./api.js";
import { h, line, put, route } from "./dom.js";
import { question, verdict } from "./question.js";
import { Stream } from "./stream.js";
import { moment } from "./words.js";

export function approvals(place, board) {
  const control = new AbortController();
  const open = h("div", { class: "questions" });
  const past = h("div", { class: "past" });
  let isThere = false;
  let later = 0;
  let again = false;
  let isReading = false;

  async function read() {
    if (isReading) { again = true; return; }
    isReading = true;
    try {
      const [now, before] = await Promise.all([
        get("/api/approvals", { state: "open", limit: 100 }, control.signal),
        get("/api/approvals", { state: "decided", limit: 20 }, control.signal),
      ]);
      if (!isThere) put(place, h("div", { class: "bar-top" }, h("h1", {}, "Questions")), open, h("h2", {}, "Decided"), past);
      isThere = true;
      board.questions(now.items.length);
      draw(now.items);
      put(past, before.items.length ? h("ul", { class: "plain" }, before.items.map((one) =>
        h("li", {}, route(pageOf(one), line(one.question, 200) || "(no words)"), h("span", { class: "small" }, ` ${verdict(one)}`)))) : h("p", { class: "empty" }, "Nothing yet."));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (isThere) board.tell("lost", error.message);
      else board.fail(error);
    } finally {
      isReading = false;
      if (again) { again = false; soon(); }
    }
  }

  // What somebody is writing a comment to stays as it is.
  const shown = new Map();
  function draw(items) {
    const keys = new Set(items.map(keyOf));
    for (const [key, element] of shown) if (!keys.has(key)) { element.remove(); shown.delete(key); }
    for (const one of items) {
      if (shown.has(keyOf(one))) continue;
      const of = [route(pageOf(one), line(one.task_name, 200) || "its task"), one.agent_name ? ` · ${line(one.agent_name, 60)}` : "",
        one.requested_at ? ` · ${moment(one.requested_at)}` : ""];
      const element = question(one, { of, done: soon });
      shown.set(keyOf(one), element);
      open.append(element);
    }
    open.querySelector(".empty")?.remove();
    if (!items.length) open.append(h("div", { class: "empty" }, h("h2", {}, "Nobody waits for you"), h("p", {}, "When an agent asks a person, the question stands here and in the task's message.")));
  }

  function soon() {
    clearTimeout(later);
    later = setTimeout(read, 400);
  }

  read();
  const stream = new Stream("/api/events?event=checkpoint", {
    hear: (name, data) => name === "checkpoint" && /^approval_/.test(data.kind ?? "") && soon(),
    tell: (state, why) => board.tell(state, why),
    again: () => isThere && read(),
  });
  return () => { control.abort(); stream.close(); clearTimeout(later); };
}

const keyOf = (one) => one.key ?? one.id;
const pageOf = (one) => `/board/tasks/${encodeURIComponent(one.task_uid ?? one.task_id ?? one.task?.uid)}`;
