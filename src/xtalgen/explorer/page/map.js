// The point cloud: a WebGL2 renderer with pan, zoom, touch, hover and lasso.

import { placesOf } from "./axes.js";
import { Gestures } from "./gestures.js";
import { drawOverlay } from "./overlay.js";

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; in float shape;
uniform vec4 view; uniform float size;
out vec4 tint; flat out float kind;
void main() {
  tint = colour; kind = shape;
  gl_Position = colour.a == 0.0 ? vec4(9.0, 9.0, 9.0, 1.0) : vec4(place * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = kind > 3.5 ? max(1.4 * size, 7.0) : size;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 tint; flat in float kind; uniform highp float size; out vec4 result;
void main() {
  vec2 at = gl_PointCoord * 2.0 - 1.0;
  float away = kind < 0.5 ? length(at)
    : kind < 1.5 ? max(abs(at.x), abs(at.y)) * 1.18
    : kind < 2.5 ? abs(at.x) + abs(at.y)
    : kind < 3.5 ? max(at.y, abs(at.x) * 1.7 - at.y * 0.85 - 0.15)
    : max(2.6 * min(abs(at.x - at.y), abs(at.x + at.y)), max(abs(at.x), abs(at.y)));
  float alpha = tint.a * (1.0 - smoothstep(1.0 - 2.2 / size, 1.0, away));
  result = vec4(tint.rgb * alpha, alpha);
}`;
const CELLS = 256; // of the grid that finds the nearest point, each way
const FINEST = 8e5; // pixels per width of the map; beyond, the 1/65536 to which positions are stored would show
// Left, right, top, bottom, in pixels: buttons stand at the right, axes at the left and the bottom.
const MAP_MARGINS = [36, 64, 36, 36];
const AXES_MARGINS = [70, 64, 24, 58];

export class PointMap {
  constructor(root, crystals, actions) {
    this.root = root;
    this.crystals = crystals;
    this.actions = actions; // hover(i, x, y), choose(i), lasso(indices)
    this.canvas = root.querySelector("#points");
    this.overlay = root.querySelector("#overlay");
    this.colours = new Uint8Array(4 * crystals.n);
    this.shapes = new Uint8Array(crystals.n);
    this.visible = new Uint8Array(crystals.n);
    this.links = [];
    this.names = []; // of clusters: {name, x, y}
    this.hovered = this.chosen = this.pinned = -1;
    this.lassoMode = false;
    this.path = this.lasso = null; // corners in coordinates of the map: being drawn, and drawn
    this._place(placesOf(crystals, "", "", 1));
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

  // Places the crystals by other properties.
  arrange(x, y) {
    const [left, right, top, bottom] = AXES_MARGINS;
    this._place(placesOf(this.crystals, x, y, (this.height - top - bottom) / (this.width - left - right)));
    this.path = null;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.placeBuffer);
    this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, this.places);
    this.fit(true);
  }

  _place({ places, placed, bounds, axes }) {
    Object.assign(this, { places, placed, bounds, axes });
    this._grid();
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
    const program = compiled(gl);
    gl.useProgram(program);
    const attribute = (name, data, size, type, normal) => {
      const buffer = gl.createBuffer();
      const at = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, normal, 0, 0);
      return buffer;
    };
    this.placeBuffer = attribute("place", this.places, 2, gl.FLOAT, false);
    this.shapeBuffer = attribute("shape", this.shapes, 1, gl.UNSIGNED_BYTE, false);
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
    for (const [buffer, values] of [
      [this.colourBuffer, this.colours],
      [this.shapeBuffer, this.shapes],
    ]) {
      this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
      this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, values);
    }
    this.draw();
  }

  fit(now = false) {
    if (!this.width) return;
    const [low, high] = this.bounds;
    const [left, right, top, bottom] = this.axes ? AXES_MARGINS : MAP_MARGINS;
    const spans = [0, 1].map((axis) => Math.max(1e-3, high[axis] - low[axis]));
    const scale = Math.min((this.width - left - right) / spans[0], (this.height - top - bottom) / spans[1]);
    this.least = scale / 2;
    this.most = Math.max(4 * scale, FINEST);
    const middle = [0, 1].map((axis) => (low[axis] + high[axis]) / 2);
    this.goTo(middle[0] - (left - right) / 2 / scale, middle[1] - (bottom - top) / 2 / scale, scale, now);
    this.fitted = true;
  }

  goTo(wantedX, wantedY, scale, now = false) {
    const [x, y] = [this._within(wantedX, 0), this._within(wantedY, 1)];
    this.actions.hover(-1);
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
    const scale = Math.min(Math.max(this.scale * factor, this.least), this.most);
    if (scale === this.scale) return;
    const [x, y] = this.toData(px, py);
    this.fitted = false;
    this.goTo(x - (px - this.width / 2) / scale, y + (py - this.height / 2) / scale, scale, now);
  }

  pan(dx, dy) {
    this.fitted = false;
    this.goTo(this.x - dx / this.scale, this.y + dy / this.scale, this.scale, true);
  }

  // Keeps the middle of the view over the crystals, so that nobody gets lost beside them.
  _within(value, axis) {
    const [low, high] = this.bounds;
    const beyond = this.axes ? high[axis] - low[axis] : 0; // single crystals may lie outside the axes' first ends
    return Math.min(Math.max(value, low[axis] - beyond), high[axis] + beyond);
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
    return Math.min(15, Math.max(2.6, 0.72 * crowd * Math.sqrt(this.scale / (2 * this.least)) + 0.6));
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

  // Returns a predicate on crystals: whether one lies inside a polygon in coordinates of the map.
  inside(corners) {
    return (i) => this.placed[i] === 1 && contains(corners, this.places[2 * i], this.places[2 * i + 1]);
  }

  // Visible crystals without descriptor, which stand in rows below the map.
  nParked() {
    const { parked } = this.crystals.header;
    if (!parked.count) return 0;
    let shown = 0;
    for (let i = 0; i < this.crystals.n; i++) if (this.visible[i] && this.places[2 * i + 1] <= parked.y + 1e-6) shown++;
    return shown;
  }

  draw() {
    if (this.waiting || this.scale === undefined) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this._drawPoints();
      drawOverlay(this);
      this.root.querySelector("#zoom-in").disabled = this.scale >= 0.999 * this.most;
      this.root.querySelector("#zoom-out").disabled = this.scale <= 1.001 * this.least;
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
