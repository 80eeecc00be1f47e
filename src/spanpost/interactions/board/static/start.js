// New work: which launcher, what is to be done, and the parameters that the launcher declares. The button is there for
// people whom the rules let start anything.

import { act, get } from "./api.js";
import { h, line, put, sentence, why } from "./dom.js";

/** Put a button into a place if the reader may start work. */
export function start(place, signal) {
  get("/api/launchers", {}, signal).then(({ items }) => {
    if (items.length) put(place, h("button", { type: "button", onclick: () => ask(items) }, "Start work"));
  }).catch(() => {});
}

function ask(launchers) {
  const which = h("select", { id: "launcher", onchange: () => show() }, launchers.map((one) => h("option", { value: one.name }, one.name)));
  const text = h("textarea", { id: "work", rows: "4", maxlength: "4000" });
  const given = h("textarea", { id: "given", rows: "2", maxlength: "8000", spellcheck: "false", placeholder: "repo=acme/shop" });
  const place = h("div", { class: "parameters" });
  const said = h("p", { class: "told", role: "status" });
  const go = h("button", { type: "submit", class: "primary" }, "Start");
  const away = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "start", "aria-labelledby": "start-title" },
    h("form", { novalidate: true, onsubmit: (event) => { event.preventDefault(); order(); } },
      h("h2", { id: "start-title" }, "Start work"),
      h("label", { for: "launcher" }, "Launcher"), which,
      h("label", { for: "work" }, "The work to do"), text,
      place, said, h("div", { class: "answers" }, away, go)));
  //: The fields of the chosen launcher by parameter; none if it declares nothing.
  let fields = new Map();
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  show();
  dialog.showModal();
  text.focus();

  function show() {
    const declared = launchers.find((one) => one.name === which.value).parameters;
    fields = new Map(declared.map((one) => [one.name, field(one)]));
    put(place, declared.length ? [...fields.values()].map((one) => one.element)
      : [h("label", { for: "given" }, "Parameters, one a line"), given]);
    put(said);
  }

  function parameters() {
    if (fields.size) return Object.fromEntries([...fields].map(([name, one]) => [name, one.input.value.trim()]).filter(([, value]) => value));
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
    for (const one of fields.values()) one.fault("");
    go.disabled = true;
    try {
      const done = await act(`/api/launchers/${encodeURIComponent(which.value)}/start`, { text: text.value.trim(), parameters: parameters() });
      text.value = given.value = "";
      show();
      put(said, line(done.message, 300));
    } catch (error) {
      const wrong = (error.fields ?? []).map((one) => [fields.get(one.field.replace(/^parameters\./, "")), one.description]).filter(([one]) => one);
      for (const [one, description] of wrong) one.fault(sentence(description));
      wrong[0]?.[0].input.focus();
      said.classList.add("refused");
      put(said, wrong.length ? "Nothing was started." : why(error));
    } finally {
      go.disabled = false;
    }
  }
}

/** Return the field of a declared parameter: `element`, `input`, and `fault(text)`, which shows why its value is refused. */
function field(one) {
  const id = `parameter-${one.name}`;
  const about = { id, "aria-describedby": `${id}-hint ${id}-fault`, "aria-required": one.required ? "true" : "false" };
  const input = one.kind === "choice"
    ? h("select", about, !one.default && h("option", { value: "" }, one.required ? "Choose a value" : "–"), one.choices.map((value) => h("option", { value, selected: value === one.default }, value)))
    : h("input", { ...about, type: "text", inputmode: one.kind === "number" ? "decimal" : null, maxlength: "1000", value: one.default || null, autocomplete: "off" });
  const hint = [one.hint, range(one)].filter(Boolean).join(" ");
  const said = h("p", { class: "fault", id: `${id}-fault` });
  function fault(text) {
    put(said, text);
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  const label = h("label", { for: id }, line(one.label || one.name, 150), !one.required && h("span", { class: "small" }, " optional"));
  return { input, fault, element: h("div", { class: "field" }, label, input, hint && h("p", { class: "small", id: `${id}-hint` }, line(hint, 300)), said) };
}

function range(one) {
  if (one.kind !== "number" || (one.minimum === null && one.maximum === null)) return one.kind === "number" ? "A number." : "";
  return `A number, ${one.minimum ?? "…"} to ${one.maximum ?? "…"}.`;
}
