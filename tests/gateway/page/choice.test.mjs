/** The choice of a model, with its own `fetch`, from a server that says what a test scripts. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";

import { login } from "../../../services/gateway/src/chatbot_gateway/static/api.js";
import { Choice } from "../../../services/gateway/src/chatbot_gateway/static/choice.js";
import { EMPTY, reduce } from "../../../services/gateway/src/chatbot_gateway/static/reducer.js";
import { ending } from "../../../services/gateway/src/chatbot_gateway/static/words.js";

const fetched = globalThis.fetch;
let server, asked, answers, failures;

before(async () => {
  server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    asked.push([request.method, request.url, body && JSON.parse(body)]);
    const [status, said] = answers.shift() ?? [500, {}];
    response.writeHead(status).end(JSON.stringify(said));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  globalThis.fetch = (path, options) => fetched(`http://127.0.0.1:${server.address().port}${path}`, options);
});
beforeEach(async () => {
  [asked, failures, answers] = [[], [], [[200, { access_token: "t", expires_in: 900 }]]];
  await login("ada@example.com", "secret");
  asked.length = 0;
});
after(() => { server.closeAllConnections(); server.close(); });

const OK = [200, {}];
const REFUSED = [503, { title: "Not now", status: 503 }];

async function offering(...names) {
  const choice = new Choice(() => {}, (failure) => failures.push(failure.message));
  answers.push([200, { data: names.map((name) => ({ name })) }]);
  await choice.load();
  assert.deepEqual(asked.splice(0), [["GET", "/api/v1/chat/models", ""]]);
  return choice;
}
const kept = () => asked.map(([method, path, { model }]) => `${method} ${path.split("/").at(-1)} ${model}`);
const values = (choice) => choice.options.map(({ value }) => value);

test("there is nothing to choose from one model, or from none", async () => {
  assert.deepEqual((await offering("main")).options, []);
  answers.push(REFUSED);
  const choice = new Choice(() => {}, () => {});
  await choice.load();
  choice.show("c", "small");
  assert.deepEqual([choice.options, choice.named], [[], {}]);
});

test("the default comes first, and a model that has gone is shown as such and named by no request", async () => {
  const choice = await offering("main", "small");
  assert.deepEqual(values(choice), ["", "main", "small"]);
  choice.show("c", "old");
  assert.deepEqual(choice.options.at(-1), { value: "old", label: "old (not offered any more)" });
  assert.deepEqual([choice.chosen, choice.named], ["old", {}]);
  assert.deepEqual(values(await offering("main").then((one) => (one.show("c", "old"), one))), ["", "main", "old"]);
});

test("it is kept with the conversation at once, the last one last", async () => {
  const choice = await offering("main", "small");
  choice.show("c");
  assert.equal(choice.known, false);
  choice.show("c", null);
  assert.equal(choice.known, true);
  answers.push(OK, OK, OK);
  for (const name of ["main", "small", ""]) choice.choose(name);
  await choice.settled();
  assert.deepEqual(kept(), ["PATCH c main", "PATCH c small", "PATCH c null"]);
});

test("a new chat names it, and keeps it once it is a conversation", async () => {
  const choice = await offering("main", "small");
  choice.show(null);
  choice.choose("small");
  await choice.settled();
  assert.deepEqual([choice.known, choice.named, kept()], [true, { model: "small" }, []]);
  answers.push(OK);
  choice.began("new");
  await choice.settled();
  assert.deepEqual(kept(), ["PATCH new small"]);
  choice.show(null);
  assert.deepEqual([choice.chosen, choice.named], [null, {}]);
});

test("what could not be kept is as it was, and told", async () => {
  const choice = await offering("main", "small");
  choice.show("c", "main");
  answers.push(REFUSED);
  choice.choose("small");
  await choice.settled();
  assert.deepEqual([choice.chosen, failures], ["main", ["Not now"]]);
});

test("a failure does not undo what was chosen after it, or somewhere else", async () => {
  const choice = await offering("main", "small");
  choice.show("c", "main");
  answers.push(REFUSED, OK, REFUSED);
  choice.choose("small");
  choice.choose("");
  await choice.settled();
  assert.equal(choice.chosen, null);
  choice.choose("small");
  choice.show("d", "main");
  await choice.settled();
  assert.deepEqual([choice.chosen, failures], ["main", []]);
});

test("an answer says whose place the default has taken", () => {
  const begun = reduce(EMPTY, { type: "run.started", run_id: "r", model: "main", model_gone: "old" });
  const told = (event) => ending(reduce(begun, event)).text;
  assert.match(told({ type: "run.finished", content: "42" }), /^The model “old” is not offered any more/);
  assert.match(told({ type: "run.finished", content: "42", finish_reason: "length" }), /cut off.*“old”/);
  assert.equal(ending(reduce(reduce(EMPTY, { type: "run.started" }), { type: "run.finished", content: "42" })).text, "");
});
