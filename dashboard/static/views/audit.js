// Audit: every operator action, promotion and publish, in one unbroken chain.

import { getOr } from "../api.js";
import { h } from "../dom.js";
import { count, list, plural, when, words } from "../format.js";
import { badge, card, empty, field, table } from "../parts.js";

const state = { text: "" };

export const title = "Audit";
export const live = () => false;

export const load = (_route, signal) => getOr(null, "audit", { limit: 500 }, signal);

export function render(data, redraw) {
  const head = h("div", { class: "page-head" }, h("h1", {}, "Audit"));
  if (!data) return [head, empty("The service keeps no audit trail that can be read here.")];
  const entries = list(data.entries || data.lines);
  const faults = list(data.faults);
  const shown = entries.filter((one) => JSON.stringify(one).toLowerCase().includes(state.text.toLowerCase()));
  head.append(h("span", { class: "muted" }, plural(entries.length, "entry", "entries")), badge(faults.length ? "chain broken" : "chain unbroken", faults.length ? "bad" : "good"));
  return [
    head,
    faults.length ? h("div", { class: "notice bad" }, h("strong", {}, "The trail was changed"), h("ul", {}, faults.map((fault) => h("li", {}, fault)))) : null,
    h("div", { class: "filters" }, field("Search", "search", { type: "search", id: "filter", "data-keep": "audit-text", value: state.text, placeholder: "who, what, why", oninput: (event) => { state.text = event.target.value; redraw(); } })),
    card("Actions", { wide: true, note: `${count(shown.length)} shown` }, table("audit", [
      { title: "When", cell: (row) => when(row.at), sort: (row) => row.at },
      { title: "Who", cell: (row) => row.actor, sort: (row) => row.actor },
      { title: "What", cell: (row) => words(row.action), sort: (row) => row.action },
      { title: "On", cell: (row) => row.subject || row.target, sort: (row) => row.subject || row.target },
      { title: "Details", cell: (row) => details(row.details), wide: true },
      { title: "Hash", cell: (row) => h("code", {}, String(row.hash || "").slice(0, 10)) },
    ], shown, { state, redraw, limit: 40, empty: entries.length ? "No entry matches." : "Nothing was done yet." }))];
}

function details(found) {
  if (!found || typeof found !== "object") return found || "";
  return Object.entries(found).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length))
    .map(([name, value]) => `${words(name)}: ${Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : value}`).join(" · ");
}
