// Pictures: step timeline, stacked bar, meter, week grid, and a line chart for history (uPlot, loaded when needed).

import { h } from "./dom.js";
import { at, count, duration, percent, seconds, sentence, sum, tone, words } from "./format.js";

/** Horizontal bars on one time axis. Items: {name, status, started_at, ended_at, message}. */
export function timeline(items, { label = "Steps" } = {}) {
  // A replay keeps steps of the attempt before it: their times would stretch the axis over the pause between the two.
  const kept = (item) => String(item.message || "").startsWith("kept from");
  const started = items.filter((item) => item.started_at && !kept(item));
  const from = Math.min(...started.map((item) => +new Date(item.started_at)));
  const until = Math.max(...started.map((item) => +new Date(item.ended_at || Date.now())), from + 1);
  const share = (moment) => ((moment - from) / (until - from)) * 100;
  return h("ol", { class: "timeline", "aria-label": label }, items.map((item) => {
    const state = String(item.status || "waiting").toLowerCase();
    const took = item.seconds ?? (item.started_at ? seconds(item.started_at, item.ended_at) : null);
    const left = item.started_at ? share(+new Date(item.started_at)) : 0;
    const right = item.started_at ? share(+new Date(item.ended_at || Date.now())) : 0;
    return h("li", { class: `step ${tone(state)}` },
      h("span", { class: "step-name" }, h("span", { class: `dot ${tone(state)}`, "aria-hidden": "true" }), sentence(item.name), h("span", { class: "sr" }, `: ${words(state)}`)),
      h("span", { class: "step-lane", title: item.started_at ? `${at(item.started_at)} to ${item.ended_at ? at(item.ended_at) : "now"}` : words(state) },
        item.started_at && !kept(item) ? h("span", { class: `step-bar ${tone(state)}`, style: { left: `${left}%`, width: `${Math.max(right - left, 0.6)}%` } }) : null),
      h("span", { class: "step-time" }, took === null ? words(state) : duration(took)),
      item.message && state !== "skipped" ? h("span", { class: "step-message" }, item.message) : null);
  }));
}

/** One bar of several parts with a legend. Parts: {label, value, tone}. */
export function stacked(parts, { total, label } = {}) {
  const shown = parts.filter((part) => part.value > 0);
  const all = total || sum(shown.map((part) => part.value)) || 1;
  return h("div", { class: "stacked" },
    h("div", { class: "stacked-bar", role: "img", "aria-label": `${label || ""} ${shown.map((part) => `${part.label} ${part.value}`).join(", ")}` },
      shown.map((part) => h("span", { class: part.tone, style: { width: `${(part.value / all) * 100}%` }, title: `${part.label}: ${count(part.value)}` }))),
    h("ul", { class: "legend" }, parts.filter((part) => part.value > 0 || part.always).map((part) =>
      h("li", {}, h("span", { class: `swatch ${part.tone}`, "aria-hidden": "true" }), `${part.label} `, h("strong", {}, count(part.value))))));
}

/** MAPE on a scale with the target as a line; the baseline as a tick where it is known. */
export function mapeMeter(mape, target, baseline) {
  const scale = Math.max(1, mape || 0, baseline || 0);
  const place = (value) => `${Math.min(100, (value / scale) * 100)}%`;
  const good = mape !== null && mape !== undefined && mape <= target;
  return h("span", { class: "meter", role: "img", "aria-label": `MAPE ${percent(mape)}, target ${percent(target, 0)}${baseline ? `, history average ${percent(baseline)}` : ""}` },
    h("span", { class: `meter-fill ${good ? "good" : "warn"}`, style: { width: place(mape || 0) } }),
    h("span", { class: "meter-target", style: { left: place(target) } }),
    baseline ? h("span", { class: "meter-baseline", style: { left: place(baseline) } }) : null);
}

let library = null;

function loadScript() {
  library ??= new Promise((resolve, reject) => {
    document.head.append(h("link", { rel: "stylesheet", href: "./vendor/uplot-1.6.32.min.css" }));
    const script = h("script", { src: "./vendor/uplot-1.6.32.min.js", onload: () => resolve(window.uPlot), onerror: () => reject(new Error("The chart library did not load.")) });
    document.head.append(script);
  });
  return library;
}

/** Weekly units with the forecast as the last point. Points: [{sales_week, date, units, forecast}]. */
export async function history(box, points) {
  const Plot = await loadScript();
  const style = getComputedStyle(document.documentElement);
  const ink = (name) => style.getPropertyValue(name).trim();
  const probe = h("span", { class: "ink-probe" });
  document.body.append(probe);
  const colour = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const [accent, warm, line, muted] = ["--accent", "--amber", "--line", "--muted"].map(colour);
  probe.remove();
  const font = `12px ${ink("--font") || "system-ui"}`;
  const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line }, font };
  const options = {
    width: Math.max(260, box.clientWidth), height: 240, cursor: { points: { size: 8 } }, legend: { live: true },
    scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [{ ...axis, space: 70 }, { ...axis, size: 46 }],
    series: [
      { label: "Week", value: (_plot, value) => (value === null ? "–" : new Date(value * 1000).toISOString().slice(0, 10)) },
      { label: "Delivered units", stroke: accent, width: 2, fill: "rgba(15,118,110,.10)", points: { size: 5, fill: accent } },
      { label: "Forecast", stroke: warm, width: 2, dash: [6, 5], points: { size: 9, fill: warm } },
    ],
  };
  const data = [points.map((point) => point.date / 1000), points.map((point) => point.units), points.map((point) => point.forecast)];
  box.replaceChildren();
  const plot = new Plot(options, data, box);
  const observer = new ResizeObserver(() => {
    if (!box.isConnected) observer.disconnect();
    else plot.setSize({ width: Math.max(260, box.clientWidth), height: 240 });
  });
  observer.observe(box);
}
