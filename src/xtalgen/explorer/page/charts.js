// Line charts, bar charts and funnels as SVG.

import { makeSvg, make, withMinus, counted } from "./dom.js";

const PLOT = { width: 340, height: 168, left: 40, right: 8, top: 8, bottom: 30 };

// Returns a figure of lines: {name, colour, reference, points [[x, y], …], dash}. x: ends of the axis.
// yEnds: ends of the y axis, by default 0 and the highest point. marks: x of vertical lines.
// area: reference lines are filled.
export function lineChart(title, lines, { x: ends, yEnds, xLabel, yLabel, marks = [], area = false }) {
  const [y0, top] = yEnds ?? [0, Math.max(1e-6, ...lines.flatMap(({ points }) => points.map(([, y]) => y)))];
  const [svg, x, y] = axes(ends, [y0, top], xLabel, yLabel, linearTicks(ends[0], ends[1], 6));
  const [above, below] = [PLOT.top, PLOT.height - PLOT.bottom];
  for (const mark of marks) {
    svg.append(segment([x(mark), above], [x(mark), below], { "stroke-dasharray": "3 3" }));
  }
  for (const { name, colour, reference, points, dash } of lines) {
    const path = points.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    if (area && reference) {
      const closed = `${path}L${x(ends[1])} ${y(y0)}L${x(ends[0])} ${y(y0)}Z`;
      svg.append(makeSvg("path", { d: closed, fill: colour, "fill-opacity": 0.35 }));
    }
    const stroke = { stroke: colour, "stroke-width": reference ? 1.2 : 1.9, "stroke-dasharray": dash || null };
    const look = { fill: "none", "stroke-linejoin": "round", ...stroke };
    svg.append(makeSvg("path", { d: path, ...look }, makeSvg("title", {}, name)));
  }
  return figure(title, svg);
}

// Returns a figure of bars: {name, colour, reference, shares}, one share per label. References are drawn behind.
export function barChart(title, sets, labels) {
  const top = Math.max(0.01, ...sets.flatMap((set) => set.shares));
  const [svg, x, y] = axes([0, labels.length], [0, top], "", "share", []);
  const behind = sets.filter((set) => set.reference);
  const front = sets.filter((set) => !set.reference);
  const bar = ({ name, colour, shares }, k, from, to, opacity) => {
    const size = { width: Math.max(0.5, x(to) - x(from)), height: Math.max(0, y(0) - y(shares[k])) };
    const look = { fill: colour, "fill-opacity": opacity };
    const tooltip = makeSvg("title", {}, `${name}: ${(100 * shares[k]).toFixed(1)} %`);
    svg.append(makeSvg("rect", { x: x(from), y: y(shares[k]), ...size, ...look }, tooltip));
  };
  labels.forEach((label, k) => {
    for (const set of behind) bar(set, k, k + 0.04, k + 0.96, 0.5);
    const width = 0.8 / front.length;
    front.forEach((set, place) => {
      const from = k + 0.1 + place * width;
      bar(set, k, from, from + 0.94 * width, 1);
    });
    svg.append(writing(x(k + 0.5), PLOT.height - PLOT.bottom + 13, "middle", String(label)));
  });
  return figure(title, svg);
}

// Returns a figure of [step, count] bars, each count also as a share of the first.
export function funnelChart(title, steps, colour) {
  const row = 19;
  const first = Math.max(1, steps[0][1]);
  const svg = makeSvg("svg", { viewBox: `0 0 ${PLOT.width} ${steps.length * row}`, role: "img" });
  steps.forEach(([step, count], k) => {
    const share = count / first;
    const size = { width: Math.max(1, 120 * share), height: row - 6 };
    svg.append(makeSvg("rect", { x: 132, y: k * row + 3, ...size, rx: 2, fill: colour }));
    svg.append(writing(126, k * row + 13, "end", step.replace(/_/g, " ")));
    const text = `${counted(count)} (${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %)`;
    svg.append(writing(138 + 120 * share, k * row + 13, null, text));
  });
  return figure(title, svg);
}

function figure(title, svg) {
  return make("figure", {}, [make("figcaption", {}, title), svg]);
}

function writing(x, y, anchor, text, more = {}) {
  return makeSvg("text", { x, y, "text-anchor": anchor, ...more }, text);
}

function segment([x1, y1], [x2, y2], more = {}) {
  return makeSvg("line", { x1, x2, y1, y2, class: "axis", ...more });
}

// Returns the SVG with its axes, and the functions from values to its coordinates.
function axes(xEnds, yEnds, xLabel, yLabel, xTicks) {
  const { width, height, left, right, bottom } = PLOT;
  const share = (value, [low, high]) => (value - low) / (high - low || 1);
  const x = (value) => left + share(value, xEnds) * (width - left - right);
  const y = (value) => height - bottom - share(value, yEnds) * (height - bottom - PLOT.top);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const value of linearTicks(yEnds[0], yEnds[1], 4)) {
    svg.append(segment([left, y(value)], [width - right, y(value)]));
    svg.append(writing(left - 5, y(value) + 3.5, "end", tidy(value)));
  }
  for (const value of xTicks) svg.append(writing(x(value), height - bottom + 13, "middle", tidy(value)));
  svg.append(writing(width - right, height - 4, "end", xLabel));
  const middle = height / 2 - 8;
  svg.append(writing(10, middle, "middle", yLabel, { transform: `rotate(-90 10 ${middle})` }));
  return [svg, x, y];
}

export function linearTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) {
    found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
  }
  return found;
}

export function tidy(value) {
  return withMinus(Math.abs(value) >= 10000 ? `${value / 1000}k` : String(Number(value.toPrecision(4))));
}
