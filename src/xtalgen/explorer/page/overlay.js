// What is drawn over the points: rings, links, lasso, axes, names of clusters.

import { axisTicks } from "./axes.js";
import { tidy } from "./charts.js";
import { cssColour } from "./colours.js";
import { counted } from "./dom.js";

const FONT = "12px system-ui, sans-serif";

export function drawOverlay(map) {
  const pen = map.overlay.getContext("2d");
  pen.setTransform(map.ratio, 0, 0, map.ratio, 0, 0);
  pen.clearRect(0, 0, map.width, map.height);
  pen.font = FONT;
  if (map.axes) drawAxes(pen, map);
  else {
    drawParked(pen, map);
    drawNames(pen, map);
  }
  if (map.chosen >= 0 && map.placed[map.chosen]) drawLinks(pen, map);
  drawRings(pen, map);
  drawLasso(pen, map);
}

function drawLinks(pen, map) {
  pen.lineWidth = 1.5;
  pen.strokeStyle = cssColour("--ink");
  pen.setLineDash([4, 3]);
  for (const other of map.links) {
    if (!map.placed[other]) continue;
    pen.beginPath();
    pen.moveTo(...map.toScreen(map.chosen));
    pen.lineTo(...map.toScreen(other));
    pen.stroke();
  }
  pen.setLineDash([]);
}

function drawRings(pen, map) {
  pen.strokeStyle = cssColour("--ink");
  for (const [i, wider] of [
    [map.hovered, 2],
    [map.pinned, 5],
    [map.chosen, 5],
  ]) {
    if (i < 0 || !map.placed[i]) continue;
    pen.beginPath();
    pen.arc(...map.toScreen(i), map.pointSize() / 2 + wider, 0, 7);
    pen.lineWidth = wider > 2 ? 2.5 : 1.5;
    pen.stroke();
  }
}

function drawParked(pen, map) {
  const { parked } = map.crystals.header;
  const shown = map.nParked();
  if (!shown) return;
  pen.fillStyle = cssColour("--faint");
  const [x, y] = map.project(parked.x, parked.y);
  pen.fillText(`${counted(shown)} without descriptor`, x, y - map.pointSize() / 2 - 6);
}

function drawLasso(pen, map) {
  const corners = map.path ?? map.lasso;
  if (!corners || corners.length < 2) return;
  pen.lineWidth = 1.5;
  pen.strokeStyle = cssColour("--accent");
  pen.fillStyle = `${cssColour("--accent")}${map.path ? "22" : "10"}`;
  pen.beginPath();
  for (const corner of corners) pen.lineTo(...map.project(...corner));
  pen.closePath();
  pen.fill();
  pen.stroke();
}

// Axes lie at the left and lower edge, on ground colour so that points do not run through the numbers.
function drawAxes(pen, map) {
  const [across, up] = map.axes;
  const bottom = map.height - 46;
  const left = 58;
  pen.fillStyle = `${cssColour("--ground")}d9`;
  pen.fillRect(0, bottom, map.width, map.height - bottom);
  pen.fillRect(0, 0, left, bottom);
  pen.strokeStyle = cssColour("--faint");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(left, 0);
  pen.lineTo(left, bottom);
  pen.lineTo(map.width, bottom);
  pen.fillStyle = cssColour("--faint");
  pen.textAlign = "center";
  for (const [at, value] of axisTicks(across, map.toData(left, 0)[0], map.toData(map.width, 0)[0], map.width / 90)) {
    const [x] = map.project(at, 0);
    pen.moveTo(x, bottom);
    pen.lineTo(x, bottom + 5);
    pen.fillText(tidy(value), x, bottom + 16);
  }
  pen.textAlign = "right";
  for (const [at, value] of axisTicks(up, map.toData(0, bottom)[1], map.toData(0, 0)[1], map.height / 70)) {
    const [, y] = map.project(0, at);
    pen.moveTo(left - 5, y);
    pen.lineTo(left, y);
    pen.fillText(tidy(value), left - 7, y + 4);
  }
  pen.stroke();
  pen.fillStyle = cssColour("--ink");
  pen.textAlign = "center";
  pen.fillText(across.label, (left + map.width) / 2, bottom + 34);
  pen.save();
  pen.translate(14, bottom / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(up.label, 0, 0);
  pen.restore();
  pen.textAlign = "start";
}

// Names of clusters, the largest first; a name that would cover another is left out until one zooms in.
function drawNames(pen, map) {
  const taken = [];
  pen.textAlign = "center";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  for (const { name, x: px, y: py, above } of map.names) {
    const [x, middle] = map.project(px, py);
    const y = above ? middle - map.pointSize() / 2 - 12 : middle;
    const half = pen.measureText(name).width / 2 + 6;
    if (x < half || x > map.width - half || y < 12 || y > map.height - 12) continue;
    if (taken.some(([a, b, width]) => Math.abs(a - x) < width + half && Math.abs(b - y) < 18)) continue;
    taken.push([x, y, half]);
    pen.strokeStyle = cssColour("--ground");
    pen.strokeText(name, x, y + 4);
    pen.fillStyle = cssColour("--ink");
    pen.fillText(name, x, y + 4);
  }
  pen.textAlign = "start";
}
