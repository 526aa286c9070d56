/** The open conversation: the branch of it that is shown, and the turn that is under way. */

import { Failure, get } from "./api.js";
import { Answer } from "./answer.js";
import { Question } from "./question.js";
import { EMPTY, decided, reduce, stored } from "./reducer.js";
import { Run, newId } from "./run.js";
import * as scroll from "./scroll.js";
import { choice, prepare as prepareChoice } from "./selector.js";
import * as sidebar from "./sidebar.js";
import { mayUse } from "./tools.js";
import { Tree } from "./tree.js";
import * as unfinished from "./unfinished.js";
import { failed } from "./view.js";
import { ending } from "./words.js";

const by = (id) => document.getElementById(id);
const messages = by("messages");
const BOT = document.querySelector("meta[name=bot]").content;
const SEND = "/api/v1/chat/send";
const PAGE = 50;

let conversation = null; // id of the open one, null for a new chat
let tree = new Tree();
let drawn = new Map(); // id of a message → its Question or Answer
let tail = null; // {after, views}: what is asked and has no ids yet, and behind which message it stands
let oldest = null; // cursor of the oldest message that was read
let run = null; // the run under way in this view
let opening = 0; // counts opened views, so that a late answer does not land in the wrong one
let page = { busy() {}, putBack() {}, asked() {} };

export const current = () => conversation;
export const isBusy = () => Boolean(run);
export const stop = () => run?.stop();
export function prepare(callbacks) {
  page = callbacks;
  prepareChoice((failure) => { if (failure.status !== 401) messages.append(failed(failure.message)); });
}

/** Opens a conversation, or (null) an empty page for a new one, for which there is nothing to wait. */
export function open(id) {
  close();
  conversation = id;
  choice.show(id);
  sidebar.mark(id);
  title(id ? sidebar.titleOf(id) ?? "" : "New chat");
  return id ? read(id) : null;
}

export function close() {
  opening += 1;
  run?.leave();
  conversation = null;
  [tree, drawn, tail] = [new Tree(), new Map(), null];
  by("earlier").hidden = true;
  messages.replaceChildren();
  busy(null);
}

function busy(current) {
  run = current;
  messages.classList.toggle("busy", Boolean(run));
  page.busy(Boolean(run));
}

function title(text) {
  by("title").textContent = text;
  document.title = text && text !== "New chat" ? `${text} – ${BOT}` : BOT;
}

const announce = (text) => { by("announcer").textContent = text; };

// Reading -------------------------------------------------------------------------------------------------------

async function read(id) {
  const view = opening;
  try {
    const [found, earlier] = await Promise.all([get(`/api/v1/conversations/${id}`), earlierPage(id)]);
    if (view !== opening) return;
    title(found.title);
    choice.show(id, found.model);
    tree.add(...earlier);
    draw();
    scroll.toBottom(true);
    await goOn(id);
  } catch (failure) {
    if (view !== opening || failure.status === 401) return;
    const gone = failure.status === 404;
    messages.append(failed(
      gone ? "This conversation does not exist any more. Start a new chat or choose another one." : failure.message,
      gone ? null : { label: "Try again", act: () => open(id) }));
  }
}

/** A conversation whose newest question has no complete answer: back to its run, be it under way or over. */
async function goOn(id) {
  const [view, last, known] = [opening, tree.path().at(-1)?.message, unfinished.recall(id)];
  if (!last || (last.role !== "user" && last.status === "completed")) return unfinished.forget(id);
  const found = known && await get(`/api/v1/chat/runs/${known.run}`)
    .catch((failure) => { if (failure.status !== 404) throw failure; });
  if (view !== opening) return;
  const asked = found && tree.get(found.user_message_id);
  if (asked && [found.message_id, found.user_message_id].includes(last.id)) {
    const body = known.route.endsWith("/regenerate") ? {} : { content: asked.text };
    const state = { ...EMPTY, run: known.run, conversation: id, question: asked.id, message: found.message_id };
    follow({ route: known.route, body: { ...body, client_message_id: known.name }, after: asked.id, state },
      (current) => current.watch(known.run));
  } else if (last.role === "user") {
    messages.append(failed("The answer has not arrived yet.", { label: "Look again", act: () => open(id) }));
  }
}

/** The messages before the oldest one that was read. */
async function earlierPage(id, after = null) {
  const found = await get(`/api/v1/conversations/${id}/messages?order=desc&limit=${PAGE}${after ? `&after=${after}` : ""}`);
  oldest = found.last_id;
  by("earlier").hidden = !found.has_more;
  return found.data;
}

export async function showEarlier() {
  const view = opening;
  const earlier = await earlierPage(conversation, oldest).catch(() => []);
  if (view !== opening) return;
  tree.add(...earlier);
  scroll.keepPlace(draw);
}

// Drawing -------------------------------------------------------------------------------------------------------

/** The branch that is shown, up to where something new is being asked. What is drawn already is not drawn again. */
function draw() {
  const path = tree.path();
  const kept = tail ? path.slice(0, path.findIndex(({ message }) => message.id === tail.after) + 1) : path;
  const views = [...kept.map(({ message, siblings }) => drawnOf(message, siblings)), ...(tail?.views ?? [])];
  messages.replaceChildren(...views.map((view) => view.node));
}

function drawnOf(message, siblings) {
  if (!drawn.has(message.id)) drawn.set(message.id, message.role === "user" ? new Question(message, deeds) : answerOf(message));
  const view = drawn.get(message.id);
  if (message.role === "user") view.place(message, siblings);
  else view.place(siblings);
  return view;
}

function answerOf(message) {
  const [answer, state] = [new Answer(deeds), stored(message)];
  const { text, retryable } = ending(state);
  answer.settle(state, text, retryable ? { label: "Try again", act: () => deeds.again(message.id) } : null);
  return answer;
}

/** What the buttons of messages do. */
const deeds = {
  choose(id, arrow) {
    tail = null;
    tree.choose(id);
    draw();
    drawn.get(id).focusOn(arrow);
  },
  edit(message, text) {
    if (run || !message.id) return false;
    ask(text, message);
    page.asked();
    return true;
  },
  again(id) {
    if (run) return;
    const { parent_id: after } = tree.get(id);
    begin({ route: `${placeOf(id)}/regenerate`, body: choice.named, after });
    page.asked();
  },
};

const placeOf = (id) => `/api/v1/conversations/${conversation}/messages/${id}`;

// Asking --------------------------------------------------------------------------------------------------------

/** Asks a question at the end of the branch that is shown, or in the stead of another one. */
export function ask(text, edited = null) {
  if (run) return;
  if (edited) return begin({ route: `${placeOf(edited.id)}/edit`, body: { content: text }, after: edited.parent_id, text, edited });
  const last = tree.path().at(-1)?.message.id ?? null;
  const place = { ...(conversation ? { conversation_id: conversation } : choice.named), ...(last !== tree.newest && { parent_message_id: last }) };
  begin({ route: SEND, body: { content: text, ...place }, after: last, text });
}

/** Under a name of its own: sent again it is not stored twice. */
const begin = ({ body, ...request }) => send({ ...request, body: { ...body, client_message_id: newId() } });
const send = (request) => follow(request, async (current) => {
  await choice.settled();
  await current.ask(request.route, request.body);
});

/**
 * Shows a run to its end.
 *
 * @param {{route: string, body: object, after: string?, text?: string, edited?: object, state?: object}} request what is
 *   asked for, behind which message it is shown, the question where it is a new one, in whose stead, and the state of an
 *   answer that was begun before
 * @param {(run: Run) => Promise} start it, or go back to it
 */
async function follow(request, start) {
  const [view, answer] = [opening, new Answer(deeds)];
  const asked = request.text === undefined ? [] : [new Question({ text: request.text }, deeds)];
  tail = { after: request.after, views: [...asked, answer] };
  for (const { node } of tail.views) {
    node.classList.add("new");
    node.addEventListener("animationend", () => node.classList.remove("new"), { once: true });
  }
  answer.wait();
  draw();
  scroll.toBottom(true);
  announce("Answering…");
  let state = request.state ?? EMPTY;
  if (request.state) started(state, request, null, answer);
  const current = new Run((event) => {
    if (view !== opening) return;
    state = reduce(state, event);
    if (event.type === "run.started") started(state, request, asked[0], answer);
    if (event.type === "run.finished") unfinished.forget(conversation);
    if (event.type === "tool.started") announce(`Using ${event.name}…`);
    answer.show(state);
    scroll.toBottom();
  }, async (call) => {
    announce(mayUse(call.name));
    const approved = await answer.ask(call);
    answer.show(state = decided(state, call.tool_call_id, approved));
    return approved;
  });
  busy(current);
  const refusal = await start(current).then(() => null, inWords);
  if (view !== opening) return;
  busy(null);
  end(state, request, answer, refusal);
  scroll.toBottom();
  sidebar.reload().then(() => { if (view === opening) title(sidebar.titleOf(conversation) ?? BOT); });
}

/** The run is known to the server: its messages have ids from now on. */
function started(state, request, asked, answer) {
  unfinished.remember(state.conversation, { run: state.run, route: request.route, name: request.body.client_message_id });
  if (asked) known({ id: state.question, parent_id: request.after, role: "user", text: request.text }, asked);
  known({ id: state.message, parent_id: state.question, role: "assistant" }, answer);
  tail = null;
  if (conversation !== state.conversation) {
    conversation = state.conversation;
    choice.began(conversation);
    history.pushState(null, "", `#/c/${conversation}`);
    sidebar.reload().then(() => sidebar.mark(conversation));
  }
  draw();
}

function known(message, view) {
  tree.add(message);
  tree.choose(message.id);
  drawn.set(message.id, view);
}

/** @param {Failure?} refusal why the run was not started, or cannot be watched any more */
function end(state, request, answer, refusal) {
  const { text, retryable } = refusal ? { text: refusal.message, retryable: refusal.retryable } : ending(state);
  const again = () => send({
    ...request, state: undefined, body: { ...request.body, retry: true },
    ...(state.question && { after: state.question, text: undefined }), // the question is there already
  });
  const way = retryable ? { label: "Try again", act: again } : tail && request.text && change(request);
  announce(text ? "" : state.text); // a note speaks for itself: it is an alert
  if (!tail || request.text !== undefined) return answer.settle(state, text, way);
  tail = null; // the old answer stays where another one was refused
  draw();
  messages.append(failed(text, way));
}

/** What was refused as it is goes back to where it can be changed. */
const change = ({ text, edited }) => ({
  label: "Change it",
  act() {
    tail = null;
    draw();
    if (edited) drawn.get(edited.id).edit(text);
    else page.putBack(text);
  },
});

function inWords(failure) {
  if (failure instanceof Failure) return failure;
  console.error(failure);
  return new Failure("Something went wrong in this page. Reload it.");
}
