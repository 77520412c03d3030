// Data quality: each source by week, why records were set aside, the records themselves, and conditioning them again.

import { get, getOr, post } from "../api.js";
import { forget, totals } from "../totals.js";
import { stacked } from "../charts.js";
import { h, toast } from "../dom.js";
import { count, list, percent, plural, sentence, sum, when, words } from "../format.js";
import { ask, badge, card, empty, facts, field, figure, figures, reasonField, table } from "../parts.js";

const PAGE = 50;
const PATIENCE_MS = 150; // that the counts of all sources are waited for before the list is shown without them
const state = {};

export const title = "Data quality";
export const live = () => false;

export async function load(route, signal) {
  const { sources = [] } = await get("sources", {}, signal);
  if (!route.name) {
    const data = { sources, waiting: null };
    const counted = Promise.all(sources.map(async (source) => Object.assign(source, await totals(source).catch(() => ({}))))).then(() => { data.waiting = null; });
    data.waiting = counted;
    await Promise.race([counted, new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); })]);
    return data;
  }
  const source = sources.find((one) => one.name === route.name) || { name: route.name };
  const { weeks = [], misplaced_files: misplaced = [] } = await getOr({}, `quality/${encodeURIComponent(route.name)}`, {}, signal);
  const sorted = [...weeks].sort((one, other) => (one.sales_week < other.sales_week ? 1 : -1));
  const week = route.query.get("week") || (sorted.find((one) => one.quarantined > 0) || sorted[0])?.sales_week || "";
  const offset = Number(route.query.get("offset")) || 0;
  const aside = week ? await getOr({ rows: [], total: 0 }, `quarantine/${encodeURIComponent(route.name)}`, { sales_week: week, limit: PAGE, offset }, signal) : { rows: [], total: 0 };
  return { sources, source, weeks: sorted, week, offset, aside, misplaced };
}

export function render(data, redraw) {
  return data.source ? one(data, redraw) : all(data, redraw);
}

function all({ sources, waiting }, redraw) {
  const head = h("div", { class: "page-head" }, h("h1", {}, "Data quality"), h("span", { class: "muted" }, plural(sources.length, "source")));
  waiting?.then(() => { if (head.isConnected) redraw(); }); // unless the reader has gone elsewhere meanwhile
  return [
    head,
    card("Sources", { wide: true, note: waiting ? "counting records …" : "" }, table("sources", [
      { title: "Source", cell: (row) => sentence(row.name), sort: (row) => row.name },
      { title: "State", cell: (row) => badge(row.state), sort: (row) => row.state },
      { title: "Latest week", cell: (row) => row.latest_week || "–", sort: (row) => row.latest_week },
      { title: "Weeks", cell: (row) => count(row.weeks), sort: (row) => row.weeks, num: true },
      { title: "Missing", cell: (row) => (row.missing ? h("span", { class: "down" }, count(row.missing)) : count(row.missing)), sort: (row) => row.missing, num: true },
      { title: "Read", cell: (row) => count(row.records_read), sort: (row) => row.records_read, num: true },
      { title: "Quarantined", cell: (row) => (row.records_read ? percent(row.quarantined / row.records_read, 2) : count(row.quarantined)), sort: (row) => row.quarantined, num: true },
      { title: "Cadence", cell: (row) => row.cadence || "–" },
      { title: "Needed", cell: (row) => (row.required ? "required" : "optional") },
      { title: "Owner", cell: (row) => row.owner || "–", sort: (row) => row.owner },
      { title: "Contract", cell: (row) => row.contract_version ?? "–" },
    ], sources, { state, redraw, link: (row) => `#/quality/${encodeURIComponent(row.name)}`, caption: "Sources" }))];
}

function one({ source, weeks, week, offset, aside, misplaced }, redraw) {
  const chosen = weeks.find((entry) => entry.sales_week === week);
  const read = sum(weeks.map((entry) => entry.records_read));
  const wrong = sum(weeks.map((entry) => entry.quarantined));
  const place = `#/quality/${encodeURIComponent(source.name)}`;
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/quality" }, "Data quality"), " / ", words(source.name)),
    h("div", { class: "page-head" }, h("h1", {}, sentence(source.name)), badge(source.state), h("span", { class: "spacer" }),
      h("button", { type: "button", class: "primary", "data-keep": "redrive", onclick: () => redrive(source.name, week, redraw) }, "Condition again…")),
    figures(
      figure("Records read", count(read), plural(weeks.length, "week")), figure("Conditioned", count(sum(weeks.map((entry) => entry.conditioned)))),
      figure("Quarantined", count(wrong), read ? percent(wrong / read, 2) : "", wrong / read > 0.01 ? "warn" : ""), figure("Duplicates", count(sum(weeks.map((entry) => entry.duplicates)))),
      figure("Owner", source.owner || "–", source.origin), figure("Contract", source.contract_version ?? "–", source.cadence)),
    misplaced.length ? h("div", { class: "notice warn" }, h("strong", {}, `${plural(misplaced.length, "file")} lie where no week is`), h("p", {}, misplaced.slice(0, 10).join(", "))) : null,
    card("Weeks", { wide: true }, table("weeks", [
      { title: "Week", cell: (row) => row.sales_week, sort: (row) => row.sales_week },
      { title: "Status", cell: (row) => badge(row.status), sort: (row) => row.status },
      { title: "Read", cell: (row) => count(row.records_read), sort: (row) => row.records_read, num: true },
      { title: "Conditioned", cell: (row) => count(row.conditioned), num: true },
      { title: "Quarantined", cell: (row) => count(row.quarantined), sort: (row) => row.quarantined, num: true },
      { title: "Duplicates", cell: (row) => count(row.duplicates), sort: (row) => row.duplicates, num: true },
      { title: "Why", cell: (row) => [row.error, ...Object.entries(row.by_reason || {}).map(([reason, number]) => `${words(reason)} ${count(number)}`), ...list(row.warnings)].filter(Boolean).join(", "), wide: true },
      { title: "Data version", cell: (row) => h("code", {}, String(row.data_version || "").slice(0, 12)) },
      { title: "Conditioned at", cell: (row) => when(row.conditioned_at) },
    ], weeks, { state, redraw, link: (row) => `${place}?week=${row.sales_week}`, limit: 10, empty: "No file of this source was conditioned yet." })),
    week ? card(`Quarantine of ${week}`, { wide: true, note: plural(aside.total || 0, "record") },
      chosen ? reasons(chosen) : null, browser(aside, redraw), pager(place, week, offset, aside.total || 0)) : null];
}

function reasons(chosen) {
  const found = Object.entries(chosen.by_reason || {});
  return found.length ? stacked(found.map(([reason, value], index) => ({ label: sentence(reason), value, tone: `series-${(index % 4) + 1}` })), { label: "Reasons:" }) : null;
}

function browser(aside, redraw) {
  const rows = list(aside.rows);
  if (!rows.length) return empty("No record of this week is in quarantine.");
  return table("quarantine", [
    { title: "Row", cell: (row) => count(row.source_row), sort: (row) => row.source_row, num: true },
    { title: "Reason", cell: (row) => words(row.reason_code), sort: (row) => row.reason_code },
    { title: "Field", cell: (row) => row.field || "–", sort: (row) => row.field },
    { title: "Value", cell: (row) => h("code", {}, row.value ?? "") },
    { title: "Expected", cell: (row) => row.expected || "", wide: true },
    { title: "Raw record", cell: (row) => h("code", { class: "raw" }, row.raw_text ?? ""), wide: true },
    { title: "File", cell: (row) => row.source_file || "", wide: true },
  ], rows, { state, redraw, caption: "Records in quarantine" });
}

function pager(place, week, offset, total) {
  if (total <= PAGE) return null;
  const link = (to, label) => h("a", { class: "button", href: `${place}?week=${week}&offset=${to}` }, label);
  return h("nav", { class: "pager", "aria-label": "Pages" },
    offset > 0 ? link(Math.max(0, offset - PAGE), "Previous") : null,
    h("span", { class: "muted" }, `${count(offset + 1)}–${count(Math.min(total, offset + PAGE))} of ${count(total)}`),
    offset + PAGE < total ? link(offset + PAGE, "Next") : null);
}

async function redrive(source, week, redraw) {
  await ask(`Condition ${words(source)} again`, {
    text: "The raw files are conditioned with today's contract and code. The same bytes give the same version, so nothing is doubled.",
    fields: [field("Week", "sales_week", { value: week, pattern: "\\d{4}-W\\d{2}", placeholder: "2017-W45", required: true }), reasonField()],
    actions: [{ name: "redrive", label: "Condition again", tone: "primary" }],
    submit: async (values) => {
      const answer = await post(`quarantine/${encodeURIComponent(source)}/redrive`, { sales_week: values.sales_week, reason: values.reason });
      forget(source);
      toast(`${sentence(source)}: ${words(answer.status || "asked for")}.`);
      redraw(true);
      const counts = answer.counts || answer;
      return h("div", { class: "notice" }, h("strong", {}, "Outcome"), facts([["Status", words(answer.status)], ["Read", count(counts.records_read)], ["Conditioned", count(counts.conditioned)], ["Quarantined", count(counts.quarantined)], ["Duplicates", count(counts.duplicates)]]));
    },
  });
}
