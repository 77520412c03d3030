// Overview: is this week fine, what needs somebody, how do the regions stand over the weeks.

import { get, getOr } from "../api.js";
import { findings, health, learn, target } from "../attention.js";
import { dueChip } from "../due.js";
import { newestRuns } from "../first.js";
import { totals } from "../totals.js";
import { mapeMeter, timeline } from "../charts.js";
import { h, swap, toast } from "../dom.js";
import { ago, count, duration, fixed, percent, plural, seconds, sentence, short, sum, words } from "../format.js";
import { badge, card, empty, figure, figures, loading, table } from "../parts.js";

const WEEKS = 8;
let seen = false; // whether the view was built up once
const details = new Map(); // ended runs do not change, so their verdicts are fetched once

export const title = "Overview";

export async function load(_route, signal) {
  // The list of runs has what the figures need and is shown at once. The run itself follows, then models and sources,
  // which take longer, after a cold start seconds: in this order, so that none slows down what is wanted before it.
  const listed = await newestRuns(signal);
  const runs = listed.runs || [];
  const main = runs.find((run) => run.kind === "weekly") || runs[0];
  const data = { runs, main, current: null, next: listed.next || null, models: [], overall: main?.summary?.quality || {}, groups: [], sources: [], waiting: null };
  const run = main ? detail(main, signal) : Promise.resolve(null);
  data.waiting = quietly(run.then((current) => Object.assign(data, { current, waiting: quietly(addModels(data, signal)) })));
  // A refresh waits for all of it: what is on the page stays until then.
  if (seen) while (data.waiting) await data.waiting;
  seen = true;
  return data;
}

/** A promise whose failure is told by whoever draws the data, if anybody does. */
function quietly(promise) {
  promise.catch(() => {});
  return promise;
}

async function addModels(data, signal) {
  const [models, sources] = await Promise.all([getOr({ models: [] }, "models", {}, signal), getOr({ sources: [] }, "sources", {}, signal)]);
  learn(models);
  Object.assign(data, { models: models.models || [], overall: models.overall || {}, groups: models.groups || [], sources: sources.sources || [], waiting: null });
}

async function detail(run, signal) {
  if (details.has(run.run_id)) return details.get(run.run_id);
  const found = await get(`runs/${encodeURIComponent(run.run_id)}`, {}, signal);
  if (run.status !== "running") details.set(run.run_id, found);
  return found;
}

export const live = (data) => data.main?.status === "running";

export function render(data, redraw) {
  data.waiting?.then(() => redraw(), (error) => {
    data.waiting = null;
    if (error.name === "AbortError") return;
    toast(error.message, "bad");
    redraw();
  });
  if (!data.main) {
    return [h("div", { class: "page-head" }, h("h1", {}, "Overview")),
      empty("No run yet.", h("p", { class: "muted" }, "Start one with `make run`, with the weekly Data Factory pipeline, or with POST /api/runs.")),
      needsCard(findings(data)), card("Sources", { actions: h("a", { href: "#/quality" }, "Data quality") }, data.waiting ? loading() : sourceList(data.sources))];
  }
  return [
    h("div", { class: "page-head" },
      h("h1", {}, `Week ${data.main.sales_week}`), badge(data.main.status),
      h("a", { href: `#/runs/${data.main.run_id}`, class: "muted" }, data.main.run_id),
      h("span", { class: "spacer" }), dueChip(data.next)),
    headline(data),
    h("div", { class: "columns" },
      h("div", { id: "needs" }, data.waiting ? card("Needs somebody", {}, loading()) : needsCard(findings(data))),
      card("Steps of this run", { actions: h("a", { href: `#/runs/${data.main.run_id}` }, "Open the run") }, data.current ? timeline(data.current.steps || []) : data.waiting ? loading() : empty("They could not be read."))),
    grid(data),
    h("div", { class: "columns uneven" },
      card("Accuracy by format and velocity", { actions: h("a", { href: "#/models" }, "All models") }, data.waiting ? loading() : accuracy(data.groups)),
      card("Sources", { actions: h("a", { href: "#/quality" }, "Data quality") }, data.waiting ? loading() : sourceList(data.sources)))];
}

function headline(data) {
  const { current, main, overall, models } = data;
  const ledger = (current || main.summary || {}).completeness || {};
  const published = (current || main.summary || {}).publish;
  const explained = sum(Object.values(ledger.explained || {}));
  const standing = models.filter((model) => model.kind !== "baseline");
  const failover = standing.filter((model) => model.failover).length;
  const records = figure("Records quarantined", "…", "counting");
  if (!data.waiting) setTimeout(() => countRecords(data, records), 0);
  const took = main.started_at ? seconds(main.started_at, main.ended_at) : null;
  const reduction = overall.mape_reduction ?? (overall.baseline_mape ? 1 - overall.mape / overall.baseline_mape : null);
  return figures(
    figure("MAPE, all models", data.waiting && !overall.mape ? "…" : percent(overall.mape), data.waiting && !overall.mape ? "looking at the models" : reduction === null ? `target ${percent(target.mape, 0)}` : `${percent(Math.abs(reduction))} ${reduction >= 0 ? "below" : "above"} the history average`, overall.mape === null || overall.mape === undefined ? "" : overall.mape <= target.mape ? "good" : "warn"),
    figure("Forecasts published", count(published?.rows), published?.version ? `version ${String(published.version).slice(0, 12)}` : "nothing published yet"),
    figure("Completeness", ledger.expected ? percent((ledger.scored + explained) / ledger.expected, ledger.gap ? 2 : 0) : "–", ledger.expected ? `${count(ledger.scored)} scored, ${count(explained)} explained, gap ${count(ledger.gap)}` : "no ledger yet", ledger.gap ? "bad" : ledger.expected ? "good" : ""),
    figure("Models in failover", data.waiting ? "…" : count(failover), data.waiting ? "looking at the models" : `of ${count(standing.length)} segments`, data.waiting ? "" : failover ? "warn" : standing.length ? "good" : ""),
    records,
    figure("Duration", duration(took), main.ended_at ? `ended ${ago(main.ended_at)}` : "still running"));
}

/** Count the records of every source after the view stands; figure and findings follow when the counts are there. */
async function countRecords(data, box) {
  for (const source of data.sources) {
    Object.assign(source, await totals(source).catch(() => ({})));
    if (!box.isConnected) return;
  }
  const read = sum(data.sources.map((source) => source.records_read));
  const aside = sum(data.sources.map((source) => source.quarantined));
  box.replaceWith(figure("Records quarantined", read ? percent(aside / read, 2) : "–", read ? `${short(aside)} of ${short(read)} read` : "nothing read yet", aside / read > 0.01 ? "warn" : ""));
  const needs = document.getElementById("needs");
  if (needs) swap(needs, needsCard(findings(data)));
}

const needsCard = (needs) => card("Needs somebody", { note: needs.length ? plural(needs.length, "finding") : "" }, attention(needs));

function attention(needs) {
  if (!needs.length) return empty("Nothing. All sources, models and forecasts are as they should be.");
  return h("ul", { class: "findings" }, needs.slice(0, 7).map((one) => h("li", { class: one.tone },
    h("div", {}, h("strong", {}, one.what), h("p", { class: "muted" }, one.why)), h("a", { class: "button", href: one.href }, one.action))),
  needs.length > 7 ? h("li", {}, h("span", { class: "muted" }, `and ${needs.length - 7} more`)) : null);
}

function grid(data) {
  const runs = newestPerWeek(data.runs).slice(0, WEEKS).reverse();
  const box = h("div", { class: "table-wrap", "data-scroll": "weeks", tabindex: "0", role: "region", "aria-label": "Model health by week and region" });
  const known = (run) => (run.run_id === data.main.run_id ? data.current : details.get(run.run_id));
  const fill = () => swap(box, gridTable(runs, data.models, known));
  fill();
  // The current week is there soon; earlier weeks come when the page is ready for use.
  const addWeeks = async () => {
    for (const run of [...runs].reverse()) {
      if (known(run)) continue;
      await detail(run).catch(() => null);
      if (!box.isConnected) return;
      fill();
    }
  };
  if (!data.waiting) setTimeout(addWeeks, 0);
  return card("Model health by week and region", { wide: true, note: "large fast, large slow, small fast, small slow" }, box,
    h("ul", { class: "legend" }, [["good", "on target"], ["warn", "above target or failover"], ["bad", "worse than the history average or failed"], ["none", "not trained in this run"]].map(([kind, text]) =>
      h("li", {}, h("span", { class: `cell ${kind}`, "aria-hidden": "true" }), text))));
}

function newestPerWeek(runs) {
  const weeks = new Map();
  for (const run of runs) if (run.kind !== "score" && run.kind !== "validate" && !weeks.has(run.sales_week)) weeks.set(run.sales_week, run);
  return [...weeks.values()];
}

function gridTable(runs, models, known) {
  const segments = models.filter((model) => model.kind !== "baseline").map((model) => model.segment);
  for (const run of runs) for (const verdict of known(run)?.verdicts || []) if (verdict.kind !== "baseline") segments.push(verdict.segment);
  const regions = [...new Set(segments.map((segment) => segment.split("-")[0]))].sort();
  const kinds = [...new Set(segments.map((segment) => segment.split("-").slice(1).join("-")))].sort();
  if (!regions.length) return runs.some((run) => !known(run)) ? loading() : empty("No model was trained yet.");
  const cell = (run, region) => {
    const found = known(run);
    if (!found) return h("span", { class: "muted" }, "…");
    const bySegment = new Map((found.verdicts || []).map((verdict) => [verdict.segment, verdict]));
    return h("span", { class: "cells" }, kinds.map((kind) => {
      const verdict = bySegment.get(`${region}-${kind}`);
      const { tone, word } = health(verdict);
      return h("a", { class: `cell ${tone}`, href: `#/models/${region}-${kind}`, title: `${region} ${words(kind.replace("-", " "))}: ${verdict ? `MAPE ${percent(verdict.mape)}, ${word}` : word}`, "aria-label": `${region} ${kind} in ${run.sales_week}: ${word}` });
    }));
  };
  return h("table", { class: "grid" }, h("caption", { class: "sr" }, "Model health by region and week"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Region"), runs.map((run) => h("th", { scope: "col" }, h("a", { href: `#/runs/${run.run_id}` }, run.sales_week), " ", h("span", { class: `dot ${run.status === "failed" ? "bad" : run.status === "running" ? "busy" : run.status === "degraded" ? "warn" : "good"}`, title: run.status }))))),
    h("tbody", {}, regions.map((region) => h("tr", {}, h("th", { scope: "row" }, region), runs.map((run) => h("td", {}, cell(run, region)))))));
}

export function accuracy(groups, full) {
  return table("accuracy", [
    { title: "Group", cell: (row) => `${sentence(row.store_format)}, ${row.velocity}` },
    { title: "MAPE", cell: (row) => h("span", { class: "with-meter" }, mapeMeter(row.mape, target.mape, row.baseline_mape), percent(row.mape)), num: true },
    { title: "History avg.", cell: (row) => percent(row.baseline_mape), num: true },
    { title: "Reduction", cell: (row) => h("span", { class: row.mape_reduction > 0 ? "up" : "down" }, percent(row.mape_reduction)), num: true },
    { title: "RMSE 0", cell: (row) => fixed(row.rmse_0), num: true },
    { title: "RMSE all", cell: (row) => fixed(row.rmse_all), num: true },
    ...(full ? [{ title: "WAPE", cell: (row) => percent(row.wape), num: true }, { title: "Bias", cell: (row) => percent(row.bias), num: true }] : []),
  ], groups, { caption: "Accuracy by store format and velocity", empty: "No model was evaluated yet." });
}

function sourceList(sources) {
  return table("source-list", [
    { title: "Source", cell: (row) => h("a", { href: `#/quality/${encodeURIComponent(row.name)}` }, sentence(row.name)) },
    { title: "Latest", cell: (row) => row.latest_week || "–" },
    { title: "State", cell: (row) => badge(row.state) },
    { title: "Owner", cell: (row) => row.owner || "–" },
  ], sources, { empty: "No source is configured." });
}
