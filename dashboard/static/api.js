// Speaking to the API beside this page. Errors are RFC 9457 problem documents and reach the reader as a sentence.

import { h } from "./dom.js";

const ROOT = new URL("../", new URL(".", window.location.href.split(/[?#]/)[0]));
const KEY = "shelfcast.functions-key";
const TIMEOUT_MS = 60000;

// A key in the address (`?code=`, as Functions take it) moves to this tab's storage and out of sight at once.
const given = new URLSearchParams(window.location.search).get("code");
if (given) {
  sessionStorage.setItem(KEY, given);
  window.history.replaceState(null, "", window.location.pathname + window.location.hash);
}

/** What went wrong, in words, with the problem document if the API sent one. */
export class ApiError extends Error {
  constructor(message, status, problem) {
    super(message);
    this.status = status;
    this.problem = problem || {};
  }
}

export function address(path, query) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query || {})) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

async function call(method, path, { query, body, signal } = {}) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers["x-functions-key"] = key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(address(path, query), {
      method, headers, signal: signal ? AbortSignal.any([signal, timeout]) : timeout, cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const why = error.name === "TimeoutError" ? "did not answer in a minute" : "cannot be reached";
    throw new ApiError(`The service ${why}. Is it running?`, 0);
  }
}

let asking = null;

/** Ask once for a function key, however many requests were refused at the same time. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const field = h("input", { type: "password", id: "function-key", autocomplete: "off", required: true, autofocus: true });
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "key-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "key-title" }, "Function key needed"),
        h("p", { class: "muted" }, "The service wants to know who is asking. The key stays in this tab and is forgotten with it."),
        h("label", { for: "function-key" }, "Key", field),
        h("div", { class: "dialog-actions" },
          h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Cancel"),
          h("button", { type: "submit", class: "primary", value: "ok" }, "Continue"))));
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok" && field.value.trim();
      if (given) sessionStorage.setItem(KEY, given);
      dialog.remove();
      asking = null;
      resolve(Boolean(given));
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

async function failure(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch { /* not every error comes from the app itself */ }
  const fallback = { 401: "The key was refused.", 403: "Your role does not allow this.", 404: "There is nothing here." };
  const text = problem.detail || problem.title || fallback[response.status] || `The service answered ${response.status}.`;
  return new ApiError(text, response.status, problem);
}

async function request(method, path, options) {
  let response = await call(method, path, options);
  if (response.status === 401) {
    sessionStorage.removeItem(KEY);
    if (await askForKey()) response = await call(method, path, options);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export async function get(path, query, signal) {
  return (await request("GET", path, { query, signal })).json();
}

/** The value, or `fallback` where the route has nothing (404): a part of a view that may be absent. */
export async function getOr(fallback, path, query, signal) {
  try {
    return await get(path, query, signal);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 501)) return fallback;
    throw error;
  }
}

export async function post(path, body) {
  const response = await request("POST", path, { body: body || {} });
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

/** Save an answer as a file; a plain link could not carry the key. */
export async function download(path, query, name) {
  const url = URL.createObjectURL(await (await request("GET", path, { query })).blob());
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
