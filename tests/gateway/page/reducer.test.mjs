import assert from "node:assert/strict";
import { test } from "node:test";

import { EMPTY, decided, reduce, stored } from "../../../services/gateway/src/chatbot_gateway/static/reducer.js";
import { ending } from "../../../services/gateway/src/chatbot_gateway/static/words.js";

const STARTED = { type: "run.started", run_id: "r", conversation_id: "c", user_message_id: "q", message_id: "m" };
const called = (id, type, rest = {}) => ({ type, tool_call_id: id, name: "add", arguments: "{}", ...rest });
const after = (...events) => events.reduce(reduce, EMPTY);
const states = ({ tools }) => tools.map(({ id, state }) => `${id} ${state}`);

test("text grows, and is replaced by a snapshot, by moderation and by the end", () => {
  const said = [STARTED, { type: "text.delta", text: "We " }, { type: "text.delta", text: "open" }];
  assert.equal(after(...said).text, "We open");
  assert.equal(after(...said, { type: "run.snapshot", text: "We open at", parts: [] }, { type: "text.delta", text: " 8" }).text, "We open at 8");
  assert.equal(after(...said, { type: "text.replaced", text: "Withheld." }).text, "Withheld.");
  const end = after(...said, { type: "run.finished", conversation_id: "c", message_id: "m", content: "We open at 8." });
  assert.deepEqual([end.text, end.status, end.question, ending(end).text], ["We open at 8.", "completed", "q", ""]);
});

test("an answer that is not whole says why, when it ends and when it is read again", () => {
  const finished = { type: "run.finished", conversation_id: "c", message_id: "m", content: "One must never" };
  const cut = after(STARTED, { ...finished, finish_reason: "length" });
  assert.match(ending(cut).text, /cut off/);
  assert.equal(ending(cut).retryable, false);
  const message = { id: "m", conversation_id: "c", parent_id: "q", text: "", status: "completed", error: null };
  assert.match(ending(stored({ ...message, finish_reason: "content_filter" })).text, /withheld/);
  assert.equal(ending(stored({ ...message, finish_reason: null })).text, "");
});

test("calls of tools keep their order, whichever is done first", () => {
  const running = after(STARTED, called("a", "tool.started"), called("b", "tool.started"));
  assert.deepEqual(states(running), ["a running", "b running"]);
  const done = [{ type: "tool.finished", tool_call_id: "b", name: "add", status: "failed", content: "No." }].reduce(reduce, running);
  assert.deepEqual(states(done), ["a running", "b failed"]);
  assert.deepEqual(done.tools[1], { id: "b", name: "add", arguments: "{}", state: "failed", result: "No." });
});

test("a call that waits for the user is there once, also in the attempt that makes it", () => {
  const asked = after(STARTED, called("a", "tool.approval", { more: false }));
  assert.deepEqual(states(asked), ["a asked"]);
  assert.deepEqual(states(decided(asked, "a", false)), ["a declined"]);
  const parts = [{ type: "text", text: "Well" }, called("a", "tool_call")];
  const again = [STARTED, { type: "run.snapshot", text: "Well", parts }, called("a", "tool.started")].reduce(reduce, decided(asked, "a", true));
  assert.deepEqual([states(again), again.text], [["a running"], "Well"]);
});

test("another attempt begins with nothing of the last one", () => {
  const second = after(STARTED, { type: "text.delta", text: "We" }, called("a", "tool.started"), { ...STARTED, attempt: 2 });
  assert.deepEqual([second.text, second.tools], ["", []]);
});

test("each source is cited once, and a snapshot's citations are the ones that follow it", () => {
  const [one, two] = [{ type: "citation", index: 1, title: "A" }, { type: "citation", index: 2, title: "B" }];
  assert.deepEqual(after(STARTED, one, two, one).citations.map(({ index }) => index), [2, 1]);
  assert.deepEqual(after(STARTED, one, { type: "run.snapshot", text: "", parts: [] }, two).citations.map(({ index }) => index), [2]);
});

test("a run that ends early leaves no call running, and says why and whether to try again", () => {
  for (const [event, note, retryable] of [
    [{ type: "run.cancelled" }, /^Stopped/, true],
    [{ type: "run.interrupted" }, /interrupted/, true],
    [{ type: "run.failed", error: { type: "urn:chatbot:problem:provider-timeout", title: "It did not answer." } }, /^It did not/, true],
    [{ type: "run.failed", error: { type: "urn:chatbot:problem:budget-used-up", title: "Nothing is left." } }, /^Nothing/, false],
    [{ type: "run.failed", error: { type: "urn:chatbot:problem:budget-held", title: "Ask again." } }, /^Ask again/, true],
  ]) {
    const end = after(STARTED, called("a", "tool.started"), event);
    assert.deepEqual(states(end), ["a stopped"]);
    assert.match(ending(end).text, note);
    assert.equal(ending(end).retryable, retryable);
  }
});

test("a stored answer is what its run was", () => {
  const parts = [called("a", "tool_call"), { type: "tool_result", tool_call_id: "a", name: "add", status: "completed", content: "3" }, called("b", "tool_call")];
  const message = { id: "m", parent_id: "q", conversation_id: "c", text: "Three", parts, citations: [], status: "failed", error: "provider-failed: It broke: off.", feedback: { rating: "up", comment: null } };
  const answer = stored(message);
  assert.deepEqual(states(answer), ["a completed", "b stopped"]);
  assert.deepEqual([ending(answer).text, answer.rating.rating, answer.question], ["It broke: off.", "up", "q"]);
  assert.deepEqual(states(stored({ ...message, status: "requires_action", error: null })), ["a completed", "b asked"]);
});

test("what later servers send changes nothing", () => {
  const answer = after(STARTED);
  assert.equal(reduce(answer, { type: "weather.changed" }), answer);
});
