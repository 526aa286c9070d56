/**
 * What the assistant does besides talking: a line for each call of a tool, and behind it what was asked and what came of it.
 * Both are texts of a model or of a stranger's server: they become text nodes, never HTML.
 */

import { element, icon } from "./view.js";

const STATES = {
  running: "Running…", asked: "Waits for you", completed: "Done", failed: "Failed", declined: "Declined", stopped: "Stopped",
};

/** Lines for calls as reducer.js has them; those that are there already stay as far as they were opened. */
export class Tools {
  node = element("div", { className: "calls" });
  #lines = new Map(); // id of the call → {tool, node, state, body}

  show(tools) {
    for (const tool of tools) this.#show(tool);
    const nodes = tools.map(({ id }) => this.#lines.get(id).node);
    if (nodes.length !== this.node.childElementCount || nodes.some((node, at) => node !== this.node.children[at])) {
      this.node.replaceChildren(...nodes);
    }
  }

  /** Where one goes on from who has said whether it may be called. */
  focusOn(id) { this.#lines.get(id)?.node.querySelector("summary").focus({ preventScroll: true }); }

  #show(tool) {
    const line = this.#lines.get(tool.id) ?? this.#line(tool);
    if (line.tool === tool) return;
    line.tool = tool;
    line.node.dataset.state = tool.state;
    line.state.textContent = STATES[tool.state] ?? tool.state;
    line.body.replaceChildren(...told("Asked with", readable(tool.arguments)), ...told("Result", tool.result));
  }

  #line({ id, name }) {
    const [state, body] = [element("span", { className: "state" }), element("div", { className: "said" })];
    const head = element("summary", {}, icon("tool"), element("span", { className: "name" }, name), state);
    const line = { node: element("details", { className: "call" }, head, body), state, body };
    this.#lines.set(id, line);
    return line;
  }
}

export const mayUse = (name) => `May the assistant use ${name}?`;

/** Asks whether a tool may be called. Resolves with the answer. */
export function ask({ name, arguments: given }, place) {
  return new Promise((decide) => {
    const buttons = [["Decline", false, ""], ["Allow", true, "primary"]].map(([label, yes, className]) => {
      const button = element("button", { type: "button", className, textContent: label });
      button.addEventListener("click", () => { node.remove(); decide(yes); }, { once: true });
      return button;
    });
    const node = element("div", { className: "question", role: "group", ariaLabel: mayUse(name) },
      element("p", {}, "May the assistant use ", element("strong", {}, name), "?"),
      ...told("With", readable(given)),
      element("div", { className: "row" }, ...buttons));
    place.append(node);
  });
}

function told(label, text) {
  if (!text) return [];
  return [element("p", { className: "quiet small" }, label), element("pre", { tabIndex: 0, ariaLabel: label, role: "region" }, text)];
}

/** JSON over several lines; what is no JSON, or says nothing, as it is. */
function readable(text) {
  try {
    const value = JSON.parse(text);
    return Object.keys(value ?? {}).length ? JSON.stringify(value, null, 2) : "";
  } catch {
    return text;
  }
}
