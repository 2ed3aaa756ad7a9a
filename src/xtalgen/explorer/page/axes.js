// Where the crystals lie: on the map of similarity, or by two of their properties.

import { linearTicks } from "./charts.js";

const SPREAD = 0.3; // whole numbers are spread by this much, so that equal ones do not cover each other

// Returns the columns that can be an axis: numbers that at least one crystal has.
export function axisColumns(crystals) {
  return [...crystals.columns.values()].filter(({ kind, colour }) => kind === "number" && colour !== "crystal_system");
}

// Returns {places, placed, bounds, axes} of all crystals: interleaved x, y in units of the width, whether each has
// a place, the part shown at first, and the axes (null on the map of similarity). x, y: names of columns; "" is the
// map. height: of the frame of two columns, in units of its width.
export function placesOf(crystals, x, y, height) {
  return x && y ? scatter(crystals, [x, y], height) : similarity(crystals);
}

function similarity({ n, positions }) {
  const places = Float32Array.from(positions, (value) => value / 65535);
  const ends = [0, 1].map((axis) => {
    let [low, high] = n ? [Infinity, -Infinity] : [0, 1];
    for (let k = axis; k < 2 * n; k += 2) [low, high] = [Math.min(low, places[k]), Math.max(high, places[k])];
    return [low, high];
  });
  return { places, placed: new Uint8Array(n).fill(1), bounds: boundsOf(ends), axes: null };
}

function scatter(crystals, names, height) {
  const { n } = crystals;
  const places = new Float32Array(2 * n).fill(-9);
  const placed = new Uint8Array(n).fill(1);
  const axes = names.map((name, k) => axisOf(crystals, name, k === 0, k ? height : 1));
  for (let i = 0; i < n; i++) {
    const values = axes.map(({ value }) => value(i));
    if (values.includes(null)) placed[i] = 0;
    else axes.forEach(({ low, span, size }, axis) => (places[2 * i + axis] = ((values[axis] - low) / span) * size));
  }
  const ends = axes.map(({ shown, low, span, size }) => shown.map((value) => ((value - low) / span) * size));
  return { places, placed, bounds: boundsOf(ends), axes };
}

function axisOf(crystals, name, across, size) {
  const column = crystals.columns.get(name);
  const whole = column.digits === 0;
  const exact = (i) => crystals.value(name, i);
  const value = whole ? (i) => spreadOut(exact(i), i, across) : exact;
  const known = Array.from({ length: crystals.n }, (_, i) => exact(i)).filter((found) => found !== null);
  known.sort((a, b) => a - b);
  const at = (share) => known[Math.round(share * (known.length - 1))] ?? 0;
  const margin = whole ? 0.5 : 0.04 * (at(0.99) - at(0.01)) || 0.5;
  const shown = [at(0.01) - margin, at(0.99) + margin]; // one value far away would press all others together
  const label = column.unit ? `${column.label} (${column.unit})` : column.label;
  return { label, value, whole, shown, low: shown[0], span: shown[1] - shown[0], size };
}

// The same crystal is moved by the same amount each time; x and y by different ones.
function spreadOut(value, i, first) {
  if (value === null) return null;
  const share = (((i + 1) * (first ? 0.7548776662 : 0.569840291)) % 1) - 0.5;
  return value + 2 * SPREAD * share;
}

function boundsOf([[x0, x1], [y0, y1]]) {
  return [
    [x0, y0],
    [x1, y1],
  ];
}

// Returns the ticks of an axis between two places: [place, text].
export function axisTicks({ low, span, size, whole }, from, to, count) {
  const valueAt = (place) => low + (place / size) * span;
  const found = linearTicks(valueAt(from), valueAt(to), count).filter((value) => !whole || Number.isInteger(value));
  return found.map((value) => [((value - low) / span) * size, value]);
}
