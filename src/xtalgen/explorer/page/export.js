// Exports: CSV, files, clipboard.

import { $, make } from "./dom.js";

// Returns the crystals shown as CSV: set, id, formula, space group, every column with its unit, position on the map.
export function csv(crystals, visible) {
  const columns = [...crystals.columns.keys()];
  const heads = [...crystals.columns.values()].map(({ name, unit }) => (unit ? `${name} (${unit})` : name));
  const rows = [["set", "id", "formula", "space_group", ...heads, "x", "y"].join()];
  for (let i = 0; i < crystals.n; i++) {
    if (!visible[i]) continue;
    const identity = [quoted(crystals.setOf(i).name), quoted(crystals.ids[i]), crystals.formulas[i]];
    const values = columns.map((name) => cell(crystals, name, i));
    const position = [0, 1].map((axis) => (crystals.positions[2 * i + axis] / 65535).toFixed(5));
    rows.push([...identity, crystals.spg_num[i] || "", ...values, ...position].join());
  }
  return `${rows.join("\n")}\n`;
}

function cell(crystals, name, i) {
  const value = crystals.value(name, i);
  if (typeof value !== "number") return value ?? "";
  return value.toFixed(Math.max(0, Math.round(-Math.log10(crystals.columns.get(name).step))));
}

// An apostrophe keeps spreadsheets from interpreting a cell as a formula.
function quoted(text) {
  if (!/[",\r\n]|^[=+\-@\t]/.test(text)) return text;
  const safe = /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return `"${safe.replace(/"/g, '""')}"`;
}

export function save(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Copies text and briefly shows `done` on the map.
export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", {}, text); // pages opened from disk may have no clipboard
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(done);
}

// Shows a message on the map for a while.
export function say(text, milliseconds = 1200) {
  $("message").textContent = text;
  setTimeout(() => {
    if ($("message").textContent === text) $("message").textContent = "";
  }, milliseconds);
}
