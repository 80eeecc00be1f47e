// What spanpost itself does: whether it receives, what waits to be sent, what was given up; and who did what.

import { get } from "./api.js";
import { table } from "./costs.js";
import { h, line, put, route } from "./dom.js";
import { elapsed, moment, plural, whole } from "./words.js";

const MOST = 200;
const AGAIN = 15_000;

export function system(place, board) {
  const control = new AbortController();
  const inside = h("div", { class: "system" }, h("p", { class: "loading" }, "Loading …"));
  put(place, h("div", { class: "bar-top" }, h("h1", {}, "System"), h("a", { class: "right", href: "/docs", "data-route": true }, "API")), inside);
  const read = (path, query) => get(path, query, control.signal);

  async function show() {
    const [ready, parts, waiting, sending, dead, acts] = await Promise.all([
      read("/health/ready").then(() => "", (error) => (error.name === "AbortError" ? Promise.reject(error) : error.message)),
      read("/api/components").then(({ items }) => items),
      ...["waiting", "sending", "dead"].map((state) => read("/api/deliveries", { state, limit: MOST }).then(({ items }) => items)),
      read("/api/acts", { limit: 50 }).then(({ items }) => items, (error) => (error.status === 403 ? null : Promise.reject(error)))]);
    put(inside, health(ready, waiting, sending, dead), components(parts), outbox([...sending, ...waiting]), given(dead), audit(acts));
  }
  const again = () => show().catch((error) => board.fail(error, error.status === 401 ? undefined : inside));
  again();
  const clock = setInterval(() => !document.hidden && show().catch((error) => board.tell("lost", error.message)), AGAIN);
  return () => { control.abort(); clearInterval(clock); };
}

const many = (items) => `${items.length}${items.length === MOST ? " or more" : ""}`;
const since = (at) => elapsed((Date.now() - Date.parse(at)) / 1000);

function health(trouble, waiting, sending, dead) {
  const oldest = waiting.map((one) => one.born_at).sort()[0];
  const facts = [["Gateway", trouble ? h("span", { class: "bad" }, `not ready: ${line(trouble, 200)}`) : "ready: it receives and records"],
    ["Waiting to be sent", [many(waiting), oldest && h("span", { class: "small" }, ` the oldest for ${since(oldest)}`)]],
    ["Being sent", many(sending)], ["Given up", h("span", { class: dead.length ? "bad" : null }, many(dead))]];
  return h("section", {}, h("h2", {}, "Now"), h("dl", { class: "facts" }, facts.map(([name, said]) => h("div", {}, h("dt", {}, name), h("dd", {}, said)))));
}

const STATES = { ok: ["✅", "works"], late: ["⚠️", "behind"], down: ["❌", "down"], unknown: ["❔", "not known"] };

function components(items) {
  if (!items.length) return null;
  return table("Components", ["Component", "State", "Since", "Figures"], items.map((one) => {
    const [sign, word] = STATES[one.state] ?? STATES.unknown;
    return [h("th", { scope: "row" }, line(one.name, 60)), h("span", { class: one.state === "down" ? "bad" : null }, `${sign} ${word}`), one.since ? moment(one.since) : "", line(one.detail, 160)];
  }), "");
}

// One line for each sink and address.
function outbox(items) {
  const by = Map.groupBy(items, (one) => `${one.sink} ${one.address}`);
  if (!by.size) return h("section", {}, h("h2", {}, "Waiting deliveries"), h("p", { class: "small" }, "Nothing waits: all was sent."));
  return table("Waiting deliveries", ["Sink", "Deliveries", "Oldest", "Attempts", "Last answer"], [...by.values()].map((all) => {
    const last = all.findLast((one) => one.error || one.reason);
    return [h("th", { scope: "row" }, line([all[0].sink, all[0].address].filter(Boolean).join(" · "), 60)), String(all.length), since(all.map((one) => one.born_at).sort()[0]),
      String(Math.max(...all.map((one) => one.attempt))), line(last ? [last.reason, last.error].filter(Boolean).join(": ") : "", 120)];
  }), "");
}

function given(items) {
  if (!items.length) return null;
  return [table(`Given up (${many(items)})`, ["Delivery", "Of", "Since", "Attempts", "Why"], items.slice(-100).reverse().map((one) => [
    h("th", { scope: "row" }, `${one.id} · ${line(one.sink, 30)}`), [line(one.kind, 30), one.task_id && [" ", route(`/board/tasks/${encodeURIComponent(one.task_id)}`, "task")]], moment(one.born_at), String(one.attempt),
    line([one.reason, one.error].filter(Boolean).join(": "), 160)]), ""), h("p", { class: "small" }, "Mend the cause, then ", h("code", {}, "spanpost deliveries retry"), ".")];
}

function audit(items) {
  const head = h("h2", {}, "Who did what");
  if (items === null) return h("section", {}, head, h("p", { class: "small" }, "People's acts are shown to those who have the role auditor."));
  if (!items.length) return h("section", {}, head, h("p", { class: "small" }, "No act yet."));
  return table(`Who did what (the last ${plural(items.length, "act")})`, ["When", "Who", "What", "Task", "Result"], items.map((one) => [
    h("th", { scope: "row", title: whole(one.recorded_at) }, moment(one.recorded_at)), line(one.actor || one.os_user || one.source, 60),
    [line(one.verb, 30), one.decision && one.decision !== one.verb ? ` ${line(one.decision, 40)}` : "", one.comment ? h("span", { class: "small" }, ` “${line(one.comment, 80)}”`) : ""],
    one.task_uid ? route(`/board/tasks/${encodeURIComponent(one.task_uid)}`, line(one.task_name, 60) || "task") : "",
    h("span", { class: one.refusal ? "bad" : null }, one.refusal ? `${line(one.result, 30)}: ${line(one.refusal, 80)}` : line(one.result, 30))]));
}
