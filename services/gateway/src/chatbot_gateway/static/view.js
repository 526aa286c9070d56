/** Small pieces of the page that others are made of, and the list of conversations. Builds nodes; decides nothing. */

/** @param {string} name  @param {object} props  @param {...(Node|string)} children */
export function element(name, props = {}, ...children) {
  const { data, ...rest } = props;
  const node = Object.assign(document.createElement(name), rest);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

const ICONS = {
  up: "M7 11l4-8c1.7 0 2.6 1 2.4 2.5L13 9h5.6c1.3 0 2.1 1 1.8 2.2l-1.6 7c-.2 1-1 1.8-2 1.8H7zM7 11H3.5v9H7",
  down: "M17 13l-4 8c-1.7 0-2.6-1-2.4-2.5L11 15H5.4c-1.3 0-2.1-1-1.8-2.2l1.6-7c.2-1 1-1.8 2-1.8H17zM17 13h3.5V4H17",
  again: "M20 5v5h-5M4 19v-5h5M5.5 9A7.5 7.5 0 0 1 19 7.5l1 2.5M18.5 15A7.5 7.5 0 0 1 5 16.5L4 14",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  back: "M14 6l-6 6 6 6",
  next: "M10 6l6 6-6 6",
  tool: "M14.5 6.5a4 4 0 0 1 5-1l-2.8 2.8.9 1.9 1.9.9L22 8.3a4.5 4.5 0 0 1-6 5L8 21l-3-3 8-8a4.5 4.5 0 0 1 1.5-3.5z",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "i");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

/** A button that shows an icon and says what it does to those who do not see it. */
export function iconButton(name, label, onClick) {
  const button = element("button", { type: "button", className: "icon", title: label, ariaLabel: label }, icon(name));
  button.addEventListener("click", onClick);
  return button;
}

/** `2 / 3` between two arrows, where a message shares its place with others; nothing where it is alone. */
export function switcher(id, siblings, what, choose) {
  if (siblings.length < 2) return [];
  const at = siblings.indexOf(id);
  const arrow = (name, label, to) =>
    Object.assign(iconButton(name, label, () => choose(siblings[to], name)), { disabled: !(to in siblings) });
  const node = element("span", { className: "switcher alter" },
    arrow("back", `Previous ${what}`, at - 1),
    element("span", { className: "small", ariaLabel: `${what} ${at + 1} of ${siblings.length}`, role: "img" },
      `${at + 1} / ${siblings.length}`),
    arrow("next", `Next ${what}`, at + 1));
  return [node];
}

/** @param {{label: string, act: () => void} | null} way what can be done about it */
export function notice(text, way = null) {
  const node = element("p", { className: "notice", role: "alert" }, text);
  if (way) {
    const button = element("button", { type: "button", textContent: way.label });
    button.addEventListener("click", way.act, { once: true });
    node.append(" ", button);
  }
  return node;
}

/** A passing message where messages are: something of the page's own failed. */
export const failed = (text, way) => element("div", { className: "message" }, notice(text, way));

export function copyButton(text) {
  const label = "Copy";
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
    element("span", { className: "quiet small" }, `${ago(when)}${last?.text ? ` · ${last.role === "user" ? last.text : plain(last.text)}` : ""}`));
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
