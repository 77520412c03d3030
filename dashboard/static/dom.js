// Building the page from values: text is always a text node, so nothing that comes from data can become markup.

const SVG = "http://www.w3.org/2000/svg";
const SAFE_LINK = /^(https:\/\/|http:\/\/|#|\/|\.\.?\/|blob:)/i;

function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on") && typeof value === "function") {
    element.addEventListener(name.slice(2), value);
  } else if (name === "href" || name === "src") {
    // A link from data may only lead to a web page or to this one; script and data URLs are dropped.
    if (SAFE_LINK.test(String(value))) element.setAttribute(name, value);
  } else if (name === "style") {
    // Through the object model: the content security policy forbids style attributes.
    for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
  } else if (["value", "checked", "disabled", "selected", "open", "hidden"].includes(name)) {
    element[name] = value;
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(element, child) {
  if (child === null || child === undefined || child === false) return;
  if (Array.isArray(child)) child.forEach((one) => append(element, one));
  else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
}

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) setAttribute(element, name, value);
  children.forEach((child) => append(element, child));
  return element;
}

/** An HTML element: h("td", {class: "num"}, 3). Children may be nodes, text, numbers, lists or nothing. */
export function h(tag, attributes, ...children) {
  return make(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return make(document.createElementNS(SVG, tag), attributes, children);
}

/** Show new content and keep what the reader was doing: focus, selection, scroll places, opened details. */
export function swap(root, ...children) {
  const active = document.activeElement;
  const focus = root.contains(active) ? active.dataset.keep || active.id : "";
  const caret = focus && active.matches("input[type=search], input[type=text]") ? active.selectionStart : null;
  const opened = new Set([...root.querySelectorAll("details[open][data-keep]")].map((one) => one.dataset.keep));
  const typed = focus && active.matches("input") ? active.value : null;
  const scrolls = new Map([...root.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, [one.scrollLeft, one.scrollTop]]));
  root.replaceChildren();
  children.forEach((child) => append(root, child));
  root.querySelectorAll("details[data-keep]").forEach((one) => { if (opened.has(one.dataset.keep)) one.open = true; });
  root.querySelectorAll("[data-scroll]").forEach((one) => {
    const place = scrolls.get(one.dataset.scroll);
    if (place) [one.scrollLeft, one.scrollTop] = place;
  });
  if (focus) {
    const again = root.querySelector(`[data-keep="${CSS.escape(focus)}"]`) || document.getElementById(focus);
    if (again && typed !== null && again.matches("input")) again.value = typed;
    if (again) again.focus({ preventScroll: true });
    if (again && caret !== null && again.setSelectionRange) again.setSelectionRange(caret, caret);
  }
}

/** Tell screen readers what happened. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** A passing message; bad ones stay until they are dismissed. */
export function toast(text, tone = "good") {
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => box.remove() }, "✕");
  const box = h("div", { class: `toast ${tone}`, role: tone === "bad" ? "alert" : null }, h("span", {}, text), close);
  document.getElementById("toasts").append(box);
  announce(text);
  if (tone !== "bad") setTimeout(() => box.remove(), 6000);
}
