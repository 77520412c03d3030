// The overview's first question, put while the rest of the page still loads: the runs are there when it is drawn.

import { get } from "./api.js";

const RUNS = 50;

let asked = ["", "#/", "#/overview"].includes(window.location.hash) ? get("runs", { limit: RUNS }) : null;
asked?.catch(() => {}); // told by whoever takes it

/** The newest runs: those that were asked for while the page loaded, once; after that a fresh answer. */
export async function newestRuns(signal) {
  const first = asked;
  asked = null;
  return first ?? get("runs", { limit: RUNS }, signal);
}
