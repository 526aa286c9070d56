/**
 * The messages of a conversation as a tree: an answer that was regenerated and a question that was edited stand beside
 * the old one. Shown is one branch: the newest, unless another was chosen. Pure.
 */

export class Tree {
  #messages = new Map();
  #chosen = new Map(); // parent → which of its children is shown

  get(id) { return this.#messages.get(id); }

  /** Also in the place of those known under the same id. `{id, parent_id, …}`: ids grow with time. */
  add(...messages) {
    for (const message of messages) this.#messages.set(message.id, message);
  }

  choose(id) { this.#chosen.set(this.get(id).parent_id, id); }

  /** Id of the message that came last, in whichever branch. */
  get newest() { return [...this.#messages.keys()].reduce((last, id) => (id > (last ?? "") ? id : last), null); }

  /** @returns {{message: object, siblings: string[]}[]} the branch that is shown, each with the ids that share its place */
  path() {
    const [children, latest] = this.#grown();
    const path = [];
    let siblings = children.get(null) ?? [];
    while (siblings.length) {
      const newest = siblings.reduce((best, id) => (latest.get(id) > latest.get(best) ? id : best));
      const message = this.get(siblings.find((id) => this.#chosen.get(this.get(id).parent_id) === id) ?? newest);
      // Of a conversation that was not read to its beginning, several branches may begin at the top.
      path.push({ message, siblings: siblings.filter((id) => this.get(id).parent_id === message.parent_id) });
      siblings = children.get(message.id) ?? [];
    }
    return path;
  }

  /** Children of each message, oldest first (of null: those whose parent is not here), and the newest id below each. */
  #grown() {
    const [children, latest] = [new Map(), new Map()];
    for (const id of [...this.#messages.keys()].sort().reverse()) {
      const { parent_id: parent } = this.get(id);
      const place = this.#messages.has(parent) ? parent : null;
      const last = latest.get(id) ?? id;
      latest.set(id, last);
      children.set(place, [id, ...(children.get(place) ?? [])]);
      if (place && last > (latest.get(place) ?? "")) latest.set(place, last);
    }
    return [children, latest];
  }
}
