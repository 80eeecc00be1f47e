// Elements, made by hand. Whatever comes from an agent becomes text: nothing here ever reads a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `about` holds attributes, `on…` listeners, and `class`; null and false are left out. */
export function h(tag, about = {}, ...inside) {
  return fill(document.createElement(tag), about, inside);
}

/** Make an element of a drawing. */
export function svg(tag, about = {}, ...inside) {
  return fill(document.createElementNS(SVG, tag), about, inside);
}

function fill(element, about, inside) {
  for (const [name, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, inside);
  return element;
}

function add(element, inside) {
  for (const one of inside) {
    if (one === null || one === undefined || one === false) continue;
    if (Array.isArray(one)) add(element, one);
    else element.append(one instanceof Node ? one : String(one));
  }
}

/** Put something else into an element. */
export function put(element, ...inside) {
  element.replaceChildren();
  add(element, inside);
  return element;
}

/** Set a text, only where it is another: an unchanged one costs no layout. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return an address if a browser may go there: http or https, whole, without a password; else null. */
export function safe(address) {
  if (typeof address !== "string" || address.length > 2048) return null;
  try {
    const url = new URL(address);
    return (url.protocol === "https:" || url.protocol === "http:") && !url.username && !url.password ? url.href : null;
  } catch {
    return null;
  }
}

/** Make a link to elsewhere; where the address is not safe, its words alone. */
export function link(address, words) {
  const url = safe(address);
  const said = words || address || "";
  if (!url) return h("span", {}, said);
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer", class: "out" }, said,
    h("span", { class: "host" }, ` ${new URL(url).host}`));
}

/** Make a link to a page of the board. */
export function route(path, ...inside) {
  return h("a", { href: path, "data-route": true }, ...inside);
}

/** Cut a text of several lines, without what turns its direction about: a name must not read as another. */
export function lines(text, most = 20_000) {
  return String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, "").slice(0, most);
}

/** Tell why something was not done; to whoever is signed out meanwhile, where to sign in. */
export function why(error) {
  return error.status === 401 ? ["You are signed out. ", h("a", { href: location.pathname + location.search }, "Sign in again"), "."] : sentence(error.message);
}

/** Write what the gateway says as a sentence. */
export function sentence(text, most = 500) {
  const said = line(text, most);
  return said && said[0].toUpperCase() + said.slice(1) + (/[.!?…)]$/.test(said) ? "" : ".");
}

/** Collapse white space, as one line, and cut it. Ids come as they were given: what cannot be seen of them is left out. */
export function line(text, most = 300) {
  const said = String(text ?? "").replace(/[\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u2060-\u2065\u206a-\u206f\ufeff]/g, "").replace(/[\s\u0000-\u001f\u007f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ").trim();
  return said.length > most ? `${said.slice(0, most - 1)}…` : said;
}
