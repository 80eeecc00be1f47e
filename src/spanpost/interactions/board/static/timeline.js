// All that was told of a task, oldest first, a page at a time; what is new is read from where the last page ended.

import { get, taskPath } from "./api.js";
import { h, line, lines, put } from "./dom.js";
import { LOOKS, NEWS, elapsed, moment, number, whole } from "./words.js";

const PAGE = 100;

export class Timeline {
  constructor(id, signal) {
    this.id = id;
    this.signal = signal;
    this.after = "";
    this.seen = new Map();
    this.list = h("ol", { class: "timeline" });
    this.below = h("p", { class: "more" });
    const brief = h("input", { type: "checkbox", onchange: () => this.list.classList.toggle("brief", brief.checked) });
    this.element = h("section", { class: "story" }, h("div", { class: "between" }, h("h2", {}, "What happened"),
      h("label", { class: "small" }, brief, " news only")), this.list, this.below);
  }

  /** Read the next page; where something new was told, all that is new. */
  async more(isAll = false) {
    if (this.isReading) { this.isAsked = true; return; }
    this.isReading = true;
    try {
      let found;
      do {
        found = await get(`${taskPath(this.id)}/timeline`, { after: this.after, limit: PAGE }, this.signal);
        this.add(found.items);
        // Without a next page the same is read again later: what is shown already is passed over.
        if (found.next) this.after = found.next;
      } while (isAll && found.next);
      this.isCut = Boolean(found.next);
      put(this.below, this.isCut ? h("button", { type: "button", onclick: () => this.more().catch((error) => this.fail(error)) }, "More")
        : !this.list.childElementCount && "Nothing yet.");
    } finally {
      this.isReading = false;
      if (this.isAsked) { this.isAsked = false; this.hear(); }
    }
  }

  /** Something new was told: read it, unless more than a page waits already. */
  hear() {
    if (this.isCut || this.later) return;
    this.later = setTimeout(() => {
      this.later = 0;
      if (!this.isCut) this.more(true).catch((error) => this.fail(error));
    }, 250);
  }

  fail(error) {
    if (error.name !== "AbortError") put(this.below, line(error.message, 300));
  }

  // What came late stands where it belongs: behind what stands before it in its page.
  add(items) {
    let last = null;
    for (const one of items) {
      const key = one.id ?? `${one.at} ${one.source} ${one.kind} ${one.text}`;
      let element = this.seen.get(key);
      if (!element) {
        element = entry(one);
        this.seen.set(key, element);
        if (last) last.after(element);
        else if (items.some((other) => this.seen.has(other.id) && other !== one)) this.list.prepend(element);
        else this.list.append(element);
      }
      last = element;
    }
  }
}

function entry(one) {
  const ends = one.kind === "end" ? LOOKS[one.status] : null;
  const [sign, word] = ends ?? (one.source === "intervention" ? NEWS.intervention : NEWS[one.kind] ?? ["·", line(one.kind, 40)]);
  const detail = lines(one.detail);
  const by = line(one.by, 80);
  const aside = [one.source === "intervention" && line(one.kind, 30), by && `by ${by}`, one.result && one.result !== "done" && line(one.result, 30),
    number(one.seconds) >= 0.05 && took(one.seconds)].filter(Boolean).join(" · ");
  return h("li", { class: `${one.source ?? ""} ${one.kind === "error" || one.status === "error" ? "bad" : ""}` },
    h("time", { datetime: one.at, title: whole(one.at) }, moment(one.at)),
    h("span", { class: "sign", role: "img", "aria-label": word }, sign),
    h("div", {}, h("p", {}, line(one.text, 500) || word, aside && h("span", { class: "small" }, ` ${aside}`)),
      detail && (detail.length > 200 || detail.includes("\n")
        ? h("details", {}, h("summary", {}, "Details"), h("pre", { tabindex: "0" }, detail))
        : h("p", { class: "small" }, line(detail, 300))),
      one.content && h("details", {}, h("summary", {}, "What was recorded"), h("pre", { tabindex: "0" }, lines(JSON.stringify(one.content, null, 1), 50_000)))));
}

const took = (seconds) => (seconds < 10 ? `${Number(seconds).toFixed(1)}s` : elapsed(seconds));
