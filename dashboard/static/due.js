// The week that is next: what is left until it is due, and which weeks were left out.

import { h } from "./dom.js";
import { remaining, when } from "./format.js";

/** How the week stands: {late, text, tone}; nothing before any delivery arrived. */
export function standing(next) {
  if (!next?.due_at) return null;
  const late = new Date(next.due_at) < new Date();
  const wait = next.has_arrived ? "" : ", waits for its deliveries";
  return { late, tone: late ? "bad" : "", text: `${next.sales_week} ${late ? "is late by" : "due in"} ${remaining(next.due_at)}${late ? "" : wait}` };
}

export function dueChip(next) {
  const found = standing(next);
  if (!found) return null;
  return h("span", { class: `chip ${found.tone}`, title: `due ${when(next.due_at)}` }, h("span", { class: "muted" }, "Next "), found.text);
}

/** What stands wrong with the calendar, as findings of the overview. */
export function dueFindings(next) {
  const found = [];
  if (standing(next)?.late) {
    found.push(next.has_arrived
      ? { tone: "bad", what: `Run of ${next.sales_week} is late by ${remaining(next.due_at)}`, why: `Its deliveries are there; it was due ${when(next.due_at)}.`, action: "See the runs", href: "#/runs" }
      : { tone: "bad", what: `Deliveries for ${next.sales_week} are late by ${remaining(next.due_at)}`, why: `Without them the week cannot run; it was due ${when(next.due_at)}.`, action: "See the source", href: "#/quality/deliveries" });
  }
  if (next?.missing?.length) {
    found.push({ tone: "bad", what: `${next.missing.join(", ")} ${next.missing.length === 1 ? "was" : "were"} never published`, why: "Weeks before and after them were.", action: "See the runs", href: "#/runs" });
  }
  return found;
}
