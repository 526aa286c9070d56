import assert from "node:assert/strict";
import { test } from "node:test";

import { Tree } from "../../../services/gateway/src/chatbot_gateway/static/tree.js";

/** `1 2<1 3<2`: ids, each with its parent. */
function tree(text) {
  const grown = new Tree();
  grown.add(...text.split(" ").map((word) => word.split("<")).map(([id, parent]) => ({ id, parent_id: parent ?? null })));
  return grown;
}
const shown = (grown) => grown.path().map(({ message, siblings }) => message.id + (siblings.length > 1 ? `(${siblings})` : "")).join(" ");

test("one line of messages, in whichever order they were read", () => {
  assert.equal(shown(tree("1 2<1 3<2 4<3")), "1 2 3 4");
  assert.equal(shown(tree("4<3 1 3<2 2<1")), "1 2 3 4");
  assert.equal(shown(new Tree()), "");
});

test("the branch with the newest message is shown, wherever it forks", () => {
  assert.equal(shown(tree("1 2<1 3<2 4<3 5<1")), "1 5(2,5)");
  assert.equal(shown(tree("1 2<1 3<1 4<2 5<4")), "1 2(2,3) 4 5");
  assert.equal(shown(tree("1 2<1 3 4<3")), "3(1,3) 4");
});

test("another branch can be chosen, and what is asked there follows there", () => {
  const grown = tree("1 2<1 3<2 4<3 5<1");
  grown.choose("2");
  assert.equal(shown(grown), "1 2(2,5) 3 4");
  grown.add({ id: "6", parent_id: "4" });
  assert.equal(shown(grown), "1 2(2,5) 3 4 6");
  grown.choose("5");
  assert.equal(shown(grown), "1 5(2,5)");
  assert.equal(grown.newest, "6");
});

test("a conversation that was not read to its beginning", () => {
  const grown = tree("5<4 6<5 7<2 8<7");
  assert.equal(shown(grown), "7 8");
  grown.add({ id: "2", parent_id: null }, { id: "4", parent_id: "2" });
  assert.equal(shown(grown), "2 7(4,7) 8");
});
