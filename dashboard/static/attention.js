// When to intervene: what stands wrong now, why, and what to do about it. Worst first.

import { dueFindings } from "./due.js";
import { list, percent, plural, sum, words } from "./format.js";

// The target of the scenario arrives with the models; until then the mission's 45 % stands.
export const target = { mape: 0.45, staleDays: 60 };

const QUARANTINE_LIMIT = 0.01;
const RANK = { bad: 0, warn: 1, busy: 2 };

/** Take what GET /api/models says about the scenario's limits. */
export function learn(models) {
  target.mape = models.mape_target ?? target.mape;
  target.staleDays = models.stale_after_days ?? target.staleDays;
}

/** Findings: {tone, what, why, action, href}. */
export function findings({ runs = [], models = [], sources = [], current = null, next = null }) {
  const found = [...runFindings(runs, current, next), ...modelFindings(models), ...sourceFindings(sources)];
  return found.sort((one, other) => RANK[one.tone] - RANK[other.tone]);
}

function runFindings(runs, current, next) {
  const found = dueFindings(next);
  const latest = new Map();
  for (const run of runs) if (!latest.has(`${run.kind}/${run.sales_week}`)) latest.set(`${run.kind}/${run.sales_week}`, run);
  for (const run of latest.values()) {
    if (run.status === "failed") found.push({ tone: "bad", what: `${run.run_id} failed`, why: run.message || "See its steps.", action: "Replay what is missing", href: `#/runs/${run.run_id}` });
    const waiting = run.status === "running" && run.summary?.waiting;
    if (waiting) found.push({ tone: "warn", what: `${run.run_id} waits`, why: waiting.why, action: "See the run", href: `#/runs/${run.run_id}` });
  }
  const jobs = Object.values(current?.jobs || {});
  const broken = sum(jobs.map((phase) => phase?.failed));
  if (broken && current.status !== "failed") found.push({ tone: "warn", what: `${plural(broken, "job")} of ${current.run_id} failed`, why: "Their segments use a fallback.", action: "See the jobs", href: `#/runs/${current.run_id}` });
  const gap = current?.completeness?.gap;
  if (gap) found.push({ tone: "bad", what: `${plural(gap, "forecast")} neither scored nor explained`, why: "The completeness ledger has a gap.", action: "See the ledger", href: `#/runs/${current.run_id}` });
  return found;
}

function modelFindings(models) {
  const used = models.filter((model) => model.kind !== "baseline");
  const found = [];
  const stale = used.filter((model) => model.stale);
  const failover = used.filter((model) => model.failover);
  const worse = used.filter((model) => !model.failover && model.baseline_mape !== null && model.mape > model.baseline_mape);
  const losing = used.filter((model) => model.realised?.weeks >= 2);
  const names = (some) => some.slice(0, 3).map((model) => model.segment).join(", ") + (some.length > 3 ? ` and ${some.length - 3} more` : "");
  if (failover.length) found.push({ tone: "warn", what: `${plural(failover.length, "segment")} in failover state`, why: `${names(failover)}: an older model or the history average stands in.`, action: "See the models", href: "#/models?show=failover" });
  if (stale.length) found.push({ tone: "warn", what: `${plural(stale.length, "model")} older than ${target.staleDays} days`, why: names(stale), action: "Train them again", href: "#/models?show=stale" });
  if (worse.length) found.push({ tone: "warn", what: `${plural(worse.length, "model")} worse than the history average`, why: names(worse), action: "Roll back or retrain", href: "#/models?show=worse" });
  if (losing.length) found.push({ tone: "bad", what: `${plural(losing.length, "model")} lost to the history average for two weeks`, why: `${names(losing)}, against what was really delivered.`, action: "Roll back or retrain", href: "#/models?show=losing" });
  return found;
}

function sourceFindings(sources) {
  const found = [];
  for (const source of sources) {
    const href = `#/quality/${encodeURIComponent(source.name)}`;
    const state = String(source.state || "").toLowerCase();
    if (state === "absent" && !source.required) continue;
    if (["missing", "rejected", "late", "stale", "absent"].includes(state)) {
      found.push({ tone: source.required ? "bad" : "warn", what: `${words(source.name)} is ${state}`, why: source.required ? "A run cannot start without it." : `Last week: ${source.latest_week || "none"}.`, action: `Ask ${source.owner || "its owner"}`, href });
    }
    const rejected = list(source.rejected);
    if (rejected.length) {
      const names = rejected.slice(-3).map((week) => week.sales_week).join(", ") + (rejected.length > 3 ? ` and ${rejected.length - 3} more` : "");
      found.push({ tone: source.required ? "bad" : "warn", what: `${words(source.name)} of ${names} rejected`, why: String(rejected.at(-1).error || "").slice(0, 200), action: `Ask ${source.owner || "its owner"}`, href });
    }
  }
  const share = (source) => (source.records_read ? source.quarantined / source.records_read : 0);
  const dirty = sources.filter((source) => share(source) > QUARANTINE_LIMIT).sort((one, other) => share(other) - share(one));
  if (dirty.length) {
    found.push({
      tone: "warn", what: `${plural(dirty.length, "source")} with more than 1 % in quarantine`, why: dirty.map((source) => `${words(source.name)} ${percent(share(source))}`).join(", "),
      action: "See the reasons", href: dirty.length === 1 ? `#/quality/${encodeURIComponent(dirty[0].name)}` : "#/quality",
    });
  }
  return found;
}

/** How one model stands: {tone, word}. */
export function health(model) {
  if (!model || model.mape === undefined) return { tone: "none", word: "no model" };
  if (model.kind === "baseline") return { tone: "wait", word: "history average" };
  if (model.failover) return { tone: "warn", word: "failover" };
  if (model.mape === null) return { tone: "bad", word: "not measured" };
  if (model.baseline_mape !== null && model.mape > model.baseline_mape) return { tone: "bad", word: "worse than the history average" };
  if (model.mape > target.mape) return { tone: "warn", word: "above target" };
  if (model.stale) return { tone: "warn", word: "stale" };
  return { tone: "good", word: "on target" };
}
