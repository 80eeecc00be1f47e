// All that was told of a task, oldest first, a page at a time; what is new is read from where the last page ended.

import { get, taskPath } from "./api.js";
import { h, line, put } from "./dom.js";
import { LOOKS, NEWS, moment, whole } from "./words.js";

const PAGE = 100;

export class Timeline {
  constructor(id, signal) {
    this.id = id;
    this.signal = signal;
    this.after = "";
    this.seen = new Set();
    this.list = h("ol", { class: "timeline" });
    this.below = h("p", { class: "more" });
    this.element = h("section", { class: "told" }, h("h2", {}, "What was told"), this.list, this.below);
  }

  /** Read what comes after what is shown. */
  async more() {
    if (this.isReading) { this.isAsked = true; return; }
    this.isReading = true;
    try {
      const found = await get(`${taskPath(this.id)}/timeline`, { after: this.after, limit: PAGE }, this.signal);
      for (const one of found.items) this.add(one);
      if (found.next) this.after = found.next;
      this.isCut = Boolean(found.next) && found.items.length >= PAGE;
      put(this.below, this.isCut ? h("button", { type: "button", onclick: () => this.more().catch((error) => this.fail(error)) }, "More")
        : !this.list.childElementCount && "Nothing yet.");
    } finally {
      this.isReading = false;
      if (this.isAsked) { this.isAsked = false; this.hear(); }
    }
  }

  /** Something new was told: read it, unless more than a page waits already. */
  hear() {
    if (this.isCut) return;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.more().catch((error) => this.fail(error)), 150);
  }

  fail(error) {
    if (error.name !== "AbortError") put(this.below, line(error.message, 300));
  }

  add(one) {
    const key = one.id ?? `${one.at} ${one.source} ${one.kind} ${one.text}`;
    if (this.seen.has(key)) return;
    this.seen.add(key);
    const ends = one.kind === "end" ? LOOKS[one.status] : null;
    const [sign, word] = ends ?? NEWS[one.kind] ?? (one.source === "intervention" ? NEWS.intervention : ["·", line(one.kind, 40)]);
    const detail = String(one.detail ?? "");
    const by = line(one.by ?? one.actor?.name, 80);
    this.list.append(h("li", { class: `${one.source ?? ""} ${one.kind === "error" || one.status === "error" ? "bad" : ""}` },
      h("time", { datetime: one.at, title: whole(one.at) }, moment(one.at)),
      h("span", { class: "sign", role: "img", "aria-label": word }, sign),
      h("div", {}, h("p", {}, line(one.text, 500) || word, by && h("span", { class: "small" }, ` by ${by}`)),
        detail && (detail.length > 200 || detail.includes("\n")
          ? h("details", {}, h("summary", {}, "Details"), h("pre", { tabindex: "0" }, detail.slice(0, 20_000)))
          : h("p", { class: "small" }, line(detail, 300))))));
  }
}
