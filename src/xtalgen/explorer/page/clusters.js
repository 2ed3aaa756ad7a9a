// Names of clusters on the map: the chemistry that dominates each dense region.

const CELLS_ACROSS = 48; // of the grid on which density is counted
const LEAST_SHARE = 0.012; // of all crystals, for a region to be named
const DOMINANT = 0.6; // share of a region's crystals that its class must have
const FREQUENT = 0.5; // share of a region's crystals that an element in its name must be in
const FEW = 100; // crystals; the name of a smaller region stands above it, so that it does not cover them
const ENRICHED = 2; // and how much more frequent than on the whole map
const ANIONS = {
  ...{ H: "hydrides", B: "borides", C: "carbides", N: "nitrides", O: "oxides", F: "fluorides", Si: "silicides" },
  ...{ P: "phosphides", S: "sulfides", Cl: "chlorides", Ge: "germanides", As: "arsenides", Se: "selenides" },
  ...{ Br: "bromides", Sb: "antimonides", Te: "tellurides", I: "iodides" },
};

// Returns [{name, x, y, above}], the largest region first; above: the name stands above the point. places: interleaved x, y in units of the map's width.
export function clusterNames(crystals, places) {
  const classes = Array.from({ length: crystals.n }, (_, i) => classOf(crystals, i));
  const overall = elementShares(
    crystals,
    classes.flatMap((found, i) => (found ? [i] : [])),
  );
  return regions(crystals, places)
    .map((members) => named(crystals, places, members, classes, overall))
    .filter(Boolean);
}

// The class of a compound is that of its most electronegative element; a metal's is intermetallic.
function classOf(crystals, i) {
  const parts = crystals.parts[i];
  if (!parts.length) return null;
  const [last] = parts[parts.length - 1];
  if (parts.length === 1) return "elements";
  if (crystals.header.elements.metal[last]) return "intermetallics";
  return ANIONS[crystals.symbol(last)] ?? null;
}

// Regions of the map: each cell of a grid belongs to the densest cell that is reached by climbing.
function regions({ n, header, parts }, places) {
  const density = new Float32Array((CELLS_ACROSS + 2) ** 2);
  const cellOf = (i) => {
    const [column, row] = [0, 1].map((axis) =>
      Math.min(CELLS_ACROSS - 1, Math.floor(places[2 * i + axis] * CELLS_ACROSS)),
    );
    return (row + 1) * (CELLS_ACROSS + 2) + column + 1;
  };
  const around = [-1, 0, 1].flatMap((row) => [-1, 0, 1].map((column) => row * (CELLS_ACROSS + 2) + column));
  const members = new Map();
  for (let i = 0; i < n; i++) {
    if (!parts[i].length || (header.parked.count && places[2 * i + 1] <= header.parked.y + 1e-6)) continue;
    const cell = cellOf(i);
    if (!members.has(cell)) members.set(cell, []);
    members.get(cell).push(i);
    for (const step of around) density[cell + step] += step ? 0.5 : 1;
  }
  const peaks = new Map();
  for (const [cell, found] of members) {
    const peak = climbed(cell, density, around);
    peaks.set(peak, (peaks.get(peak) ?? []).concat(found));
  }
  const least = Math.max(5, LEAST_SHARE * n);
  return [...peaks.values()].filter((found) => found.length >= least).sort((a, b) => b.length - a.length);
}

function climbed(cell, density, around) {
  for (;;) {
    const best = around.reduce((top, step) => (density[cell + step] > density[top] ? cell + step : top), cell);
    if (best === cell) return cell;
    cell = best;
  }
}

function named(crystals, places, members, classes, overall) {
  const counts = new Map();
  for (const i of members) counts.set(classes[i], (counts.get(classes[i]) ?? 0) + 1);
  const [kind, count] = [...counts].sort((a, b) => b[1] - a[1])[0];
  const typical = [...elementShares(crystals, members)]
    .filter(([z, share]) => share >= FREQUENT && share >= ENRICHED * overall.get(z))
    .sort((a, b) => b[1] - a[1])
    .map(([z]) => crystals.symbol(z))
    .filter((symbol) => ANIONS[symbol] !== kind)
    .slice(0, 2);
  const clear = kind && count >= DOMINANT * members.length;
  if (!clear && !typical.length) return null;
  const name = [typical.join("–"), clear ? kind : "compounds"].filter(Boolean).join(" ");
  const [x, y] = [0, 1].map((axis) => members.map((i) => places[2 * i + axis]).sort((a, b) => a - b));
  const few = members.length < FEW;
  return { name, x: x[x.length >> 1], y: few ? y[y.length - 1] : y[y.length >> 1], above: few };
}

// Shares of some crystals that contain each element, by atomic number.
function elementShares(crystals, members) {
  const counts = new Map();
  for (const i of members) for (const [z] of crystals.parts[i]) counts.set(z, (counts.get(z) ?? 0) + 1);
  return new Map([...counts].map(([z, count]) => [z, count / members.length]));
}
