/** The card where one signs in or creates an account. */

import { login, register } from "./api.js";

const by = (id) => document.getElementById(id);
const form = by("account-form");
const error = by("account-error");
let registering = false;

/** @param {() => void} onSignedIn called after each success */
export function prepare(onSignedIn) {
  by("choose-login").addEventListener("click", () => choose(false));
  by("choose-register").addEventListener("click", () => choose(true));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(onSignedIn);
  });
}

export function show(hint = "") {
  if (hint) by("account-hint").textContent = hint;
  form.elements.email.focus();
}

export function choose(register) {
  registering = register;
  by("choose-login").ariaPressed = String(!register);
  by("choose-register").ariaPressed = String(register);
  by("name-field").hidden = by("password-hint").hidden = !register;
  form.elements.password.autocomplete = register ? "new-password" : "current-password";
  form.elements.password.minLength = register ? 8 : 0;
  form.querySelector("[type=submit]").textContent = register ? "Create account" : "Sign in";
  error.hidden = true;
}

async function submit(onSignedIn) {
  const { email, password, name } = form.elements;
  const button = form.querySelector("[type=submit]");
  error.hidden = true;
  button.disabled = true;
  try {
    if (registering) await register(email.value, password.value, name.value.trim());
    else await login(email.value, password.value);
    form.reset();
    onSignedIn();
  } catch (failure) {
    error.textContent = failure.message;
    error.hidden = false;
    password.select();
  } finally {
    button.disabled = false;
  }
}
