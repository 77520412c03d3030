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

/** Data Factory's own names for what a pipeline run and its activity runs say. */
function plain(run) {
  return {
    id: run.runId, name: run.pipelineName, status: run.status, started_at: run.runStart, ended_at: run.runEnd, message: run.message, parameters: run.parameters || {},
    activities: list(run.activityRuns).map((one) => ({
      name: list(one.path).length > 1 ? list(one.path).join(" / ") : one.activityName, status: one.status, started_at: one.activityRunStart, ended_at: one.activityRunEnd, message: one.error?.message || "",
    })),
  };
}

function pipeline(record, index) {
  const run = plain(record);
  return card(run.name || "Pipeline", { wide: true, note: `${when(run.started_at)}, ${duration(run.started_at ? seconds(run.started_at, run.ended_at) : null)}` },
    h("p", { class: "line" }, badge(run.status), identifier(run.id)),
    run.message ? h("p", { class: "notice bad" }, run.message) : null,
    Object.keys(run.parameters).length ? facts(Object.entries(run.parameters).map(([name, value]) => [words(name), Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value)])) : null,
    run.activities.length ? h("details", { "data-keep": `pipeline-${run.id}`, open: index === 0 }, h("summary", {}, `${count(run.activities.length)} activities`), timeline(run.activities, { label: "Activities" })) : null);
}
