// Entries of a timeline: one line each, with what is longer behind it; calls of the same tool in a row are folded.

import { h, line, lines, say } from "./dom.js";
import { LOOKS, NEWS, elapsed, moment, number, whole } from "./words.js";

//: Calls in a row from which on they are folded.
const FOLDED = 3;

export function entry(one) {
  const ends = one.kind === "end" ? LOOKS[one.status] : null;
  const [sign, word] = ends ?? (one.source === "intervention" ? NEWS.intervention : NEWS[one.kind] ?? ["·", line(one.kind, 40)]);
  const detail = lines(one.detail);
  const by = line(one.by, 80);
  const aside = [one.source === "intervention" && line(one.kind, 30), by && `by ${by}`, one.result && one.result !== "done" && line(one.result, 30),
    number(one.seconds) >= 0.05 && took(one.seconds)].filter(Boolean).join(" · ");
  const isBad = one.kind === "error" || one.status === "error";
  const element = h("li", { class: `${one.source ?? ""} ${isBad ? "bad" : ""}` },
    h("time", { datetime: one.at, title: whole(one.at) }, moment(one.at)),
    h("span", { class: "sign", role: "img", "aria-label": word }, sign),
    h("div", {}, h("p", {}, called(one) || word, aside && h("span", { class: "small" }, ` ${aside}`)),
      detail && (detail.length > 200 || detail.includes("\n")
        ? h("details", {}, h("summary", {}, "Details"), h("pre", { tabindex: "0" }, detail))
        : h("p", { class: "small" }, line(detail, 300))),
      one.content && h("details", {}, h("summary", {}, "What was recorded"), h("pre", { tabindex: "0" }, lines(JSON.stringify(one.content, null, 1), 50_000)))));
  if (one.kind === "tool") element.fold = called(one);
  element.isBad = isBad;
  return element;
}

/** Fold calls of one tool that follow each other: "grep ×20". A fold that is there takes in its neighbours. */
export function fold(list) {
  let run = [];
  const close = () => {
    if (run.length >= FOLDED || run.some((one) => one.folded)) gather(run);
    run = [];
  };
  for (const one of [...list.children]) {
    if (run.length && (one.fold === undefined || one.fold !== run[0].fold)) close();
    if (one.fold !== undefined) run.push(one);
  }
  close();
}

function gather(run) {
  const held = run.find((one) => one.folded) ?? frame(run[0]);
  if (!held.isConnected) run[0].before(held);
  const all = run.flatMap((one) => (one.folded ? [...one.folded.children] : [one]));
  if (all.length === held.folded.childElementCount) return;
  held.folded.replaceChildren(...all);
  for (const one of run) if (one.folded && one !== held) one.remove();
  const failed = all.filter((one) => one.isBad).length;
  const [first, last] = [all[0], all[all.length - 1]].map((one) => one.querySelector("time"));
  say(held.at, first.textContent);
  held.at.setAttribute("datetime", first.dateTime);
  say(held.name, `${held.fold} ×${all.length}`);
  say(held.about, ` ${[`from ${[first, last].sort((a, b) => (a.dateTime < b.dateTime ? -1 : 1)).map((one) => one.textContent).join(" to ")}`, failed && `${failed} failed`].filter(Boolean).join(" · ")}`);
  held.classList.toggle("bad", failed > 0);
}

function frame(first) {
  const at = h("time", {});
  const name = h("span", {});
  const about = h("span", { class: "small" });
  const folded = h("ol", { class: "timeline folded" });
  const [sign, word] = NEWS.tool;
  const element = h("li", { class: "event" }, at, h("span", { class: "sign", role: "img", "aria-label": word }, sign),
    h("div", {}, h("details", {}, h("summary", {}, name, about), folded)));
  return Object.assign(element, { fold: first.fold, folded, at, name, about });
}

// The operation is said by the sign: "execute_tool grep" is grep.
const called = (one) => (one.source === "event" ? line(one.text, 500).replace(/^(execute_tool|chat|invoke_agent|step) (?=\S)/, "") : line(one.text, 500));
const took = (seconds) => (seconds < 10 ? `${Number(seconds).toFixed(1)}s` : elapsed(seconds));
