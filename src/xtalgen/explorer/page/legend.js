// The list of sets and the legend of the colours; a click hides an entry, a double click shows only this one.

import { VIRIDIS, grey, palette, setColour, setShape } from "./colours.js";
import { counted, make, makeSvg, withMinus } from "./dom.js";

const SHAPES = [
  "M12 6A6 6 0 1 1 0 6A6 6 0 1 1 12 6Z",
  "M1 1H11V11H1Z",
  "M6 0L12 6L6 12L0 6Z",
  "M6 0L12 11H0Z",
  "M11 6A5 5 0 1 1 1 6A5 5 0 1 1 11 6Z",
];
const RING = 4; // reference crystals
const MADE = new Set(["trained here", "sampled here"]);

// Whether it must be said where the sets come from: some were not made by this experiment.
export const fromElsewhere = (sets) => sets.some((set) => set.origin && !MADE.has(set.origin));

// Returns one entry per set, under headings of their origins where these differ. hidden: numbers of hidden sets; changed() is called after it changes.
export function setEntries(crystals, visible, hidden, changed) {
  const counts = tally(crystals, visible, (i) => crystals.set[i]);
  const { sets } = crystals.header;
  const all = sets.map((_, k) => k);
  const entries = sets.map((set, k) =>
    entry({
      colour: setColour(set),
      shape: set.reference ? RING : setShape(set),
      label: set.name,
      count: counts.get(k) || 0,
      off: hidden.has(k),
      act: (only) => switchEntry(hidden, k, all, only, changed),
    }),
  );
  if (!fromElsewhere(sets)) return entries;
  const origin = (set) => (set.reference ? "data set" : set.origin || "");
  return [...new Set(sets.map(origin))].flatMap((name) => [
    make("li", { class: "heading", role: "presentation" }, name),
    ...entries.filter((_, k) => origin(sets[k]) === name),
  ]);
}

// Returns the legend of a colouring: a scale, or an entry for each category that occurs or is hidden.
export function legend(crystals, colouring, visible, hidden, changed) {
  if (colouring.sets) return [];
  if (colouring.value) return scale(colouring);
  const counts = tally(crystals, visible, colouring.of);
  const all = colouring.categories.map((_, k) => k);
  const entries = colouring.categories.map(([label, place], k) => {
    if (!counts.get(k) && !hidden.has(k)) return null;
    return entry({
      colour: place === null ? grey() : palette()[place % palette().length],
      shape: 0,
      label,
      count: counts.get(k) || 0,
      off: hidden.has(k),
      act: (only) => switchEntry(hidden, k, all, only, changed),
    });
  });
  return [make("ul", { class: "legend" }, entries)];
}

function scale({ reverse, ends }) {
  const stops = reverse ? VIRIDIS.toReversed() : VIRIDIS;
  const [low, high] = ends.map((value) => withMinus(String(Number(value.toPrecision(3)))));
  return [
    make("div", { class: "scale", style: `background: linear-gradient(90deg, ${stops.join()})` }),
    make("div", { class: "ends" }, [make("span", {}, `≤ ${low}`), make("span", {}, `≥ ${high}`)]),
  ];
}

function tally(crystals, visible, categoryOf) {
  const counts = new Map();
  for (let i = 0; i < crystals.n; i++) {
    if (!visible[i]) continue;
    const category = categoryOf(i);
    counts.set(category, (counts.get(category) || 0) + 1);
  }
  return counts;
}

function switchEntry(hidden, key, all, only, changed) {
  if (only) {
    hidden.clear();
    for (const other of all) if (other !== key) hidden.add(other);
  } else if (!hidden.delete(key)) hidden.add(key);
  changed();
}

function entry({ colour, shape, label, count, off, act }) {
  const attributes = { class: off ? "off" : null, tabindex: 0, role: "switch", "aria-checked": String(!off) };
  const title = `${label}. Click to hide or show; double-click to show only this.`;
  const parts = [swatch(colour, shape), make("span", {}, label), make("small", {}, counted(count))];
  const item = make("li", { ...attributes, title }, parts);
  item.addEventListener("click", () => act(false));
  item.addEventListener("dblclick", () => act(true));
  item.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act(false);
  });
  return item;
}

function swatch(colour, shape) {
  const look = shape === RING ? { fill: "none", stroke: colour, "stroke-width": 2 } : { fill: colour };
  const path = makeSvg("path", { d: SHAPES[shape], ...look });
  return makeSvg("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" }, path);
}
