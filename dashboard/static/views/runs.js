// Runs: every run with its state, filtered and sorted; the reader's filter is kept on this machine.

import { get } from "../api.js";
import { h } from "../dom.js";
import { dueChip } from "../due.js";
import { count, duration, percent, plural, seconds, when, words } from "../format.js";
import { badge, field, table } from "../parts.js";

const SAVED = "shelfcast.runs.filter";
const PAGE = 100;
const MOST = 1000; // what the service gives at once
const state = { limit: PAGE, filter: JSON.parse(localStorage.getItem(SAVED) || "{}") };

export const title = "Runs";

export async function load(_route, signal) {
  return get("runs", { limit: state.limit }, signal);
}

export const live = (data) => (data.runs || []).some((run) => run.status === "running");

function matches(run, { text = "", kind = "", status = "" }) {
  const hay = `${run.run_id} ${run.correlation_id || ""} ${run.message || ""}`.toLowerCase();
  return (!kind || run.kind === kind) && (!status || run.status === status) && text.toLowerCase().split(/\s+/).every((word) => hay.includes(word));
}

export function render(data, redraw) {
  const runs = data.runs || [];
  const chosen = runs.filter((run) => matches(run, state.filter));
  const change = (name) => (event) => {
    state.filter = { ...state.filter, [name]: event.target.value };
    localStorage.setItem(SAVED, JSON.stringify(state.filter));
    redraw();
  };
  const options = (name) => [["", `Every ${name}`], ...[...new Set(runs.map((run) => run[name]))].sort().map((value) => [value, value])];
  const mape = (run) => run.summary?.quality?.mape ?? run.summary?.mape;
  const rows = (run) => run.summary?.publish?.rows ?? run.summary?.rows;
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Runs"), h("span", { class: "muted" }, `${count(chosen.length)} of ${plural(data.total, "run")}`),
      h("span", { class: "spacer" }), dueChip(data.next)),
    data.next?.missing?.length ? h("p", { class: "notice bad" }, `Never published although an earlier week was: ${data.next.missing.join(", ")}.`) : null,
    h("div", { class: "filters" },
      field("Search", "search", { type: "search", id: "filter", value: state.filter.text || "", "data-keep": "runs-text", placeholder: "week, id, message", oninput: change("text") }),
      field("Kind", "kind", { options: options("kind"), value: state.filter.kind || "", "data-keep": "runs-kind", onchange: change("kind") }),
      field("Status", "status", { options: options("status"), value: state.filter.status || "", "data-keep": "runs-status", onchange: change("status") })),
    table("runs", [
      { title: "Run", cell: (run) => run.run_id, sort: (run) => run.run_id },
      { title: "Week", cell: (run) => run.sales_week, sort: (run) => run.sales_week },
      { title: "Status", cell: (run) => badge(run.status), sort: (run) => run.status },
      { title: "Started", cell: (run) => when(run.started_at), sort: (run) => run.started_at },
      { title: "Duration", cell: (run) => duration(run.started_at ? seconds(run.started_at, run.ended_at) : null), sort: (run) => seconds(run.started_at, run.ended_at), num: true },
      { title: "MAPE", cell: (run) => percent(mape(run)), sort: mape, num: true },
      { title: "Forecasts", cell: (run) => count(rows(run)), sort: rows, num: true },
      { title: "Message", cell: (run) => run.message || (run.summary?.waiting ? `waits: ${run.summary.waiting.why}` : "") || (run.summary?.step ? `at ${words(run.summary.step)}` : ""), wide: true },
    ], chosen, { caption: "Runs", state, redraw, link: (run) => `#/runs/${encodeURIComponent(run.run_id)}`, limit: 50, empty: runs.length ? "No run matches the filter." : "No run yet." }),
    runs.length < Math.min(data.total, MOST)
      ? h("button", { type: "button", class: "more", "data-keep": "older", onclick: () => { state.limit = Math.min(MOST, state.limit + PAGE * 3); redraw(true); } }, `Look at older runs too (${count(data.total - runs.length)} more)`)
      : null,
  ];
}
