// The point cloud: a WebGL2 renderer with pan, zoom, touch, hover and lasso.

import { cssColour, setShape } from "./colours.js";
import { counted } from "./dom.js";
import { Gestures } from "./gestures.js";

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; in float shape;
uniform vec4 view; uniform float size;
out vec4 tint; flat out float kind;
void main() {
  tint = colour; kind = shape;
  gl_Position = colour.a == 0.0 ? vec4(9.0, 9.0, 9.0, 1.0) : vec4(place * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = size;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 tint; flat in float kind; uniform highp float size; out vec4 result;
void main() {
  vec2 at = gl_PointCoord * 2.0 - 1.0;
  float away = kind < 0.5 ? length(at)
    : kind < 1.5 ? max(abs(at.x), abs(at.y)) * 1.18
    : kind < 2.5 ? abs(at.x) + abs(at.y)
    : max(at.y, abs(at.x) * 1.7 - at.y * 0.85 - 0.15);
  float alpha = tint.a * (1.0 - smoothstep(1.0 - 2.2 / size, 1.0, away));
  result = vec4(tint.rgb * alpha, alpha);
}`;
const CELLS = 256; // of the grid that finds the nearest point, each way

export class PointMap {
  constructor(root, crystals, actions) {
    this.root = root;
    this.crystals = crystals;
    this.actions = actions; // hover(i, x, y), choose(i), lasso(indices)
    this.canvas = root.querySelector("#points");
    this.overlay = root.querySelector("#overlay");
    this.colours = new Uint8Array(4 * crystals.n);
    this.visible = new Uint8Array(crystals.n);
    this.links = [];
    this.hovered = this.chosen = -1;
    this.lassoMode = false;
    this.path = null;
    this._places();
    this._grid();
    this._start();
    new ResizeObserver(() => this.resize()).observe(root);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this._start();
      this.recolour();
    });
    new Gestures(this);
    this.resize();
    this.fit(true);
  }

  _places() {
    const { n, positions } = this.crystals;
    this.places = new Float32Array(2 * n);
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (let k = 0; k < 2 * n; k++) {
      const value = positions[k] / 65535;
      this.places[k] = value;
      low[k % 2] = Math.min(low[k % 2], value);
      high[k % 2] = Math.max(high[k % 2], value);
    }
    this.bounds = n
      ? [low, high]
      : [
          [0, 0],
          [1, 1],
        ];
  }

  _grid() {
    const n = this.crystals.n;
    this.cellStarts = new Uint32Array(CELLS * CELLS + 1);
    const owner = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      owner[i] = this._cellOf(this.places[2 * i + 1]) * CELLS + this._cellOf(this.places[2 * i]);
      this.cellStarts[owner[i] + 1]++;
    }
    for (let k = 0; k < CELLS * CELLS; k++) this.cellStarts[k + 1] += this.cellStarts[k];
    const next = this.cellStarts.slice();
    this.cellMembers = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.cellMembers[next[owner[i]]++] = i;
  }

  _cellOf(value) {
    return Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));
  }

  _start() {
    const options = { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true };
    const gl = this.canvas.getContext("webgl2", options);
    this.gl = gl;
    if (!gl) throw new Error("This browser has no WebGL2.");
    const { crystals } = this;
    const program = compiled(gl);
    gl.useProgram(program);
    const shapes = Uint8Array.from({ length: crystals.n }, (_, i) => setShape(crystals.setOf(i)));
    const attribute = (name, data, size, type, normal) => {
      const buffer = gl.createBuffer();
      const at = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, normal, 0, 0);
      return buffer;
    };
    attribute("place", this.places, 2, gl.FLOAT, false);
    attribute("shape", shapes, 1, gl.UNSIGNED_BYTE, false);
    this.colourBuffer = attribute("colour", this.colours, 4, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this._order(), gl.STATIC_DRAW);
    this.viewAt = gl.getUniformLocation(program, "view");
    this.sizeAt = gl.getUniformLocation(program, "size");
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // Reference crystals are drawn first; the others are shuffled, so that no set hides another.
  _order() {
    const under = [];
    const over = [];
    for (let i = 0; i < this.crystals.n; i++) (this.crystals.setOf(i).reference ? under : over).push(i);
    let state = 12345;
    for (let k = over.length - 1; k > 0; k--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const other = state % (k + 1);
      [over[k], over[other]] = [over[other], over[k]];
    }
    return Uint32Array.from(under.concat(over));
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return;
    const first = !this.width;
    [this.width, this.height, this.ratio] = [width, height, ratio];
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    if (first || this.fitted) this.fit(true);
    this.draw();
  }

  recolour() {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.colourBuffer);
    this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, this.colours);
    this.draw();
  }

  fit(now = false) {
    if (!this.width) return;
    const [low, high] = this.bounds;
    const margin = 36; // CSS pixels
    const spans = [0, 1].map((axis) => Math.max(1e-3, high[axis] - low[axis]));
    const scale = Math.min((this.width - 2 * margin) / spans[0], (this.height - 2 * margin) / spans[1]);
    this.least = scale / 3;
    this.goTo((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, scale, now);
    this.fitted = true;
  }

  goTo(x, y, scale, now = false) {
    const from = [this.x, this.y, Math.log(this.scale)];
    const to = [x, y, Math.log(scale)];
    const begun = performance.now();
    cancelAnimationFrame(this.flight);
    if (now || this.x === undefined || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      [this.x, this.y, this.scale] = [x, y, scale];
      this.draw();
      return;
    }
    const step = () => {
      const share = Math.min(1, (performance.now() - begun) / 350);
      const ease = share * (2 - share);
      [this.x, this.y, this.scale] = from.map((value, k) => value + ease * (to[k] - value));
      this.scale = Math.exp(this.scale);
      this.draw();
      if (share < 1) this.flight = requestAnimationFrame(step);
    };
    step();
  }

  zoom(factor, px = this.width / 2, py = this.height / 2, now = true) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), this.least * 3e4);
    const [x, y] = this.toData(px, py);
    this.fitted = false;
    this.goTo(x - (px - this.width / 2) / scale, y + (py - this.height / 2) / scale, scale, now);
  }

  pan(dx, dy) {
    this.fitted = false;
    this.goTo(this.x - dx / this.scale, this.y + dy / this.scale, this.scale, true);
  }
  // Moves the map if a crystal is outside it or near its edge.
  reveal(i) {
    const [x, y] = this.toScreen(i);
    const inside = x >= 30 && y >= 30 && x <= this.width - 30 && y <= this.height - 30;
    if (!inside) this.goTo(this.places[2 * i], this.places[2 * i + 1], this.scale);
  }

  // Conversion between points of the map, or crystals, and CSS pixels.
  project(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, this.height / 2 - (y - this.y) * this.scale];
  }

  toScreen(i) {
    return this.project(this.places[2 * i], this.places[2 * i + 1]);
  }

  toData(px, py) {
    return [this.x + (px - this.width / 2) / this.scale, this.y - (py - this.height / 2) / this.scale];
  }

  pointSize() {
    const crowd = Math.sqrt((this.width * this.height) / Math.max(60, this.crystals.n));
    return Math.min(15, Math.max(2.6, 0.72 * crowd * Math.sqrt(this.scale / (3 * this.least)) + 0.6));
  }

  nearest(px, py, reach = 14) {
    const [x, y] = this.toData(px, py);
    const radius = reach / this.scale;
    let best = -1;
    let least = radius * radius;
    const [x0, x1, y0, y1] = [x - radius, x + radius, y - radius, y + radius].map((value) => this._cellOf(value));
    for (let row = y0; row <= y1; row++) {
      for (let k = this.cellStarts[row * CELLS + x0]; k < this.cellStarts[row * CELLS + x1 + 1]; k++) {
        const i = this.cellMembers[k];
        if (!this.visible[i]) continue;
        const away = (this.places[2 * i] - x) ** 2 + (this.places[2 * i + 1] - y) ** 2;
        if (away < least) {
          least = away;
          best = i;
        }
      }
    }
    return best;
  }

  // All visible points within 1.5 pixels of this one, itself included: equal crystals share one point.
  stack(i) {
    const [x, y] = [this.places[2 * i], this.places[2 * i + 1]];
    const cell = this._cellOf(y) * CELLS + this._cellOf(x);
    const found = [];
    for (let k = this.cellStarts[cell]; k < this.cellStarts[cell + 1]; k++) {
      const other = this.cellMembers[k];
      const away = Math.hypot(this.places[2 * other] - x, this.places[2 * other + 1] - y);
      if (this.visible[other] && away < 1.5 / this.scale) found.push(other);
    }
    return found;
  }

  // All visible points inside a path of CSS pixels.
  inside(path) {
    const corners = path.map(([px, py]) => this.toData(px, py));
    const found = [];
    for (let i = 0; i < this.crystals.n; i++) {
      if (this.visible[i] && contains(corners, this.places[2 * i], this.places[2 * i + 1])) found.push(i);
    }
    return found;
  }

  draw() {
    if (this.waiting || this.scale === undefined) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this._drawPoints();
      this._drawOverlay();
    });
  }

  _drawPoints() {
    const { gl } = this;
    const sx = (2 * this.scale) / this.width;
    const sy = (2 * this.scale) / this.height;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4f(this.viewAt, sx, sy, -this.x * sx, -this.y * sy);
    gl.uniform1f(this.sizeAt, this.pointSize() * this.ratio);
    gl.drawElements(gl.POINTS, this.crystals.n, gl.UNSIGNED_INT, 0);
  }

  _drawOverlay() {
    const pen = this.overlay.getContext("2d");
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    if (this.chosen >= 0) this._drawLinks(pen);
    this._drawRings(pen);
    if (this.crystals.header.parked.count) this._drawParked(pen);
    if (this.path && this.path.length > 1) this._drawLasso(pen);
  }

  _drawLinks(pen) {
    pen.lineWidth = 1.5;
    pen.strokeStyle = cssColour("--ink");
    pen.setLineDash([4, 3]);
    for (const other of this.links) {
      pen.beginPath();
      pen.moveTo(...this.toScreen(this.chosen));
      pen.lineTo(...this.toScreen(other));
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  _drawRings(pen) {
    pen.strokeStyle = cssColour("--ink");
    for (const [i, wider] of [
      [this.hovered, 2],
      [this.chosen, 5],
    ]) {
      if (i < 0) continue;
      const [x, y] = this.toScreen(i);
      pen.beginPath();
      pen.arc(x, y, this.pointSize() / 2 + wider, 0, 7);
      pen.lineWidth = i === this.chosen ? 2.5 : 1.5;
      pen.stroke();
    }
  }

  _drawParked(pen) {
    const { parked } = this.crystals.header;
    const [x, y] = this.project(parked.x, parked.y);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = cssColour("--faint");
    pen.fillText(`${counted(parked.count)} without descriptor`, x, y - this.pointSize() / 2 - 6);
  }

  _drawLasso(pen) {
    pen.lineWidth = 1.5;
    pen.strokeStyle = cssColour("--accent");
    pen.fillStyle = `${cssColour("--accent")}22`;
    pen.beginPath();
    for (const point of this.path) pen.lineTo(...point);
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
}

function compiled(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(gl.getProgramInfoLog(program));
  }
  return program;
}

// Whether a polygon contains a point: a ray from it crosses the edges an odd number of times.
function contains(corners, x, y) {
  let within = false;
  for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
    const [ax, ay] = corners[a];
    const [bx, by] = corners[b];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}
