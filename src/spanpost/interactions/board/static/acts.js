// What may be asked of a task: stop, pause, go on, try again, tell it something. Refusals come from the gateway, in its words.

import { act, taskPath } from "./api.js";
import { h, line, put, why } from "./dom.js";
import { isFinal, title } from "./words.js";

const BUTTONS = [
  ["retry", "Try again", "primary"],
  ["resume", "Go on", "primary"],
  ["pause", "Pause", ""],
  ["cancel", "Stop", "danger"],
  ["mute", "Mute", ""],
  ["unmute", "Unmute", ""],
];
//: What was started again reports when it is there: looked for after so many milliseconds.
const LATER = [1000, 3000, 6000, 12_000, 25_000];

/** Put the buttons that fit the task's state into a place, and keep them fitting. `view` has `task`, `board` and `soon()`. */
export function acts(place, view) {
  const row = h("div", { class: "acts" });
  const said = h("p", { class: "told", role: "status" });
  const words = h("textarea", { id: "words", rows: "2", maxlength: "4000", placeholder: "What the agent should know" });
  const send = h("button", { type: "submit" }, "Send");
  const form = h("form", { class: "words", onsubmit: (event) => { event.preventDefault(); tell(); } }, h("label", { for: "words" }, "Tell it"), words, send);
  put(place, row, form, said);

  let last = "";
  function show() {
    // What stands now for who looks, as the gateway says; muting what has ended is of no use.
    const may = new Set(view.task.acts ?? []);
    const shown = BUTTONS.filter(([verb]) => may.has(verb) && !(isFinal(view.task) && /mute/.test(verb)));
    form.hidden = !may.has("message");
    place.hidden = !shown.length && form.hidden && !said.textContent;
    const state = shown.map(([verb]) => verb).join();
    if (state === last) return;
    last = state;
    put(row, shown.map(([verb, name, kind]) => h("button", { type: "button", class: kind, onclick: () => (verb === "cancel" ? sure() : run(verb)) }, name)));
  }

  function sure() {
    const comment = h("input", { id: "why", type: "text", maxlength: "3000", autocomplete: "off", placeholder: "Optional" });
    const dialog = h("dialog", { "aria-labelledby": "sure" },
      h("form", { method: "dialog", onsubmit: (event) => event.submitter?.value === "yes" && run("cancel", comment.value.trim()) },
        h("h2", { id: "sure" }, "Stop this task?"), h("p", {}, `“${title(view.task, 120)}” is asked to stop. It ends when its agent heeds that.`),
        h("label", { for: "why" }, "Why"), comment,
        h("div", { class: "answers" }, h("button", { type: "submit", value: "no", formnovalidate: true }, "Let it run"), h("button", { type: "submit", value: "yes", class: "danger" }, "Stop it"))));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  async function run(verb, comment = "") {
    await ask(`${taskPath(view.task.uid ?? view.task.task_id)}/${verb}`, { comment }, { cancel: "It is asked to stop.", pause: "It is asked to pause.", resume: "It may go on.", retry: "It is asked to be started again; the new task stands below once it reports.", mute: "Its thread gets less from now on.", unmute: "Its thread gets all again." }[verb]);
  }

  async function tell() {
    const text = words.value.trim();
    if (text && await ask(`${taskPath(view.task.uid ?? view.task.task_id)}/messages`, { text }, "It is told.")) words.value = "";
  }

  async function ask(path, body, done) {
    said.classList.remove("refused");
    put(said, "Sending …");
    const buttons = [...row.children, send];
    for (const button of buttons) button.disabled = true;
    try {
      const answer = await act(path, body);
      put(said, line(answer?.message ?? answer?.told, 300) || done);
      view.soon();
      if (path.endsWith("/retry")) for (const wait of LATER) setTimeout(() => view.soon(), wait);
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
