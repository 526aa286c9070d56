/**
 * Which run each conversation waits for, so that a reloaded page or another tab can go back to it.
 *
 * Kept while a run is under way or may be tried again. Ids only: no word of what was said stays in the browser.
 */

const KEY = "chatbot-unfinished";
const MOST = 50; // conversations; the ones untouched for longest are dropped

const read = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? []; } catch { return []; } };
const write = (entries) => { try { localStorage.setItem(KEY, JSON.stringify(entries)); } catch { /* private mode */ } };
const others = (conversation) => read().filter((entry) => entry.conversation !== conversation);

/** @returns {{run: string, route: string, name: string} | undefined} its run, where it was asked for, and as what */
export const recall = (conversation) => read().find((entry) => entry.conversation === conversation && entry.route);

export function remember(conversation, { run, route, name }) {
  write([{ conversation, run, route, name }, ...others(conversation)].slice(0, MOST));
}

export const forget = (conversation) => write(others(conversation));
export const forgetAll = () => write([]);
