// What a point's colour can mean. Categories can be switched off in the legend; numbers have a scale.

// Okabe and Ito's palette, told apart with every kind of colour blindness; beyond eight sets the shape changes.
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7b4fa3", "#6b6b00"];
const DARK = ["#4aa8e8", "#ff8a3d", "#2fd0a0", "#e79ac4", "#9bdcff", "#ffc145", "#b794e6", "#c9c94a"];
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const isDark = () => document.documentElement.dataset.theme === "dark";
const palette = () => (isDark() ? DARK : LIGHT);
const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const grey = () => cssColour("--grey");
const setColour = (crystals, index) => crystals.header.sets[index].reference ? grey() : palette()[crystals.header.sets[index].colour % LIGHT.length];

function viridis(share) {
  const at = Math.min(0.999, Math.max(0, share)) * (VIRIDIS.length - 1), low = Math.floor(at);
  const [first, second] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return first.map((value, k) => value + (at - low) * (second[k] - value));
}

// Returns the ways to colour that these crystals have values for.
// Categories: `categories` [[label, palette place or null for grey]], `of(i)` → category. Numbers: `value(i)`, `ends`.
function colourings(crystals) {
  const flag = (name) => crystals[`is_${name}`] !== undefined;
  const yesNo = (name, yes, no) => ({ categories: [[yes, 2], [no, 1], ["not judged", null]], of: (i) => ({ true: 0, false: 1 }[crystals.flag(name, i)] ?? 2) });
  const found = {
    set: { label: "set", categories: crystals.header.sets.map((set) => [set.name, set.reference ? null : set.colour]), of: (i) => crystals.set[i], sets: true },
  };
  if (crystals.e_above_hull) found.hull = { label: "energy above hull (eV/atom)", value: (i) => crystals.hull(i), ends: [0, 0.5], reversed: true };
  if (flag("valid")) {
    found.validity = {
      label: "validity",
      categories: [["valid", 2], ["structure invalid", 1], ["composition invalid", 5], ["both invalid", 6], ["otherwise invalid", 3], ["not judged", null]],
      of: (i) => {
        const valid = crystals.flag("valid", i), structure = crystals.flag("struct_valid", i), composition = crystals.flag("comp_valid", i);
        if (valid === null) return 5;
        return valid ? 0 : structure === false && composition === false ? 3 : structure === false ? 1 : composition === false ? 2 : 4;
      },
    };
  }
  if (flag("novel")) found.novelty = { label: "novelty", ...yesNo("novel", "novel", "known") };
  if (flag("unique")) found.uniqueness = { label: "uniqueness", ...yesNo("unique", "first of its kind", "duplicate") };
  if (flag("metastable")) {
    found.stability = {
      label: "stability", categories: [["stable", 2], ["metastable", 4], ["unstable", 1], ["not judged", null]],
      of: (i) => crystals.flag("stable", i) ? 0 : crystals.flag("metastable", i) ? 1 : crystals.e_above_hull && crystals.hull(i) !== null ? 2 : 3,
    };
  }
  if (flag("matched")) found.matched = { label: "match with its target", ...yesNo("matched", "matched", "not matched") };
  found.elements = {
    label: "number of elements", categories: [["1", 4], ["2", 0], ["3", 2], ["4", 5], ["5", 1], ["6 and more", 6], ["no geometry", null]],
    of: (i) => (crystals.n_elements[i] ? Math.min(crystals.n_elements[i], 6) - 1 : 6),
  };
  if (crystals.spg_num.some((number) => number)) {
    found.system = {
      label: "crystal system", categories: [...SYSTEMS.map(([, name], k) => [name, k]), ["not known", null]],
      of: (i) => { const system = crystals.system(i); return system < 0 ? SYSTEMS.length : system; },
    };
  }
  found.density = { label: "density (g/cm³)", value: (i) => (Number.isNaN(crystals.density[i]) ? null : crystals.density[i]) };
  found.atoms = { label: "atoms in the cell", value: (i) => crystals.n_atoms[i] || null, digits: 0 };
  if (crystals.rmsd) found.rmsd = { label: "moved by relaxation (Å)", value: (i) => crystals.number("rmsd", i, 1e-3), ends: [0, 1] };
  for (const colouring of Object.values(found)) if (colouring.value && !colouring.ends) colouring.ends = quantiles(crystals, colouring.value);
  return found;
}

function quantiles(crystals, value) {
  const values = [];
  for (let i = 0; i < crystals.n; i++) { const found = value(i); if (found !== null) values.push(found); }
  values.sort((a, b) => a - b);
  return values.length ? [values[Math.floor(values.length * 0.02)], values[Math.floor((values.length - 1) * 0.98)]] : [0, 1];
}

// Fills the colour of every point: 4 bytes each, the last one opacity (0: not drawn).
function paint(crystals, colouring, visible, bytes) {
  const quiet = rgb(grey()), places = palette().map(rgb);
  const steps = colouring.value ? Array.from({ length: 256 }, (_, k) => viridis(k / 255)) : null;
  const named = colouring.value ? null : colouring.categories.map(([, place]) => (place === null ? quiet : places[place % places.length]));
  for (let i = 0; i < crystals.n; i++) {
    let colour = quiet, strong = !crystals.set_of(i).reference;
    if (colouring.value) {
      const value = colouring.value(i);
      if (value === null) strong = false;
      else {
        const share = Math.min(1, Math.max(0, (value - colouring.ends[0]) / (colouring.ends[1] - colouring.ends[0] || 1)));
        colour = steps[Math.round((colouring.reversed ? 1 - share : share) * 255)];
      }
    } else colour = named[colouring.of(i)];
    bytes.set([colour[0], colour[1], colour[2], visible[i] ? (strong ? 225 : 120) : 0], 4 * i);
  }
}
