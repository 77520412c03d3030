// Numbers, times and words as people read them. Nothing here touches the page.

const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const time = new Intl.DateTimeFormat("en", { timeStyle: "medium" });

const absent = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);

export const count = (value) => (absent(value) ? DASH : whole.format(value));
export const short = (value) => (absent(value) ? DASH : compact.format(value));
export const fixed = (value, digits = 2) => (absent(value) ? DASH : Number(value).toFixed(digits));
export const percent = (value, digits = 1) => (absent(value) ? DASH : `${(value * 100).toFixed(digits)} %`);
export const signed = (value, digits = 1) => (absent(value) ? DASH : `${value > 0 ? "+" : ""}${(value * 100).toFixed(digits)} %`);
export const when = (text) => (text ? clock.format(new Date(text)) : DASH);
export const at = (text) => (text ? time.format(new Date(text)) : DASH);
export const words = (text) => String(text ?? "").replaceAll("_", " ");
export const sentence = (text) => words(text).replace(/^./, (first) => first.toUpperCase());
export const list = (value) => (Array.isArray(value) ? value : value ? [value] : []);
export const sum = (values) => values.reduce((total, value) => total + (Number(value) || 0), 0);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function seconds(from, to) {
  if (!from) return null;
  return Math.max(0, ((to ? new Date(to) : new Date()) - new Date(from)) / 1000);
}

export function duration(value) {
  if (absent(value)) return DASH;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(value % 60)).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export function ago(text) {
  if (!text) return DASH;
  const elapsed = (Date.now() - new Date(text)) / 1000;
  const ahead = elapsed < 0;
  const value = Math.abs(elapsed);
  const [number, unit] = value < 90 ? [value, "s"] : value < 5400 ? [value / 60, "min"] : value < 172800 ? [value / 3600, "h"] : [value / 86400, "days"];
  return ahead ? `in ${Math.round(number)} ${unit}` : `${Math.round(number)} ${unit} ago`;
}

/** What lies between now and a moment, either way: "5 days 3 h", "2 h 05 min", "4 min". */
export function remaining(text) {
  const minutes = Math.floor(Math.abs(Date.now() - new Date(text)) / 60000);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  if (days) return `${plural(days, "day")} ${hours} h`;
  return hours ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${minutes} min`;
}

/** Monday of an ISO week such as 2017-W45, as a UTC date. */
export function monday(week) {
  const match = /^(\d{4})-W(\d{2})$/.exec(week);
  if (!match) return null;
  const fourth = new Date(Date.UTC(Number(match[1]), 0, 4));
  const first = fourth.getTime() - ((fourth.getUTCDay() + 6) % 7) * 86400000;
  return new Date(first + (Number(match[2]) - 1) * 7 * 86400000);
}

const TONES = {
  succeeded: "good", accepted: "good", completed: "good", unchanged: "good", fresh: "good", production: "good", ok: "good", adopted: "good",
  running: "busy", inprogress: "busy", queued: "wait", waiting: "wait", planned: "wait", candidate: "wait", pending: "wait", absent: "wait",
  degraded: "warn", partial: "warn", stale: "warn", late: "warn", cancelled: "warn", canceled: "warn", retired: "wait", skipped: "wait",
  failed: "bad", rejected: "bad", refused: "bad", missing: "bad", error: "bad",
};

/** How a status word feels: good, busy, wait, warn or bad. */
export const tone = (status) => TONES[String(status || "").toLowerCase()] || "wait";
