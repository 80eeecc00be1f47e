// A question to a person, and the buttons that answer it. Who may is decided by the gateway; a refusal says who.

import { act } from "./api.js";
import { h, line, lines, put, why } from "./dom.js";
import { elapsed, isOpen, moment, whole } from "./words.js";

//: Why a question is not whole, by the API's word.
const HIDDEN = {
  secret: "something that looks like a secret",
  cut: "the end of a text that is too long to keep",
  invisible: "invisible characters",
  alike: "options that look the same",
};
const RISKS = { high: "red", critical: "red", medium: "yellow", low: "grey" };

/** Draw a question with every word of it: nothing is cut or folded above the buttons that answer it. `done(answer)` is called when it was answered from here. */
export function question(asked, { done = () => {}, of = null, isQuiet = false } = {}) {
  const key = asked.key ?? null;
  const said = h("p", { class: "told", role: "status" });
  const risk = line(asked.risk, 512);
  // A short one is the heading; what is longer, or has lines, stands below one of ours.
  const isLine = (asked.question ?? "").length <= 200 && !/\n/.test(asked.question ?? "");
  const hidden = asked.hidden ?? [];
  const element = h("article", { class: `question ${isOpen(asked) ? "open" : "closed"}` },
    of && h("p", { class: "of" }, of),
    h(isQuiet ? "h3" : "h2", {}, "✋ ", (isLine && line(asked.question)) || "A person must decide."),
    !isLine && h("p", { class: "asked" }, lines(asked.question)),
    asked.detail && h("pre", { class: "detail", tabindex: "0" }, lines(asked.detail)),
    isOpen(asked) && hidden.length > 0 && h("p", { class: "hidden-part" }, `Part of this question is hidden: ${hidden.map((why) => HIDDEN[why] ?? why).join("; ")}. It can be denied, or the agent can ask again without it.`),
    h("p", { class: "small" }, risk && h("span", { class: `risk ${RISKS[risk] ?? "grey"}` }, `risk: ${risk}`),
      asked.asked_at ?? asked.requested_at ? `asked ${moment(asked.asked_at ?? asked.requested_at)}` : "", deadline(asked)));
  if (isOpen(asked)) element.append(!key ? h("p", { class: "small" }, "The agent gave it no id: it can only be answered where it was asked.")
    : asked.acts?.length ? answers(asked, key, said, done) : h("p", { class: "small" }, whyNot(asked)));
  else element.append(h("p", { class: "verdict" }, verdict(asked)));
  element.append(said);
  return element;
}

// Why there is no button: its time is over, or it is for others.
function whyNot(asked) {
  const at = Date.parse(asked.deadline ?? asked.expires_at ?? "");
  if (at < Date.now()) return "Its time is over: an answer would come too late.";
  return "You may look at it, not decide it: that is for whom the rules name, or who has the role approver.";
}

function deadline(asked) {
  const at = asked.deadline ?? asked.expires_at;
  const left = at ? (Date.parse(at) - Date.now()) / 1000 : NaN;
  if (!isOpen(asked) || Number.isNaN(left)) return null;
  return h("span", { class: left < 300 ? "soon" : null, title: whole(at) }, left > 0 ? `, until ${moment(at)} (${elapsed(left)} left)` : ", its time is over");
}

export function verdict(asked) {
  const decision = line(asked.decision, 80);
  const words = { approve: "✅ approved", deny: "⛔ denied", expired: "⌛ not decided in time", withdrawn: "⌨️ settled where the agent runs" }[decision]
    ?? (asked.state === "ended" ? "⌛ its task ended before an answer" : asked.state === "void" || asked.is_void || asked.void ? "asked again in other words" : `chosen: ${decision}`);
  const by = line(asked.by, 80);
  const comment = line(asked.comment, 500);
  return `${words}${by && decision !== "expired" ? ` by ${by}` : ""}${asked.decided_at ? `, ${moment(asked.decided_at)}` : ""}${comment ? `: “${comment}”` : ""}`;
}

function allows(asked) {
  const scopes = asked.scopes ?? [];
  if (scopes.length < 2) return [["approve", "Approve", "primary"]];
  const words = { once: "Allow once", task: "Allow this tool in this task", hour: "Allow for one hour", always: "Always allow here" };
  return scopes.map((scope) => ["approve", words[scope], scope === "once" ? "primary" : "", scope]);
}

function answers(asked, key, said, done) {
  const id = `comment-${key}`;
  const comment = h("input", { id, type: "text", maxlength: "3000", autocomplete: "off", placeholder: "Optional" });
  const options = asked.options ?? [];
  const buttons = options.length && asked.is_whole
    ? options.map((option) => [option, line(option, 512) || "(empty)", ""])
    : [...allows(asked), ["deny", "Deny", "danger"]].filter(([decision]) => asked.acts.includes(decision));
  const row = h("div", { class: "answers" }, buttons.map(([decision, words, kind, scope]) =>
    h("button", { type: "button", class: kind, onclick: () => decide(decision, scope) }, words)));
  const isLong = options.some((option) => option.length > 40);
  const form = h("div", { class: isLong ? "decide long" : "decide" }, h("label", { for: id }, "Comment"), comment, row);

  async function decide(decision, scope = "once") {
    for (const button of row.children) button.disabled = true;
    put(said, "Sending …");
    try {
      const answer = await act(`/api/approvals/${encodeURIComponent(key)}/decision`, { decision, scope, comment: comment.value.trim() });
      const told = answer?.message ?? answer?.told;
      form.remove();
      put(said, told ? line(told, 300) : verdict({ decision: answer?.decision ?? decision, by: answer?.by, comment: answer?.comment }));
      done(answer);
    } catch (error) {
      said.classList.add("refused");
      put(said, why(error));
      for (const button of row.children) button.disabled = false;
    }
  }
  return form;
}
