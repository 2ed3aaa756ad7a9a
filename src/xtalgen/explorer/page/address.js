// The page's address holds the crystal, the colours and the filters, so that a link leads back to them.

import { axisColumns } from "./axes.js";

const KEYS = ["crystal", "with", "x", "y", "colour", "search", "only", "hull", "without"];
// Former names of colourings.
const RENAMED = {
  hull: "e_above_hull",
  validity: "valid",
  novelty: "novel",
  uniqueness: "unique",
  stability: "stable",
  elements: "n_elements",
  system: "crystal_system",
  atoms: "n_atoms",
};

// Returns the fragment of the address, "" for the initial state.
export function writeAddress(crystals, state) {
  const parts = new URLSearchParams();
  if (state.chosen >= 0) parts.set("crystal", crystalKey(crystals, state.chosen));
  if (state.chosen >= 0 && state.pinned >= 0) parts.set("with", crystalKey(crystals, state.pinned));
  if (state.x && state.y) for (const axis of ["x", "y"]) parts.set(axis, state[axis]);
  if (state.colour !== "set") parts.set("colour", state.colour);
  if (state.query) parts.set("search", state.query);
  if (state.flags.size) parts.set("only", [...state.flags].join(" "));
  if (state.hull !== null) parts.set("hull", state.hull.toFixed(2));
  for (const k of state.sets) parts.append("without", crystals.header.sets[k].name);
  return parts.toString() ? `#${parts}` : "";
}

// Returns the part of the state given by a fragment. The text is untrusted: unknown values are ignored.
// `chosen` is the index of a crystal or -1; a bare #ID selects the first crystal of that id. `missing` says which
// crystal of the address is not on this page, "" for none.
export function readAddress(fragment, crystals, colourings) {
  const text = fragment.slice(1);
  const parts = new URLSearchParams(text);
  const wanted = parts.get("colour") ?? "";
  const colour = Object.hasOwn(RENAMED, wanted) ? RENAMED[wanted] : wanted;
  const flags = (parts.get("only") || "").split(" ").filter((name) => crystals.columns.get(name)?.filter);
  const hull = parts.get("hull") === null ? NaN : Number(parts.get("hull"));
  const hidden = new Set(parts.getAll("without").flatMap((names) => [names, ...names.split(" ")]));
  const axes = new Set(axisColumns(crystals).map(({ name }) => name));
  const [x, y] = ["x", "y"].map((axis) => parts.get(axis) ?? "");
  const plotted = axes.has(x) && axes.has(y);
  const sets = crystals.header.sets.map((_, k) => k).filter((k) => hidden.has(crystals.header.sets[k].name));
  return {
    colour: Object.hasOwn(colourings, colour) ? colour : "set",
    query: parts.get("search") || "",
    flags: new Set(flags),
    hull: Number.isFinite(hull) ? hull : null,
    sets: new Set(sets),
    ...(plotted ? { x, y } : { x: "", y: "" }),
    ...crystalsIn(text, parts, crystals),
  };
}

function crystalsIn(text, parts, crystals) {
  const chosen = chosenIn(text, parts.get("crystal"), crystals);
  const pinned = indexOfKey(parts.get("with"), crystals);
  const bare = text && !KEYS.some((key) => parts.has(key)) ? decoded(text) : null;
  const lost = [
    [chosen, parts.get("crystal") ?? bare],
    [pinned, parts.get("with")],
  ].filter(([at, name]) => at < 0 && name);
  const named = lost.map(([, name]) => `“${name.replace("~", " ")}”`).join(" and ");
  const missing = named && `The link names ${named}, which is not on this page: another run, or not among those drawn.`;
  return { chosen, pinned: pinned === chosen ? -1 : pinned, missing };
}

function indexOfKey(key, crystals) {
  return key === null ? -1 : crystals.ids.findIndex((_, i) => crystalKey(crystals, i) === key);
}

function chosenIn(text, key, crystals) {
  const found = indexOfKey(key, crystals);
  return found >= 0 ? found : crystals.ids.indexOf(decoded(text));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not encoded: used verbatim
  }
}

function crystalKey(crystals, i) {
  return `${crystals.setOf(i).name}~${crystals.ids[i]}`;
}
