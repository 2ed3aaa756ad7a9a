// The payload as arrays, and derived quantities: formulas, densities, cells.

import { withMinus } from "./dom.js";

export const MISSING = -2147483648;
const FRAC_STEPS = 65536;
const MOVE_STEPS = 8192;
const LENGTH_STEP = 1e-4; // Å
const ANGLE_STEP = 180 / 65535; // degrees
const ARRAYS = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
};
// Blocks present on every page; all others belong to columns.
const STRUCTURAL = [
  ...["n_atoms", "atomic_numbers", "frac_coords", "lengths", "angles"],
  ...["moved", "moves", "before_lengths", "before_angles"],
  ...["set", "spg_num", "status", "relax_status", "match", "duplicate_of", "nearest", "positions"],
];
const AVOGADRO = 0.602214076; // g/cm³ of one atomic mass unit per Å³ is its inverse
// Last space group of each crystal system.
export const SYSTEMS = [
  [2, "triclinic"],
  [15, "monoclinic"],
  [74, "orthorhombic"],
  [142, "tetragonal"],
  [167, "trigonal"],
  [194, "hexagonal"],
  [230, "cubic"],
];

// Base 85 as Python writes it, with "," for "<": five characters are four bytes, big end first.
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
const DIGITS = new Map([...ALPHABET].map((letter, value) => [letter.charCodeAt(0), value]));
const VALUES = Uint8Array.from({ length: 128 }, (_, code) => DIGITS.get(code) ?? 0);

export function bytesOf(element) {
  const text = element.textContent;
  const padding = (5 - (text.length % 5)) % 5;
  const words = (text.length + padding) / 5;
  const view = new DataView(new ArrayBuffer(4 * words));
  for (let word = 0, at = 0; word < words; word++) {
    let value = 0;
    for (let k = 0; k < 5; k++, at++) value = 85 * value + (at < text.length ? VALUES[text.charCodeAt(at)] : 84);
    view.setUint32(4 * word, value);
  }
  return new Uint8Array(view.buffer, 0, 4 * words - padding);
}

export function inflate(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

export class Crystals {
  static async read(element) {
    const buffer = await inflate(bytesOf(element));
    const size = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
    return new Crystals(header, new Uint8Array(buffer, 4 + size));
  }

  constructor(header, bytes) {
    this.header = header;
    this.ids = header.ids;
    this.n = header.ids.length;
    this.columns = new Map(header.columns.map((column) => [column.name, column]));
    this.blocks = new Map(Object.entries(header.blocks).map(([name, place]) => [name, Crystals.block(place, bytes)]));
    for (const name of STRUCTURAL) this[name] = this.blocks.get(name);
    this._index();
    this._derive();
  }

  // A block holds all first bytes of its numbers, then all second bytes and so on.
  static block({ type, length, offset }, bytes) {
    const Kind = ARRAYS[type];
    const width = Kind.BYTES_PER_ELEMENT;
    const plain = new Uint8Array(length * width);
    for (let plane = 0; plane < width; plane++) {
      const from = offset + plane * length;
      for (let i = 0; i < length; i++) plain[i * width + plane] = bytes[from + i];
    }
    return new Kind(plain.buffer);
  }

  // Offsets of each crystal's atoms and cell in the blocks, after and before relaxation.
  _index() {
    this.starts = new Uint32Array(this.n + 1);
    this.movedStarts = new Uint32Array(this.n + 1);
    this.rank = new Int32Array(this.n).fill(-1); // index among crystals with geometry
    this.movedRank = new Int32Array(this.n).fill(-1);
    this.nDrawn = this.nMoved = 0;
    for (let i = 0; i < this.n; i++) {
      this.starts[i + 1] = this.starts[i] + this.n_atoms[i];
      this.movedStarts[i + 1] = this.movedStarts[i] + (this.moved[i] ? this.n_atoms[i] : 0);
      if (this.n_atoms[i]) this.rank[i] = this.nDrawn++;
      if (this.moved[i]) this.movedRank[i] = this.nMoved++;
    }
  }

  _derive() {
    const { mass } = this.header.elements;
    this.density = new Float32Array(this.n).fill(NaN);
    this.nElements = new Uint8Array(this.n);
    this.formulas = new Array(this.n);
    this.parts = new Array(this.n); // [[atomic number, count], …], most electropositive first
    for (let i = 0; i < this.n; i++) {
      const counts = new Map();
      let total = 0;
      for (let k = this.starts[i]; k < this.starts[i + 1]; k++) {
        const z = this.atomic_numbers[k];
        counts.set(z, (counts.get(z) || 0) + 1);
        total += mass[z];
      }
      this.parts[i] = this._reduced(counts);
      this.formulas[i] = this.parts[i].map(([z, count]) => this.symbol(z) + (count > 1 ? count : "")).join("");
      this.nElements[i] = counts.size;
      if (counts.size) this.density[i] = total / AVOGADRO / this.volume(i);
    }
  }

  _reduced(counts) {
    const { electronegativity } = this.header.elements;
    const divisor = commonDivisor(counts.values());
    return [...counts]
      .map(([z, count]) => [z, count / divisor])
      .sort((a, b) => electronegativity[a[0]] - electronegativity[b[0]] || a[0] - b[0]);
  }

  symbol(z) {
    return this.header.elements.symbol[z] || "X";
  }

  setOf(i) {
    return this.header.sets[this.set[i]];
  }

  // The value of a column: a number, true, false or a name; null where unknown.
  value(name, i) {
    const column = this.columns.get(name);
    if (!column) return null;
    const block = this.blocks.get(column.block);
    if (column.kind === "flag") return block[i] ? block[i] === 2 : null;
    if (Object.hasOwn(COMPUTED, name)) return COMPUTED[name](this, i);
    return block[i] === MISSING ? null : block[i] * column.step;
  }

  // The value of a column as displayed; null where unknown.
  text(name, i) {
    const column = this.columns.get(name);
    const value = this.value(name, i);
    if (value === null || typeof value === "string") return value;
    if (column.kind === "flag") return (value ? column.yes : column.no) || null;
    return withMinus(value.toFixed(column.digits)) + (column.unit ? ` ${column.unit}` : "");
  }

  // Energy above the hull before relaxation.
  hullBefore(i) {
    const gain = this.value("gain", i);
    const hull = this.value("e_above_hull", i);
    return gain === null || hull === null ? null : hull + gain;
  }

  system(i) {
    const number = this.spg_num[i];
    return number ? SYSTEMS.findIndex(([last]) => number <= last) : -1;
  }

  spaceGroup(i) {
    const number = this.spg_num[i];
    return number ? `${this.header.space_groups[number]} (${number})` : null;
  }

  // Lengths in Å and angles in degrees: final (stage 1), as sampled (stage 0), or interpolated.
  cell(i, stage = 1) {
    const now = Crystals._cell(this.lengths, this.angles, this.rank[i], this.nDrawn);
    if (stage === 1 || !this.moved[i]) return now;
    const then = Crystals._cell(this.before_lengths, this.before_angles, this.movedRank[i], this.nMoved);
    return now.map((value, k) => stage * value + (1 - stage) * then[k]);
  }

  static _cell(lengths, angles, rank, n) {
    const cell = [];
    for (let k = 0; k < 3; k++) cell.push(lengths[k * n + rank] * LENGTH_STEP);
    for (let k = 0; k < 3; k++) cell.push(angles[k * n + rank] * ANGLE_STEP);
    return cell;
  }

  // Row vectors of a cell in Å: a along x, b in the xy plane.
  static vectors([a, b, c, alpha, beta, gamma]) {
    const [ca, cb, cg] = [alpha, beta, gamma].map((angle) => Math.cos((angle * Math.PI) / 180));
    const sg = Math.sin((gamma * Math.PI) / 180);
    const cy = (ca - cb * cg) / sg;
    return [
      [a, 0, 0],
      [b * cg, b * sg, 0],
      [c * cb, c * cy, c * Math.sqrt(Math.max(0, 1 - cb * cb - cy * cy))],
    ];
  }

  volume(i) {
    const v = Crystals.vectors(this.cell(i));
    return v[0][0] * v[1][1] * v[2][2];
  }

  // Atoms as [atomic number, x, y, z], fractional.
  atoms(i, stage = 1) {
    const found = [];
    const start = this.starts[i];
    const moves = 3 * this.movedStarts[i];
    for (let k = 0; k < this.n_atoms[i]; k++) {
      const atom = [this.atomic_numbers[start + k]];
      for (let axis = 0; axis < 3; axis++) {
        let value = this.frac_coords[3 * (start + k) + axis] / FRAC_STEPS;
        if (stage < 1 && this.moved[i]) value += ((1 - stage) * this.moves[moves + 3 * k + axis]) / MOVE_STEPS;
        atom.push(((value % 1) + 1) % 1);
      }
      found.push(atom);
    }
    return found;
  }

  // The reasons why a crystal failed or is not valid; empty when there are none or they are unknown.
  reasons(i) {
    const found = [];
    const { statuses, status_words: words } = this.header;
    const status = statuses[this.status[i]];
    const relaxed = statuses[this.relax_status[i]];
    if (status !== "ok") found.push(words[status] || status);
    if (relaxed !== "ok" && relaxed !== "" && relaxed !== status) {
      found.push(`relaxation: ${words[relaxed] || relaxed}`);
    }
    const structure = this.value("struct_valid", i);
    const composition = this.value("comp_valid", i);
    if (structure === false) found.push("structure: two atoms closer than 0.5 Å, or no volume");
    if (composition === false) found.push("composition: no charge-neutral oxidation states (SMACT)");
    if (structure !== false && composition !== false && this.value("valid", i) === false) {
      found.push("no structure fingerprint");
    }
    return found;
  }
}

// Columns derived from geometry and space group, which the payload need not contain.
const COMPUTED = {
  n_atoms: (crystals, i) => crystals.n_atoms[i] || null,
  n_elements: (crystals, i) => crystals.nElements[i] || null,
  density: (crystals, i) => (Number.isNaN(crystals.density[i]) ? null : crystals.density[i]),
  crystal_system: (crystals, i) => SYSTEMS[crystals.system(i)]?.[1] ?? null,
};

export function commonDivisor(counts) {
  let divisor = 0;
  for (let count of counts) {
    let a = divisor;
    while (count) [a, count] = [count, a % count];
    divisor = a;
  }
  return divisor;
}
