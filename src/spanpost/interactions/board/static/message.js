// A task's message as Slack shows it, drawn from the blocks that Slack would get. `spanpost preview` draws the same.

import { h, line, safe } from "./dom.js";

const SIGNS = { pending: "○", in_progress: "◐", complete: "✓", error: "✕" };
const TELLS = { milestones: ", by a route that tells milestones", final: ", by a route that tells ends and questions" };
const COLOUR = /^#[0-9a-f]{3,8}$/i;
const TOKEN = /<(!date|@|!subteam)\^?([^<>|^]{0,40})(?:\^([^<>|]{0,100}))?(?:\|([^<>|]{0,100}))?>/g;
const STYLES = [["bold", "b"], ["italic", "i"], ["strike", "s"], ["code", "code"]];

/** Draw a message and its thread, folded until somebody looks. */
export function message(found, isOpen) {
  const { message: root, replies } = found;
  const where = found.channel ? `In ${line(found.channel, 80)}${TELLS[found.verbosity] ?? ""}.` : "No route sends it to Slack: so it would look.";
  return h("details", { open: isOpen }, h("summary", {}, "As Slack shows it"), h("p", { class: "small" }, where), h("div", { class: "slack" }, one(root),
    replies.length > 0 && h("div", { class: "thread" }, h("p", { class: "count" }, `${replies.length} ${replies.length === 1 ? "reply" : "replies"}`), replies.map(one))));
}

function one(said) {
  const parts = (said.blocks ?? []).map(block);
  for (const attachment of said.attachments ?? []) {
    const element = h("div", { class: "attachment" }, (attachment.blocks ?? []).map(block));
    if (COLOUR.test(attachment.color ?? "")) element.style.borderLeftColor = attachment.color;
    parts.push(element);
  }
  return h("div", { class: "message" }, h("div", { class: "face", "aria-hidden": "true" }, "sp"), h("div", { class: "said" },
    h("p", { class: "who" }, h("b", {}, "spanpost"), " ", h("span", { class: "app" }, "APP")), parts.length ? parts : h("p", {}, said.text ?? "")));
}

function block(of) {
  const draw = Object.hasOwn(BLOCKS, of.type) ? BLOCKS[of.type] : null;
  return draw ? draw(of) : h("p", { class: "unknown" }, `[${of.type}]`);
}

function part(of) {
  const inner = (of.elements ?? []).map(run);
  switch (of.type) {
    case "rich_text_preformatted": return h("pre", { tabindex: "0" }, inner);
    case "rich_text_quote": return h("blockquote", {}, inner);
    case "rich_text_list": return h(of.style === "ordered" ? "ol" : "ul", {}, (of.elements ?? []).map((item) => h("li", {}, part(item))));
  }
  return h("p", { class: "rich" }, inner);
}

function run(of) {
  let said = of.text ?? "";
  if (of.type === "link") {
    const url = safe(of.url);
    said = url ? h("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, said || url) : said;
  } else if (of.type === "date") said = moment(of.timestamp, of.format ?? "", of.fallback ?? "");
  else if (of.type === "user") said = h("span", { class: "mention" }, `@${of.user_id ?? ""}`);
  else if (of.type === "usergroup") said = h("span", { class: "mention" }, `@${of.usergroup_id ?? ""}`);
  for (const [style, tag] of STYLES) if (of.style?.[style]) said = h(tag, {}, said);
  return said;
}

function text(of) {
  if (typeof of !== "object" || of === null) return String(of ?? "");
  return of.type === "mrkdwn" ? mrkdwn(of.text ?? "") : of.text ?? "";
}

// The little that is parsed: dates, and mentions of people and groups. The rest is written with its entities.
function mrkdwn(said) {
  const shown = [];
  let at = 0;
  for (const found of said.matchAll(TOKEN)) {
    const [whole, kind, what, form, fallback] = found;
    shown.push(plain(said.slice(at, found.index)), kind === "!date" ? moment(what, form ?? "", fallback ?? "") : h("span", { class: "mention" }, `@${what}`));
    at = found.index + whole.length;
  }
  return [...shown, plain(said.slice(at))];
}

const plain = (said) => said.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

function moment(timestamp, form, fallback) {
  const at = new Date(Number(timestamp) * 1000);
  if (Number.isNaN(at.getTime()) || timestamp === undefined || timestamp === null || timestamp === "") return fallback;
  const say = (options) => new Intl.DateTimeFormat("en", { hourCycle: "h23", ...options }).format(at);
  const clock = { hour: "2-digit", minute: "2-digit" };
  const named = {
    "{time_secs}": say({ ...clock, second: "2-digit" }), "{time}": say(clock),
    "{date_short_pretty}": say({ month: "short", day: "2-digit" }), "{date_short}": say({ month: "short", day: "2-digit", year: "numeric" }),
    "{ago}": ago(at),
  };
  let made = form;
  for (const [token, words] of Object.entries(named)) made = made.replaceAll(token, words);
  return made || fallback;
}

// As Slack says it: "3 minutes ago", "2 days ago".
function ago(at) {
  const seconds = Math.round((at.getTime() - Date.now()) / 1000);
  /** @type {[Intl.RelativeTimeFormatUnit, number][]} */
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return new Intl.RelativeTimeFormat("en").format(Math.trunc(seconds / size), unit);
}

function card(of) {
  const status = Object.hasOwn(SIGNS, of.status ?? "") ? of.status : "pending";
  return h("div", { class: `card ${status}` }, h("span", { class: "sign", role: "img", "aria-label": status.replace("_", " ") }, SIGNS[status]),
    h("div", {}, h("p", { class: "title" }, text(of.title)), of.details && block(of.details)));
}

const BLOCKS = {
  rich_text: (of) => (of.elements ?? []).map(part),
  section: (of) => [of.text && h("p", { class: "rich" }, text(of.text)), of.fields?.length && h("div", { class: "fields" }, of.fields.map((field) => h("p", {}, text(field))))],
  header: (of) => h("p", { class: "header" }, text(of.text)),
  context: (of) => h("p", { class: "context" }, (of.elements ?? []).map((each) => [text(each), " "])),
  plan: (of) => h("div", { class: "plan" }, h("p", { class: "title" }, text(of.title)), (of.tasks ?? []).map(card)),
  container: (of) => h("div", { class: `container ${of.default_collapsed ? "folded" : "open"}` },
    h("p", { class: "title" }, of.default_collapsed ? "▸ " : "▾ ", text(of.title)), h("div", { class: "inner" }, (of.child_blocks ?? []).map(block))),
  task_card: card,
  // Drawn, not pressed: the board has buttons of its own.
  actions: (of) => h("p", { class: "actions" }, (of.elements ?? []).map((each) => each.type === "overflow" ? h("span", { class: "button" }, "⋯")
    : each.type === "static_select" ? h("span", { class: "button" }, text(each.placeholder), " ▾")
    : h("span", { class: `button ${["primary", "danger"].includes(each.style) ? each.style : ""}` }, text(each.text)))),
  divider: () => h("hr"),
};
