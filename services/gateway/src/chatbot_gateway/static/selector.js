/** The list of models above a conversation. */

import { Choice } from "./choice.js";
import { element } from "./view.js";

const field = document.getElementById("model");
let told = () => {};

export const choice = new Choice(draw, (failure) => told(failure));

/** @param {(failure: Error) => void} failed */
export function prepare(failed) {
  told = failed;
  field.addEventListener("change", () => choice.choose(field.value));
}

function draw() {
  const options = choice.options;
  field.hidden = options.length === 0;
  field.disabled = !choice.known;
  field.replaceChildren(...options.map(({ value, label }) => element("option", { value }, label)));
  field.value = choice.chosen ?? "";
}
