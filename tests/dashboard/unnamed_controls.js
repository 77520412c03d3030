// Controls and pictures that a screen reader could not name.
() => [...document.querySelectorAll("a, button, input, select, [role=img]")].filter((one) => {
  const labelled = one.labels?.length || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby");
  return !labelled && !one.textContent.trim() && !one.getAttribute("title");
}).map((one) => one.outerHTML.slice(0, 120))
