// All that happened in a task: newest first while it runs, from its begin when it is over, from any moment that is asked for.

import { get, taskPath } from "./api.js";
import { entry, fold } from "./entries.js";
import { h, line, put, say } from "./dom.js";
import { moment } from "./words.js";

const PAGE = 100;
//: What can be asked for, by the API's word; the first is all.
const KINDS = [["", "All"], ["checkpoints", "Checkpoints"], ["calls", "Calls"], ["errors", "Errors"], ["people", "People"]];

export class Timeline {
  constructor(id, signal) {
    this.id = id;
    this.signal = signal;
    this.kind = "";
    this.until = null;
    this.seen = new Map();
    this.list = h("ol", { class: "timeline" });
    this.below = h("p", { class: "more" });
    this.said = h("p", { class: "small until", role: "status" });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "What is shown" }, KINDS.map(([kind, words]) =>
      h("button", { type: "button", class: "pick", "aria-pressed": String(!kind), onclick: () => this.pick(kind) }, words)));
    this.turn = h("button", { type: "button", class: "quiet", onclick: () => this.start(this.order === "newest" ? "oldest" : "newest") });
    this.element = h("section", { class: "story" }, h("div", { class: "between" }, h("h2", {}, "What happened"), this.turn), this.chips, this.said, this.list, this.below);
  }

  /** Read from one end, or back from a moment; what was shown goes. */
  start(order, until = null) {
    this.order = order;
    this.until = until;
    this.after = "";
    this.isCut = false;
    this.waits = false;
    this.turn.hidden = until !== null;
    say(this.turn, order === "newest" ? "Oldest first" : "Newest first");
    put(this.said, until !== null && [`Until ${moment(until)}. `, h("button", { type: "button", class: "quiet", onclick: () => this.start("newest") }, "Back to the newest")]);
    this.seen.clear();
    put(this.list);
    this.turnNumber = (this.turnNumber ?? 0) + 1;
    this.isReading = false;
    return this.more().catch((error) => this.fail(error));
  }

  /** Go to a moment (milliseconds): what happened until then, the last of it first. */
  seek(at) {
    // The next whole second: what happened within it belongs to it.
    this.start("newest", new Date(Math.floor(at / 1000) * 1000 + 999).toISOString());
  }

  pick(kind) {
    this.kind = kind;
    [...this.chips.children].forEach((one, i) => one.setAttribute("aria-pressed", String(KINDS[i][0] === kind)));
    this.start(this.order, this.until);
  }

  ask(more) {
    return get(`${taskPath(this.id)}/timeline`, { order: this.order, of: this.kind, until: this.until, limit: PAGE, ...more }, this.signal);
  }

  /** Read the next page. */
  async more() {
    if (this.isReading) return;
    this.isReading = true;
    const turn = this.turnNumber;
    try {
      const found = await this.ask({ after: this.after });
      if (turn !== this.turnNumber) return;
      this.add(found.items);
      // Without a next page the same is read again later: what is shown already is passed over.
      if (found.next) this.after = found.next;
      this.isCut = Boolean(found.next);
      put(this.below, this.isCut ? h("button", { type: "button", onclick: () => this.more().catch((error) => this.fail(error)) }, "More")
        : !this.list.childElementCount && (this.kind ? "Nothing of that kind." : "Nothing yet."));
    } finally {
      if (turn === this.turnNumber) this.isReading = false;
      if (this.waits) { this.waits = false; this.hear(); }
    }
  }

  /** Something new was told: it stands at the top at once; from the begin on, below where all is shown. */
  hear() {
    if (this.until !== null || this.later || !this.order) return;
    this.later = setTimeout(() => {
      this.later = 0;
      if (this.isReading) this.waits = true;
      else this.news().catch((error) => this.fail(error));
    }, 250);
  }

  async news() {
    if (this.order === "oldest") {
      if (!this.isCut) await this.more();
      else say(this.said, "More happened since: it stands at the end, or first with “Newest first”.");
      return;
    }
    const turn = this.turnNumber;
    const found = await this.ask({});
    if (turn !== this.turnNumber || this.until !== null) return;
    // So much at once that the page does not reach what is shown: begin anew.
    if (found.next && this.seen.size && !found.items.some((one) => this.seen.has(keyOf(one)))) await this.start("newest");
    else this.add(found.items, true);
  }

  fail(error) {
    if (error.name !== "AbortError") put(this.below, line(error.message, 300));
  }

  // In the order in which the API lists them; what came late stands where it belongs.
  add(items, isTop = false) {
    let last = null;
    for (const one of items) {
      const key = keyOf(one);
      let element = this.seen.get(key);
      if (!element) {
        element = entry(one);
        this.seen.set(key, element);
        if (last) last.after(element);
        else if (isTop || items.some((other) => other !== one && this.seen.has(keyOf(other)))) this.list.prepend(element);
        else this.list.append(element);
      }
      // Below what is folded stands what follows it.
      last = element.closest("ol.folded")?.closest("li") ?? element;
    }
    fold(this.list);
  }
}

const keyOf = (one) => one.id ?? `${one.at} ${one.source} ${one.kind} ${one.text}`;
