// `emulate`'s Slack with an event subscription, which its command line cannot make: node emulate_with_events.mjs DIST PORT SEED URL
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [dist, port, seed, url] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(dist, name)).href);
const { createEmulator } = await load("api.js");
const parts = readdirSync(dist).filter((name) => /^dist-.*\.js$/.test(name));
const { slackPlugin } = await load(parts.find((name) => readFileSync(join(dist, name), "utf8").includes("var slackPlugin = {")));
const { register } = slackPlugin;
slackPlugin.register = (app, store, webhooks, ...rest) => {
  register.call(slackPlugin, app, store, webhooks, ...rest);
  webhooks.register({ url, events: ["*"], active: true, owner: "slack" });
};
await createEmulator({ service: "slack", port: Number(port), seed: JSON.parse(readFileSync(seed, "utf8")) });
console.log("listening");
