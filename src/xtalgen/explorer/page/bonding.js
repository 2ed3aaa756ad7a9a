// Which atoms are bonded, and the coordination polyhedra around cations.

const NEARBY = [-1, 0, 1];
const MOST_CORNERS = 8; // larger ions, such as Sr in a perovskite, would hide the polyhedra between them
const FLAT = 1e-3; // Å³; points in one plane span less

// Returns a function of two atomic numbers: the distance in Å below which such atoms are bonded, 0 for never. Bonded:
// closer than 1.15 times the sum of covalent radii. In salts (electronegativities differ by more than 1) not between
// ions of like charge: one must attract electrons more than the other, or both be non-metals.
export function bondReach(elements, numbers) {
  const { radius, metal, electronegativity: negativity } = elements;
  const present = [...new Set(numbers)].map((z) => negativity[z]);
  const salt = Math.max(...present) - Math.min(...present) > 1;
  const covalent = (z) => !metal[z] && negativity[z] > 2.1;
  return (a, b) => {
    const alike = Math.abs(negativity[a] - negativity[b]) < 0.4;
    return salt && alike && !(covalent(a) && covalent(b)) ? 0 : 1.15 * (radius[a] + radius[b]);
  };
}

// Returns the indices of the atoms bonded to each one. atoms: [atomic number, x, y, z] in Å.
export function bondsOf(atoms, reach) {
  const bonds = atoms.map(() => []);
  for (let a = 0; a < atoms.length; a++) {
    for (let b = a + 1; b < atoms.length; b++) {
      const longest = reach(atoms[a][0], atoms[b][0]);
      const away = squared(atoms[a], atoms[b]);
      if (away < longest * longest && away > 0.01) {
        bonds[a].push(b);
        bonds[b].push(a);
      }
    }
  }
  return bonds;
}

function squared(a, b) {
  return (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2 + (a[3] - b[3]) ** 2;
}

// Returns the polyhedra around those of the shown atoms that have four to eight bonded anions: {z, corners, faces}.
// An anion is an element that attracts electrons more by 0.4 and is no metal. cell: all atoms of one cell.
export function polyhedra(shown, cell, vectors, elements, reach) {
  const { metal, electronegativity: negativity } = elements;
  const anion = (z, centre) => !metal[z] && negativity[z] - negativity[centre] > 0.4;
  const images = NEARBY.flatMap((a) => NEARBY.flatMap((b) => NEARBY.map((c) => shift([a, b, c], vectors))));
  const found = [];
  for (const centre of shown) {
    const corners = [];
    for (const atom of surrounding(centre, cell, images)) {
      const longest = reach(centre[0], atom[0]);
      const away = squared(centre, atom);
      if (anion(atom[0], centre[0]) && away < longest * longest && away > 0.01) corners.push(atom);
    }
    if (corners.length < 4 || corners.length > MOST_CORNERS) continue;
    const faces = hull(corners.map((corner) => corner.slice(1)));
    if (faces.length) found.push({ z: centre[0], corners, faces });
  }
  return found;
}

function shift([a, b, c], vectors) {
  return [0, 1, 2].map((k) => a * vectors[0][k] + b * vectors[1][k] + c * vectors[2][k]);
}

// Atoms of all cells around the one in which an atom lies.
function* surrounding(centre, { atoms, home }, images) {
  const [dx, dy, dz] = home(centre);
  for (const [x, y, z] of images) {
    for (const [number, ax, ay, az] of atoms) yield [number, ax + x + dx, ay + y + dy, az + z + dz];
  }
}

// Triangles of the convex hull: those with all other points on one side. Points in a face's plane give the triangles
// of that face more than once, which does not show.
function hull(points) {
  const faces = [];
  const n = points.length;
  for (let a = 0; a < n; a++) {
    for (let b = a + 1; b < n; b++) {
      for (let c = b + 1; c < n; c++) {
        const sides = points.map((point) => volume(points[a], points[b], points[c], point));
        const [above, below] = [sides.some((side) => side > FLAT), sides.some((side) => side < -FLAT)];
        if (above !== below) faces.push(above ? [a, c, b] : [a, b, c]);
      }
    }
  }
  return faces;
}

function volume(a, b, c, d) {
  const [u, v, w] = [b, c, d].map((point) => point.map((value, k) => value - a[k]));
  return dot(cross(u, v), w);
}

export function cross(u, v) {
  return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
}

export function dot(u, v) {
  return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
}
