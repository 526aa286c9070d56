/** DOM of messages, sources and the list of conversations. Builds nodes; decides nothing. */

import { link, render } from "./markdown.js";

/** @param {string} name  @param {object} props  @param {...(Node|string)} children */
export function element(name, props = {}, ...children) {
  const { data, ...rest } = props;
  const node = Object.assign(document.createElement(name), rest);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

export function question(text) {
  return element("article", { className: "message mine", ariaLabel: "You" }, element("p", {}, text));
}

export const OUTCOME = {
  failed: "This answer could not be finished.",
  cancelled: "Stopped.",
  interrupted: "This answer was interrupted.",
  requires_action: "A tool waited for you to agree.",
};

/** A message as it is stored. */
export function stored(message) {
  if (message.role === "user") return question(message.text);
  const answer = new Answer(message.text, message.citations ?? []);
  answer.settle(OUTCOME[message.status] ?? "");
  return answer.node;
}

/** The bot's side of a turn, filled while it arrives. */
export class Answer {
  #body = element("div", { className: "text" });
  #notes = element("div", { className: "notes" });
  #tools = element("div", { className: "tools" });
  #text = "";
  #citations = [];
  #drawing = false;

  constructor(text = "", citations = []) {
    const face = element("img", { src: "/static/icon.svg", alt: "", width: 30, height: 30, className: "face" });
    const content = element("div", { className: "content" }, this.#body, this.#notes, this.#tools);
    this.node = element("article", { className: "message theirs", ariaLabel: "Assistant" }, face, content);
    this.#text = text;
    this.#citations = citations;
    if (text) this.settle();
  }

  get text() { return this.#text; }

  wait() {
    this.node.ariaBusy = "true";
    const dots = element("span", { className: "dots" }, element("i"), element("i"), element("i"));
    this.#body.replaceChildren(element("p", { className: "waiting" }, dots, element("span", { className: "unseen" }, "Answering")));
  }

  append(text) {
    this.#text += text;
    this.#schedule();
  }

  replace(text) {
    this.#text = text;
    this.#schedule();
  }

  cite(citation) {
    this.#citations = [...this.#citations.filter((known) => known.index !== citation.index), citation];
  }

  /** Whether a tool may be called, once the user has said so. */
  ask({ name, arguments: given }) {
    return new Promise((decide) => {
      const node = element("p", { className: "notice" }, `May the assistant use ${name}?`, element("code", {}, ` ${given} `));
      node.setAttribute("role", "alert");
      for (const [label, yes] of [["Allow", true], ["Decline", false]]) {
        const button = element("button", { type: "button", textContent: label });
        button.addEventListener("click", () => { node.remove(); decide(yes); }, { once: true });
        node.append(button, " ");
      }
      this.#notes.append(node);
    });
  }

  /** The answer is complete, or as complete as it gets. */
  settle(note = "", again = null) {
    this.node.ariaBusy = "false";
    this.#draw();
    this.#notes.replaceChildren(...this.#sources());
    if (note) this.#notes.append(notice(note, again));
    this.#tools.replaceChildren(...(this.#text ? [copyButton("Copy", () => this.#text)] : []));
  }

  #schedule() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => { this.#drawing = false; this.#draw(); });
  }

  #draw() {
    const content = render(this.#text);
    for (const mark of content.querySelectorAll(".cite")) this.#activate(mark);
    for (const pre of content.querySelectorAll("pre")) decorate(pre);
    if (this.#text || this.node.ariaBusy === "false") this.#body.replaceChildren(content);
  }

  #activate(mark) {
    const found = this.#citations.find((citation) => String(citation.index) === mark.dataset.index);
    if (!found) return mark.replaceWith(`[${mark.dataset.index}]`);
    const open = element("button", { type: "button", title: found.title, textContent: found.index });
    open.setAttribute("aria-label", `Source ${found.index}: ${found.title}`);
    open.addEventListener("click", () => this.#reveal(found.index));
    mark.replaceChildren(open);
  }

  #reveal(index) {
    const list = this.#notes.querySelector("details");
    const source = list?.querySelector(`[data-index="${Number(index)}"]`);
    if (!source) return;
    list.open = source.querySelector("details").open = true;
    source.scrollIntoView({ block: "nearest", behavior: "smooth" });
    source.querySelector("summary").focus({ preventScroll: true });
  }

  #sources() {
    if (!this.#citations.length) return [];
    const count = this.#citations.length;
    const ordered = [...this.#citations].sort((a, b) => a.index - b.index);
    const summary = element("summary", {}, count === 1 ? "1 source" : `${count} sources`);
    return [element("details", { className: "sources", open: true }, summary, element("ol", {}, ...ordered.map(source)))];
  }
}

function source({ index, title, text, url, kind }) {
  const head = element("summary", {},
    element("span", { className: "number" }, String(index)),
    element("span", { className: "name" }, title || "Untitled"),
    element("span", { className: "kind" }, { faq: "FAQ", document: "Document" }[kind] ?? ""));
  const body = element("blockquote", {}, text ?? "");
  const target = url && link(url, "Open the source");
  return element("li", { data: { index } }, element("details", {}, head, body, ...(target ? [target] : [])));
}

function notice(text, again) {
  const node = element("p", { className: "notice" }, text);
  node.setAttribute("role", "alert");
  if (again) {
    const button = element("button", { type: "button", textContent: "Try again" });
    button.addEventListener("click", again, { once: true });
    node.append(" ", button);
  }
  return node;
}

/** A passing message where messages are: something of the page's own failed. */
export const failed = (text, again) => element("div", { className: "message" }, notice(text, again));

function decorate(pre) {
  const frame = element("div", { className: "code" });
  pre.replaceWith(frame);
  frame.append(
    element("div", { className: "bar" },
      element("span", {}, pre.dataset.language ?? ""), copyButton("Copy", () => pre.textContent)),
    pre);
}

function copyButton(label, text) {
  const button = element("button", { type: "button", className: "copy", textContent: label });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not possible here"; // browsers allow it on https and localhost only
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

/** One line of the list of conversations. */
export function conversationItem({ id, title, last_message: last, updated_at: when }, onDelete) {
  const open = element("a", { href: `#/c/${id}`, title },
    element("span", { className: "name" }, title),
    element("span", { className: "quiet small" }, `${ago(when)}${last ? ` · ${last.role === "user" ? last.text : plain(last.text)}` : ""}`));
  const erase = element("button", { type: "button", className: "icon erase", title: "Delete" });
  erase.append(document.querySelector("#close-sidebar svg").cloneNode(true));
  erase.setAttribute("aria-label", `Delete “${title}”`);
  erase.addEventListener("click", onDelete);
  return element("li", { data: { id } }, open, erase);
}

/** Text without the marks of Markdown, for one line. Only where they are marks: `a > b` and `snake_case` stay. */
const plain = (text) => text
  .replace(/^\s*(?:(?:>|#{1,6}(?=\s)|[-*+](?=\s))\s*)+/gm, "")
  .replace(/\s*\[\d+\]|`+|(?<!\w)[*_]+(?=\S)|(?<=\S)[*_]+(?!\w)/g, "")
  .replace(/\s+/g, " ").trim();

const STEPS = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });

function ago(when) {
  const seconds = (new Date(when) - Date.now()) / 1000;
  const [unit, size] = STEPS.find(([, size]) => Math.abs(seconds) >= size) ?? [];
  return unit ? words.format(Math.trunc(seconds / size), unit) : "now";
}
