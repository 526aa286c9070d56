/** The bot's side of a turn, drawn from its state while it grows and when it has ended. */

import { thumbs } from "./feedback.js";
import { link, render } from "./markdown.js";
import { focusArrow } from "./question.js";
import { EMPTY } from "./reducer.js";
import { Tools, ask } from "./tools.js";
import { copyButton, element, iconButton, notice, switcher } from "./view.js";

export class Answer {
  #tools = new Tools();
  #body = element("div", { className: "text" });
  #notes = element("div", { className: "notes" });
  #actions = element("div", { className: "actions" });
  #why = element("div");
  #state = EMPTY;
  #siblings = [];
  #deeds;
  #drawing = false;

  /** @param {{again: (id: string) => void, choose: (id: string, arrow: string) => void}} deeds of its buttons */
  constructor(deeds) {
    this.#deeds = deeds;
    const face = element("img", { src: "/static/icon.svg", alt: "", width: 30, height: 30, className: "face" });
    const content = element("div", { className: "content" },
      this.#tools.node, this.#body, this.#notes, this.#actions, this.#why);
    this.node = element("article", { className: "message theirs", ariaLabel: "Assistant" }, face, content);
  }

  wait() {
    this.node.ariaBusy = "true";
    const dots = element("span", { className: "dots" }, element("i"), element("i"), element("i"));
    this.#body.replaceChildren(element("p", { className: "waiting" }, dots, element("span", { className: "unseen" }, "Answering")));
  }

  /** More of it has come. */
  show(state) {
    this.#state = state;
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => { this.#drawing = false; this.#draw(); });
  }

  /** Whether a tool may be called, once the user has said so. */
  async ask(call) {
    const approved = await ask(call, this.#notes);
    this.#tools.focusOn(call.tool_call_id);
    return approved;
  }

  /** It is complete, or as complete as it gets; `note` says why it is not, `way` what can be done. */
  settle(state, note = "", way = null) {
    this.#state = state;
    this.node.ariaBusy = "false";
    this.#draw();
    this.#notes.replaceChildren(...this.#sources(), ...(note ? [notice(note, way)] : []));
    this.#act();
  }

  /** It shares its place with these. */
  place(siblings) {
    this.#siblings = siblings;
    if (this.node.ariaBusy !== "true") this.#act();
  }

  focusOn(arrow) { focusArrow(this.#actions, arrow); }

  #act() {
    const { text, message, status } = this.#state;
    const ended = message && status !== "running";
    const again = () => Object.assign(
      iconButton("again", "Answer again", () => this.#deeds.again(message)), { className: "icon alter" });
    this.#actions.replaceChildren(
      ...switcher(message, this.#siblings, "answer", this.#deeds.choose),
      ...(text ? [copyButton(() => this.#state.text)] : []),
      ...(ended && text ? thumbs(this.#state, this.#why, (rating) => { this.#state = { ...this.#state, rating }; }) : []),
      ...(ended ? [again()] : []));
  }

  #draw() {
    const { text, tools } = this.#state;
    this.#tools.show(tools);
    if (!text && this.node.ariaBusy !== "false") return; // the dots stay
    const content = render(text);
    for (const mark of content.querySelectorAll(".cite")) this.#activate(mark);
    for (const pre of content.querySelectorAll("pre")) decorate(pre);
    this.#body.replaceChildren(content);
  }

  #activate(mark) {
    const found = this.#state.citations.find((citation) => String(citation.index) === mark.dataset.index);
    if (!found) return mark.replaceWith(`[${mark.dataset.index}]`);
    const open = element("button", { type: "button", title: found.title, textContent: found.index });
    open.setAttribute("aria-label", `Source ${found.index}: ${found.title}`);
    open.addEventListener("click", () => this.#reveal(found.index));
    mark.replaceChildren(open);
  }

  #reveal(index) {
    const list = this.#notes.querySelector(".sources");
    const source = list?.querySelector(`[data-index="${Number(index)}"]`);
    if (!source) return;
    list.open = source.querySelector("details").open = true;
    source.scrollIntoView({ block: "nearest", behavior: "smooth" });
    source.querySelector("summary").focus({ preventScroll: true });
  }

  #sources() {
    const { citations } = this.#state;
    if (!citations.length) return [];
    const ordered = [...citations].sort((a, b) => a.index - b.index);
    const summary = element("summary", {}, citations.length === 1 ? "1 source" : `${citations.length} sources`);
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

function decorate(pre) {
  const frame = element("div", { className: "code" });
  pre.replaceWith(frame);
  frame.append(
    element("div", { className: "bar" },
      element("span", {}, pre.dataset.language ?? ""), copyButton(() => pre.textContent)),
    pre);
}
