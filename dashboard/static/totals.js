// Record counts of a source over all its weeks: read once for the page, the list of sources does not carry them.

import { get } from "./api.js";
import { sum } from "./format.js";

const LIFETIME_MS = 5 * 60 * 1000;
const known = new Map();

/** {records_read, quarantined, missing, rejected}: what the source's weeks add up to, and those that have no usable file. */
export async function totals(source) {
  const found = known.get(source.name);
  if (found && found.week === source.latest_week && Date.now() - found.at < LIFETIME_MS) return found.totals;
  if (!source.latest_week) return {};
  const { weeks = [] } = await get(`quality/${encodeURIComponent(source.name)}`);
  const result = {
    records_read: sum(weeks.map((week) => week.records_read)), quarantined: sum(weeks.map((week) => week.quarantined)),
    missing: weeks.filter((week) => week.status === "missing").length, rejected: weeks.filter((week) => week.status === "rejected"),
  };
  known.set(source.name, { at: Date.now(), week: source.latest_week, totals: result });
  return result;
}

/** Forget the counts of a source after its files were conditioned again. */
export const forget = (name) => known.delete(name);
