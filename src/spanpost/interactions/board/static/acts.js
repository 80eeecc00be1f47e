// What may be asked of a task: its acts as the gateway lists them. Results and refusals are the gateway's own sentences.

import { act, taskPath } from "./api.js";
import { h, line, put, why } from "./dom.js";
import { isFinal, title } from "./words.js";

const BUTTONS = [
  ["retry", "Retry", "primary"],
  ["resume", "Resume", "primary"],
  ["pause", "Pause", ""],
  ["cancel", "Cancel", "danger"],
  ["dismiss", "Let it be", ""],
  ["mute", "Mute", ""],
  ["unmute", "Unmute", ""],
  ["rate", "👍 Good", "", "up"],
  ["rate", "👎 Not good", "", "down"],
];
//: A task that was started again reports after a while: milliseconds after which it is looked for.
const LATER = [1000, 3000, 6000, 12_000, 25_000];

/** Put the buttons that fit the task's state into a place, and keep them fitting. `view` has `task`, `board` and `soon()`. */
export function acts(place, view) {
  const row = h("div", { class: "acts" });
  const said = h("p", { class: "told", role: "status" });
  const words = h("textarea", { id: "words", rows: "2", maxlength: "4000", placeholder: "What the agent should know" });
  const send = h("button", { type: "submit" }, "Send");
  const form = h("form", { class: "words", onsubmit: (event) => { event.preventDefault(); message(); } }, h("label", { for: "words" }, "Message to the agent"), words, send);
  put(place, row, form, said);

  let last = "";
  function show() {
    // A running task is not rated here, and an ended one needs no muting.
    const may = new Set(view.task.acts ?? []);
    const shown = BUTTONS.filter(([verb]) => may.has(verb) && !(/mute|rate/.test(verb) && isFinal(view.task) !== (verb === "rate")));
    form.hidden = !may.has("message");
    place.hidden = !shown.length && form.hidden && !said.textContent;
    const state = shown.map(([verb]) => verb).join();
    if (state === last) return;
    last = state;
    put(row, shown.map(([verb, name, kind, rating]) => h("button", { type: "button", class: kind, onclick: () => (verb === "cancel" ? sure() : rating === "down" ? wrong() : run(verb, "", rating)) }, name)));
  }

  // A dialogue with a comment, before an act that needs one or cannot be taken back.
  function confirm(heading, text, label, no, yes, kind, done) {
    const comment = h("input", { id: "why", type: "text", maxlength: "3000", autocomplete: "off", placeholder: "Optional" });
    const dialog = h("dialog", { "aria-labelledby": "sure" },
      h("form", { method: "dialog", onsubmit: (event) => event.submitter?.value === "yes" && done(comment.value.trim()) },
        h("h2", { id: "sure" }, heading), h("p", {}, text),
        h("label", { for: "why" }, label), comment,
        h("div", { class: "answers" }, h("button", { type: "submit", value: "no", formnovalidate: true }, no), h("button", { type: "submit", value: "yes", class: kind }, yes))));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  const sure = () => confirm("Cancel this task?", `“${title(view.task, 120)}” is asked to stop.`, "Comment for the agent", "Let it run", "Cancel it", "danger", (comment) => run("cancel", comment));
  const wrong = () => confirm("Rate this 👎", `“${title(view.task, 120)}” was not good.`, "What was wrong", "Back", "Rate", "", (comment) => run("rate", comment, "down"));

  async function run(verb, comment = "", rating = null) {
    await ask(verb, rating ? { rating, comment } : { comment });
  }

  async function message() {
    const text = words.value.trim();
    if (text && await ask("messages", { text })) words.value = "";
  }

  async function ask(verb, body) {
    said.classList.remove("refused");
    put(said, "Sending …");
    const buttons = [...row.children, send];
    for (const button of buttons) button.disabled = true;
    try {
      const answer = await act(`${taskPath(view.task.uid ?? view.task.task_id)}/${verb}`, body);
      put(said, line(answer.message, 300));
      view.soon();
      if (verb === "retry") for (const wait of LATER) setTimeout(() => view.soon(), wait);
      return true;
    } catch (error) {
      said.classList.add("refused");
      put(said, why(error));
      return false;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  view.acts = { show };
}
