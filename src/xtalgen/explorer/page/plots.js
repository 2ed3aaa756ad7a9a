// The plots beside the map, drawn from the visible crystals.

import { barChart, funnelChart, lineChart } from "./charts.js";
import { setColour } from "./colours.js";
import { counted, make } from "./dom.js";

const HULL_ENDS = [-0.1, 0.5]; // eV/atom
const HULL_STEP = 0.005;
const DENSITY_BINS = 32;
const SYSTEM_LABELS = ["tri", "mono", "ortho", "tetra", "trig", "hex", "cubic"];
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, k) => from + k);

export class Plots {
  constructor(root, crystals) {
    this.root = root;
    this.crystals = crystals;
  }

  draw(visible) {
    const { crystals } = this;
    const groups = crystals.header.sets.map((set) => ({ ...set, colour: setColour(set), members: [] }));
    for (let i = 0; i < crystals.n; i++) if (visible[i]) groups[crystals.set[i]].members.push(i);
    const shown = groups.filter((group) => group.members.length);
    const note = shown.length
      ? "Only the crystals shown: filters and the lasso change these plots."
      : "No crystal is shown.";
    const figures = shown.length ? [this._hull(shown), this._density(shown), ...this._counts(shown)] : [];
    figures.push(...this._funnels(), this._curves());
    this.root.replaceChildren(make("p", { class: "note" }, note), ...figures.filter(Boolean));
  }

  _hull(groups) {
    const { crystals } = this;
    if (!crystals.columns.has("e_above_hull")) return null;
    const [low, high] = HULL_ENDS;
    const lines = [];
    for (const group of groups) {
      const values = group.members.map((i) => crystals.value("e_above_hull", i)).filter((value) => value !== null);
      if (!values.length) continue;
      values.sort((a, b) => a - b);
      const points = [];
      for (let k = 0, at = low; at <= high + 1e-9; at += HULL_STEP) {
        while (k < values.length && values[k] <= at) k++;
        points.push([at, k / group.members.length]);
      }
      lines.push({ ...group, points });
    }
    if (!lines.length) return null;
    const labels = { xLabel: "at most … eV/atom", yLabel: "share of crystals" };
    const marks = [0, crystals.header.metastable_below];
    const chart = lineChart("Energy above hull", lines, { x: HULL_ENDS, yEnds: [0, 1], marks, ...labels });
    chart.append(make("p", {}, "Crystals without a hull energy stay in the denominator."));
    return chart;
  }

  _density(groups) {
    const densities = groups.map((group) =>
      group.members.map((i) => this.crystals.density[i]).filter((value) => !Number.isNaN(value)),
    );
    const all = densities.flat().sort((a, b) => a - b);
    if (!all.length) return null;
    const top = Math.max(1, all[Math.floor((all.length - 1) * 0.995)]);
    const lines = groups.map((group, k) => {
      const counts = new Array(DENSITY_BINS).fill(0);
      for (const value of densities[k]) if (value < top) counts[Math.floor((value / top) * DENSITY_BINS)]++;
      const points = counts.flatMap((count, bin) => {
        const share = count / (densities[k].length || 1);
        return [bin, bin + 1].map((edge) => [(edge / DENSITY_BINS) * top, share]);
      });
      return { ...group, points };
    });
    return lineChart("Density", lines, { x: [0, top], xLabel: "g/cm³", yLabel: "share", area: true });
  }

  _counts(groups) {
    const { crystals } = this;
    const elements = (i) => Math.min(crystals.nElements[i], 8) || null;
    const atoms = (i) => Math.min(crystals.n_atoms[i], 20) || null;
    const system = (i) => (crystals.spg_num[i] ? crystals.system(i) : null);
    const figures = [
      this._bars("Number of elements", groups, elements, range(1, 8), (k) => (k === 8 ? "8+" : k)),
      this._bars("Atoms per cell", groups, atoms, range(1, 20), (k) => (k === 20 ? "20+" : k % 2 ? "" : k)),
    ];
    if (crystals.spg_num.some((number) => number)) {
      figures.push(this._bars("Crystal system", groups, system, range(0, 6), (k) => SYSTEM_LABELS[k]));
    }
    return figures;
  }

  // Shares of the crystals by category of `value`; crystals with null are left out.
  _bars(title, groups, value, categories, label) {
    const sets = groups.map((group) => {
      const counts = new Map();
      let total = 0;
      for (const i of group.members) {
        const found = value(i);
        if (found === null || found < categories[0]) continue;
        total++;
        counts.set(found, (counts.get(found) || 0) + 1);
      }
      return { ...group, shares: categories.map((category) => (counts.get(category) || 0) / (total || 1)) };
    });
    return barChart(title, sets, categories.map(label));
  }

  _funnels() {
    const sets = this.crystals.header.sets.filter((set) => set.funnel?.length);
    return sets.map((set) =>
      funnelChart(`Funnel of ${set.name}, all ${counted(set.funnel[0][1])} crystals`, set.funnel, setColour(set)),
    );
  }

  _curves() {
    const { curves = [], sets } = this.crystals.header;
    if (!sets.length) return null;
    const lines = [];
    for (const [k, curve] of curves.entries()) {
      const model = (name) => name.split("/")[0];
      const owner = sets.find((set) => model(set.name) === model(curve.name)) ?? sets[k % sets.length];
      const look = { colour: setColour(owner), reference: owner.reference };
      for (const [key, what, dash] of [
        ["loss", "training", "2 2"],
        ["val_loss", "validation", null],
      ]) {
        const known = curve.step.map((step, at) => [step, curve[key][at]]).filter(([, value]) => value > 0);
        const points = known.map(([step, value]) => [step, Math.log10(value)]);
        if (points.length) lines.push({ ...look, name: `${curve.name} ${what}`, points, dash });
      }
    }
    if (!lines.length) return null;
    const all = lines.flatMap((line) => line.points);
    const losses = all.map(([, value]) => value);
    const chart = lineChart("Learning curves", lines, {
      x: [0, Math.max(...all.map(([step]) => step))],
      yEnds: [Math.min(...losses), Math.max(...losses)],
      xLabel: "optimiser step",
      yLabel: "log₁₀ loss",
    });
    chart.append(make("p", {}, "Solid: validation; dotted: training."));
    return chart;
  }
}
