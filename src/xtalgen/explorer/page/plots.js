// The plots beside the map: drawn as SVG from the crystals that are shown now.

const PLOT = { width: 340, height: 168, left: 40, right: 8, top: 8, bottom: 30 };

// Returns an element of HTML, or of SVG when `svg` is set; attributes whose value is null are left out.
function make(tag, attributes = {}, children = [], svg = false) {
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...[children].flat().filter((child) => child !== null && child !== undefined));
  return node;
}

class Plots {
  constructor(root, crystals) {
    this.root = root;
    this.crystals = crystals;
  }

  draw(visible) {
    const { crystals } = this, groups = crystals.header.sets.map((set, k) => ({ ...set, index: k, members: [] }));
    for (let i = 0; i < crystals.n; i++) if (visible[i]) groups[crystals.set[i]].members.push(i);
    const shown = groups.filter((group) => group.members.length);
    const figures = [this._hull(shown), this._density(shown)];
    const cap = (top) => (value) => Math.min(value, top);
    figures.push(this._bars("Number of elements", shown, (i) => cap(8)(crystals.n_elements[i]) || null, range(1, 8), (k) => (k === 8 ? "8+" : k)));
    figures.push(this._bars("Atoms in the cell", shown, (i) => (crystals.n_atoms[i] ? cap(20)(crystals.n_atoms[i]) : null), range(1, 20), (k) => (k === 20 ? "20+" : k % 2 ? "" : k)));
    if (crystals.spg_num.some((number) => number)) {
      figures.push(this._bars("Crystal system", shown, (i) => (crystals.spg_num[i] ? crystals.system(i) : null), range(0, 6), (k) => ["tri", "mono", "ortho", "tetra", "trig", "hex", "cubic"][k]));
    }
    figures.push(...this._funnels(), this._curves());
    this.root.replaceChildren(make("p", { class: "note" }, shown.length ? "Of the crystals shown; a filter or the lasso changes these plots." : "No crystal is shown."), ...figures.filter(Boolean));
  }

  colour(group) { return group.reference ? cssColour("--grey") : setColour(this.crystals, group.index); }

  _density(groups) {
    const { crystals } = this, all = groups.flatMap((group) => group.members.map((i) => crystals.density[i])).filter((value) => !Number.isNaN(value));
    if (!all.length) return null;
    const top = Math.max(1, all.sort((a, b) => a - b)[Math.floor((all.length - 1) * 0.995)]), bins = 32;
    const lines = groups.map((group) => {
      const counts = new Array(bins).fill(0);
      let total = 0;
      for (const i of group.members) {
        const value = crystals.density[i];
        if (Number.isNaN(value)) continue;
        total++;
        if (value < top) counts[Math.floor(value / top * bins)]++;
      }
      const share = counts.map((count) => count / (total || 1));
      return { group, points: share.flatMap((value, k) => [[k / bins * top, value], [(k + 1) / bins * top, value]]) };
    });
    return this._chart("Density", lines, { x: [0, top], xLabel: "g/cm³", yLabel: "share", area: true });
  }

  _hull(groups) {
    const { crystals } = this;
    if (!crystals.e_above_hull) return null;
    const low = -0.1, high = 0.5, lines = [];
    for (const group of groups) {
      const values = group.members.map((i) => crystals.hull(i)).filter((value) => value !== null).sort((a, b) => a - b);
      if (!values.length) continue;
      const points = [];
      for (let k = 0, at = low; at <= high + 1e-9; at += 0.005) {
        while (k < values.length && values[k] <= at) k++;
        points.push([at, k / group.members.length]);
      }
      lines.push({ group, points });
    }
    if (!lines.length) return null;
    const figure = this._chart("Energy above hull", lines, { x: [low, high], yTop: 1, xLabel: "at most … eV/atom", yLabel: "share of crystals", marks: [0, crystals.header.metastable_below] });
    figure.append(make("p", {}, "Crystals without a hull energy count as not below any value."));
    return figure;
  }

  _bars(title, groups, value, categories, label) {
    const lines = groups.map((group) => {
      const counts = new Map();
      let total = 0;
      for (const i of group.members) {
        const found = value(i);
        if (found === null || found < categories[0]) continue;
        total++;
        counts.set(found, (counts.get(found) || 0) + 1);
      }
      return { group, shares: categories.map((category) => (counts.get(category) || 0) / (total || 1)) };
    });
    if (!lines.length) return null;
    const yTop = Math.max(0.01, ...lines.flatMap((line) => line.shares)), [svg, x, y] = this._axes([0, categories.length], yTop, "", "share", []);
    const behind = lines.filter((line) => line.group.reference), front = lines.filter((line) => !line.group.reference);
    categories.forEach((category, k) => {
      for (const line of behind) svg.append(bar(x(k + 0.04), x(k + 0.96), y(line.shares[k]), y(0), this.colour(line.group), 0.5, line, k));
      front.forEach((line, place) => {
        const width = 0.8 / front.length, from = k + 0.1 + place * width;
        svg.append(bar(x(from), x(from + width * 0.94), y(line.shares[k]), y(0), this.colour(line.group), 1, line, k));
      });
      svg.append(make("text", { x: x(k + 0.5), y: PLOT.height - PLOT.bottom + 13, "text-anchor": "middle" }, String(label(category)), true));
    });
    return make("figure", {}, [make("figcaption", {}, title), svg]);
    function bar(left, right, top, bottom, fill, opacity, line, k) {
      const node = make("rect", { x: left, y: top, width: Math.max(0.5, right - left), height: Math.max(0, bottom - top), fill, "fill-opacity": opacity }, [], true);
      node.append(make("title", {}, `${line.group.name}: ${(100 * line.shares[k]).toFixed(1)} %`, true));
      return node;
    }
  }

  _chart(title, lines, { x: ends, yTop, xLabel, yLabel, marks = [], area = false, y0 = 0 }) {
    const top = yTop || Math.max(1e-6, ...lines.flatMap((line) => line.points.map((point) => point[1])));
    const [svg, x, y] = this._axes(ends, top, xLabel, yLabel, ticks(ends[0], ends[1], 6), y0);
    for (const mark of marks) svg.append(make("line", { x1: x(mark), x2: x(mark), y1: PLOT.top, y2: PLOT.height - PLOT.bottom, class: "axis", "stroke-dasharray": "3 3" }, [], true));
    for (const { group, points, dash } of lines) {
      const path = points.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      const colour = this.colour(group);
      if (area && group.reference) svg.append(make("path", { d: `${path}L${x(ends[1])} ${y(y0)}L${x(ends[0])} ${y(y0)}Z`, fill: colour, "fill-opacity": 0.35 }, [], true));
      const line = make("path", { d: path, fill: "none", stroke: colour, "stroke-width": group.reference ? 1.2 : 1.9, "stroke-dasharray": dash || null, "stroke-linejoin": "round" }, [], true);
      line.append(make("title", {}, group.name, true));
      svg.append(line);
    }
    return make("figure", {}, [make("figcaption", {}, title), svg]);
  }

  _axes(ends, top, xLabel, yLabel, xTicks, y0 = 0) {
    const { width, height, left, right, bottom } = PLOT;
    const x = (value) => left + (value - ends[0]) / (ends[1] - ends[0] || 1) * (width - left - right);
    const y = (value) => height - bottom - (value - y0) / (top - y0 || 1) * (height - bottom - PLOT.top);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, [], true);
    for (const value of ticks(y0, top, 4)) {
      svg.append(make("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "axis" }, [], true));
      svg.append(make("text", { x: left - 5, y: y(value) + 3.5, "text-anchor": "end" }, tidy(value), true));
    }
    for (const value of xTicks) svg.append(make("text", { x: x(value), y: height - bottom + 13, "text-anchor": "middle" }, tidy(value), true));
    svg.append(make("text", { x: width - right, y: height - 4, "text-anchor": "end" }, xLabel, true));
    svg.append(make("text", { x: 10, y: height / 2 - 8, "text-anchor": "middle", transform: `rotate(-90 10 ${height / 2 - 8})` }, yLabel, true));
    return [svg, x, y];
  }

  _funnels() {
    return this.crystals.header.sets.map((set, index) => [set, index]).filter(([set]) => set.funnel && set.funnel.length).map(([set, index]) => {
      const first = Math.max(1, set.funnel[0][1]), row = 19, svg = make("svg", { viewBox: `0 0 340 ${set.funnel.length * row}`, role: "img" }, [], true);
      set.funnel.forEach(([step, count], k) => {
        svg.append(make("rect", { x: 132, y: k * row + 3, width: Math.max(1, 120 * count / first), height: row - 6, rx: 2, fill: setColour(this.crystals, index) }, [], true));
        svg.append(make("text", { x: 126, y: k * row + 13, "text-anchor": "end" }, step.replace(/_/g, " "), true));
        svg.append(make("text", { x: 138 + 120 * count / first, y: k * row + 13 }, `${count.toLocaleString("en")} (${(100 * count / first).toFixed(count / first < 0.1 ? 1 : 0)} %)`, true));
      });
      return make("figure", {}, [make("figcaption", {}, `Funnel of ${set.name}, all ${set.funnel[0][1].toLocaleString("en")} crystals`), svg]);
    });
  }

  _curves() {
    const curves = this.crystals.header.curves || [];
    if (!curves.length) return null;
    const lines = [];
    for (const [k, curve] of curves.entries()) {
      const owner = this.crystals.header.sets.findIndex((set) => set.name.split("/")[0] === curve.name.split("/")[0]);
      const group = { name: curve.name, index: owner < 0 ? k % this.crystals.header.sets.length : owner };
      for (const [key, dash] of [["loss", "2 2"], ["val_loss", null]]) {
        const points = curve.step.map((step, at) => [step, curve[key][at]]).filter(([, value]) => value !== null && value > 0).map(([step, value]) => [step, Math.log10(value)]);
        if (points.length) lines.push({ group: { ...group, name: `${curve.name} ${key === "loss" ? "training" : "validation"}` }, points, dash });
      }
    }
    if (!lines.length) return null;
    const all = lines.flatMap((line) => line.points), values = all.map((point) => point[1]);
    const figure = this._chart("Learning curves", lines, { x: [0, Math.max(...all.map((point) => point[0]))], yTop: Math.max(...values), y0: Math.min(...values), xLabel: "optimiser step", yLabel: "log₁₀ loss" });
    figure.append(make("p", {}, "Lines: validation; dotted: training."));
    return figure;
  }
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, k) => from + k);
const tidy = (value) => (Math.abs(value) >= 10000 ? `${value / 1000}k` : String(Number(value.toPrecision(4)))).replace("-", "−");

function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999), found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
  return found;
}
