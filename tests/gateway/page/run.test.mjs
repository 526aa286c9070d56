/** A run as the page follows it, with its own `fetch`, from a server that says what a test scripts. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";

import { login } from "../../../services/gateway/src/chatbot_gateway/static/api.js";
import { Run } from "../../../services/gateway/src/chatbot_gateway/static/run.js";

const SEND = "/api/v1/chat/send";
const fetched = globalThis.fetch;
let server, asked, answers, heard;

/** Answers one request with these events; `torn` breaks the connection after them. */
const says = (...events) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  for (const event of events) response.write(`: a comment\n\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
};
const torn = (...events) => (response) => { says(...events)(response); setImmediate(() => response.destroy()); };
const problem = (status, body) => (response) => response.writeHead(status).end(JSON.stringify(body));
const event = (seq, type, rest = {}) => ({ type, run_id: "r", attempt: 1, seq, ...rest });
const STARTED = event(1, "run.started", { conversation_id: "c" });
const FINISHED = event(9, "run.finished", { content: "42" });

before(async () => {
  server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    asked.push([request.method, request.url, body && JSON.parse(body)]);
    (answers.shift() ?? problem(500, {}))(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  globalThis.fetch = (path, options) => fetched(`http://127.0.0.1:${server.address().port}${path}`, options);
});
beforeEach(async () => {
  [asked, heard, answers] = [[], [], [problem(200, { access_token: "t", expires_in: 900 })]];
  await login("ada@example.com", "secret");
  asked.length = 0;
});
after(() => { server.closeAllConnections(); server.close(); });

const run = (decide = async () => true) => new Run((told) => heard.push(`${told.attempt}-${told.seq} ${told.type}`), decide);

test("is asked for, and ends with its end", async () => {
  answers = [says(STARTED, event(2, "text.delta", { text: "42" }), FINISHED)];
  await run().ask(SEND, { content: "6*7?" });
  assert.deepEqual(asked, [["POST", SEND, { content: "6*7?" }]]);
  assert.deepEqual(heard, ["1-1 run.started", "1-2 text.delta", "1-9 run.finished"]);
});

test("goes on where a torn stream left off, and tells nothing twice", async () => {
  const delta = event(2, "text.delta", { text: "4" });
  answers = [torn(STARTED, delta), says(delta, event(3, "text.delta", { text: "2" }), FINISHED)];
  await run().ask(SEND, {});
  assert.equal(asked[1][1], "/api/v1/chat/runs/r/events?after=1-2");
  assert.deepEqual(heard, ["1-1 run.started", "1-2 text.delta", "1-3 text.delta", "1-9 run.finished"]);
});

test("asks about each call that waits, and goes on with the last answer", async () => {
  const waits = (seq, id, more) => event(seq, "tool.approval", { tool_call_id: id, more });
  answers = [
    says(STARTED, waits(2, "a", true), waits(3, "b/c", false)), problem(202, {}),
    says({ ...STARTED, attempt: 2 }, { ...FINISHED, attempt: 2 }),
  ];
  await run(async (call) => call.tool_call_id === "a").ask(SEND, {});
  assert.deepEqual(asked.slice(1), [
    ["POST", "/api/v1/chat/runs/r/approvals/a", { approved: true }],
    ["POST", "/api/v1/chat/runs/r/approvals/b%2Fc", { approved: false }],
  ]);
  assert.equal(heard.at(-1), "2-9 run.finished");
});

test("is watched again from its first event on", async () => {
  answers = [says(STARTED, FINISHED)];
  await run().watch("r");
  assert.deepEqual(asked, [["GET", "/api/v1/chat/runs/r/events?after=0-0", ""]]);
});

test("a refusal is told in its own words", async () => {
  answers = [problem(429, { type: "urn:chatbot:problem:budget-used-up", status: 429, detail: "It renews at 2026-11-22T00:00:00Z." })];
  await assert.rejects(run().ask(SEND, {}), (failure) => {
    assert.match(failure.message, /^It renews at Nov 2[12], 2026, .+\.$/);
    return failure.retryable === false;
  });
});

test("is stopped at the server, and ends as that says", async () => {
  const stopping = run();
  stopping.onEvent = (told) => { heard.push(told.type); if (told.type === "run.started") stopping.stop(); };
  answers = [(response) => {
    says(STARTED)(response);
    answers.push((stop) => { problem(202, {})(stop); response.write(`data: ${JSON.stringify(event(2, "run.cancelled"))}\n\n`); });
  }];
  await stopping.ask(SEND, {});
  assert.deepEqual(asked.map(([, url]) => url), [SEND, "/api/v1/chat/runs/r/cancel"]);
  assert.deepEqual(heard, ["run.started", "run.cancelled"]);
});
