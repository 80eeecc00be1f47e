// What may be asked of a task: stop, pause, go on, try again, tell it something. Refusals come from the gateway, in its words.

import { act, taskPath } from "./api.js";
import { h, line, put } from "./dom.js";
import { isFinal, title } from "./words.js";

/** Put the buttons that fit the task's state into a place, and keep them fitting. `view` has `task`, `board` and `soon()`. */
export function acts(place, view) {
  const row = h("div", { class: "acts" });
  const said = h("p", { class: "told", role: "status" });
  const words = h("textarea", { id: "words", rows: "2", maxlength: "4000", placeholder: "What the agent should know" });
  const send = h("button", { type: "submit" }, "Send");
  const form = h("form", { class: "words", onsubmit: (event) => { event.preventDefault(); tell(); } }, h("label", { for: "words" }, "Tell it"), words, send);
  put(place, row, form, said);

  const may = view.board.may("operator");

  function fitting(task) {
    if (isFinal(task)) return ["error", "cancelled"].includes(task.status) ? [["retry", "Try again", ""]] : [];
    return [
      task.paused_by ? ["resume", "Go on", "primary"] : task.status !== "paused" && ["pause", "Pause", ""],
      !task.cancel_by && ["cancel", "Stop", "danger"],
      [(task.muted ?? task.is_muted) ? "unmute" : "mute", (task.muted ?? task.is_muted) ? "Unmute" : "Mute", ""],
    ].filter(Boolean);
  }

  let last = "";
  function show() {
    const shown = may ? fitting(view.task) : [];
    form.hidden = isFinal(view.task) || !may;
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
    await ask(`${taskPath(view.task.uid ?? view.task.task_id)}/${verb}`, { comment }, { cancel: "It is asked to stop.", pause: "It is asked to pause.", resume: "It may go on.", retry: "It is started again.", mute: "Its thread gets less from now on.", unmute: "Its thread gets all again." }[verb]);
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
      return true;
    } catch (error) {
      said.classList.add("refused");
      put(said, line(error.message, 500));
      return false;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  view.acts = { show };
}
