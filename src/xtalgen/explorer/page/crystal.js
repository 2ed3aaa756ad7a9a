// One crystal in 3D. The viewer is 3Dmol.js in chemiscope's script, unpacked when the first crystal is opened.

import { bondReach, bondsOf, cross, polyhedra } from "./bonding.js";
import { conventionalCell } from "./cif.js";
import { isDark } from "./colours.js";
import { Crystals, bytesOf, inflate } from "./data.js";
import { combined, inverted } from "./symmetry.js";

const EDGE = 0.02; // atoms within this fraction of a face of the cell are shown on the opposite face too
const MOST_ATOMS = 1500; // beyond, one cell is drawn instead of 2×2×2
const CAMERA = 150; // Å; 3Dmol.js's distance of the camera from the middle at zero zoom
const FRONT = [0.153016, -0.205352, -0.032525, 0.966105]; // quaternion: turned by -24° about y, then 18° about x
const AXES = { light: ["#b3261e", "#1b7a33", "#0b57d0"], dark: ["#ff8a80", "#6fdc8c", "#8ab4f8"] }; // a, b, c
const EDGES = { light: "#5d6875", dark: "#dfe6ee" };

export class CrystalView {
  constructor(scene, crystals) {
    this.scene = scene;
    this.crystals = crystals;
    this.options = { supercell: false, spin: false, conventional: false, polyhedra: false };
    new ResizeObserver(() => this._resized()).observe(scene);
  }

  // Returns a promise of the library. The script is 3 MB, so it is loaded only once, when needed.
  static library() {
    CrystalView.loading ??= (async () => {
      const text = await inflate(bytesOf(document.getElementById("viewer")));
      const script = document.createElement("script");
      script.src = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      await new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = reject;
        document.head.append(script);
      });
      return window.$3Dmol;
    })();
    return CrystalView.loading;
  }

  // keep: what stays of the view of a crystal that is drawn anew: "" nothing, "direction", or all of it: "view".
  async show(i, stage, keep = "") {
    this.wanted = [i, stage];
    if (!this.crystals.n_atoms[i]) return this._say("This crystal has no geometry.");
    if (!this.viewer) {
      this._say("Opening the viewer …");
      try {
        const library = await CrystalView.library();
        if (!this.viewer) {
          this.scene.replaceChildren();
          const options = { antialias: true, disableFog: true };
          this.viewer = library.createViewer(this.scene, options);
        }
      } catch (error) {
        console.warn(error);
        return this._say(
          "The 3D view needs WebGL, which this browser does not support. You can still download the CIF.",
        );
      }
      if (this.wanted[0] !== i) return undefined;
    }
    this.scene.querySelector("p")?.remove();
    this._build(...this.wanted, this.shown === i ? keep : "");
    this.shown = i;
    return undefined;
  }

  _say(text) {
    if (this.viewer) {
      this.viewer.clear();
      this.viewer.render();
    }
    this.scene.querySelector("p")?.remove();
    const line = document.createElement("p");
    line.textContent = text;
    this.scene.append(line);
    this.shown = -1;
  }

  _build(i, stage, keep) {
    const { viewer } = this;
    const view = viewer.getView();
    const { vectors, atoms } = this._cell(i, stage);
    const repeat = this.options.supercell && atoms.length * 8 <= MOST_ATOMS ? 2 : 1;
    const placed = placedAtoms(atoms, vectors, repeat);
    viewer.clear();
    const ground = isDark() ? "#0e1319" : "#f6f7f9";
    if (ground !== this.ground) viewer.setBackgroundColor((this.ground = ground), 1); // draws, which takes time
    const reach = bondReach(
      this.crystals.header.elements,
      this.crystals.parts[i].map(([z]) => z),
    );
    const drawn = this.options.polyhedra ? this._polyhedra(placed, atoms, vectors, reach) : placed;
    this._addAtoms(viewer.addModel(), drawn, reach);
    const corners = this._frame(vectors, repeat);
    // What must fit: corners of the cell, and atoms with their radius.
    this.extent = [...corners.map((at) => [at, 0.3]), ...drawn.map(([, ...at]) => [at, 0.6])];
    if (keep === "view") viewer.setView(view);
    else this._fit(keep ? view.slice(4, 8) : FRONT);
    viewer.spin(this.options.spin ? "y" : false, 0.6);
    viewer.render();
  }

  _cell(i, stage) {
    const { crystals } = this;
    const found = this.options.conventional ? conventionalCell(crystals, i, stage) : null;
    return found ?? { vectors: Crystals.vectors(crystals.cell(i, stage)), atoms: crystals.atoms(i, stage) };
  }

  _addAtoms(model, atoms, reach) {
    const { colour, radius } = this.crystals.header.elements;
    const bonds = bondsOf(atoms, reach);
    model.addAtoms(
      atoms.map(([number, x, y, z], k) => ({
        ...{ elem: this.crystals.symbol(number), x, y, z, serial: k, index: k },
        ...{ bonds: bonds[k], bondOrder: bonds[k].map(() => 1) },
      })),
    );
    for (const number of new Set(atoms.map((atom) => atom[0]))) {
      const color = colour[number];
      const style = { sphere: { radius: 0.18 + 0.24 * radius[number], color }, stick: { radius: 0.09, color } };
      this.viewer.setStyle({ elem: this.crystals.symbol(number) }, style);
    }
  }

  // Draws polyhedra and returns the atoms together with those corners that lie outside the cells.
  _polyhedra(placed, atoms, vectors, reach) {
    const { elements } = this.crystals.header;
    const inside = atoms.map(([z, ...at]) => [z, ...cartesian(at, vectors)]);
    const home = ([, ...at]) => cartesian(fractional(at, vectors).map(Math.floor), vectors);
    const drawn = new Map(placed.map((atom) => [keyOf(atom), atom]));
    for (const { z, corners, faces } of polyhedra(placed, { atoms: inside, home }, vectors, elements, reach)) {
      for (const corner of corners) if (!drawn.has(keyOf(corner))) drawn.set(keyOf(corner), corner);
      const vertexArr = faces.flat().map((k) => pointOf(corners[k].slice(1)));
      const faceArr = vertexArr.map((_, k) => k);
      const color = elements.colour[z];
      this.viewer.addCustom({ vertexArr, faceArr, normalArr: normals(vertexArr), color, opacity: 0.7 });
    }
    return [...drawn.values()];
  }

  // Draws the edges of all cells and the names of the axes; returns all corners.
  _frame(vectors, repeat) {
    const theme = isDark() ? "dark" : "light";
    const radius = 0.0055 * Math.max(7, Math.hypot(...cartesian([repeat, repeat, repeat], vectors)));
    const steps = Array.from({ length: repeat + 1 }, (_, k) => k);
    const pairs = steps.flatMap((u) => steps.map((v) => [u, v]));
    for (let axis = 0; axis < 3; axis++) {
      for (const [u, v] of pairs) {
        const own = u === 0 && v === 0;
        const [start, end] = [0, repeat].map((at) => pointOf(cartesian([u, v].toSpliced(axis, 0, at), vectors)));
        const color = own ? AXES[theme][axis] : EDGES[theme];
        this.viewer.addCylinder({ start, end, radius: own ? 1.4 * radius : radius, color, fromCap: 1, toCap: 1 });
      }
      const past = [0, 0, 0].with(axis, repeat + 0.9 / Math.hypot(...vectors[axis]));
      const look = { fontSize: 18, bold: true, fontColor: AXES[theme][axis], showBackground: false, inFront: true };
      const position = pointOf(cartesian(past, vectors));
      this.viewer.addLabel("abc"[axis], { ...look, position, alignment: "center" }, null, true); // drawn with the rest
    }
    const ends = [0, repeat];
    const tips = [0, 1, 2].map((axis) => [0, 0, 0].with(axis, repeat + 1.3 / Math.hypot(...vectors[axis])));
    const corners = ends.flatMap((a) => ends.flatMap((b) => ends.map((c) => [a, b, c])));
    return [...corners, ...tips].map((at) => cartesian(at, vectors));
  }

  // Moves the cell so that it just fits its frame, seen from a direction.
  _fit(direction) {
    this.fitted = this._fittingView(direction);
    this.viewer.setView(this.fitted);
  }

  // The view from a direction whose middle and distance let everything fit; while the cell spins, in all turns.
  _fittingView(direction) {
    const { viewer, scene, extent } = this;
    const turns = this.options.spin ? [0, 1, 2, 3, 4, 5, 6, 7].map((k) => (k * Math.PI) / 4) : [0];
    // As seen: x to the right, y up, z towards the camera; a spinning cell turns about y.
    const seen = extent.map(([at, margin]) => [rotated(at, direction), margin]);
    const ends = [0, 1, 2].map((k) => [Math.min, Math.max].map((best) => best(...seen.map(([at]) => at[k]))));
    const middle = ends.map(([low, high]) => (low + high) / 2);
    const slope = Math.tan(((viewer.camera?.fov ?? 20) * Math.PI) / 360);
    const wide = slope * (scene.clientWidth / scene.clientHeight || 1);
    let distance = 0;
    for (const [at, margin] of seen) {
      const [x, y, z] = at.map((value, k) => value - middle[k]);
      for (const turn of turns) {
        const [across, near] = [x * Math.cos(turn) + z * Math.sin(turn), z * Math.cos(turn) - x * Math.sin(turn)];
        const needed = Math.max((Math.abs(across) + margin) / wide, (Math.abs(y) + margin) / slope);
        distance = Math.max(distance, near + 1.04 * needed);
      }
    }
    const [x, y, z, w] = direction;
    const centre = rotated(middle, [-x, -y, -z, w]);
    viewer.setZoomLimits(Math.max(2, distance / 12), 5 * distance);
    return [...centre.map((value) => -value), CAMERA - distance, ...direction];
  }

  // A new size of the frame asks for another distance, unless the user has chosen one.
  _resized() {
    if (!this.viewer || !this.scene.clientWidth) return;
    const untouched = this.fitted && String(this.viewer.getView().slice(0, 4)) === String(this.fitted.slice(0, 4));
    this.viewer.resize();
    if (this.shown >= 0 && untouched) {
      this._fit(this.viewer.getView().slice(4, 8));
      this.viewer.render();
    }
  }

  // Sets supercell, spin, conventional or polyhedra.
  set(option, on) {
    this.options[option] = on;
    if (this.shown >= 0 && this.wanted) this.show(...this.wanted, "direction");
  }

  refresh() {
    if (this.viewer && this.shown >= 0) this.show(...this.wanted, "view");
  }
}

// Atoms of all cells shown, with those on faces, edges and corners repeated on the opposite side; Cartesian, in Å.
function placedAtoms(atoms, vectors, repeat) {
  const placed = [];
  for (const [z, ...at] of atoms) {
    const steps = at.map((value) => {
      const inner = value > 1 - EDGE ? value - 1 : value;
      return Array.from({ length: repeat + (inner < EDGE ? 1 : 0) }, (_, k) => inner + k);
    });
    for (const a of steps[0]) {
      for (const b of steps[1]) for (const c of steps[2]) placed.push([z, ...cartesian([a, b, c], vectors)]);
    }
  }
  return placed;
}

// Cartesian coordinates in Å of fractional ones, and the reverse.
function cartesian([a, b, c], vectors) {
  return [0, 1, 2].map((k) => a * vectors[0][k] + b * vectors[1][k] + c * vectors[2][k]);
}

function fractional(at, vectors) {
  return combined(at, inverted(vectors));
}

function pointOf([x, y, z]) {
  return { x, y, z };
}

function keyOf([z, ...at]) {
  return `${z} ${at.map((value) => Math.round(20 * value))}`;
}

// Normals of triangles given by three vertices each.
function normals(vertices) {
  return vertices.map((_, k) => {
    const [a, b, c] = [0, 1, 2].map((step) => vertices[k - (k % 3) + step]).map(({ x, y, z }) => [x, y, z]);
    const [x, y, z] = cross(
      b.map((value, axis) => value - a[axis]),
      c.map((value, axis) => value - a[axis]),
    );
    const length = Math.hypot(x, y, z) || 1;
    return { x: x / length, y: y / length, z: z / length };
  });
}

// A vector turned by a quaternion [x, y, z, w].
function rotated(at, [x, y, z, w]) {
  const axis = [x, y, z];
  const twice = cross(axis, at).map((value) => 2 * value);
  const again = cross(axis, twice);
  return at.map((value, k) => value + w * twice[k] + again[k]);
}
