// Models: every segment's production model against the target and the history average; promote and roll back.

import { getOr, post } from "../api.js";
import { health, learn, target } from "../attention.js";
import { mapeMeter } from "../charts.js";
import { h, toast } from "../dom.js";
import { count, fixed, list, percent, plural, sentence, signed, words } from "../format.js";
import { ask, badge, card, empty, facts, field, figure, figures, identifier, reasonField, table } from "../parts.js";
import { accuracy } from "./overview.js";

const state = { show: "" };

export const title = "Models";
export const live = () => false;

const FILTERS = {
  "": ["All", () => true],
  refused: ["Refused", (model) => model.accepted === false],
  failover: ["Failover", (model) => model.failover],
  stale: ["Stale", (model) => model.stale],
  losing: ["Losing for two weeks", (model) => model.realised?.weeks >= 2],
  worse: ["Worse than the average", (model) => model.baseline_mape !== null && model.mape > model.baseline_mape],
};

export async function load(route, signal) {
  const data = await getOr({ models: [] }, "models", {}, signal);
  const one = route.name ? await getOr(null, `models/${encodeURIComponent(route.name)}`, {}, signal) : null;
  learn(data);
  if (route.query.has("show")) state.show = route.query.get("show");
  return { ...data, models: data.models || [], groups: data.groups || [], overall: data.overall || {}, name: route.name, one };
}

export function render(data, redraw) {
  if (data.name) return detail(data, redraw);
  const { models, overall } = data;
  const ensembles = models.filter((model) => model.kind !== "baseline");
  const onTarget = ensembles.filter((model) => model.mape !== null && model.mape <= target.mape).length;
  const better = ensembles.filter((model) => model.mape !== null && model.mape < model.baseline_mape).length;
  const reduction = overall.mape_reduction ?? (overall.baseline_mape ? 1 - overall.mape / overall.baseline_mape : null);
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Models"), h("span", { class: "muted" }, `${count(ensembles.length)} ensembles, ${count(models.length - ensembles.length)} history averages`)),
    figures(
      figure("MAPE overall", percent(overall.mape), `target ${percent(target.mape, 0)}`, overall.mape === null || overall.mape === undefined ? "" : overall.mape <= target.mape ? "good" : "warn"),
      figure("Against the history average", signed(reduction === null ? null : -reduction), `average ${percent(overall.baseline_mape)}`, reduction === null ? "" : reduction > 0 ? "good" : "bad"),
      figure("RMSE 0", fixed(overall.rmse_0), "where nothing was sold"), figure("RMSE all", fixed(overall.rmse_all), "all store weeks"),
      figure("On target", `${count(onTarget)} / ${count(ensembles.length)}`, `MAPE up to ${percent(target.mape, 0)}`), figure("Beat the average", `${count(better)} / ${count(ensembles.length)}`, "history average")),
    card("By region and segment", { wide: true, note: `MAPE; line = ${percent(target.mape, 0)}, tick = history average` }, grid(models)),
    card("By format and velocity", { wide: true }, accuracy(data.groups, true)),
    card("All models", { wide: true, actions: chips(redraw, models) }, rows(models, redraw))];
}

function chips(redraw, models) {
  return h("div", { class: "chips", role: "group", "aria-label": "Filter" }, Object.entries(FILTERS).map(([name, [label, test]]) =>
    h("button", { type: "button", class: "chip", "aria-pressed": String(state.show === name), "data-keep": `show-${name}`, onclick: () => { state.show = name; redraw(); } }, `${label} ${models.filter(test).length}`)));
}

function grid(models) {
  if (!models.length) return empty("No model is registered yet.");
  const by = new Map(models.map((model) => [model.segment, model]));
  const parts = models.map((model) => model.segment.split("-"));
  const regions = [...new Set(parts.map((part) => part[0]))].sort();
  const formats = [...new Set(parts.map((part) => part[1]))].sort();
  const speeds = [...new Set(parts.map((part) => part[2]))].sort((one, other) => Number(one === "baseline") - Number(other === "baseline") || one.localeCompare(other));
  const cell = (key) => {
    const model = by.get(key);
    const { tone, word } = health(model);
    if (!model) return h("span", { class: "tile none" }, "–");
    const flags = [model.failover && "F", model.stale && "S"].filter(Boolean).join(" ");
    return h("a", { class: `tile ${tone}`, href: `#/models/${encodeURIComponent(key)}`, title: `${key}: ${word}, MAPE ${percent(model.mape)}`, "aria-label": `${key}: MAPE ${percent(model.mape)}, ${word}` },
      h("span", { class: "tile-value" }, percent(model.mape, 0), flags ? h("abbr", { title: `${model.failover ? "failover " : ""}${model.stale ? "stale" : ""}` }, flags) : null),
      model.kind === "baseline" ? null : mapeMeter(model.mape, target.mape, model.baseline_mape));
  };
  return h("div", { class: "table-wrap", "data-scroll": "model-grid", tabindex: "0", role: "region", "aria-label": "Models by region and segment" },
    h("table", { class: "grid tiles" }, h("caption", { class: "sr" }, "MAPE by region, format and velocity"),
      h("thead", {},
        h("tr", {}, h("td", {}), formats.map((format) => h("th", { scope: "colgroup", colspan: speeds.length }, `${sentence(format)} stores`))),
        h("tr", {}, h("th", { scope: "col" }, "Region"), formats.map(() => speeds.map((speed) => h("th", { scope: "col" }, speed === "baseline" ? "average" : speed))))),
      h("tbody", {}, regions.map((region) => h("tr", {}, h("th", { scope: "row" }, region), formats.map((format) => speeds.map((speed) => h("td", {}, cell(`${region}-${format}-${speed}`)))))))));
}

function rows(models, redraw) {
  return table("models", [
    { title: "Segment", cell: (row) => row.segment, sort: (row) => row.segment },
    { title: "Stage", cell: (row) => badge(row.stage || "none") },
    { title: "Stands", cell: (row) => { const found = health(row); return badge(found.word, found.tone === "none" ? "wait" : found.tone); }, sort: (row) => health(row).word },
    { title: "MAPE", cell: (row) => percent(row.mape), sort: (row) => row.mape, num: true },
    { title: "History avg.", cell: (row) => percent(row.baseline_mape), sort: (row) => row.baseline_mape, num: true },
    { title: "Realised", cell: (row) => (row.realised ? h("span", { class: row.realised.weeks ? "down" : "", title: `week ${row.realised.sales_week}, history average ${percent(row.realised.baseline_mape)}` }, percent(row.realised.mape)) : "–"), sort: (row) => row.realised?.mape, num: true },
    { title: "RMSE 0", cell: (row) => fixed(row.rmse_0), sort: (row) => row.rmse_0, num: true },
    { title: "RMSE all", cell: (row) => fixed(row.rmse_all), sort: (row) => row.rmse_all, num: true },
    { title: "WAPE", cell: (row) => percent(row.wape), sort: (row) => row.wape, num: true },
    { title: "Bias", cell: (row) => signed(row.bias), sort: (row) => row.bias, num: true },
    { title: "Age, days", cell: (row) => h("span", { class: row.stale ? "down" : "" }, fixed(row.age_days, 0)), sort: (row) => row.age_days, num: true },
    { title: "Version", cell: (row) => h("code", {}, String(row.version ?? "–").slice(0, 12)) },
  ], models.filter(FILTERS[state.show]?.[1] || FILTERS[""][1]), { state, redraw, link: (row) => `#/models/${encodeURIComponent(row.segment)}`, limit: 30, empty: state.show ? "No model is in this state." : "No model is registered yet." });
}

function detail({ models, name, one }, redraw) {
  const model = models.find((some) => some.segment === name) || one?.versions?.[0];
  if (!model) return [h("h1", {}, name), empty("There is no model of this segment yet.")];
  const standing = health(model);
  const versions = one?.versions || [model];
  const act = (action, version) => change(action, name, versions, version, redraw);
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/models" }, "Models"), " / ", name.split("-")[0]),
    h("div", { class: "page-head" }, h("h1", {}, name), badge(standing.word, standing.tone === "none" ? "wait" : standing.tone), h("span", { class: "spacer" }),
      h("button", { type: "button", "data-keep": "promote", disabled: versions.length < 2, onclick: () => act("promote") }, "Promote…"),
      h("button", { type: "button", class: "danger", "data-keep": "rollback", onclick: () => act("rollback") }, "Roll back…")),
    model.failover ? h("p", { class: "notice warn" }, `In failover state: ${list(model.failover_reason || model.scored_by || model.reasons).map(words).join("; ") || "an older model or the history average stands in"}.`) : null,
    figures(
      figure("MAPE", percent(model.mape), `target ${percent(target.mape, 0)}`, standing.tone === "good" ? "good" : "warn"),
      figure("History average", percent(model.baseline_mape), "the bar to beat"), figure("RMSE 0", fixed(model.rmse_0)), figure("RMSE all", fixed(model.rmse_all)),
      model.realised ? figure("Realised MAPE", percent(model.realised.mape), `week ${model.realised.sales_week}, average ${percent(model.realised.baseline_mape)}${model.realised.weeks ? `, lost ${plural(model.realised.weeks, "week")} running` : ""}`, model.realised.weeks >= 2 ? "bad" : "") : null,
      figure("WAPE", percent(model.wape)), figure("Bias", signed(model.bias), model.bias > 0 ? "forecasts too much" : "forecasts too little"),
      figure("Age", `${fixed(model.age_days, 0)} days`, model.stale ? "older than the limit" : `limit ${target.staleDays} days`, model.stale ? "warn" : "")),
    card("Versions", { wide: true }, table("versions", [
      { title: "Version", cell: (row) => h("code", {}, String(row.version ?? "–")) },
      { title: "Stage", cell: (row) => badge(row.stage || "none") },
      { title: "Trained on", cell: (row) => row.trained_on || row.tags?.trained_on || "–" },
      { title: "MAPE", cell: (row) => percent(row.mape), num: true },
      { title: "Run", cell: (row) => { const run = row.run_id || row.tags?.run_id; return run ? h("a", { href: `#/runs/${run}` }, run) : "–"; } },
      { title: "Action", cell: (row) => (row.stage === "production" ? "" : h("button", { type: "button", class: "quiet", onclick: () => act("promote", row.version) }, "Promote this…")) },
    ], versions, { caption: "Versions" })),
    card("Facts", { wide: true }, facts([
      ["Segment", model.segment], ["Kind", model.kind], ["Version", identifier(String(model.version ?? ""))], ["Trained on", model.trained_on], ["Verdict", badge(model.accepted ? "accepted" : "refused")],
      ["Reasons", list(model.reasons).join("; ")], ["Zero actuals left out of MAPE", count(model.mape_excluded)], ["Scored by", words(model.scored_by || "")], ["Data version", identifier(model.data_version)], ["Code version", model.code_version], ["Training job", identifier(model.job)], ["Run", model.run_id ? h("a", { href: `#/runs/${model.run_id}` }, model.run_id) : ""]])),
  ];
}

async function change(action, segment, versions, version, redraw) {
  const others = versions.filter((one) => one.stage !== "production");
  const options = others.map((one) => [one.version, `${String(one.version).slice(0, 16)} (${one.stage}, MAPE ${percent(one.mape)})`]);
  const verb = action === "promote" ? "Promote" : "Roll back";
  await ask(`${verb} ${segment}`, {
    text: action === "promote" ? "The version becomes the production model of this segment; the present one retires." : "The newest retired version becomes the production model again.",
    fields: [action === "promote" ? field("Version", "version", { options, value: version || others[0]?.version || "", required: true }) : null, reasonField()].filter(Boolean),
    actions: [{ name: action, label: verb, tone: action === "promote" ? "primary" : "danger" }],
    submit: async (values) => {
      await post(`models/${encodeURIComponent(segment)}/${action}`, { reason: values.reason, version: values.version });
      toast(`${segment}: ${action === "promote" ? "promoted" : "rolled back"}.`);
      redraw(true);
      return true;
    },
  });
}
