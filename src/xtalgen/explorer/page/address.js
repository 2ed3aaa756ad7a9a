// The page's address holds the crystal, the colours and the filters, so that a link leads back to them.

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
  if (state.colour !== "set") parts.set("colour", state.colour);
  if (state.query) parts.set("search", state.query);
  if (state.flags.size) parts.set("only", [...state.flags].join(" "));
  if (state.hull !== null) parts.set("hull", state.hull.toFixed(2));
  for (const k of state.sets) parts.append("without", crystals.header.sets[k].name);
  return parts.toString() ? `#${parts}` : "";
}

// Returns the part of the state given by a fragment. The text is untrusted: unknown values are ignored.
// `chosen` is the index of a crystal or -1; a bare #ID selects the first crystal of that id.
export function readAddress(fragment, crystals, colourings) {
  const text = fragment.slice(1);
  const parts = new URLSearchParams(text);
  const wanted = parts.get("colour") ?? "";
  const colour = Object.hasOwn(RENAMED, wanted) ? RENAMED[wanted] : wanted;
  const flags = (parts.get("only") || "").split(" ").filter((name) => crystals.columns.get(name)?.filter);
  const hull = parts.get("hull") === null ? NaN : Number(parts.get("hull"));
  const hidden = new Set(parts.getAll("without").flatMap((names) => [names, ...names.split(" ")]));
  const sets = crystals.header.sets.map((_, k) => k).filter((k) => hidden.has(crystals.header.sets[k].name));
  return {
    colour: Object.hasOwn(colourings, colour) ? colour : "set",
    query: parts.get("search") || "",
    flags: new Set(flags),
    hull: Number.isFinite(hull) ? hull : null,
    sets: new Set(sets),
    chosen: chosenIn(text, parts.get("crystal"), crystals),
  };
}

function chosenIn(text, key, crystals) {
  if (key !== null) {
    const found = crystals.ids.findIndex((_, i) => crystalKey(crystals, i) === key);
    if (found >= 0) return found;
  }
  let id = text;
  try {
    id = decodeURIComponent(text);
  } catch {
    // not encoded: used verbatim
  }
  return crystals.ids.indexOf(id);
}

function crystalKey(crystals, i) {
  return `${crystals.setOf(i).name}~${crystals.ids[i]}`;
}
