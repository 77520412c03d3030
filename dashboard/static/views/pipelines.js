// Data Factory: pipeline runs with their activities, as the factory tells them.

import { getOr } from "../api.js";
import { timeline } from "../charts.js";
import { h } from "../dom.js";
import { count, duration, list, plural, seconds, when, words } from "../format.js";
import { badge, card, empty, facts, identifier } from "../parts.js";

export const title = "Data Factory";

export const load = (_route, signal) => getOr(null, "pipelines/runs", { limit: 30 }, signal);

export const live = (data) => list(data?.runs).some((run) => ["inprogress", "running", "queued"].includes(String(run.status).toLowerCase()));

export function render(data) {
  const head = h("div", { class: "page-head" }, h("h1", {}, "Data Factory runs"));
  if (!data) return [head, empty("This service does not know the factory's runs; see Data Factory Studio.")];
  const runs = list(data.runs);
  head.append(h("span", { class: "muted" }, plural(runs.length, "pipeline run")));
  if (!runs.length) return [head, empty("No pipeline has run yet.")];
  return [head, ...runs.map(pipeline)];
}

function pipeline(run, index) {
  const id = run.run_id || run.pipeline_run_id;
  const activities = list(run.activities).map((one) => ({
    name: one.name, status: one.status, started_at: one.started_at, ended_at: one.ended_at, message: one.error?.message || (typeof one.error === "string" ? one.error : ""),
  }));
  return card(run.pipeline || run.pipeline_name || "Pipeline", { wide: true, note: `${when(run.started_at)}, ${duration(run.started_at ? seconds(run.started_at, run.ended_at) : null)}` },
    h("p", {}, badge(run.status), " ", identifier(id), run.correlation_id && run.correlation_id !== id ? h("span", { class: "muted" }, ` correlation ${run.correlation_id}`) : null),
    run.message || run.error ? h("p", { class: "notice bad" }, typeof run.error === "object" ? run.error.message || JSON.stringify(run.error) : run.message || run.error) : null,
    Object.keys(run.parameters || {}).length ? facts(Object.entries(run.parameters).map(([name, value]) => [words(name), typeof value === "object" ? JSON.stringify(value) : String(value)])) : null,
    activities.length ? h("details", { "data-keep": `pipeline-${id}`, open: index === 0 }, h("summary", {}, `${count(activities.length)} activities`), timeline(activities, { label: "Activities" })) : null);
}
