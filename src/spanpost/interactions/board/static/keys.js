// The keyboard: j and k go along rows, / searches, g and a delivery goes to a page, ? says all of it.

import { h } from "./dom.js";

const GOES = { n: "/", q: "/board/approvals", h: "/board/history", c: "/board/costs", s: "/board/system" };
const HELP = [
  ["j, k", "next and previous row"],
  ["Enter", "open the row"],
  ["/", "search"],
  ["g then n, q, h, c, s", "now, questions, history, cost, system"],
  ["u", "back"],
  ["?", "this"],
];

export function keys(board) {
  let isGoing = false;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const at = /** @type {HTMLElement} */ (event.target);
    if (at.matches?.("input, textarea, select")) {
      if (event.key === "Escape") at.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (isGoing) {
      isGoing = false;
      const path = GOES[event.key];
      if (path) {
        event.preventDefault();
        board.go(path);
      }
      return;
    }
    switch (event.key) {
      case "j": case "k": event.preventDefault(); step(event.key === "j" ? 1 : -1); break;
      case "/": search(event); break;
      case "g": isGoing = true; setTimeout(() => { isGoing = false; }, 1500); break;
      case "u": history.length > 1 ? history.back() : board.go("/"); break;
      case "?": help(); break;
    }
  });
}

function step(way) {
  const rows = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("main a.row"))].filter((row) => !row.closest("[hidden]"));
  if (!rows.length) return;
  const at = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const next = rows[at < 0 ? (way > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + way, 0), rows.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function search(event) {
  const field = /** @type {HTMLInputElement} */ (document.querySelector("main input[type=search]"));
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
}

function help() {
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", {}, HELP.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", {}, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
