/** The list of conversations, and the drawer it becomes on a phone. */

import { get, remove } from "./api.js";
import { conversationItem, element } from "./view.js";

const by = (id) => document.getElementById(id);
const list = by("conversations");
const narrow = matchMedia("(max-width: 760px)");
let shown = [];
let current = null;
let onDeleted = () => {};

/** @param {(id: string) => void} deleted called with the id of a conversation that is gone */
export function prepare(deleted) {
  onDeleted = deleted;
  by("open-sidebar").addEventListener("click", () => drawer(true));
  by("close-sidebar").addEventListener("click", () => drawer(false));
  by("shade").addEventListener("click", () => drawer(false));
  by("more-conversations").addEventListener("click", () => more());
  list.addEventListener("click", (event) => { if (event.target.closest("a")) drawer(false); });
  narrow.addEventListener("change", () => drawer(false));
  drawer(false);
}

export function drawer(open) {
  document.body.classList.toggle("drawer", open && narrow.matches);
  by("sidebar").inert = narrow.matches && !open;
  by("shade").hidden = !(open && narrow.matches);
  by("open-sidebar").ariaExpanded = String(open);
  if (open) by("new-chat").focus();
}

export const isDrawerOpen = () => document.body.classList.contains("drawer");

export function clear() {
  shown = [];
  list.replaceChildren();
}

export function mark(id) {
  current = id;
  for (const item of list.children) {
    if (item.dataset.id === id) item.firstChild.setAttribute("aria-current", "page");
    else item.firstChild.removeAttribute("aria-current");
  }
}

/** Read the newest conversations again. Failing is quiet: the list is a help, not what one came for. */
export async function reload() {
  const page = await get("/api/v1/conversations?limit=30").catch(() => null);
  if (page) draw(page.data, page.has_more);
}

async function more() {
  const page = await get(`/api/v1/conversations?limit=30&after=${shown.at(-1).id}`).catch(() => null);
  if (page) draw([...shown, ...page.data], page.has_more);
}

export const titleOf = (id) => shown.find((conversation) => conversation.id === id)?.title;

function draw(conversations, hasMore) {
  shown = conversations;
  list.replaceChildren(...shown.map((conversation) => conversationItem(conversation, () => erase(conversation))));
  by("no-conversations").hidden = shown.length > 0;
  by("more-conversations").hidden = !hasMore;
  mark(current);
}

async function erase({ id, title }) {
  const dialog = by("confirm");
  by("confirm-text").replaceChildren("Delete ", element("strong", {}, title), " with all its messages?");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "yes") return;
  const gone = await remove(`/api/v1/conversations/${id}`).then(() => true, (failure) => failure.status === 404);
  await reload();
  if (gone) onDeleted(id);
}
