// New work: which launcher, what is to be done. The button is there for those whom the rules let start anything.

import { act, get } from "./api.js";
import { h, line, put, why } from "./dom.js";

/** Put a button into a place if who looks may have work started. */
export function start(place, signal) {
  get("/api/launchers", {}, signal).then(({ items }) => {
    if (items.length) put(place, h("button", { type: "button", onclick: () => ask(items.map((one) => one.name)) }, "Start work"));
  }).catch(() => {});
}

function ask(names) {
  const which = h("select", { id: "launcher" }, names.map((name) => h("option", { value: name }, name)));
  const text = h("textarea", { id: "work", rows: "4", maxlength: "4000", required: true });
  const given = h("textarea", { id: "given", rows: "2", maxlength: "8000", spellcheck: "false", placeholder: "repo=acme/shop" });
  const said = h("p", { class: "told", role: "status" });
  const go = h("button", { type: "submit", class: "primary" }, "Start");
  const away = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "start", "aria-labelledby": "start-title" },
    h("form", { onsubmit: (event) => { event.preventDefault(); order(); } },
      h("h2", { id: "start-title" }, "Start work"),
      h("label", { for: "launcher" }, "Launcher"), which,
      h("label", { for: "work" }, "What is to be done"), text,
      h("label", { for: "given" }, "Parameters, one a line"), given,
      said, h("div", { class: "answers" }, away, go)));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  text.focus();

  function parameters() {
    const found = {};
    for (const one of given.value.split("\n").map((each) => each.trim()).filter(Boolean)) {
      const at = one.indexOf("=");
      if (at < 1) throw new Error(`“${line(one, 60)}” is no parameter: write it as name=value.`);
      found[one.slice(0, at).trim()] = one.slice(at + 1).trim();
    }
    return found;
  }

  async function order() {
    said.classList.remove("refused");
    put(said, "Sending …");
    go.disabled = true;
    try {
      await act(`/api/launchers/${encodeURIComponent(which.value)}/start`, { text: text.value.trim(), parameters: parameters() });
      put(said, `${which.value} is asked to start it. Its task stands here as soon as it reports.`);
      text.value = given.value = "";
    } catch (error) {
      said.classList.add("refused");
      put(said, why(error));
    } finally {
      go.disabled = false;
    }
  }
}
