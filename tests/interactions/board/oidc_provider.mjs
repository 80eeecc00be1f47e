// An OpenID Connect provider that others wrote (npm's oidc-provider, certified), with its own pages to log in and consent.
// Arguments: the directory of its packages, the gateway's address. Prints its own address; anybody's password is taken.
// What it knows of somebody it tells at its userinfo endpoint, and in the ID token no more than who it is.
// Lines on its standard input change it while it runs, and are answered by "done": "rotate" (another key signs, the old one
// is published no more), "skew SECONDS" (its clock), "groups NAME GROUP..." (the groups of a person).
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [packages, gateway] = process.argv.slice(2);
const { Provider } = await import(createRequire(`${packages}/`).resolve("oidc-provider"));
const GROUPS = { ann: ["sre"], bob: ["guests"] };
const now = Date.now;
let skew = 0;
Date.now = () => now() + skew * 1000;
const server = createServer((request, response) => provider(request, response));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const key = (kid) => ({ ...generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" }), kid, use: "sig" });
const made = (kid) => new Provider(issuer, {
  jwks: { keys: [key(kid)] },
  clients: [{ client_id: "spanpost", client_secret: "s3cret-of-the-client", redirect_uris: [`${gateway}/api/login/callback`] }],
  cookies: { keys: ["a key of the tests"] },
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "profile", "email", "groups"],
  async findAccount(_, id) {
    return { accountId: id, claims: async () => ({ sub: id, name: `${id[0].toUpperCase()}${id.slice(1)}`, email: `${id}@example.com`, email_verified: true, groups: GROUPS[id] ?? [] }) };
  },
  pkce: { required: () => true },
  ttl: { IdToken: 300 },
});
let keys = 1;
let provider = made("k1").callback();
console.log(issuer);
createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, ...words] = line.split(" ");
  if (what === "rotate") provider = made(`k${++keys}`).callback();
  if (what === "skew") skew = Number(words[0]);
  if (what === "groups") GROUPS[words[0]] = words.slice(1);
  console.log("done");
});
