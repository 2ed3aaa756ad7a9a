// Creates elements of the page; formats numbers and formulas.

export const $ = (id) => document.getElementById(id);

// Returns an element of HTML, or of SVG when `svg` is set; attributes whose value is null are left out.
export function make(tag, attributes = {}, children = [], svg = false) {
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...[children].flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const makeSvg = (tag, attributes, children = []) => make(tag, attributes, children, true);

export const isPressed = (id) => $(id).getAttribute("aria-pressed") === "true";
export const setPressed = (id, on) => $(id).setAttribute("aria-pressed", String(on));

// Numbers have thousands separators, a true minus sign and their unit; null and NaN give null.
export const counted = (value) => value.toLocaleString("en");
export const withMinus = (text) => text.replace("-", "−");
export function fixed(value, digits, unit = "") {
  if (value === null || Number.isNaN(value)) return null;
  return withMinus(value.toFixed(digits)) + (unit ? ` ${unit}` : "");
}

// Formula with its numbers as subscripts.
export function formulaNodes(text) {
  if (!text) return ["no geometry"];
  const parts = text.split(/(\d+)/).filter(Boolean);
  return parts.map((part) => (/^\d/.test(part) ? make("sub", {}, part) : part));
}
