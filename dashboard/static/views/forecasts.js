// Forecasts: what was published for a store and a product, how it compares with the past, and where it comes from.

import { download, get, getOr } from "../api.js";
import { history } from "../charts.js";
import { h, swap } from "../dom.js";
import { count, fixed, list, monday, percent, plural, sentence, words } from "../format.js";
import { badge, card, empty, facts, failed, field, figure, figures, loading, table } from "../parts.js";

const PAGE = 200;
const state = {};

export const title = "Forecasts";
export const live = () => false;

export async function load(route, signal) {
  const { runs = [] } = await get("runs", { limit: 60 }, signal);
  const weeks = [...new Set(runs.filter((run) => !["validate", "train"].includes(run.kind) && (run.summary?.publish || ["succeeded", "degraded"].includes(run.status))).map((run) => run.sales_week))].sort().reverse();
  const week = route.query.get("week") || runs.find((run) => ["succeeded", "degraded"].includes(run.status) && weeks.includes(run.sales_week))?.sales_week || weeks[0] || "";
  const store = route.query.get("store") || "";
  const product = route.query.get("product") || "";
  const data = week ? await getOr(null, `forecasts/${week}`, { store_id: store, product_id: product, limit: PAGE }, signal) : null;
  return { weeks, week, store, product, data };
}

const place = (week, store, product) => `#/forecasts?${new URLSearchParams({ week, ...(store && { store }), ...(product && { product }) })}`;

export function render({ weeks, week, store, product, data }, redraw) {
  const head = h("div", { class: "page-head" }, h("h1", {}, "Forecasts"), data ? h("span", { class: "muted" }, `version ${String(data.publish_version || "").slice(0, 12)}`) : null, h("span", { class: "spacer" }),
    data ? h("button", { type: "button", onclick: () => download(`forecasts/${week}`, { format: "csv", store_id: store, product_id: product }, `forecasts-${week}.csv`) }, "Download CSV") : null);
  if (!week) return [head, empty("Nothing was published yet.")];
  const go = () => {
    const value = (name) => document.querySelector(`[data-keep="forecast-${name}"]`).value.trim();
    window.location.hash = place(value("week"), value("store"), value("product"));
  };
  const suggestions = (name, values) => h("datalist", { id: `known-${name}` }, list(values).slice(0, 2000).map((value) => h("option", { value: typeof value === "object" ? value.id || value[`${name}_id`] : value }, typeof value === "object" ? value.name || "" : null)));
  const options = weeks.includes(week) ? weeks : [week, ...weeks];
  const filters = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); go(); } },
    field("Week", "week", { options: options.map((one) => [one, one]), value: week, "data-keep": "forecast-week", onchange: go }),
    field("Store", "store", { list: "known-store", value: store, "data-keep": "forecast-store", placeholder: "every store", onchange: go, id: "filter" }),
    field("Product", "product", { list: "known-product", value: product, "data-keep": "forecast-product", placeholder: "every product", onchange: go }),
    h("button", { type: "submit" }, "Show"), suggestions("store", data?.stores), suggestions("product", data?.products));
  if (!data) return [head, filters, empty(`Nothing was published for ${week}.`)];
  const rows = list(data.rows);
  const explained = store && product ? explain(week, store, product) : null;
  return [
    head, filters, explained,
    card(`Forecasts of ${week}`, { wide: true, note: data.total > rows.length ? `${count(rows.length)} of ${plural(data.total, "forecast")}` : plural(rows.length, "forecast") }, table("forecasts", [
      { title: "Store", cell: (row) => row.store_id, sort: (row) => row.store_id },
      { title: "Product", cell: (row) => row.product_id, sort: (row) => row.product_id },
      { title: "Units", cell: (row) => fixed(row.units, 1), sort: (row) => Number(row.units), num: true },
      { title: "To order", cell: (row) => count(row.order_units), sort: (row) => Number(row.order_units), num: true },
      { title: "Segment", cell: (row) => h("a", { href: `#/models/${encodeURIComponent(row.segment)}` }, row.segment), sort: (row) => row.segment },
      { title: "Made by", cell: (row) => (row.failover && row.failover !== "false" ? badge(row.failover === true ? "failover" : `failover: ${words(row.failover)}`, "warn") : badge(maker(row), "good")) },
      { title: "Model version", cell: (row) => h("code", {}, String(row.model_version ?? "–").slice(0, 12)) },
    ], rows, { state, redraw, link: (row) => place(week, row.store_id, row.product_id), limit: 50, empty: "No forecast matches. A product without a forecast is explained in the run's completeness ledger." })),
    store || product ? null : changes(week),
    store && product ? null : h("p", { class: "muted" }, "Choose a row to see its history, and where the number comes from."),
  ];
}

const maker = (row) => row.kind || (String(row.model).endsWith("-baseline") ? "history average" : "ensemble");

/** A source's pinned versions in a line: one version, or how many weeks and the newest. */
function pinned(version) {
  if (typeof version !== "object" || !version) return h("code", {}, String(version));
  const weeks = Object.keys(version).sort();
  const last = weeks.at(-1);
  return h("span", {}, h("code", {}, last ? String(version[last]).slice(0, 16) : "none"), weeks.length > 1 ? ` and ${plural(weeks.length - 1, "earlier week")}` : last ? ` of ${last}` : "");
}

/** Which numbers the newest version of the week changed, and which raw rows are behind it; asked for by a button. */
function changes(week) {
  const box = h("div", { id: "changes" });
  const ask = () => {
    swap(box, loading());
    get(`forecasts/${week}/changes`, { limit: PAGE }).then((found) => swap(box, difference(found))).catch((error) => swap(box, failed(error)));
  };
  box.append(h("button", { type: "button", onclick: ask }, "What changed since the version before?"));
  return box;
}

function difference(found) {
  const value = (side) => (side ? fixed(side.units, 1) : "–");
  const raw = list(found.sources).flatMap((one) => list(one.rows).map((row) => ({ ...row, source: one.source, sales_week: one.sales_week })));
  return [
    card("Changed forecasts", { wide: true, note: `${plural(found.total, "forecast")}, version ${found.from_version.slice(0, 12)} to ${found.to_version.slice(0, 12)}` }, table("changed", [
      { title: "Store", cell: (row) => row.store_id }, { title: "Product", cell: (row) => row.product_id }, { title: "Segment", cell: (row) => row.segment },
      { title: "Before", cell: (row) => value(row.before), num: true }, { title: "Now", cell: (row) => value(row.after), num: true },
    ], list(found.rows), { caption: "Changed forecasts", empty: "Every number is the same." })),
    card("Changed raw rows", { wide: true, note: plural(found.sources.length, "changed data version") }, table("changed-raw", [
      { title: "Source", cell: (row) => `${sentence(row.source)} ${row.sales_week}` }, { title: "File", cell: (row) => h("code", {}, row.source_file), wide: true },
      { title: "Row", cell: (row) => row.source_row, num: true },
      { title: "Change", cell: (row) => Object.entries(row.fields).map(([name, [was, now]]) => `${words(name)}: ${was ?? "–"} → ${now ?? "–"}`).join("; "), wide: true },
    ], raw, { caption: "Changed raw rows", empty: "The data of both versions are the same." }))];
}

function explain(week, store, product) {
  const box = h("div", { id: "explain" }, loading());
  get("explain", { sales_week: week, store_id: store, product_id: product })
    .then((found) => swap(box, story(found, week, store, product)))
    .catch((error) => swap(box, failed(error)));
  return box;
}

function story(found, week, store, product) {
  const forecast = found.forecast || {};
  const past = list(found.history);
  const recent = past.slice(-4).map((one) => Number(one.units) || 0);
  const mean = recent.length ? recent.reduce((total, value) => total + value, 0) / recent.length : null;
  const box = h("div", { class: "chart", role: "img", "aria-label": `Weekly units of product ${product} in store ${store}, and the forecast for ${week}` });
  const points = past.map((one) => ({ sales_week: one.sales_week, date: +monday(one.sales_week), units: Number(one.units), forecast: null }))
    .filter((one) => one.date).sort((one, other) => one.date - other.date);
  if (points.length) points[points.length - 1].forecast = points[points.length - 1].units;
  const own = points.find((one) => one.sales_week === week);
  if (own) own.forecast = Number(forecast.units);
  else points.push({ sales_week: week, date: +monday(week), units: null, forecast: Number(forecast.units) });
  requestAnimationFrame(() => history(box, points).catch((error) => swap(box, failed(error))));
  const rows = list(found.rows);
  const run = found.run_id || forecast.run_id;
  return [
    figures(
      figure("Forecast", `${fixed(forecast.units, 1)} units`, `week ${week}`), figure("To order", count(forecast.order_units), "full packs"),
      figure("Mean of the last 4 weeks", fixed(mean, 1), mean ? `forecast ${forecast.units >= mean ? "above" : "below"} by ${percent(Math.abs(forecast.units / mean - 1), 0)}` : ""),
      figure("Made by", sentence(maker(forecast)), forecast.failover && forecast.failover !== "false" ? `failover: ${words(forecast.failover)}` : forecast.segment)),
    card(["Product ", h("bdi", {}, product), " in store ", h("bdi", {}, store)], { wide: true }, box),
    card("Where this number comes from", { wide: true, note: "forecast, model, data versions, raw rows" },
      facts([["Segment", forecast.segment], ["Model", found.model?.name || forecast.segment], ["Model version", h("code", {}, String(found.model?.version ?? forecast.model_version ?? "–"))],
        ["Trained up to", found.model?.trained_on || found.model?.tags?.trained_on], ["Run", run ? h("a", { href: `#/runs/${run}` }, run) : ""],
        ["Code version", found.code_version], ["Published", found.manifest?.produced_at], ["SHA-256 of the week", found.manifest?.sha256 ? h("code", {}, found.manifest.sha256) : ""],
        ...Object.entries(found.data_versions || {}).map(([name, version]) => [sentence(name), pinned(version)])]),
      table("lineage", [
        { title: "Delivered", cell: (row) => row.delivery_date || row.sales_week }, { title: "Units", cell: (row) => fixed(row.units, 0), num: true },
        { title: "Raw file", cell: (row) => h("code", {}, row.source_file || ""), wide: true }, { title: "Row", cell: (row) => row.source_row ?? "", num: true },
      ], rows, { caption: "Raw rows behind the forecast", empty: "No raw rows are known for this forecast." })),
  ];
}
