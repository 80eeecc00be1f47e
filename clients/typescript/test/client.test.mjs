// What the client does when its gateway misbehaves: no yes without a person, no token in an error, no endless wait.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { approval, ApprovalTimeout, ControlUnavailable, GatewayClient, QuestionTooLong } from "../dist/index.js";

const TOKEN = "spt_secret";

/** Serve answers in turn, the last for ever; return a client and the requests. */
async function gateway(t, ...answers) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request);
    request.resume().on("end", () => {
      if (request.method === "POST") return void response.end("{}");
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer === "hang") return;
      response.statusCode = answer.status ?? 200;
      if (answer.location) response.setHeader("location", answer.location);
      response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {}));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => (server.closeAllConnections(), server.close()));
  const client = new GatewayClient(`http://127.0.0.1:${server.address().port}`, {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  return { client, requests };
}

const open = { body: { state: "open" } };
const yes = { body: { state: "decided", decision: "approve", source: "api", by: "Ann" } };

test("an answer without a source, in another state or malformed is not taken", async (t) => {
  for (const body of [{ state: "decided", decision: "approve" }, { decision: "approve", source: "api" }, "{", "[]"]) {
    const { client } = await gateway(t, { body });
    await assert.rejects(approval("Deploy?", { client, timeout: 300 }), ApprovalTimeout);
  }
});

test("the wait goes on through failures of the gateway", async (t) => {
  const { client, requests } = await gateway(t, { status: 503 }, { status: 401 }, { status: 429 }, open, yes);
  assert.equal((await approval("Deploy?", { client })).approved, true);
  assert.equal(requests.length, 6);
});

test("a deadline that passed is not an approval, and a void question neither", async (t) => {
  for (const body of [
    { state: "expired", decision: "approve", source: "spanpost", is_expired: true },
    { state: "void", decision: "approve", source: "api" },
  ]) {
    const { client } = await gateway(t, { body });
    const decision = await approval("Deploy?", { client });
    assert.deepEqual([decision.approved, decision.expired], [false, true]);
  }
});

test("an abort ends the wait at once, with its reason", async (t) => {
  const { client } = await gateway(t, open, "hang");
  await assert.rejects(approval("Deploy?", { client, signal: AbortSignal.timeout(300) }), { name: "TimeoutError" });
});

test("a redirect is not followed, and the token is in no error", async (t) => {
  const elsewhere = await gateway(t, yes);
  const { client } = await gateway(t, { status: 302, location: "http://127.0.0.1:1/" });
  await assert.rejects(client.task("t", 0, 0), (error) => error instanceof ControlUnavailable && !error.message.includes(TOKEN));
  assert.equal(elsewhere.requests.length, 0);
  const refused = await gateway(t, { status: 403, body: { message: "no" } });
  await assert.rejects(refused.client.task("t", 0, 0), (error) => !`${error} ${error.stack}`.includes(TOKEN));
  assert.throws(() => new GatewayClient("http://h", { headers: { authorization: `${TOKEN}\n` } }), (error) => !`${error}`.includes(TOKEN));
});

test("a question that people cannot read whole, or that is none, is refused before it is sent", async (t) => {
  const { client, requests } = await gateway(t, yes);
  await assert.rejects(approval("x".repeat(8193), { client }), QuestionTooLong);
  for (const [question, options] of [[" ", {}], ["?", { options: ["a", "a "] }], ["?", { options: ["expired"] }], ["?", { expiresIn: 0 }]]) {
    await assert.rejects(approval(question, { client, ...options }));
  }
  assert.equal(requests.length, 0);
});
