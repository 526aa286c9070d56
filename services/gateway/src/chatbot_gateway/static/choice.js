/** Who answers in the open conversation: what there is to choose from, what was chosen, and keeping it. Draws nothing. */

import { get, patch } from "./api.js";

export class Choice {
  #offered = []; // names
  #conversation = null; // id; null for a new chat
  #kept = null; // what the server has
  #keeping = Promise.resolve();
  #changed;
  #failed;
  chosen = null; // null: the default
  known = true; // false while it is being read

  /** @param {() => void} changed  @param {(failure: Error) => void} failed what was chosen could not be kept */
  constructor(changed, failed) {
    this.#changed = changed;
    this.#failed = failed;
  }

  /** Failing is quiet: then there is nothing to choose from, and who was chosen answers. */
  async load() {
    const found = await get("/api/v1/chat/models").catch(() => null);
    this.#offered = found?.data.map(({ name }) => name) ?? [];
    this.#changed();
  }

  /** Another conversation is open. Without a `model`, which may be null, one that has an id is still being read. */
  show(conversation, model) {
    this.#conversation = conversation;
    this.known = conversation === null || model !== undefined;
    this.chosen = this.#kept = model ?? null;
    this.#changed();
  }

  /** What was a new chat is a conversation. */
  began(conversation) {
    this.#conversation = conversation;
    if (this.chosen) this.#keep();
  }

  choose(name) {
    this.chosen = name || null;
    if (this.#conversation) this.#keep();
    this.#changed();
  }

  /** Resolves when the server knows what was chosen, or has refused it. */
  settled() { return this.#keeping; }

  /** What a request says that cannot leave it to its conversation. */
  get named() { return this.#offered.includes(this.chosen) ? { model: this.chosen } : {}; }

  /** @returns {{value: string, label: string}[]} nothing where there is nothing to choose */
  get options() {
    const gone = this.chosen && !this.#offered.includes(this.chosen);
    if (this.#offered.length < 2 && !(gone && this.#offered.length)) return [];
    return [
      { value: "", label: "Default model" },
      ...this.#offered.map((name) => ({ value: name, label: name })),
      ...(gone ? [{ value: this.chosen, label: `${this.chosen} (not offered any more)` }] : []),
    ];
  }

  /** One after the other: the last one counts. */
  #keep() {
    const [conversation, model] = [this.#conversation, this.chosen];
    const here = () => this.#conversation === conversation;
    this.#keeping = this.#keeping.then(() => patch(`/api/v1/conversations/${conversation}`, { model })).then(
      () => { if (here()) this.#kept = model; },
      (failure) => {
        if (!here() || this.chosen !== model) return;
        this.chosen = this.#kept;
        this.#changed();
        this.#failed(failure);
      });
  }
}
