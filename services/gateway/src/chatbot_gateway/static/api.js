/**
 * The signed-in session and every request of the page.
 *
 * The access token lives in this module's memory only. The refresh token is an HttpOnly cookie that no script can
 * read; it works once, so two tabs must not use it at the same time (see `refresh`).
 */

import { told } from "./words.js";

const REMEMBERED = "chatbot-signed-in"; // only a hint that a refresh is worth trying; holds no secret
const EARLY_MS = 30_000;

let token = null;
let expiresAt = 0;
let refreshing = null;
let onSignedOut = () => {};

/** A failure in words for the person at the screen. */
export class Failure extends Error {
  constructor(text, { status = 0, retryable = false } = {}) {
    super(text);
    this.status = status;
    this.retryable = retryable;
  }
}

export const whenSignedOut = (callback) => { onSignedOut = callback; };
export const signedInBefore = () => { try { return localStorage.getItem(REMEMBERED) === "1"; } catch { return true; } };

export const login = (email, password) => signIn("login", { email, password });
export const register = (email, password, name) => signIn("register", { email, password, ...(name && { name }) });
export const followLink = (linkToken) => signIn("link", { token: linkToken });

async function signIn(route, body) {
  keep(await json(await raw("POST", `/api/v1/auth/${route}`, { body })));
}

/** True when the cookie gave a new token, false when one has to sign in. Throws `Failure` when it cannot be known. */
export function refresh() {
  refreshing ??= alone(async () => {
    // keepalive: a reload must not cut the answer off, because the old cookie is used up by then.
    const response = await raw("POST", "/api/v1/auth/refresh", { keepalive: true });
    if (response.ok) {
      keep(await response.json());
      return true;
    }
    if (response.status !== 401) throw await failure(response);
    forget();
    return false;
  }).finally(() => { refreshing = null; });
  return refreshing;
}

const alone = (work) => (navigator.locks ? navigator.locks.request("chatbot-refresh", work) : work());

export async function signOut() {
  try {
    await raw("POST", "/api/v1/auth/logout", {});
  } finally {
    forget();
  }
}

function keep(pair) {
  token = pair.access_token;
  expiresAt = Date.now() + pair.expires_in * 1000;
  try { localStorage.setItem(REMEMBERED, "1"); } catch { /* private mode */ }
}

function forget() {
  token = null;
  try { localStorage.removeItem(REMEMBERED); } catch { /* private mode */ }
}

/** JSON of a signed-in request; null for an empty answer. Throws `Failure`. */
export const get = async (path) => json(await open("GET", path));
export const post = async (path, body) => json(await open("POST", path, { body }));
export const patch = async (path, body) => json(await open("PATCH", path, { body }));
export const remove = async (path) => json(await open("DELETE", path));

/** Response of a signed-in request, its body not read yet. Throws `Failure` for anything but success. */
export async function open(method, path, options = {}) {
  if (!token || Date.now() > expiresAt - EARLY_MS) await renew();
  let response = await raw(method, path, options);
  if (response.status === 401) {
    await renew();
    response = await raw(method, path, options);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function renew() {
  if (await refresh()) return;
  onSignedOut();
  throw new Failure("You have been signed out. Sign in again to go on.", { status: 401 });
}

async function raw(method, path, { body, accept = "application/json", signal, keepalive } = {}) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, {
      method, headers, signal, keepalive,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached. Check your connection, then try again.", { retryable: true });
  }
}

async function json(response) {
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? null : response.json();
}

async function failure(response) {
  const problem = await response.json().catch(() => ({}));
  return inWords(problem, response.status);
}

/** A problem document (RFC 9457) as a `Failure` that says what to do. */
export function inWords(problem, status = problem.status ?? 0) {
  const { text, retryable } = told(problem, status);
  return new Failure(text, { status, retryable });
}
