// What the API has: every path with its parameters and answers, out of the gateway's own document.

import { get } from "./api.js";
import { h, line, put } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

export function docs(place, board) {
  const control = new AbortController();
  get("/api/openapi.json", {}, control.signal).then((found) => {
    const groups = byTag(found.paths ?? {});
    put(place, h("div", { class: "bar-top" }, h("h1", {}, `API of spanpost ${line(found.info?.version, 30)}`),
      h("a", { class: "right", href: "/api/openapi.json", download: "openapi.json" }, "openapi.json")),
      h("p", {}, "Send a token as ", h("code", {}, "Authorization: Bearer …"), ". Errors are a google.rpc.Status; its message says what to do."),
      h("nav", { class: "tabs", "aria-label": "Subjects" }, [...groups.keys()].map((tag) => h("a", { href: `#${tag}` }, tag))),
      [...groups].map(([tag, all]) => h("section", { class: "api", id: tag, "aria-labelledby": `h-${tag}` }, h("h2", { id: `h-${tag}` }, tag), all.map((one) => operation(one, found)))));
  }).catch((error) => board.fail(error));
  return () => control.abort();
}

function byTag(paths) {
  const groups = new Map();
  for (const [path, about] of Object.entries(paths)) {
    for (const method of METHODS) {
      if (!about[method]) continue;
      const tag = about[method].tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), { path, method, about: about[method] }]);
    }
  }
  return groups;
}

function operation({ path, method, about }, whole) {
  const body = about.requestBody?.content?.["application/json"]?.schema;
  const asked = [...(about.parameters ?? []).map((one) => [one.name, one.in, kind(one.schema), one.required, one.description]), ...fields(body, whole).map((one) => [one.name, "body", ...one.rest])];
  return h("details", {}, h("summary", {}, h("b", { class: `method ${method}` }, method.toUpperCase()), " ", h("code", {}, path), h("span", { class: "small" }, ` ${line(about.description ?? about.summary, 200).split(". ")[0]}`)),
    h("p", {}, line(about.description ?? about.summary, 600)),
    asked.length > 0 && table(["Name", "In", "Kind", "Description"], asked.map(([name, where, type, needed, said]) => [h("code", {}, name), where, type, [needed && h("b", {}, "required. "), line(said, 400)]])),
    table(["Answer", "Fields", "Description"], Object.entries(about.responses ?? {}).map(([status, one]) => [status, kind(Object.values(one.content ?? {})[0]?.schema), line(one.description, 300)])));
}

// The fields of a body, with what each is.
function fields(schema, whole) {
  const found = schema?.$ref ? whole.components?.schemas?.[schema.$ref.split("/").pop()] : schema;
  return Object.entries(found?.properties ?? {}).map(([name, one]) => ({ name, rest: [kind(one), (found.required ?? []).includes(name), one.description] }));
}

/** Say what a schema takes, in a few words. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).filter((one) => one !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.type === "array") return `${kind(schema.items)} …`;
  return schema.format ?? schema.type ?? "";
}

function table(heads, rows) {
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": heads[0] }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, cell)))))));
}
