// Symmetry operations of a cell, its conventional cell, and its atoms up to symmetry. Found here, not stored.

import { cross, dot } from "./bonding.js";

const MOST = 120; // atoms; beyond, the search takes too long for a page
const IDENTITY = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];
// Order of the point group, by the last space group that has it.
const POINT_ORDERS = [
  ...[[1, 1], [9, 2], [15, 4], [46, 4], [74, 8], [82, 4], [122, 8], [142, 16], [146, 3], [161, 6], [167, 12]],
  ...[[174, 6], [190, 12], [194, 24], [199, 12], [220, 24], [230, 48]],
]; // prettier-ignore

// Returns the operations x → W x + w on fractional coordinates as [{W, w}], w in [0, 1), the identity first; null
// where there are too many atoms. vectors: rows in Å. atoms: [atomic number, x, y, z]. tolerance: in Å, for lengths of
// the lattice and for every atom. rough: tolerance for a first look, in which the first atom lies on its image exactly.
function operations(vectors, atoms, tolerance, rough) {
  if (!atoms.length || atoms.length > MOST) return null;
  const groups = new Map();
  atoms.forEach(([z], k) => groups.set(z, [...(groups.get(z) ?? []), k]));
  const rarest = [...groups.values()].sort((a, b) => a.length - b.length)[0];
  const found = [];
  for (const W of isometries(vectors, tolerance)) {
    const image = apply(W, atoms[rarest[0]].slice(1));
    for (const target of rarest) {
      const w = image.map((value, k) => atoms[target][k + 1] - value);
      const first = translation(W, w, { atoms, groups, vectors, tolerance: rough });
      const refined = first && translation(W, first, { atoms, groups, vectors, tolerance });
      if (refined) found.push({ W, w: refined });
    }
  }
  const isIdentity = ({ W, w }) => String(W) === String(IDENTITY) && w.every((value) => near(value, 0, 1e-3));
  return found.sort((a, b) => isIdentity(b) - isIdentity(a));
}

// Returns the operations of a space group: those found within the tolerance, or, if they are not of the order that the
// group's number demands, those found when the first atom may lie farther from its image.
export function operationsOf(vectors, atoms, spaceGroup, tolerance) {
  const strict = operations(vectors, atoms, tolerance, tolerance);
  if (!strict || !spaceGroup || nRotations(strict) === pointOrder(spaceGroup)) return strict;
  const loose = operations(vectors, atoms, tolerance, 2 * tolerance);
  return nRotations(loose) === pointOrder(spaceGroup) ? loose : strict;
}

const pointOrder = (spaceGroup) => POINT_ORDERS.find(([last]) => spaceGroup <= last)[1];
const nRotations = (found) => new Set(found.map(({ W }) => String(W))).size;

// Integer matrices that keep all lengths and angles of the lattice.
function isometries(vectors, tolerance) {
  const lengths = vectors.map(norm);
  const images = lengths.map((length) =>
    latticeVectors(vectors, length + tolerance).filter(({ at }) => Math.abs(norm(at) - length) <= tolerance),
  );
  const apart = (u, v) => norm(u.map((value, k) => value - v[k]));
  const fits = (a, b, i, j) => Math.abs(apart(a.at, b.at) - apart(vectors[i], vectors[j])) <= tolerance;
  const found = [];
  for (const a of images[0]) {
    for (const b of images[1]) {
      if (!fits(a, b, 0, 1)) continue;
      for (const c of images[2]) {
        if (!fits(a, c, 0, 2) || !fits(b, c, 1, 2)) continue;
        const W = [0, 1, 2].map((row) => [a.n[row], b.n[row], c.n[row]]);
        if (Math.abs(determinant(W)) === 1) found.push(W);
      }
    }
  }
  return found;
}

// Lattice vectors up to a length: {n, at}, whole numbers and Å, without the null vector.
function latticeVectors(vectors, longest) {
  const volume = Math.abs(dot(vectors[0], cross(vectors[1], vectors[2])));
  const most = [0, 1, 2].map((k) => {
    const height = volume / norm(cross(vectors[(k + 1) % 3], vectors[(k + 2) % 3]));
    return Math.min(8, Math.floor(longest / height + 1e-6));
  });
  const found = [];
  for (let a = -most[0]; a <= most[0]; a++) {
    for (let b = -most[1]; b <= most[1]; b++) {
      for (let c = -most[2]; c <= most[2]; c++) {
        const at = combined([a, b, c], vectors);
        if ((a || b || c) && norm(at) <= longest) found.push({ n: [a, b, c], at });
      }
    }
  }
  return found;
}

// Returns w moved so that all images lie as near as can be on their atoms; null where one has no atom near it.
function translation(W, w, { atoms, groups, vectors, tolerance }) {
  const mean = [0, 0, 0];
  for (const [z, ...at] of atoms) {
    const image = apply(W, at).map((value, k) => value + w[k]);
    let best = tolerance;
    let offset = null;
    for (const other of groups.get(z)) {
      const away = [0, 1, 2].map((k) => rest(atoms[other][k + 1] - image[k]));
      const length = norm(combined(away, vectors));
      if (length <= best) [best, offset] = [length, away];
    }
    if (!offset) return null;
    offset.forEach((value, k) => (mean[k] += value / atoms.length));
  }
  return w.map((value, k) => wrap(value + mean[k]));
}

// Returns the vectors of the conventional cell in Å, right-handed: along the axes of rotation, b for monoclinic, c for
// tetragonal, trigonal and hexagonal cells. null for a triclinic crystal, whose cell is as good as any other.
export function conventional(vectors, found) {
  const shifts = found.filter(({ W }) => String(W) === String(IDENTITY)).map(({ w }) => w.map(rest));
  const longest = 4 * Math.max(...vectors.map(norm));
  const lattice = latticeVectors(vectors, longest)
    .flatMap(({ n }) =>
      shifts.map((shift) =>
        combined(
          n.map((value, k) => value + shift[k]),
          vectors,
        ),
      ),
    )
    .concat(shifts.map((shift) => combined(shift, vectors)).filter((at) => norm(at) > 0.1))
    .sort((a, b) => norm(a) - norm(b));
  const along = (axis) => lattice.find((at) => norm(cross(at, axis)) < 0.02 * norm(at) * norm(axis));
  const flat = (axis) => lattice.filter((at) => Math.abs(dot(at, axis)) < 0.02 * norm(at) * norm(axis));
  const axes = axesByOrder(vectors, found);
  const chosen = chosenVectors(axes, along, flat);
  if (!chosen || chosen.some((vector) => !vector)) return null;
  const left = dot(chosen[0], cross(chosen[1], chosen[2])) < 0;
  const turned = axes[2].length === 1 && !axes[3].length && !axes[4].length ? 1 : 2;
  return left ? chosen.map((vector, k) => (k === turned ? vector.map((value) => -value) : vector)) : chosen;
}

function chosenVectors(axes, along, flat) {
  const angle = (u, v) => dot(u, v) / norm(u) / norm(v);
  if (axes[3].length > 1) return (axes[4].length === 3 ? axes[4] : axes[2]).slice(0, 3).map(along);
  const [single] = axes[6].concat(axes[3], axes[4]);
  if (single) {
    const plane = flat(single);
    const wanted = axes[4].length ? 0 : -0.5;
    const second = plane.find((at) => Math.abs(angle(plane[0], at) - wanted) < 0.03);
    return [plane[0], second, along(single)];
  }
  if (axes[2].length === 3) return axes[2].map(along).sort((a, b) => norm(a) - norm(b));
  if (axes[2].length !== 1) return null;
  const plane = flat(axes[2][0]);
  const other = plane.find((at) => Math.abs(angle(plane[0], at)) < 0.99);
  return [plane[0], along(axes[2][0]), angle(plane[0], other) > 0 ? other.map((value) => -value) : other];
}

// Directions in Å of the axes of rotation and rotoinversion, by their order: 2, 3, 4 and 6.
function axesByOrder(vectors, found) {
  const axes = { 2: [], 3: [], 4: [], 6: [] };
  for (const { W } of found) {
    const sign = determinant(W);
    const R = W.map((row) => row.map((value) => sign * value));
    const order = { 3: 1, "-1": 2, 0: 3, 1: 4, 2: 6 }[R[0][0] + R[1][1] + R[2][2]];
    if (order === 1) continue;
    let power = IDENTITY;
    const sum = IDENTITY.map((row) => [...row]); // 1 + R + R² + … maps everything onto the axis
    for (let k = 1; k < order; k++) {
      power = product(R, power);
      power.forEach((row, i) => row.forEach((value, j) => (sum[i][j] += value)));
    }
    const column = [0, 1, 2].map((k) => sum.map((row) => row[k])).find((values) => values.some((value) => value));
    const axis = combined(column, vectors);
    const same = (other) => norm(cross(axis, other)) < 0.05 * norm(axis) * norm(other);
    if (!axes[order].some(same)) axes[order].push(axis);
  }
  return axes;
}

// Returns all atoms in a cell of other vectors, or null where they do not fill it.
export function inCell(atoms, vectors, wanted, tolerance) {
  const ratio = determinant(wanted) / determinant(vectors);
  const count = Math.round(ratio * atoms.length);
  const inverse = inverted(wanted);
  const kept = [];
  for (const { at: step } of [
    { at: [0, 0, 0] },
    ...latticeVectors(
      vectors,
      wanted.map(norm).reduce((a, b) => a + b),
    ),
  ]) {
    for (const [z, ...at] of atoms) {
      const place = combined(at, vectors).map((value, k) => value + step[k]);
      const inside = combined(place, inverse).map(wrap);
      const same = ([other, ...there]) =>
        other === z &&
        norm(
          combined(
            there.map((value, k) => rest(value - inside[k])),
            wanted,
          ),
        ) < tolerance;
      if (!kept.some(same)) kept.push([z, ...inside]);
      if (kept.length > count) return null;
    }
  }
  return kept.length === count ? kept : null;
}

// Returns {operations, metric, atoms, moved} for a CIF: operations with rational translations, the cell's metric tensor that
// obeys them, the atoms from which they make all others, [atomic number, x, y, z, multiplicity], and the largest distance in Å
// by which an atom moved onto its exact place; null unless the operations are a group of the order that the space
// group's number demands.
export function asymmetricUnit(vectors, atoms, spaceGroup, tolerance) {
  const found = spaceGroup ? operationsOf(vectors, atoms, spaceGroup, tolerance) : null;
  if (!found || found.length < 2 || nRotations(found) !== pointOrder(spaceGroup)) return null;
  // The right origin is the one at which the translations are nearest to simple fractions.
  const choices = origins(found, atoms).map((origin) => {
    const rounded = found.map(({ W, w }) => ({ W, ...rational(shifted(W, w, origin), vectors) }));
    return { origin, exact: rounded.map(({ W, w }) => ({ W, w })), off: Math.max(...rounded.map(({ off }) => off)) };
  });
  choices.sort((a, b) => a.off - b.off);
  for (const { origin, exact } of choices.slice(0, 4)) {
    const made = isGroup(exact) ? unit(exact, atoms, origin, vectors, tolerance) : null;
    if (made) return { ...made, metric: averaged(vectors, exact) };
  }
  return null;
}

// The metric tensor in Å², averaged over the operations, which makes angles and lengths exact.
function averaged(vectors, found) {
  const mean = IDENTITY.map(() => [0, 0, 0]);
  const metric = vectors.map((u) => vectors.map((v) => dot(u, v)));
  for (const { W } of found) {
    const columns = [0, 1, 2].map((k) => W.map((row) => row[k]));
    for (const [i, u] of columns.entries()) {
      for (const [j, v] of columns.entries()) mean[i][j] += dot(u, apply(metric, v)) / found.length;
    }
  }
  return mean;
}

// Points at which the origin may lie so that translations become simple fractions: centres of inversion, atoms.
function origins(found, atoms) {
  const centres = found.filter(({ W }) => W.flat().every((value, k) => value === -IDENTITY.flat()[k]));
  return [...centres.map(({ w }) => w.map((value) => value / 2)), [0, 0, 0], ...atoms.map(([, ...at]) => at)];
}

// Translation of an operation after the origin has moved to a point.
function shifted(W, w, origin) {
  const image = apply(W, origin);
  return w.map((value, k) => value + image[k] - origin[k]);
}

// The multiples of 1/12 or 1/8 that are nearest to a translation, and how far off in Å they are.
function rational(w, vectors) {
  const exact = w.map((value) => Math.round(value * 24) / 24);
  const rounding = w.map((value, k) => value - exact[k]);
  return { w: exact.map((value) => (value > 0.999 ? 0 : wrap(value))), off: norm(combined(rounding, vectors)) };
}

function isGroup(found) {
  const name = ({ W, w }) => `${W} ${w.map((value) => Math.round(24 * value) % 24)}`;
  const names = new Set(found.map(name));
  if (names.size !== found.length) return false;
  return found.every((a) =>
    found.every((b) => {
      const image = apply(a.W, b.w).map((value, k) => wrap(value + a.w[k]));
      return names.has(name({ W: product(a.W, b.W), w: image }));
    }),
  );
}

// Atoms of the asymmetric unit, each the mean of what the operations say about its place.
function unit(exact, atoms, origin, vectors, tolerance) {
  const left = new Set(atoms.keys());
  const kept = [];
  let moved = 0;
  for (const k of left) {
    const [z, ...there] = atoms[k];
    const at = there.map((value, axis) => value - origin[axis]);
    const near = (place) =>
      norm(
        combined(
          place.map((value, axis) => rest(value - at[axis])),
          vectors,
        ),
      );
    const fixing = exact.map(({ W, w }) => shifted(W, w, [0, 0, 0]).map((value, axis) => value + apply(W, at)[axis]));
    const same = fixing.filter((place) => near(place) <= 2 * tolerance);
    const mean = at.map(
      (value, axis) => value + same.reduce((sum, place) => sum + rest(place[axis] - value), 0) / same.length,
    );
    const orbit = exact.map(({ W, w }) => apply(W, mean).map((value, axis) => value + w[axis] + origin[axis]));
    let images = 0;
    for (const other of [...left]) {
      if (atoms[other][0] !== z) continue;
      const distances = orbit.map((place) =>
        norm(
          combined(
            place.map((value, axis) => rest(value - atoms[other][axis + 1])),
            vectors,
          ),
        ),
      );
      const nearest = Math.min(...distances);
      if (nearest > 2 * tolerance) continue;
      left.delete(other);
      images++;
      moved = Math.max(moved, nearest);
    }
    if (images * same.length !== exact.length) return null;
    kept.push([z, ...mean.map(wrap), images]);
  }
  return moved <= tolerance ? { operations: exact, atoms: kept, moved } : null;
}

// An operation as CIF writes it: -x+1/2, y, z.
export function operationText({ W, w }) {
  const parts = W.map((row, k) => {
    const terms = row.map((value, axis) => (value ? `${value > 0 ? "+" : "-"}${"xyz"[axis]}` : "")).join("");
    return terms.replace(/^\+/, "") + fraction(w[k]);
  });
  return parts.join(", ");
}

function fraction(value) {
  const over = Math.round(24 * value) % 24;
  if (!over) return "";
  const divisor = [12, 8, 6, 4, 3, 2].find((part) => over % part === 0 && 24 % part === 0) ?? 1;
  return `+${over / divisor}/${24 / divisor}`;
}

const norm = (u) => Math.hypot(u[0], u[1], u[2]);
const rest = (value) => value - Math.round(value);
const wrap = (value) => ((value % 1) + 1) % 1;
const near = (value, wanted, most) => Math.abs(rest(value - wanted)) < most;
const apply = (W, at) => W.map((row) => dot(row, at));
export const combined = (n, vectors) =>
  [0, 1, 2].map((k) => n[0] * vectors[0][k] + n[1] * vectors[1][k] + n[2] * vectors[2][k]);
const determinant = ([a, b, c]) => dot(a, cross(b, c));
const product = (A, B) => A.map((row) => [0, 1, 2].map((k) => row[0] * B[0][k] + row[1] * B[1][k] + row[2] * B[2][k]));

// Inverse of a matrix of row vectors.
export function inverted([a, b, c]) {
  const scale = 1 / determinant([a, b, c]);
  const columns = [cross(b, c), cross(c, a), cross(a, b)].map((column) => column.map((value) => scale * value));
  return [0, 1, 2].map((row) => columns.map((column) => column[row]));
}
