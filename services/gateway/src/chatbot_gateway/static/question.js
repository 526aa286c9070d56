/** The user's side of a turn, which can be edited: what is sent then stands beside it. */

import { element, iconButton, notice, switcher } from "./view.js";

export class Question {
  #bubble;
  #actions = element("div", { className: "actions" });
  #deeds;

  /**
   * @param {{id?: string, text: string}} message one without an id is not stored yet
   * @param {{edit: (message: object, text: string) => boolean, choose: (id: string, arrow: string) => void}} deeds
   *   `edit` says whether it was sent
   */
  constructor(message, deeds) {
    this.message = message;
    this.#deeds = deeds;
    this.#bubble = element("p", { className: "bubble" }, message.text);
    this.node = element("article", { className: "message mine", ariaLabel: "You" }, this.#bubble, this.#actions);
  }

  /** It is stored, among others in its place. */
  place(message, siblings) {
    this.message = message;
    this.#actions.replaceChildren(
      ...switcher(message.id, siblings, "question", this.#deeds.choose),
      Object.assign(iconButton("edit", "Edit this question", () => this.edit()), { className: "icon alter" }));
  }

  focusOn(arrow) { focusArrow(this.#actions, arrow); }

  /** Turns into a field with `text` in it, and back. */
  edit(text = this.message.text) {
    const field = element("textarea", { value: text, rows: Math.min(text.split("\n").length + 1, 12), ariaLabel: "Your question" });
    const cancel = element("button", { type: "button", textContent: "Cancel" });
    const send = element("button", { type: "submit", className: "primary", textContent: "Send" });
    const form = element("form", { className: "editor" }, field, element("div", { className: "row" }, cancel, send));
    const close = () => {
      form.replaceWith(this.#bubble);
      this.#actions.hidden = false;
    };
    cancel.addEventListener("click", () => { close(); this.#actions.querySelector("button:last-child")?.focus(); });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); cancel.click(); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      form.querySelector(".notice")?.remove();
      if (this.#deeds.edit(this.message, field.value.trim())) close();
      else form.append(notice("An answer is coming in. Send this when it is there, or stop it."));
    });
    this.#actions.hidden = true;
    this.#bubble.replaceWith(form);
    field.focus();
  }
}

/** After a switch the same arrow is where one goes on from; at its end, the other one. */
export function focusArrow(actions, arrow) {
  const [back, next] = actions.querySelectorAll(".switcher button");
  const wanted = arrow === "back" ? back : next;
  (wanted?.disabled ? [back, next].find((button) => !button.disabled) : wanted)?.focus();
}
