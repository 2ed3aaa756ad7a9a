"use strict";
// The payload as arrays, and what follows from them: formulas, densities, cells, CIF text.

const MISSING = -2147483648;
const FRAC_STEPS = 65536, MOVE_STEPS = 8192, LENGTH_STEP = 1e-4, ANGLE_STEP = 180 / 65535;
const ARRAYS = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array };
const AVOGADRO = 0.602214076; // g/cm³ of one atomic mass unit per Å³ is its inverse
const SYSTEMS = [[2, "triclinic"], [15, "monoclinic"], [74, "orthorhombic"], [142, "tetragonal"], [167, "trigonal"], [194, "hexagonal"], [230, "cubic"]];

// Base 85 as Python writes it, with "," for "<": five characters are four bytes, big end first.
const DIGITS = new Map([..."0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~"].map((letter, value) => [letter.charCodeAt(0), value]));
const VALUES = Uint8Array.from({ length: 128 }, (_, code) => DIGITS.get(code) ?? 0);
const bytesOf = (element) => {
  const text = element.textContent, padding = (5 - text.length % 5) % 5, words = (text.length + padding) / 5;
  const view = new DataView(new ArrayBuffer(4 * words));
  for (let word = 0, at = 0; word < words; word++) {
    let value = 0;
    for (let k = 0; k < 5; k++, at++) value = 85 * value + (at < text.length ? VALUES[text.charCodeAt(at)] : 84);
    view.setUint32(4 * word, value);
  }
  return new Uint8Array(view.buffer, 0, 4 * words - padding);
};
const inflate = (bytes) => new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

class Crystals {
  static async read(element) {
    const buffer = await inflate(bytesOf(element));
    const size = new DataView(buffer).getUint32(0, true);
    return new Crystals(JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size))), new Uint8Array(buffer, 4 + size));
  }

  constructor(header, bytes) {
    this.header = header;
    this.ids = header.ids;
    this.n = header.ids.length;
    for (const [name, place] of Object.entries(header.blocks)) this[name] = Crystals.block(place, bytes);
    this.starts = new Uint32Array(this.n + 1);
    this.rank = new Int32Array(this.n).fill(-1); // place among crystals with geometry
    this.movedRank = new Int32Array(this.n).fill(-1);
    this.movedStarts = new Uint32Array(this.n + 1);
    let ranks = 0, moved = 0;
    for (let i = 0; i < this.n; i++) {
      this.starts[i + 1] = this.starts[i] + this.n_atoms[i];
      this.movedStarts[i + 1] = this.movedStarts[i] + (this.moved[i] ? this.n_atoms[i] : 0);
      if (this.n_atoms[i]) this.rank[i] = ranks++;
      if (this.moved[i]) this.movedRank[i] = moved++;
    }
    this.nDrawn = ranks;
    this.nMoved = moved;
    this._derive();
  }

  static block({ type, length, offset }, bytes) {
    const Kind = ARRAYS[type], width = Kind.BYTES_PER_ELEMENT;
    const plain = new Uint8Array(length * width);
    for (let plane = 0; plane < width; plane++) {
      for (let i = 0, from = offset + plane * length, to = plane; i < length; i++, to += width) plain[to] = bytes[from + i];
    }
    return new Kind(plain.buffer);
  }

  _derive() {
    const { mass } = this.header.elements;
    this.density = new Float32Array(this.n).fill(NaN);
    this.n_elements = new Uint8Array(this.n);
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
      this.n_elements[i] = counts.size;
      if (counts.size) this.density[i] = total / AVOGADRO / this.volume(i);
    }
  }

  _reduced(counts) {
    const { electronegativity } = this.header.elements;
    let divisor = 0;
    for (let count of counts.values()) { let a = divisor; while (count) [a, count] = [count, a % count]; divisor = a; }
    return [...counts].map(([z, count]) => [z, count / divisor])
      .sort((a, b) => electronegativity[a[0]] - electronegativity[b[0]] || a[0] - b[0]);
  }

  symbol(z) { return this.header.elements.symbol[z] || "X"; }
  set_of(i) { return this.header.sets[this.set[i]]; }
  number(name, i, step) { const value = this[name] ? this[name][i] : MISSING; return value === MISSING ? null : value * step; }
  hull(i) { return this.number("e_above_hull", i, 1e-4); }
  hullBefore(i) { const gain = this.number("gain", i, 1e-4), hull = this.hull(i); return gain === null || hull === null ? null : hull + gain; }
  flag(name, i) { const column = this[`is_${name}`]; return column && column[i] ? column[i] === 2 : null; }
  system(i) { const number = this.spg_num[i]; return number ? SYSTEMS.findIndex(([last]) => number <= last) : -1; }
  spaceGroup(i) { const number = this.spg_num[i]; return number ? `${this.header.space_groups[number]} (${number})` : null; }

  // Lengths and angles: as they are now (stage 1), as sampled (stage 0), or between.
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

  static vectors([a, b, c, alpha, beta, gamma]) {
    const [ca, cb, cg] = [alpha, beta, gamma].map((angle) => Math.cos(angle * Math.PI / 180));
    const sg = Math.sin(gamma * Math.PI / 180), cy = (ca - cb * cg) / sg;
    return [[a, 0, 0], [b * cg, b * sg, 0], [c * cb, c * cy, c * Math.sqrt(Math.max(0, 1 - cb * cb - cy * cy))]];
  }

  volume(i) { const v = Crystals.vectors(this.cell(i)); return v[0][0] * v[1][1] * v[2][2]; }

  // Atoms as [atomic number, x, y, z], fractional.
  atoms(i, stage = 1) {
    const found = [], start = this.starts[i], moves = 3 * this.movedStarts[i];
    for (let k = 0; k < this.n_atoms[i]; k++) {
      const atom = [this.atomic_numbers[start + k]];
      for (let axis = 0; axis < 3; axis++) {
        let value = this.frac_coords[3 * (start + k) + axis] / FRAC_STEPS;
        if (stage < 1 && this.moved[i]) value += (1 - stage) * this.moves[moves + 3 * k + axis] / MOVE_STEPS;
        atom.push(((value % 1) + 1) % 1);
      }
      found.push(atom);
    }
    return found;
  }

  cif(i, stage = 1) {
    const cell = this.cell(i, stage), names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"];
    const counts = {};
    const sites = this.atoms(i, stage).map(([z, ...at]) => {
      const symbol = this.symbol(z);
      counts[symbol] = (counts[symbol] || 0) + 1;
      return `${symbol} ${symbol}${counts[symbol]} ${at.map((value) => value.toFixed(6)).join(" ")} 1`;
    });
    return [
      `# ${this.set_of(i).name} ${this.ids[i]} ${stage < 1 ? "as sampled" : this.moved[i] ? "relaxed" : ""}`.replace(/[\r\n]+/g, " ").trimEnd(),
      `data_${this.formulas[i]}`, "_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1",
      ...names.map((name, k) => `_cell_${name} ${cell[k].toFixed(k < 3 ? 4 : 3)}`),
      "loop_", " _symmetry_equiv_pos_as_xyz", " 'x, y, z'", "loop_", " _atom_site_type_symbol", " _atom_site_label",
      " _atom_site_fract_x", " _atom_site_fract_y", " _atom_site_fract_z", " _atom_site_occupancy", ...sites, "",
    ].join("\n");
  }

  // Why a crystal failed or is not valid, in words; empty when nothing is wrong or nothing is known.
  reasons(i) {
    const found = [], words = this.header.status_words;
    const status = this.header.statuses[this.status[i]];
    if (status !== "ok") found.push(words[status] || status);
    const relaxed = this.relax_status ? this.header.statuses[this.relax_status[i]] : "ok";
    if (relaxed !== "ok" && relaxed !== "" && relaxed !== status) found.push(`relaxation: ${words[relaxed] || relaxed}`);
    const structure = this.flag("struct_valid", i), composition = this.flag("comp_valid", i);
    if (structure === false) found.push("structure: two atoms closer than 0.5 Å, or no volume");
    if (composition === false) found.push("composition: no charge-neutral oxidation states (SMACT)");
    if (structure !== false && composition !== false && this.flag("valid", i) === false) found.push("no structure fingerprint");
    return found;
  }
}
