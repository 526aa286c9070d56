/**
 * A small part of Markdown as DOM nodes. Text becomes text nodes only: whatever a model writes, nothing of it is ever
 * parsed as HTML.
 */

const INLINE = new RegExp(
  [
    "`([^`]+)`", // 1 code
    "\\*\\*(?=\\S)(.+?)(?<=\\S)\\*\\*", // 2 bold
    "(?<![\\w*])[*_](?=\\S)([^*_]+?)(?<=\\S)[*_](?![\\w*])", // 3 italic
    "\\[([^\\]]+)\\]\\(([^()\\s]+)\\)", // 4, 5 link
    "(https?://[^\\s<>()]+[^\\s<>().,;:!?'\"])", // 6 bare link
    "\\[(\\d{1,3})\\]", // 7 citation
  ].join("|"),
  "g",
);

/** @param {string} text  @returns {DocumentFragment} */
export function render(text) {
  const fragment = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;
  while (at < lines.length) at = block(lines, at, fragment);
  return fragment;
}

function block(lines, at, out) {
  const line = lines[at];
  if (!line.trim()) return at + 1;
  const fence = /^\s*(```+|~~~+)\s*([\w+#-]*)/.exec(line);
  if (fence) return code(lines, at, fence, out);
  const heading = /^(#{1,6})\s+(.*)$/.exec(line);
  if (heading) return add(out, `h${Math.min(heading[1].length + 2, 6)}`, heading[2]) && at + 1;
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) return out.append(document.createElement("hr")), at + 1;
  if (/^\s*>/.test(line)) return quote(lines, at, out);
  if (item(line)) return list(lines, at, out);
  if (row(line) && /^[\s|:-]+$/.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return table(lines, at, out);
  return paragraph(lines, at, out);
}

function paragraph(lines, at, out) {
  const start = at;
  while (at < lines.length && lines[at].trim() && (at === start || !startsBlock(lines[at]))) at += 1;
  const node = document.createElement("p");
  lines.slice(start, at).forEach((line, index) => {
    if (index) node.append(document.createElement("br"));
    inline(line.trim(), node);
  });
  out.append(node);
  return at;
}

const startsBlock = (line) => /^\s*(```|~~~|>)|^#{1,6}\s/.test(line) || item(line);
const item = (line) => /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/.exec(line);
const row = (line) => /^\s*\|.*\|\s*$/.test(line);

function code(lines, at, [, mark, language], out) {
  const body = [];
  for (at += 1; at < lines.length && !lines[at].trim().startsWith(mark); at += 1) body.push(lines[at]);
  const pre = document.createElement("pre");
  pre.tabIndex = 0; // scrollable regions have to be reachable by keyboard
  if (language) pre.dataset.language = language;
  add(pre, "code").textContent = body.join("\n");
  out.append(pre);
  return at + 1;
}

function quote(lines, at, out) {
  const body = [];
  for (; at < lines.length && /^\s*>/.test(lines[at]); at += 1) body.push(lines[at].replace(/^\s*> ?/, ""));
  add(out, "blockquote").append(render(body.join("\n")));
  return at;
}

function list(lines, at, out) {
  const [, indent, mark] = item(lines[at]);
  const node = document.createElement(/\d/.test(mark) ? "ol" : "ul");
  if (/\d/.test(mark)) node.start = parseInt(mark, 10);
  while (at < lines.length) {
    const found = item(lines[at]);
    if (!found || found[1].length < indent.length) break;
    if (found[1].length > indent.length + 1 && node.lastChild) {
      at = list(lines, at, node.lastChild);
      continue;
    }
    const entry = add(node, "li", found[3]);
    at += 1;
    while (at < lines.length && /^\s+\S/.test(lines[at]) && !item(lines[at])) {
      entry.append(" ");
      inline(lines[at].trim(), entry);
      at += 1;
    }
    if (at + 1 < lines.length && !lines[at].trim() && item(lines[at + 1])) at += 1;
  }
  out.append(node);
  return at;
}

function table(lines, at, out) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const frame = add(out, "div");
  frame.className = "table";
  frame.tabIndex = 0;
  const node = add(frame, "table");
  const head = add(add(node, "thead"), "tr");
  cells(lines[at]).forEach((cell) => add(head, "th", cell));
  const body = add(node, "tbody");
  for (at += 2; at < lines.length && row(lines[at]); at += 1) {
    const line = add(body, "tr");
    cells(lines[at]).forEach((cell) => add(line, "td", cell));
  }
  return at;
}

function add(parent, name, text = "") {
  const node = document.createElement(name);
  inline(text, node);
  parent.append(node);
  return node;
}

function inline(text, out) {
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    out.append(text.slice(last, match.index), span(match));
    last = match.index + match[0].length;
  }
  out.append(text.slice(last));
}

function span([all, source, bold, italic, label, target, bare, cited]) {
  if (source !== undefined) return Object.assign(document.createElement("code"), { textContent: source });
  if (cited !== undefined) return citation(cited);
  if (label !== undefined) return link(target, label) ?? all;
  if (bare !== undefined) return link(bare, bare) ?? all;
  const node = document.createElement(bold !== undefined ? "strong" : "em");
  inline(bold ?? italic, node);
  return node;
}

function citation(index) {
  const node = document.createElement("sup");
  node.className = "cite";
  node.dataset.index = index;
  node.textContent = index;
  return node;
}

/** A link that opens elsewhere, null for anything but the web and e-mail. */
export function link(target, label) {
  let url;
  try { url = new URL(target); } catch { return null; }
  if (!["https:", "http:", "mailto:"].includes(url.protocol)) return null;
  const node = document.createElement("a");
  node.href = url.href;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  node.textContent = label;
  return node;
}
