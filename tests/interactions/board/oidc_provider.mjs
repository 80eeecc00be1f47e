// An OpenID Connect provider that others wrote (npm's oidc-provider, certified), with its own pages to log in and consent.
// Arguments: the directory of its packages, the gateway's address. Prints its own address; anybody's password is taken.
// What it knows of somebody it tells at its userinfo endpoint, and in the ID token no more than who it is.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [packages, gateway] = process.argv.slice(2);
const { Provider } = await import(createRequire(`${packages}/`).resolve("oidc-provider"));
const GROUPS = { ann: ["sre"], bob: ["guests"] };
const server = createServer((request, response) => provider(request, response));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const made = new Provider(issuer, {
  clients: [{ client_id: "spanpost", client_secret: "s3cret-of-the-client", redirect_uris: [`${gateway}/api/login/callback`] }],
  cookies: { keys: ["a key of the tests"] },
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "profile", "email", "groups"],
  async findAccount(_, id) {
    return { accountId: id, claims: async () => ({ sub: id, name: `${id[0].toUpperCase()}${id.slice(1)}`, email: `${id}@example.com`, email_verified: true, groups: GROUPS[id] ?? [] }) };
  },
  pkce: { required: () => true },
});
const provider = made.callback();
console.log(issuer);
