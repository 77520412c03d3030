// One run: what it did, when, with which data and models, and what can be done about it.

import { get, post } from "../api.js";
import { stacked, timeline } from "../charts.js";
import { h, toast } from "../dom.js";
import { count, duration, fixed, list, percent, plural, seconds, sentence, sum, when, words } from "../format.js";
import { ask, badge, card, facts, field, figure, figures, identifier, reasonField, table } from "../parts.js";
import { accuracy } from "./overview.js";

const state = {};

export const title = "Run";

export async function load(route, signal) {
  return get(`runs/${encodeURIComponent(route.name)}`, {}, signal);
}

export const live = (run) => run.status === "running";

export function render(run, redraw) {
  const ledger = run.completeness || {};
  const explained = sum(Object.values(ledger.explained || {}));
  const judged = (run.verdicts || []).filter((one) => one.kind !== "baseline");
  const jobs = Object.entries(run.jobs || {}).filter(([, phase]) => phase && list(phase.items).length);
  const actions = [
    run.status === "running"
      ? h("button", { type: "button", class: "danger", "data-keep": "cancel", onclick: () => cancel(run, redraw) }, "Cancel…")
      : h("button", { type: "button", class: "primary", "data-keep": "replay", onclick: () => replay(run, redraw) }, "Replay…"),
  ];
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/runs" }, "Runs"), " / ", run.sales_week),
    h("div", { class: "page-head" }, h("h1", {}, run.run_id), badge(run.status), h("span", { class: "spacer" }), actions),
    run.message ? h("p", { class: `notice ${run.status === "failed" ? "bad" : ""}` }, run.message) : null,
    run.waiting ? h("p", { class: "notice" }, `Waits since ${when(run.waiting.since)}, tries again (${words(run.waiting.doing)}): ${run.waiting.why}`) : null,
    figures(
      figure("Duration", duration(run.started_at ? seconds(run.started_at, run.ended_at) : null), `started ${when(run.started_at)}`),
      figure("Models accepted", judged.length ? `${count(judged.filter((one) => one.accepted).length)} / ${count(judged.length)}` : "–", "acceptance gate"),
      figure("Forecasts published", count(run.publish?.rows), run.publish?.version ? `version ${String(run.publish.version).slice(0, 12)}` : "not published"),
      figure("Completeness gap", ledger.expected ? count(ledger.gap) : "–", ledger.expected ? `${count(ledger.expected)} expected` : "no ledger yet", ledger.gap ? "bad" : ""),
      run.cost ? figure("Cost", fixed(run.cost.cost ?? run.cost.amount), `${fixed(run.cost.node_minutes, 1)} node minutes`) : null),
    h("div", { class: "columns" },
      card("Timeline", {}, timeline(run.steps || [])),
      card("Completeness ledger", {}, completeness(ledger, explained))),
    ...jobs.map(([phase, found]) => jobsCard(phase, found, redraw)),
    card("Verdicts of the acceptance gate", { wide: true, note: judged.length ? `${judged.filter((one) => !one.accepted).length} refused` : "" }, verdicts(run, redraw)),
    quality(run, redraw),
    card("Why it trained what it trained", { wide: true }, decisions(run, redraw)),
    card("Identity and lineage", { wide: true }, identity(run)),
  ];
}

function completeness(ledger, explained) {
  if (!ledger.expected) return h("p", { class: "empty" }, "The ledger is written when the week is scored.");
  return h("div", {},
    stacked([
      { label: "Scored", value: ledger.scored, tone: "good", always: true },
      ...Object.entries(ledger.explained || {}).map(([reason, number], index) => ({ label: sentence(reason), value: number, tone: `series-${(index % 4) + 1}` })),
      { label: "Gap", value: ledger.gap, tone: "bad", always: true },
    ], { total: ledger.expected, label: "Expected forecasts:" }),
    h("p", { class: "muted" }, `${count(ledger.expected)} expected = ${count(ledger.scored)} scored + ${count(explained)} explained${ledger.gap ? `, ${count(ledger.gap)} missing` : ", no gap"}.`),
    ledger.gap_pairs?.length ? h("p", {}, "Missing: ", h("code", {}, ledger.gap_pairs.join(", "))) : null,
    Object.keys(ledger.failover || {}).length ? h("p", { class: "muted" }, `In failover: ${Object.entries(ledger.failover).map(([why, number]) => `${words(why)} ${count(number)}`).join(", ")}.`) : null);
}

function jobsCard(phase, found, redraw) {
  const items = list(found.items);
  const parts = [["succeeded", "good"], ["running", "busy"], ["waiting", "wait"], ["planned", "none"], ["failed", "bad"], ["cancelled", "warn"]];
  const by = (name) => items.filter((item) => item.phase === name).length;
  const rows = [...items].sort((one, other) => Number(other.phase === "failed") - Number(one.phase === "failed"));
  return card(`${sentence(phase)} jobs`, { wide: true, note: `${plural(items.length || found.planned || 0, "job")}${found.adopted ? `, ${count(found.adopted)} adopted` : ""}` },
    stacked(parts.map(([name, tone]) => ({ label: sentence(name), value: items.length ? by(name) : found[name] || 0, tone, always: name === "failed" })), { label: `${phase} jobs:` }),
    items.length ? h("details", { "data-keep": `jobs-${phase}`, open: by("failed") > 0 }, h("summary", {}, "Jobs one by one"),
      table(`jobs-${phase}`, [
        { title: "Job", cell: (job) => h("span", {}, job.segment || job.name), sort: (job) => job.segment || job.name },
        { title: "State", cell: (job) => badge(job.phase || job.status), sort: (job) => job.phase },
        { title: "Platform says", cell: (job) => job.status || "" },
        { title: "Took", cell: (job) => duration(job.started_at ? seconds(job.started_at, job.ended_at) : null), sort: (job) => seconds(job.started_at, job.ended_at), num: true },
        { title: "Name", cell: (job) => (job.link ? h("a", { href: job.link, target: "_blank", rel: "noreferrer" }, job.name) : h("code", {}, job.name || "")) },
        { title: "Error", cell: (job) => job.error || "", wide: true },
      ], rows, { state, redraw, limit: 12 })) : null);
}

function verdicts(run, redraw) {
  const rows = run.verdicts || [];
  return table("verdicts", [
    { title: "Segment", cell: (row) => h("a", { href: `#/models/${encodeURIComponent(row.segment)}` }, row.segment), sort: (row) => row.segment },
    { title: "Verdict", cell: (row) => badge(row.accepted ? "accepted" : "refused"), sort: (row) => Number(row.accepted) },
    { title: "MAPE", cell: (row) => percent(row.mape), sort: (row) => row.mape, num: true },
    { title: "History avg.", cell: (row) => percent(row.baseline_mape), sort: (row) => row.baseline_mape, num: true },
    { title: "RMSE 0", cell: (row) => fixed(row.rmse_0), sort: (row) => row.rmse_0, num: true },
    { title: "RMSE all", cell: (row) => fixed(row.rmse_all), sort: (row) => row.rmse_all, num: true },
    { title: "WAPE", cell: (row) => percent(row.wape), sort: (row) => row.wape, num: true },
    { title: "Bias", cell: (row) => percent(row.bias), sort: (row) => row.bias, num: true },
    { title: "Zero actuals", cell: (row) => count(row.mape_excluded), sort: (row) => row.mape_excluded, num: true },
    { title: "Reasons", cell: (row) => list(row.reasons).join("; "), wide: true },
  ], rows, { state, redraw, limit: 20, caption: "Verdicts", empty: "No model was judged in this run." });
}

/** Counts by decision and reason first; the segments one by one on demand. */
function decisions(run, redraw) {
  const rows = list(run.decisions);
  if (!rows.length) return h("p", { class: "empty" }, "Nothing was decided yet.");
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.action}: ${list(row.reasons).map(words).join("; ") || "no reason"}`;
    groups.set(key, (groups.get(key) || 0) + 1);
  }
  return h("div", {},
    h("ul", { class: "counts" }, [...groups].map(([key, number]) => h("li", {}, h("strong", {}, count(number)), ` ${key}`))),
    h("details", { "data-keep": "decisions" }, h("summary", {}, "Segments one by one"), decisionTable(rows, redraw)));
}

function decisionTable(rows, redraw) {
  return table("decisions", [
    { title: "Segment", cell: (row) => row.segment, sort: (row) => row.segment },
    { title: "Decision", cell: (row) => badge(row.action, row.action === "train" ? "busy" : "good"), sort: (row) => row.action },
    { title: "Because", cell: (row) => list(row.reasons).map(words).join("; "), wide: true },
  ], rows, { state, redraw, limit: 12 });
}

/** Accuracy of the run's models together, or what its sources delivered: whichever the run tells. */
function quality(run, redraw) {
  const groups = run.quality?.groups;
  const rows = Array.isArray(run.quality) ? run.quality : [];
  if (groups) return card("Accuracy by format and velocity", { wide: true }, accuracy(groups, true));
  return card(rows.length ? "Data quality" : "Accuracy", { wide: true }, table("run-quality", [
    { title: "Source", cell: (row) => h("a", { href: `#/quality/${encodeURIComponent(row.source)}` }, sentence(row.source)), sort: (row) => row.source },
    { title: "Status", cell: (row) => badge(row.status) },
    { title: "Read", cell: (row) => count(row.records_read), sort: (row) => row.records_read, num: true },
    { title: "Quarantined", cell: (row) => count(row.quarantined), sort: (row) => row.quarantined, num: true },
    { title: "Duplicates", cell: (row) => count(row.duplicates), sort: (row) => row.duplicates, num: true },
  ], rows, { state, redraw, empty: "No model was measured in this run." }));
}

function identity(run) {
  const pins = run.pins || {};
  return h("div", {},
    facts([
      ["Run", identifier(run.run_id)], ["Kind", run.kind], ["Attempt", run.attempt], ["Replay of", run.replay_of],
      ["Correlation id", identifier(run.correlation_id, run.links?.adf)], ["Operation id", identifier(run.operation_id, run.links?.trace)],
      ["Data version", identifier(run.as_of_version)],
      ["Code version", run.code_version], ["Last week of history", run.cutoff], ["Reason", run.request?.reason || run.reason],
      ["Asked by", run.request?.requested_by], ["Published at", run.publish ? when(run.publish.published_at) : ""], ["Path", run.publish?.path ? h("code", {}, run.publish.path) : ""],
    ]),
    Object.keys(pins).length ? h("details", { "data-keep": "pins" }, h("summary", {}, "Pinned data and code versions"), h("pre", { class: "code" }, JSON.stringify(pins, null, 2))) : null);
}

async function replay(run, redraw) {
  const steps = [["", "Whatever is missing or failed"], ...(run.steps || []).map((step) => [step.name, `From ${words(step.name)}`])];
  const wish = (values, dry) => ({
    dry_run: dry, reason: values.reason, data: values.data, from_step: values.from_step || undefined,
    segments: values.segments.trim() ? values.segments.trim().split(/[\s,]+/) : undefined,
  });
  await ask(`Replay ${run.run_id}`, {
    text: "Finished jobs are kept and running ones adopted; nothing is written twice. Look at the plan first.",
    fields: [
      reasonField(),
      field("From step", "from_step", { options: steps }),
      field("Segments", "segments", { placeholder: "all that need it" }, "For example r01-large-fast, r02-small-slow."),
      field("Data", "data", { options: [["same", "The same pinned data versions"], ["fresh", "The newest data versions"]] }),
    ],
    actions: [{ name: "preview", label: "Preview" }, { name: "start", label: "Start the replay", tone: "primary" }],
    submit: async (values, action) => {
      const answer = await post(`runs/${encodeURIComponent(run.run_id)}/replay`, wish(values, action === "preview"));
      if (action === "preview") return plan(answer.plan || answer);
      const started = answer.run_id || answer.new_run_id || answer.plan?.run_id;
      toast(started ? `Replay started: ${started}` : "Replay started.");
      if (started && started !== run.run_id) window.location.hash = `#/runs/${started}`;
      else redraw(true);
      return true;
    },
  });
}

/** What a replay would do: which steps it keeps, which jobs it keeps, adopts or runs. */
function plan(found) {
  const steps = (action) => list(found.steps).filter((step) => step.action === action).map((step) => words(step.name)).join(", ");
  const jobs = (action) => {
    const chosen = list(found.jobs).filter((job) => job.action === action);
    const names = chosen.slice(0, 6).map((job) => job.unit).join(", ");
    return chosen.length ? `${plural(chosen.length, "job")}: ${names}${chosen.length > 6 ? " …" : ""}` : "";
  };
  return h("div", { class: "notice", id: "plan" }, h("strong", {}, `${found.new_attempt} would`), facts([
    ["keep the steps", steps("keep")], ["do the steps", steps("do")], ["keep the finished", jobs("keep")], ["adopt the running", jobs("adopt")],
    ["run", jobs("run") || "no job that is known yet"], ["use", found.data === "fresh" ? "the newest data versions" : "the same pinned data versions"]]));
}

async function cancel(run, redraw) {
  await ask(`Cancel ${run.run_id}`, {
    text: "Running jobs are cancelled. What is finished stays and a later replay adopts it.",
    fields: [reasonField()],
    actions: [{ name: "cancel", label: "Cancel the run", tone: "danger" }],
    submit: async (values) => {
      await post(`runs/${encodeURIComponent(run.run_id)}/cancel`, { reason: values.reason });
      toast("Cancellation was asked for.");
      redraw(true);
      return true;
    },
  });
}
