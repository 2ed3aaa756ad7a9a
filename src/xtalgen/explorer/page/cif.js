// Crystals as CIF: all atoms in P 1, or the atoms of the asymmetric unit in the conventional cell.

import { Crystals } from "./data.js";
import { asymmetricUnit, combined, conventional, inCell, inverted, operationText, operationsOf } from "./symmetry.js";

const SITE = ["type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy"];

// The cell as it is, with all its atoms.
export function cif(crystals, i, stage) {
  const sites = crystals.atoms(i, stage).map((atom) => [...atom, 1]);
  const number = crystals.spg_num[i];
  const lines = [
    ...heading(crystals, i, stage),
    number ? `# space group ${number} within ${crystals.header.symprec} Å, not used here: all atoms are listed` : "",
    `data_${crystals.formulas[i]}`,
    "_symmetry_space_group_name_H-M 'P 1'",
    "_symmetry_Int_Tables_number 1",
    ...cellLines(crystals.cell(i, stage)),
    ...loop(["symmetry_equiv_pos_as_xyz"], ["'x, y, z'"]),
    ...loop(
      SITE.map((name) => `atom_site_${name}`),
      siteLines(crystals, sites),
    ),
  ];
  return `${lines.filter(Boolean).join("\n")}\n`;
}

// The final crystal with its symmetry, in its conventional cell; null where the operations found here are not those of
// the space group that the tables give.
export function symmetricCif(crystals, i) {
  const number = crystals.spg_num[i];
  const cell = number > 1 ? conventionalCell(crystals, i) : null;
  const { symprec } = crystals.header;
  const made = cell && asymmetricUnit(cell.vectors, cell.atoms, number, symprec);
  if (!made) return null;
  const exact = parameters(made.metric);
  const stretched = Math.max(...cell.vectors.map((vector, k) => Math.abs(Math.hypot(...vector) - exact[k])));
  return `${[
    ...heading(crystals, i, 1),
    `# symmetrised: atoms moved by at most ${made.moved.toFixed(4)} Å, cell edges by ${stretched.toFixed(4)} Å`,
    `data_${crystals.formulas[i]}`,
    `_space_group_IT_number ${number}`,
    ...cellLines(exact),
    ...loop(
      ["space_group_symop_operation_xyz"],
      made.operations.map((found) => `'${operationText(found)}'`),
    ),
    ...loop(
      [...SITE.slice(0, 2), "symmetry_multiplicity", ...SITE.slice(2)].map((name) => `atom_site_${name}`),
      siteLines(crystals, made.atoms, true),
    ),
  ].join("\n")}\n`;
}

// The conventional cell {vectors, atoms} of a crystal, fractional, or its own cell where that is triclinic; null where
// no symmetry is found. stage: 1 the final crystal, 0 as sampled; the axes are those of the final one.
export function conventionalCell(crystals, i, stage = 1) {
  const { symprec } = crystals.header;
  const vectors = Crystals.vectors(crystals.cell(i));
  const found = operationsOf(vectors, crystals.atoms(i), crystals.spg_num[i], symprec);
  if (!found) return null;
  const axes = conventional(vectors, found);
  if (!axes) return { vectors: Crystals.vectors(crystals.cell(i, stage)), atoms: crystals.atoms(i, stage) };
  const now = Crystals.vectors(crystals.cell(i, stage));
  const wanted = axes.map((axis) => combined(combined(axis, inverted(vectors)), now)); // same components
  const atoms = inCell(crystals.atoms(i, stage), now, wanted, symprec);
  return atoms && { vectors: wanted, atoms };
}

function parameters(metric) {
  const lengths = [0, 1, 2].map((k) => Math.sqrt(metric[k][k]));
  const angle = (a, b) => (Math.acos(metric[a][b] / lengths[a] / lengths[b]) * 180) / Math.PI;
  return [...lengths, angle(1, 2), angle(0, 2), angle(0, 1)];
}

function heading(crystals, i, stage) {
  const state = stage < 1 ? "as sampled" : crystals.moved[i] ? "relaxed" : "";
  return [`# ${crystals.setOf(i).name} ${crystals.ids[i]} ${state}`.replace(/[\r\n]+/g, " ").trimEnd()];
}

function cellLines(cell) {
  return [
    ...["a", "b", "c"].map((name, k) => `_cell_length_${name} ${cell[k].toFixed(4)}`),
    ...["alpha", "beta", "gamma"].map((name, k) => `_cell_angle_${name} ${cell[k + 3].toFixed(3)}`),
  ];
}

function loop(names, rows) {
  return ["loop_", ...names.map((name) => ` _${name}`), ...rows.map((row) => ` ${row}`)];
}

function siteLines(crystals, sites, withCounts = false) {
  const counts = {};
  return sites.map(([z, x, y, w, count]) => {
    const symbol = crystals.symbol(z);
    counts[symbol] = (counts[symbol] || 0) + 1;
    const place = [x, y, w].map((value) => value.toFixed(6)).join(" ");
    return `${symbol} ${symbol}${counts[symbol]} ${withCounts ? `${count} ` : ""}${place} 1`;
  });
}
