// Requests to the API. A refusal becomes a `Refused` with the API's own words, which say what to do next.

const KEPT = "spanpost.token";
const HERE = "spanpost.token.here";

export class Refused extends Error {
  constructor(status, reason, message, fields = []) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.fields = fields; // those that are wrong, each with its `description`
  }
  get field() {
    return this.fields[0]?.field;
  }
  get isForSomebodyElse() {
    return this.status === 401 || this.status === 403;
  }
}

/** The token that was typed into this tab, or this machine's, from the address that the terminal printed. */
export function token() {
  try {
    return sessionStorage.getItem(KEPT) ?? localStorage.getItem(HERE) ?? "";
  } catch {
    return "";
  }
}

/** Keep this machine's token for all tabs and remove it from the address. A cookie would be sent to every port of this machine. */
export function takeToken() {
  const found = /^#token=([\w-]{20,100})$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    sessionStorage.removeItem(KEPT);
    localStorage.setItem(HERE, found[1]);
  } catch {
    keepToken(found[1]);
  }
  return true;
}

export function keepToken(value) {
  known.clear();
  try {
    if (value) sessionStorage.setItem(KEPT, value);
    else {
      sessionStorage.removeItem(KEPT);
      localStorage.removeItem(HERE);
    }
  } catch { /* a browser that keeps nothing asks again */ }
}

export function headers(more = {}) {
  const said = token();
  const own = { ...more, "spanpost-client": "board" }; // shown beside a person's acts
  return said ? { ...own, authorization: `Bearer ${said}` } : own;
}

export async function refusal(answer) {
  let status = null; // a google.rpc.Status
  try {
    status = await answer.json();
  } catch { /* no JSON: something between us and the gateway answered */ }
  const details = Array.isArray(status?.details) ? status.details : [];
  const message = status?.message ?? `the gateway answered ${answer.status}`;
  const reason = details.find((one) => one.reason)?.reason ?? "";
  return new Refused(answer.status, reason, message, details.find((one) => one.fieldViolations)?.fieldViolations);
}

//: What was read last, by address: what has not changed since is not sent again. The oldest goes first.
/** @type {Map<string, { tag: string, body: any }>} */
const known = new Map();
const KNOWN = 24;

async function ask(path, options) {
  let answer;
  const isRead = options.method === undefined;
  const last = isRead ? known.get(path) : undefined;
  if (last) options = { ...options, headers: { ...options.headers, "if-none-match": last.tag } };
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "AWAY", "the gateway cannot be reached");
  }
  if (answer.status === 304 && last) return last.body;
  if (!answer.ok) throw await refusal(answer);
  if (answer.status === 204) return null;
  const body = await answer.json();
  const tag = answer.headers.get("etag");
  if (isRead && tag) {
    known.delete(path);
    known.set(path, { tag, body });
    if (known.size > KNOWN) known.delete(known.keys().next().value ?? "");
  }
  return body;
}

/** Read. `query` leaves out what is empty. */
export function get(path, query = {}, signal = undefined) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) for (const one of value) said.append(name, one);
    else if (value !== null && value !== undefined && value !== "") said.set(name, value);
  }
  const text = said.toString();
  return ask(text ? `${path}?${text}` : path, { headers: headers({ accept: "application/json" }), signal });
}

/** Do. A try after a lost answer carries the same key, and is the same act. */
export async function act(path, body) {
  const key = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
  const options = {
    method: "POST",
    headers: headers({ "content-type": "application/json", accept: "application/json", "idempotency-key": key }),
    body: JSON.stringify(body),
  };
  try {
    return await ask(path, options);
  } catch (error) {
    if (error.status !== 0 && error.status !== 503) throw error;
    await new Promise((done) => setTimeout(done, 700));
    return ask(path, options);
  }
}

export const taskPath = (id) => `/api/tasks/${encodeURIComponent(id)}`;
export const taskPage = (task) => `/board/tasks/${encodeURIComponent(task.uid ?? task.task_id)}`;
