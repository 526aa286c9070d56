/** The page: which view is shown, which conversation is open, and the turn that is under way. */

import * as account from "./account.js";
import { Failure, followLink, get, refresh, signedInBefore, signOut, whenSignedOut } from "./api.js";
import { Run, newId } from "./run.js";
import * as scroll from "./scroll.js";
import * as sidebar from "./sidebar.js";
import * as unfinished from "./unfinished.js";
import { Answer, OUTCOME, element, failed, question, stored } from "./view.js";

const by = (id) => document.getElementById(id);
const [messages, field] = [by("messages"), by("composer-text")];
const BOT = document.querySelector("meta[name=bot]").content;
const PAGE = 50;

let conversation = null; // id of the open one, null for a new chat
let oldest = null; // cursor of the oldest message shown
let run = null; // the run under way in this view
let opening = 0; // counts opened views, so that a late answer does not land in the wrong one

// Views ---------------------------------------------------------------------------------------------------------

const show = (view) => { for (const id of ["starting", "account", "chat"]) by(id).hidden = id !== view; };

/** Nothing of the last session stays on the screen. */
function away(view) {
  leave();
  conversation = null;
  sidebar.clear();
  messages.replaceChildren();
  show(view);
}

function showAccount(hint) {
  away("account");
  account.show(hint);
}

/** A sign-in link works once; afterwards it has no business in the address or the history. */
const linkToken = () => new URLSearchParams(/^#\/sign-in\?(.*)$/.exec(location.hash)?.[1] ?? "").get("token");
const dropLink = () => { if (location.hash.startsWith("#/sign-in")) history.replaceState(null, "", "/"); };

async function enter() {
  dropLink();
  show("chat");
  const me = await get("/api/v1/users/me").catch(() => ({ email: "" }));
  by("me-name").textContent = me.name || me.email;
  by("me-email").textContent = me.name ? me.email : "";
  by("me-badge").textContent = (me.name || me.email || "?").slice(0, 1).toUpperCase();
  await Promise.all([sidebar.reload(), route()]);
}

/** The address says which conversation is open; back and forward work. */
async function route() {
  const id = /^#\/c\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
  if (id && id === conversation) return;
  leave();
  conversation = id;
  sidebar.mark(id);
  by("earlier").hidden = by("welcome").hidden = true;
  messages.replaceChildren();
  title(id ? sidebar.titleOf(id) ?? "" : "New chat");
  if (id) await openConversation(id);
  else await welcome();
  focusField();
}

/** Not on a phone, where it would push the keyboard over what one came to read. */
const focusField = () => { if (!matchMedia("(pointer: coarse)").matches) field.focus(); };

function leave() {
  opening += 1;
  run?.leave();
  run = null;
  busy(false);
}

function title(text) {
  by("title").textContent = text;
  document.title = text && text !== "New chat" ? `${text} – ${BOT}` : BOT;
}

async function welcome() {
  by("welcome").hidden = false;
  if (by("suggestions").childElementCount) return;
  const page = await get("/api/v1/faqs?limit=4").catch(() => ({ data: [] }));
  by("suggestions").replaceChildren(...page.data.map(({ question: text }) => {
    const chip = element("button", { type: "button", textContent: text });
    chip.addEventListener("click", () => ask(text));
    return chip;
  }));
}

async function openConversation(id) {
  const view = opening;
  try {
    const [found, page] = await Promise.all([get(`/api/v1/conversations/${id}`), earlierPage(id)]);
    if (view !== opening) return;
    title(found.title);
    messages.replaceChildren(...page.map(stored));
    scroll.toBottom(true);
    await goOn(id, page);
  } catch (failure) {
    if (view !== opening || failure.status === 401) return;
    const gone = failure.status === 404;
    messages.append(failed(
      gone ? "This conversation does not exist any more. Start a new chat or choose another one." : failure.message,
      gone ? null : () => { conversation = null; route(); }));
  }
}

/** A conversation whose newest question has no complete answer: back to its run, be it under way or over. */
async function goOn(id, page) {
  const [view, last, known] = [opening, page.at(-1), unfinished.recall(id)];
  if (!last || (last.role !== "user" && last.status === "completed")) return unfinished.forget(id);
  const found = known && await get(`/api/v1/chat/runs/${known.run}`)
    .catch((failure) => { if (failure.status !== 404) throw failure; });
  if (view !== opening) return;
  const asked = found && page.find((message) => message.id === found.user_message_id);
  if (asked && [found.message_id, found.user_message_id].includes(last.id)) {
    if (last.role !== "user") messages.lastChild.remove(); // the run brings what there is of it
    follow(asked.text, known.message, (current) => current.watch(known.run));
  } else if (last.role === "user") {
    messages.append(failed("The answer has not arrived yet.", () => { conversation = null; route(); }));
  }
}

/** The messages before the oldest one shown, in reading order. */
async function earlierPage(id, after = null) {
  const page = await get(`/api/v1/conversations/${id}/messages?order=desc&limit=${PAGE}${after ? `&after=${after}` : ""}`);
  oldest = page.last_id;
  by("earlier").hidden = !page.has_more;
  return page.data.reverse();
}

async function showEarlier() {
  const view = opening;
  const page = await earlierPage(conversation, oldest).catch(() => []);
  if (view === opening) scroll.prepend(page.map(stored));
}

// Asking --------------------------------------------------------------------------------------------------------

function ask(text) {
  by("welcome").hidden = true;
  messages.append(question(text));
  focusField();
  turn(text, newId());
}

/** One turn. `id` names the message: sent again it is not stored twice; `retry` asks for another attempt at it. */
function turn(text, id, retry = false) {
  const place = conversation && { conversation_id: conversation };
  follow(text, id, (current) =>
    current.ask({ content: text, client_message_id: id, ...place, ...(retry && { retry }) }));
}

/** Shows a run to its end; `begin` starts it or goes back to it. */
async function follow(text, id, begin) {
  const [view, answer] = [opening, new Answer()];
  answer.wait();
  messages.append(answer.node);
  scroll.toBottom(true);
  busy(true);
  announce("Answering…");
  const again = () => { answer.node.remove(); turn(text, id, true); };
  let note = ["", null];
  const current = run = new Run((event) => {
    if (view !== opening) return;
    note = take(event, answer, again) ?? note;
    if (event.type === "run.started") unfinished.remember(conversation, event.run_id, id);
    if (event.type === "run.finished") unfinished.forget(conversation);
  }, (call) => answer.ask(call));
  try {
    await begin(current);
  } catch (failure) {
    if (!(failure instanceof Failure)) console.error(failure);
    note = [failure instanceof Failure ? failure.message : "Something went wrong in this page. Reload it.",
      failure.retryable ? again : null];
  }
  if (view !== opening) return;
  run = null;
  answer.settle(...note);
  announce(note[0] ? "" : answer.text); // a note speaks for itself: it is an alert
  busy(false);
  scroll.toBottom();
  sidebar.reload().then(() => { if (view === opening) title(sidebar.titleOf(conversation) ?? BOT); });
}

/** Shows one event. Returns the note to end with, for events that end a run badly. */
function take(event, answer, again) {
  switch (event.type) {
    case "run.started": return started(event.conversation_id);
    case "text.delta": answer.append(event.text); break;
    case "run.snapshot": case "text.replaced": answer.replace(event.text); break;
    case "citation": answer.cite(event); break;
    case "run.finished": if (event.content) answer.replace(event.content); break;
    case "run.failed": return [event.error?.detail || event.error?.title || OUTCOME.failed, again];
    case "run.cancelled": return [OUTCOME.cancelled, again];
    case "run.interrupted": return [OUTCOME.interrupted, again];
    default: return undefined; // later servers send more; what is not known is not needed
  }
  scroll.toBottom();
  return undefined;
}

function started(id) {
  if (conversation === id) return;
  conversation = id;
  history.pushState(null, "", `#/c/${id}`);
  sidebar.reload().then(() => sidebar.mark(id));
}

function busy(on) {
  by("send").hidden = on;
  by("stop").hidden = !on;
  by("send").disabled = on || !field.value.trim();
}

const announce = (text) => { by("announcer").textContent = text; };

// Composer ------------------------------------------------------------------------------------------------------

function fit() {
  field.style.height = "auto"; // set through the object model, which the content security policy allows
  field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
  by("send").disabled = Boolean(run) || !field.value.trim();
}

function submit() {
  const text = field.value.trim();
  if (!text || run) return;
  field.value = "";
  fit();
  ask(text);
}

function prepare() {
  by("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  field.addEventListener("input", fit);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || by("confirm").open) return;
    if (sidebar.isDrawerOpen()) sidebar.drawer(false);
    else run?.stop();
  });
  by("stop").addEventListener("click", () => run?.stop());
  by("earlier").addEventListener("click", showEarlier);
  scroll.prepare();
  by("new-chat").addEventListener("click", newChat);
  by("sign-out").addEventListener("click", async () => {
    await signOut().catch(() => {});
    unfinished.forgetAll();
    by("suggestions").replaceChildren();
    history.replaceState(null, "", "/");
    showAccount("You have signed out.");
  });
  window.addEventListener("hashchange", () => (linkToken() ? arrive() : by("chat").hidden || route()));
  whenSignedOut(() => showAccount("Your session has ended. Sign in again to go on."));
  sidebar.prepare((id) => { if (id === conversation) newChat(); });
  account.prepare(enter);
}

function newChat() {
  sidebar.drawer(false);
  if (location.hash) history.pushState(null, "", "/");
  route();
}

// Start ---------------------------------------------------------------------------------------------------------

/** One after the other: a session that is still being refreshed must not replace that of a newer link. */
let arriving = Promise.resolve();
const arrive = () => {
  const link = linkToken(); // now: whoever arrives before clears the address
  arriving = arriving.then(() => start(link));
};

async function start(link) {
  away("starting");
  let hint;
  try {
    if (link) await followLink(link);
    if (link || (signedInBefore() && (await refresh()))) return await enter();
  } catch (failure) {
    hint = failure.message;
    if (link && failure.retryable) return showAccount(`${hint} To try your link again, reload this page.`);
    if (link && failure.status) hint = "This link has been used or is too old. Sign in, or ask for a new link.";
    dropLink();
  }
  return showAccount(hint);
}

prepare();
arrive();
