/** The page: which view is shown, what the address says, and the composer. The open conversation is talk.js's. */

import * as account from "./account.js";
import { followLink, get, refresh, signedInBefore, signOut, whenSignedOut } from "./api.js";
import * as scroll from "./scroll.js";
import { choice } from "./selector.js";
import * as sidebar from "./sidebar.js";
import * as talk from "./talk.js";
import * as unfinished from "./unfinished.js";
import { element } from "./view.js";

const by = (id) => document.getElementById(id);
const field = by("composer-text");

// Views ---------------------------------------------------------------------------------------------------------

const show = (view) => { for (const id of ["starting", "account", "chat"]) by(id).hidden = id !== view; };

/** Nothing of the last session stays on the screen. */
function away(view) {
  talk.close();
  sidebar.clear();
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
  await Promise.all([choice.load(), sidebar.reload(), route()]);
}

/** The address says which conversation is open; back and forward work. */
async function route() {
  const id = /^#\/c\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
  if (id && id === talk.current()) return;
  by("welcome").hidden = true;
  await (talk.open(id) ?? welcome());
  focusField();
}

/** Not on a phone, where it would push the keyboard over what one came to read. */
const focusField = () => { if (!matchMedia("(pointer: coarse)").matches) field.focus(); };

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

// Composer ------------------------------------------------------------------------------------------------------

function ask(text) {
  by("welcome").hidden = true;
  talk.ask(text);
  focusField();
}

/** What moderation or a limit has refused goes back to where it can be changed. */
function putBack(text) {
  field.value = text;
  fit();
  field.focus();
}

function busy(on) {
  by("send").hidden = on;
  by("stop").hidden = !on;
  fit();
}

function fit() {
  field.style.height = "auto"; // set through the object model, which the content security policy allows
  field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
  by("send").disabled = talk.isBusy() || !field.value.trim();
}

function submit() {
  const text = field.value.trim();
  if (!text || talk.isBusy()) return;
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
    else talk.stop();
  });
  by("stop").addEventListener("click", () => talk.stop());
  by("earlier").addEventListener("click", talk.showEarlier);
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
  sidebar.prepare((id) => { if (id === talk.current()) newChat(); });
  talk.prepare({ busy, putBack, asked: focusField });
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
