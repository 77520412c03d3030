// The page's frame: navigation by hash, loading, refreshing while something runs, theme and keyboard.

import { announce, h, swap } from "./dom.js";
import { at } from "./format.js";
import { failed, loading } from "./parts.js";

const FAST_MS = 2500; // while a run is going on
const SLOW_MS = 30000;
const LONGEST_PRESS_MS = 5000; // a release outside the window may never be told

const VIEWS = [
  ["overview", "Overview", "o", "M3 13h8V3H3zm0 8h8v-6H3zm10 0h8V11h-8zm0-18v6h8V3z"],
  ["runs", "Runs", "r", "M4 6h10v2H4zm4 5h12v2H8zm-2 5h9v2H6z"],
  ["models", "Models", "m", "M4 4h7v7H4zm9 0h7v7h-7zM4 13h7v7H4zm9 0h7v7h-7z"],
  ["quality", "Data", "d", "M12 3 4 6v5c0 5 3.4 8.7 8 10 4.6-1.3 8-5 8-10V6zm-1.2 12.4L7.5 12l1.3-1.3 2 2 4.6-4.6 1.3 1.3z"],
  ["forecasts", "Forecasts", "f", "M3 17.5 9 11l4 4 8-9 1.4 1.3L13 18l-4-4-4.6 5z"],
  ["pipelines", "Factory", "p", "M3 5h6v6H3zm12 8h6v6h-6zM9 7h4a3 3 0 0 1 3 3v3h-2v-3a1 1 0 0 0-1-1H9z"],
  ["audit", "Audit", "a", "M6 3h9l4 4v14H6zm2 6h9V8h-4V5H8zm0 3v2h8v-2zm0 4v2h6v-2z"],
];
const MODULES = {
  overview: () => import("./views/overview.js"), runs: () => import("./views/runs.js"), run: () => import("./views/run.js"),
  models: () => import("./views/models.js"), quality: () => import("./views/quality.js"), forecasts: () => import("./views/forecasts.js"),
  audit: () => import("./views/audit.js"), pipelines: () => import("./views/pipelines.js"),
};

const main = document.getElementById("main");
let shown = { route: "", text: "", view: null, data: null };
let abort = null;
let timer = 0;
let released = Promise.resolve();

function parse() {
  const [path, query] = window.location.hash.replace(/^#\/?/, "").split("?");
  const [section, ...rest] = path.split("/");
  const name = decodeURIComponent(rest.join("/"));
  const known = VIEWS.some(([one]) => one === section) ? section : "overview";
  return { section: known, view: known === "runs" && name ? "run" : known, name, query: new URLSearchParams(query || ""), text: window.location.hash };
}

function drawNavigation(section) {
  document.querySelectorAll("#nav a").forEach((link) => {
    if (link.dataset.section === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
}

/** Show the route. `quiet` keeps the present content until the new one is there. */
async function show(quiet = false) {
  const route = parse();
  const fresh = shown.route !== route.text;
  const sameSection = shown.view && shown.view === route.view && shown.section === route.section;
  abort?.abort();
  abort = new AbortController();
  const mine = abort;
  clearTimeout(timer);
  drawNavigation(route.section);
  const waiting = fresh && !sameSection && !quiet ? setTimeout(() => swap(main, loading()), 150) : 0;
  main.setAttribute("aria-busy", "true");
  let next = SLOW_MS;
  try {
    const view = await MODULES[route.view]();
    const data = await view.load(route, mine.signal);
    await released;
    if (mine.signal.aborted) return;
    clearTimeout(waiting);
    const text = JSON.stringify(data);
    const redraw = (reload) => (reload ? show(true) : swap(main, ...view.render(data, redraw)));
    if (fresh || text !== shown.text || shown.broken || view.live(data)) swap(main, ...view.render(data, redraw));
    document.title = `${main.querySelector("h1")?.textContent || view.title} · Shelfcast`;
    if (fresh && !quiet) {
      announce(`${view.title} loaded`);
      if (!sameSection) window.scrollTo(0, 0);
    }
    shown = { route: route.text, text, view: route.view, section: route.section };
    if (view.live(data)) next = FAST_MS;
    document.getElementById("fresh").textContent = `Updated ${at(new Date())}`;
  } catch (error) {
    clearTimeout(waiting);
    if (error.name === "AbortError" && mine.signal.aborted) return;
    // A refresh that fails leaves what is on the page; a first view that fails says so in its place.
    if (fresh || !shown.text) swap(main, failed(error, () => show()));
    else document.getElementById("fresh").textContent = `Not updated: ${error.message}`;
    shown = { ...shown, route: fresh ? route.text : shown.route, broken: true };
  } finally {
    if (!mine.signal.aborted) {
      main.setAttribute("aria-busy", "false");
      schedule(next);
    }
  }
}

function schedule(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const busy = document.hidden || document.querySelector("dialog[open]") || main.contains(document.activeElement) && document.activeElement.matches("input:focus, select:focus");
    if (busy) schedule(wait);
    else show(true);
  }, wait);
}

/** A press is a click only if its button is still there when it ends: until then no view is drawn anew. */
function holdWhilePressed() {
  released = new Promise((resolve) => {
    const soon = () => setTimeout(resolve, 0); // after the click
    for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, soon, { once: true });
    setTimeout(resolve, LONGEST_PRESS_MS);
  });
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("shelfcast.theme", theme);
  document.getElementById("theme").textContent = { dark: "Dark", light: "Light" }[theme] || "Theme: system";
}

function help() {
  const rows = [...VIEWS.map(([, label, key]) => [`g ${key}`, label]), ["/", "Search in this view"], ["r", "Refresh"], ["t", "Switch the theme"], ["?", "This list"], ["Esc", "Close a dialog"]];
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "help-title" }, h("form", { method: "dialog" },
    h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", { class: "keys" }, rows.map(([key, text]) => h("div", {}, h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, text)))),
    h("div", { class: "dialog-actions" }, h("button", { class: "primary", autofocus: true }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

let going = 0;

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || event.target.matches("input, select, textarea")) return;
  const chosen = Date.now() - going < 1500 && VIEWS.find(([, , key]) => key === event.key);
  going = 0;
  if (chosen) window.location.hash = `#/${chosen[0]}`;
  else if (event.key === "g") going = Date.now();
  else if (event.key === "r") show(true);
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") help();
  else if (event.key === "/") document.getElementById("filter")?.focus();
  else return;
  event.preventDefault();
}

function nextTheme() {
  const present = document.documentElement.dataset.theme || "";
  setTheme({ "": "dark", dark: "light", light: "" }[present]);
}

function icon(path) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

document.getElementById("nav").append(...VIEWS.map(([section, label, key, path]) =>
  h("a", { href: `#/${section}`, "data-section": section, "aria-keyshortcuts": `g ${key}` }, icon(path), h("span", {}, label))));
document.querySelector(".side-foot").prepend(h("p", { id: "fresh", class: "muted" }, "Loading"));
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", help);
document.addEventListener("keydown", onKey);
document.addEventListener("pointerdown", holdWhilePressed, true);
document.addEventListener("visibilitychange", () => { if (!document.hidden) show(true); });
window.addEventListener("hashchange", () => show());
setTheme(localStorage.getItem("shelfcast.theme") || "");
show();
