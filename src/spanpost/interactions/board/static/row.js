// A task in a list: made once, changed in place, a text at a time.

import { taskPage } from "./api.js";
import { h, line, say } from "./dom.js";
import { age, count, doing, elapsed, isFinal, look, money, moment, percent, quiet, share, title, whole } from "./words.js";

export class Row {
  constructor(task, { isPast = false } = {}) {
    this.isPast = isPast;
    this.sign = h("span", { class: "sign", "aria-hidden": "true" });
    this.word = h("span", { class: "word" });
    this.name = h("span", { class: "name" });
    this.by = h("span", { class: "by" });
    this.doing = h("span", { class: "doing" });
    this.bar = h("span", { class: "fill" });
    this.done = h("span", { class: "done" });
    this.context = h("span", { class: "context" });
    this.cost = h("span", { class: "cost" });
    this.age = h("span", { class: "age" });
    this.silence = h("span", { class: "silence", hidden: true });
    this.at = isPast ? h("span", { class: "at" }) : null;
    this.element = h("a", { class: "row", "data-route": true, href: taskPage(task) },
      h("span", { class: "status" }, this.sign, this.word),
      h("span", { class: "what" }, h("span", { class: "head" }, this.name, this.by, this.silence), this.doing),
      h("span", { class: "progress" }, h("span", { class: "bar", "aria-hidden": "true" }, this.bar), this.done),
      this.context, this.cost, this.at, this.age);
    this.show(task);
  }

  /** Show a newer state of it. Only what changed is written. */
  show(task) {
    this.task = task;
    const [sign, word, colour] = look(task);
    const kind = `row ${colour}${this.isPast ? " past" : ""}`;
    if (this.element.className !== kind) this.element.className = kind;
    say(this.sign, sign);
    say(this.word, word);
    say(this.name, title(task, 160));
    const by = [task.parent_uid && this.isPast && "↳ sub-agent", task.agent_name, task.repo, task.environment].map((one) => line(one || "", 60)).filter((one) => one && one !== this.name.textContent);
    say(this.by, by.join(" · "));
    const aside = task.cancel_by && !isFinal(task) ? `stopping, asked by ${line(task.cancel_by, 40)} · ` : "";
    say(this.doing, aside + doing(task));
    const done = isFinal(task) ? null : percent(task);
    // Not its width: a transform needs no layout.
    const drawn = done === null ? "" : `scaleX(${(done / 100).toFixed(2)})`;
    if (this.drawn !== drawn) this.bar.style.transform = this.drawn = drawn;
    this.bar.parentElement.hidden = done === null;
    say(this.done, done === null ? "" : `${done.toFixed(0)} %`);
    const used = share(task);
    const heat = used === null || used < 0.7 ? "context" : used < 0.85 ? "context warm" : "context hot";
    if (this.context.className !== heat) this.context.className = heat;
    say(this.context, used === null ? (task.context_used_tokens ? `${count(task.context_used_tokens)} ctx` : "") : `${(100 * used).toFixed(0)} % ctx`);
    say(this.cost, money(task.cost_usd));
    if (this.at) {
      say(this.at, task.started_at ? moment(task.started_at) : "");
      this.at.title = whole(task.started_at);
    }
    if (isFinal(task) || !this.age.textContent) this.tick();
  }

  /** Let its time go on. */
  tick(now = Date.now()) {
    say(this.age, age(this.task, now));
    if (this.isPast) return;
    const seconds = quiet(this.task, now);
    const said = seconds ? `quiet for ${elapsed(seconds).replace(/ \d+s$/, "")}` : "";
    if (said !== this.silence.textContent) {
      say(this.silence, said);
      this.silence.hidden = !said;
    }
  }
}
