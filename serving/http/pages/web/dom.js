// Elements without HTML text: nothing that a file's name or a label contains becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element with properties (`class` too), and children: elements or texts. */
export function element(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** Return an SVG element with attributes and children. */
export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Return the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Replace the rows of a description list. */
export function listFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([term, text]) =>
      element("div", {}, element("dt", {}, term), element("dd", {}, text)),
    ),
  );
}

/** Format multiply-adds: `31.1 M`. */
export function millions(flops) {
  if (flops >= 1e9) return `${(flops / 1e9).toFixed(2)} G`;
  return flops >= 1e6 ? `${(flops / 1e6).toFixed(1)} M` : `${(flops / 1e3).toFixed(0)} k`;
}

/** Format a share of 1 as a percentage. */
export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)} %`;
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
