// The board: which page is shown, whether it is live, who looks at it.

import { act, get, keepToken, takeToken, token } from "./api.js";
import { h, line, put, say, sentence } from "./dom.js";
import { keys } from "./keys.js";
import { approvals } from "./approvals.js";
import { costs } from "./costs.js";
import { docs } from "./docs.js";
import { history as past } from "./history.js";
import { now } from "./now.js";
import { system } from "./system.js";
import { task } from "./task.js";

const page = document.getElementById("page");
const linkState = document.getElementById("link");
const notice = document.getElementById("notice");
const badge = document.getElementById("open-questions");

//: Each page is given the place, its path's rest and the board; it returns what ends it.
/** @type {[RegExp, (place: HTMLElement, board: any, ...rest: string[]) => any, string][]} */
const PAGES = [
  [/^\/$/, now, "Now"],
  [/^\/board\/approvals$/, approvals, "Questions"],
  [/^\/board\/history$/, past, "History"],
  [/^\/board\/costs$/, costs, "Cost"],
  [/^\/board\/system$/, system, "System"],
  [/^\/docs$/, docs, "API"],
  [/^\/board\/tasks\/([^/]+)$/, task, "Task"],
];

let counting = 0;
const board = {
  me: null,
  /** Say whether the page is live: live, lost, refused or idle. */
  tell(state, why = "") {
    linkState.className = `link ${state}`;
    say(linkState, { live: "live", lost: "reconnecting …", refused: "not allowed", idle: "" }[state] ?? "");
    if (state === "lost") put(notice, h("p", { class: "notice lost" }, `Connection lost: ${line(why, 200)}. What you see may be old; trying again.`));
    else if (notice.querySelector(".lost")) put(notice);
    if (state === "refused") signIn(why);
  },
  title(text) {
    document.title = text ? `${line(text, 120)} · spanpost` : "spanpost";
  },
  /** Show an error in place of a page: what happened, and what to do. */
  fail(error, place = page) {
    if (error.name === "AbortError") return;
    if (error.status === 401) signIn(error.message);
    else put(place, failure(error));
  },
  questions(n, isMore = false) {
    badge.hidden = !n;
    say(badge, n ? `${n}${isMore ? "+" : ""}` : "");
    badge.setAttribute("aria-label", n ? `${n} open` : "");
    if (location.pathname === "/") document.title = n ? `(${n}) spanpost` : "spanpost";
  },
  /** Count the open questions of all tasks, for every page the same. */
  count() {
    clearTimeout(counting);
    counting = setTimeout(() => get("/api/approvals", { state: "open", limit: 100 }).then(({ items, next }) => board.questions(items.length, Boolean(next))).catch(() => {}), 200);
  },
  go,
};

function failure(error) {
  const heads = { 403: "Not allowed", 404: "Not here", 503: "Busy", 0: "Connection lost" };
  return h("section", { class: "empty failed" },
    h("h1", {}, heads[error.status] ?? "It failed"),
    h("p", {}, sentence(error.message)),
    h("p", {}, error.status !== 404 && h("button", { type: "button", onclick: () => show(false) }, "Try again"), " ", h("a", { href: "/", "data-route": true }, "What runs now")));
}

function signIn(why) {
  leave();
  // The gateway says so where people can log in at a provider.
  const canLogIn = why.includes("/api/login");
  const isHere = why.includes("spanpost token local");
  board.title("Sign in");
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const form = h("form", { class: "signin", onsubmit: (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    begin();
  } },
  h("h1", {}, "Sign in"),
  h("p", {}, token() && !canLogIn ? sentence(why) : "This gateway asks first who looks in."),
  isHere && h("p", {}, "On this machine, open the address that ", h("code", {}, "spanpost run"), " printed in its terminal; ", h("code", {}, "spanpost token local"), " prints it again."),
  canLogIn && h("a", { class: "button primary", href: `/api/login?next=${encodeURIComponent(location.pathname + location.search)}` }, "Sign in with your organisation"),
  h("label", { for: "token" }, canLogIn ? "Or a token" : "Token"), field,
  h("p", { class: "small" }, "It is kept in this tab alone, and goes when you close it."),
  h("button", { type: "submit", class: canLogIn ? "" : "primary" }, "Sign in"));
  put(page, form);
  form.querySelector(canLogIn ? "a" : "input").focus();
}

let end = null;

function leave() {
  const last = end;
  end = null;
  if (last) last();
}

function show(moves = true) {
  leave();
  put(notice);
  board.tell("idle");
  const path = location.pathname;
  for (const one of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("nav a"))) {
    if (one.pathname === path) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  for (const [pattern, make, name] of PAGES) {
    const found = pattern.exec(path);
    if (!found) continue;
    board.title(name === "Now" ? "" : name);
    put(page, h("h1", { class: "hidden" }, name), h("p", { class: "loading" }, "Loading …"));
    if (moves) page.focus({ preventScroll: true });
    let rest;
    try {
      rest = found.slice(1).map(decodeURIComponent);
    } catch {
      break;
    }
    end = make(page, board, ...rest) ?? null;
    return;
  }
  put(page, h("section", { class: "empty" }, h("h1", {}, "Not here"), h("p", {}, "There is no such page. ",
    h("a", { href: "/", "data-route": true }, "What runs now"))));
}

function go(path, replaces = false) {
  if (replaces) {
    history.replaceState(null, "", path);
    return;
  }
  history.pushState(null, "", path);
  scrollTo(0, 0);
  show();
}

document.addEventListener("click", (event) => {
  const found = /** @type {Element} */ (event.target).closest?.("a[data-route]");
  if (!found || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(found.getAttribute("href"));
});
addEventListener("popstate", () => show());
addEventListener("hashchange", () => takeToken() && begin());
keys(board);

async function begin() {
  takeToken();
  try {
    const me = await get("/api/me");
    board.me = me;
    whose(me);
  } catch (error) {
    board.me = null;
    if (error.status === 401 || error.status === 403) {
      signIn(error.message);
      return;
    }
    // Pages say themselves that the gateway is away.
  }
  show(false);
  board.count();
}

function whose(me) {
  const place = document.getElementById("me");
  const name = line(me?.name ?? me?.email ?? "", 60);
  const isKnown = me?.provider !== "local" && (token() || me?.provider === "oidc");
  put(place, name, isKnown && h("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out"));
}

async function signOut() {
  if (!token()) await act("/api/logout", {}).catch(() => null);
  keepToken("");
  location.assign("/");
}

begin();
