// The list of sets and the legend of the colours; a click hides an entry, a double click shows only this one.

import { linearTicks, tidy } from "./charts.js";
import { CROSS, VIRIDIS, cssColour, grey, palette, setColour, setShape } from "./colours.js";
import { counted, make, makeSvg } from "./dom.js";

const SHAPES = [
  "M12 6A6 6 0 1 1 0 6A6 6 0 1 1 12 6Z",
  "M1 1H11V11H1Z",
  "M6 0L12 6L6 12L0 6Z",
  "M6 0L12 11H0Z",
  "M2 0L6 4L10 0L12 2L8 6L12 10L10 12L6 8L2 12L0 10L4 6L0 2Z",
];
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
      shape: setShape(set),
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

// Returns the legend of a colouring: a scale, and an entry for each category that occurs or is hidden.
export function legend(crystals, colouring, visible, hidden, changed) {
  if (colouring.sets) return [];
  const counts = tally(crystals, visible, colouring.of);
  const all = colouring.categories.map((_, k) => k);
  const unnamed = (shape) => (shape === CROSS ? cssColour("--faint") : grey());
  const entries = colouring.categories.map(([label, place, shape], k) => {
    if (!counts.get(k) && !hidden.has(k)) return null;
    return entry({
      colour: place === null ? unnamed(shape) : palette()[place % palette().length],
      shape: shape ?? 0,
      label,
      count: counts.get(k) || 0,
      off: hidden.has(k),
      act: (only) => switchEntry(hidden, k, all, only, changed),
    });
  });
  return [...(colouring.value ? scale(colouring) : []), make("ul", { class: "legend" }, entries)];
}

// The colour bar with its unit and ticks; the first and last tick stand for all values beyond the ends.
function scale({ label, reverse, ends: [low, high] }) {
  const stops = reverse ? VIRIDIS.toReversed() : VIRIDIS;
  const span = high - low || 1;
  const inner = linearTicks(low, high, 4).filter((value) => value - low > 0.22 * span && high - value > 0.22 * span);
  const tick = (value, text, place) =>
    make("span", { style: `left: ${((100 * (value - low)) / span).toFixed(1)}%`, class: place }, text);
  const rounded = (value) => tidy(Number(value.toPrecision(3)));
  return [
    make("div", { class: "bar-title" }, label),
    make("div", { class: "scale", style: `background: linear-gradient(90deg, ${stops.join()})` }),
    make("div", { class: "ticks" }, [
      tick(low, `≤ ${rounded(low)}`, "first"),
      ...inner.map((value) => tick(value, tidy(value), "inner")),
      tick(high, `≥ ${rounded(high)}`, "last"),
    ]),
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
  const path = makeSvg("path", { d: SHAPES[shape], fill: colour });
  return makeSvg("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" }, path);
}
