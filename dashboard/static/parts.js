// The building blocks of every view: cards, figures, badges, tables, dialogs.

import { ApiError } from "./api.js";
import { h, toast } from "./dom.js";
import { sentence, tone, words } from "./format.js";

const GLYPHS = { good: "✓", busy: "●", wait: "○", warn: "!", bad: "✕" };

/** A status word with a sign and a colour, so that colour is never the only difference. */
export function badge(status, feeling = tone(status)) {
  return h("span", { class: `badge ${feeling}` }, h("span", { class: "glyph", "aria-hidden": "true" }, GLYPHS[feeling]), words(status || "unknown"));
}

export function card(title, { actions, wide, id, note } = {}, ...children) {
  return h("section", { class: wide ? "card wide" : "card", id: id || null },
    h("header", { class: "card-head" }, h("h2", {}, title), note ? h("span", { class: "muted" }, note) : null, actions ? h("div", { class: "actions" }, actions) : null),
    ...children);
}

/** A headline number with what it is measured against. */
export function figure(label, value, detail, feeling = "") {
  return h("div", { class: `figure ${feeling}` },
    h("dt", {}, label), h("dd", {}, value), detail ? h("dd", { class: "detail" }, detail) : null);
}

export const figures = (...all) => h("dl", { class: "figures" }, all);

export const empty = (text, more) => h("div", { class: "empty" }, h("p", {}, text), more || null);

export function failed(error, retry) {
  const problem = error instanceof ApiError ? error.problem : {};
  return h("div", { class: "notice bad", role: "alert" },
    h("strong", {}, error.status === 403 ? "Not allowed" : "This did not work"),
    h("p", {}, error.message),
    problem.remedy ? h("p", { class: "muted" }, `Remedy: ${problem.remedy}`) : null,
    retry ? h("button", { type: "button", onclick: retry }, "Try again") : null);
}

export const loading = () => h("div", { class: "skeletons", "aria-label": "Loading" }, h("div", { class: "skeleton" }), h("div", { class: "skeleton tall" }), h("div", { class: "skeleton" }));

const LONG = 48; // characters; a longer name is broken into lines and leaves room for the other columns

/**
 * A table. Columns: {title, cell(row), num?, sort?(row), wide?}. Rows may lead somewhere: link(row) -> hash.
 * The header cells that can sort are buttons; the order is kept by the caller's `state` object.
 */
export function table(name, columns, rows, { caption, state, redraw, link, empty: nothing, limit } = {}) {
  if (!rows.length) return empty(nothing || "Nothing here yet.");
  let shown = rows;
  const order = state?.[name];
  if (order && columns[order.column]?.sort) {
    const key = columns[order.column].sort;
    const direction = order.down ? -1 : 1;
    shown = [...rows].sort((a, b) => {
      const [one, other] = [key(a), key(b)];
      if (one === other) return 0;
      if (one === null || one === undefined) return 1;
      if (other === null || other === undefined) return -1;
      return (one > other ? 1 : -1) * direction;
    });
  }
  const most = state?.[`${name}:shown`] || limit || shown.length;
  const head = columns.map((column, index) => {
    const sorted = order?.column === index;
    const sortable = column.sort && state;
    const press = () => {
      state[name] = { column: index, down: sorted ? !order.down : Boolean(column.num) };
      redraw();
    };
    return h("th", { scope: "col", class: column.num ? "num" : null, "aria-sort": sorted ? (order.down ? "descending" : "ascending") : null },
      sortable
        ? h("button", { type: "button", class: "sort", "data-keep": `sort-${name}-${index}`, onclick: press }, column.title, h("span", { "aria-hidden": "true" }, sorted ? (order.down ? " ↓" : " ↑") : ""))
        : column.title);
  });
  const body = shown.slice(0, most).map((row) => h("tr", {}, columns.map((column, index) => {
    let content = column.cell(row);
    if (index === 0 && link) content = h("a", { href: link(row), "data-keep": `row-${name}-${link(row)}` }, content);
    const cell = index === 0 ? h("th", { scope: "row" }, content) : h("td", { class: `${column.num ? "num" : ""} ${column.wide ? "wide" : ""}` }, content);
    if (!column.wide && cell.textContent.length > LONG) cell.classList.add("long");
    return cell;
  })));
  const more = shown.length > most
    ? h("button", { type: "button", class: "more", "data-keep": `more-${name}`, onclick: () => { state[`${name}:shown`] = most + (limit || 50); redraw(); } }, `Show more (${shown.length - most} left)`)
    : null;
  return h("div", {},
    h("div", { class: "table-wrap", "data-scroll": name, tabindex: "0", role: "region", "aria-label": caption || sentence(name) },
      h("table", {}, h("caption", { class: "sr" }, caption || sentence(name)), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body))),
    more);
}

/** Facts as a list of terms. Pairs without a value are left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

/** An identifier that can be copied, with a link where a service shows it. */
export function identifier(text, link) {
  if (!text) return null;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied.");
    } catch {
      toast("The browser does not allow copying here.", "warn");
    }
  };
  return h("span", { class: "identifier" }, link ? h("a", { href: link, rel: "noreferrer", target: "_blank" }, text) : h("code", {}, text),
    h("button", { type: "button", class: "quiet tiny", "aria-label": `Copy ${text}`, onclick: copy }, "Copy"));
}

/**
 * Ask before something is done. `fields` are form controls; `submit(values, action)` may return a node that is
 * shown in the dialog (a preview) or true to close it. An error stays in the dialog.
 */
export function ask(title, { text, fields = [], actions, submit }) {
  return new Promise((resolve) => {
    const outcome = h("div", { class: "dialog-outcome" });
    const form = h("form", { method: "dialog", novalidate: true });
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
    const press = async (action) => {
      if (action.needs !== false && !form.reportValidity()) return;
      const values = Object.fromEntries(new FormData(form));
      form.querySelectorAll("button").forEach((one) => { one.disabled = true; });
      try {
        const shown = await submit(values, action.name);
        if (shown === true) dialog.close(action.name);
        else outcome.replaceChildren(shown);
      } catch (error) {
        outcome.replaceChildren(failed(error));
      }
      form.querySelectorAll("button").forEach((one) => { one.disabled = false; });
    };
    form.append(
      h("h2", { id: "dialog-title" }, title), ...(text ? [h("p", { class: "muted" }, text)] : []), ...fields, outcome,
      h("div", { class: "dialog-actions" },
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Close"),
        ...actions.map((action) => h("button", { type: "button", class: action.tone || "", onclick: () => press(action) }, action.label))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function field(label, name, attributes = {}, hint = "") {
  const { options, ...rest } = attributes;
  const control = options
    ? h("select", { name, ...rest }, options.map(([value, text]) => h("option", { value }, text)))
    : h("input", { name, type: "text", autocomplete: "off", dir: "auto", ...rest });
  return h("label", { class: "field" }, h("span", {}, label), control, hint ? h("small", { class: "muted" }, hint) : null);
}

export const reasonField = () => field("Reason", "reason", { required: true, minlength: 5, maxlength: 500, placeholder: "Why is this needed?" }, "Kept in the audit trail with your name.");
