/** Thumbs up or down for an answer, and why. The last one counts. */

import { post } from "./api.js";
import { element, iconButton, notice } from "./view.js";

const WHY = { up: "What was good about it?", down: "What was wrong with it?" };

/**
 * @param {{conversation: string, message: string, rating: {rating: string} | null}} answer as reducer.js has it
 * @param {Element} place where the user is asked why
 * @param {(rating: object) => void} rated told when the server has kept it
 * @returns {Element[]} the two thumbs
 */
export function thumbs({ conversation, message, rating }, place, rated) {
  const route = `/api/v1/conversations/${conversation}/messages/${message}/feedback`;
  const buttons = [["up", "Good answer"], ["down", "Bad answer"]].map(([value, label]) => {
    const button = iconButton(value, label, () => rate(value));
    button.dataset.rating = value;
    return button;
  });
  const press = (value) => { for (const button of buttons) button.ariaPressed = String(button.dataset.rating === value); };

  async function rate(value) {
    press(value);
    try {
      await post(route, { rating: value });
      rated(rating = { rating: value });
      place.replaceChildren(why(value, (comment) => post(route, { rating: value, comment })));
    } catch (failure) {
      press(rating?.rating);
      place.replaceChildren(notice(failure.message));
    }
  }

  press(rating?.rating);
  return buttons;
}

/** Asks for a reason, which nobody has to give. */
function why(value, send) {
  const field = element("textarea", { rows: 2, maxLength: 2000, placeholder: "Optional" });
  const later = element("button", { type: "button", textContent: "No, thanks" });
  const submit = element("button", { type: "submit", className: "primary", textContent: "Send" });
  const form = element("form", { className: "why" },
    element("label", {}, WHY[value], field), element("div", { className: "row" }, later, submit));
  const thank = () => {
    const said = element("p", { className: "quiet small", role: "status", tabIndex: -1 }, "Thank you, that helps.");
    const { activeElement: where, body } = document; // a button that was disabled has lost it to the body
    form.replaceWith(said);
    if (where === body || form.contains(where)) said.focus({ preventScroll: true }); // else the user has gone on
  };
  later.addEventListener("click", thank);
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); later.click(); } });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!field.value.trim()) return thank();
    submit.disabled = true;
    try {
      await send(field.value.trim());
      thank();
    } catch (failure) {
      submit.disabled = false;
      form.querySelector(".notice")?.remove();
      form.append(notice(failure.message));
    }
  });
  return form;
}
