// The colourings of points. Categories can be switched off in the legend; numbers have a scale.

import { SYSTEMS } from "./data.js";

// Okabe and Ito's palette, distinguishable with every kind of colour blindness; beyond eight sets the shape changes.
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7b4fa3", "#6b6b00"];
const DARK = ["#4aa8e8", "#ff8a3d", "#2fd0a0", "#e79ac4", "#9bdcff", "#ffc145", "#b794e6", "#c9c94a"];
export const VIRIDIS = [
  ...["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c"],
  ...["#28ae80", "#5ec962", "#addc30", "#fde725"],
];
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export const isDark = () => document.documentElement.dataset.theme === "dark";
export const palette = () => (isDark() ? DARK : LIGHT);
export const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const grey = () => cssColour("--grey");

// Colour and shape (0 disc, 1 square, 2 diamond, 3 triangle, 4 cross) of a set. A cross has no value.
export const CROSS = 4;
export const setColour = (set) => (set.reference ? grey() : palette()[set.colour % LIGHT.length]);
export const setShape = (set) => (set.reference ? 0 : Math.floor(set.colour / LIGHT.length) % 4);

function viridis(share) {
  const at = Math.min(0.999, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.floor(at);
  const [first, second] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return first.map((value, k) => value + (at - low) * (second[k] - value));
}

// Returns the colourings for which these crystals have values, by name: by set, and those of the columns.
// Categories: `categories` [[label, index in the palette or null for grey, shape if not the set's]], `of(i)` → category.
// Numbers: `value(i)`, `ends` of the scale, `reverse`; their categories are those of the crystals without value.
export function colourings(crystals) {
  const found = {
    set: {
      label: "set",
      categories: crystals.header.sets.map((set) => [set.name, set.reference ? null : set.colour]),
      of: (i) => crystals.set[i],
      sets: true,
    },
  };
  for (const column of crystals.columns.values()) {
    const colouring = column.colour ? WAYS[column.colour](crystals, column) : null;
    const label = column.unit ? `${column.label} (${column.unit})` : column.label;
    if (colouring) found[column.name] = { label, ...withUnknown(crystals, column, colouring) };
  }
  return found;
}

// Adds the categories of crystals without value: generated ones are crosses, references grey dots.
function withUnknown(crystals, column, { categories = [], of, ...scaled }) {
  const known = of ?? ((i) => (scaled.value(i) === null ? null : -1));
  const unknown = scaled.value ? `no ${column.label}` : "not evaluated";
  return {
    ...scaled,
    categories: [...categories, [unknown, null, CROSS], ["reference", null]],
    of: (i) => known(i) ?? categories.length + (crystals.setOf(i).reference ? 1 : 0),
  };
}

// The colourings that a column may name. `of` and `value` give null where the column does not judge a crystal.
const WAYS = {
  scale(crystals, { name, ends, reverse }) {
    const value = (i) => crystals.value(name, i);
    return { value, reverse, ends: ends ?? quantiles(crystals, value) };
  },

  yes_no(crystals, { name, yes, no }) {
    return {
      categories: [
        [yes, 2],
        [no, 1],
      ],
      of: (i) => ({ true: 0, false: 1 })[crystals.value(name, i)] ?? null,
    };
  },

  validity(crystals) {
    return {
      categories: [
        ["valid", 2],
        ["structure invalid", 1],
        ["composition invalid", 5],
        ["both invalid", 6],
        ["otherwise invalid", 3],
      ],
      of: (i) => {
        const valid = crystals.value("valid", i);
        const badStructure = crystals.value("struct_valid", i) === false;
        const badComposition = crystals.value("comp_valid", i) === false;
        if (valid === null) return null;
        if (valid) return 0;
        if (badStructure) return badComposition ? 3 : 1;
        return badComposition ? 2 : 4;
      },
    };
  },

  stability(crystals) {
    return {
      categories: [
        ["stable", 2],
        ["metastable", 4],
        ["unstable", 1],
      ],
      of: (i) => {
        if (crystals.value("stable", i)) return 0;
        if (crystals.value("metastable", i)) return 1;
        return crystals.value("e_above_hull", i) === null ? null : 2;
      },
    };
  },

  element_count(crystals) {
    return {
      categories: [
        ["1", 4],
        ["2", 0],
        ["3", 2],
        ["4", 5],
        ["5", 1],
        ["6 or more", 6],
      ],
      of: (i) => (crystals.nElements[i] ? Math.min(crystals.nElements[i], 6) - 1 : null),
    };
  },

  crystal_system(crystals) {
    if (!crystals.spg_num.some((number) => number)) return null;
    return {
      categories: SYSTEMS.map(([, name], k) => [name, k]),
      of: (i) => (crystals.system(i) < 0 ? null : crystals.system(i)),
    };
  },
};

// Returns the 2nd and 98th percentile of the known values.
function quantiles(crystals, value) {
  const values = [];
  for (let i = 0; i < crystals.n; i++) {
    const found = value(i);
    if (found !== null) values.push(found);
  }
  if (!values.length) return [0, 1];
  values.sort((a, b) => a - b);
  return [values[Math.floor(values.length * 0.02)], values[Math.floor((values.length - 1) * 0.98)]];
}

// Opacities of a point that search and filters find, and of one that they do not.
const [STRONG, DIM] = [225, 38];

// Fills RGBA colour, 4 bytes each, and shape of every point. drawn: 0 hidden, 1 dimmed, 2 shown.
export function paint(crystals, colouring, drawn, colours, shapes) {
  const quiet = rgb(grey());
  const without = rgb(cssColour("--faint"));
  const hues = palette().map(rgb);
  const steps = colouring.value ? Array.from({ length: 256 }, (_, k) => viridis(k / 255)) : null;
  const named = colouring.categories.map(([, k, shape]) => {
    if (k === null) return shape === CROSS ? without : quiet;
    return hues[k % hues.length];
  });
  const ofSets = crystals.header.sets.map(setShape);
  const [low, high] = colouring.ends ?? [0, 1];
  for (let i = 0; i < crystals.n; i++) {
    const category = colouring.of(i);
    let colour = named[category];
    if (category < 0) {
      const share = Math.min(1, Math.max(0, (colouring.value(i) - low) / (high - low || 1)));
      colour = steps[Math.round((colouring.reverse ? 1 - share : share) * 255)];
    }
    if (drawn[i] === 1) colour = quiet;
    colours.set([colour[0], colour[1], colour[2], [0, DIM, STRONG][drawn[i]]], 4 * i);
    shapes[i] = colouring.categories[category]?.[2] ?? ofSets[crystals.set[i]];
  }
}
