// One crystal in 3D. The viewer is 3Dmol.js in chemiscope's script, unpacked when the first crystal is opened.

import { isDark } from "./colours.js";
import { Crystals, bytesOf, inflate } from "./data.js";

const EDGE = 0.02; // atoms within this fraction of a face of the cell are shown on the opposite face too
const MOST_ATOMS = 1500; // beyond, one cell is drawn instead of 2×2×2

export class CrystalView {
  constructor(scene, crystals) {
    this.scene = scene;
    this.crystals = crystals;
    this.repeat = 1;
    this.spinning = false;
    new ResizeObserver(() => this.viewer && this.viewer.resize()).observe(scene);
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

  async show(i, stage, keepView = false) {
    this.wanted = [i, stage];
    if (!this.crystals.n_atoms[i]) return this._say("This crystal has no geometry.");
    if (!this.viewer) {
      this._say("Opening the viewer …");
      try {
        const library = await CrystalView.library();
        if (!this.viewer) {
          this.scene.replaceChildren();
          const options = { backgroundAlpha: 0, antialias: true, disableFog: true, lowerZoomLimit: 2 };
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
    this._build(...this.wanted, keepView && this.shown === i);
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

  _build(i, stage, keepView) {
    const { viewer, crystals } = this;
    const view = keepView ? viewer.getView() : null;
    const vectors = Crystals.vectors(crystals.cell(i, stage));
    const atoms = this._placed(crystals.atoms(i, stage), vectors);
    viewer.clear();
    viewer.setBackgroundColor(isDark() ? "#0e1319" : "#f6f7f9", 0);
    this._addAtoms(viewer.addModel(), atoms);
    this._frame(vectors);
    if (view) viewer.setView(view);
    else {
      viewer.zoomTo();
      viewer.rotate(18, "x");
      viewer.rotate(-24, "y");
      viewer.zoom(1.35);
    }
    viewer.spin(this.spinning ? "y" : false, 0.6);
    viewer.render();
  }

  _addAtoms(model, atoms) {
    const { colour, radius } = this.crystals.header.elements;
    const bonds = this._bonds(atoms);
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

  // Atoms of all cells shown, with those on faces, edges and corners repeated on the opposite side; Cartesian, in Å.
  _placed(atoms, vectors) {
    const repeat = atoms.length * this.repeat ** 3 > MOST_ATOMS ? 1 : this.repeat;
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

  // Bonded: closer than 1.15 times the sum of covalent radii. In salts (electronegativities differ by more than 1) not
  // between ions of like charge: one must attract electrons more than the other, or both be non-metals.
  _bonds(atoms) {
    const { radius, metal, electronegativity: negativity } = this.crystals.header.elements;
    const bonds = atoms.map(() => []);
    const present = [...new Set(atoms.map(([z]) => z))].map((z) => negativity[z]);
    const salt = Math.max(...present) - Math.min(...present) > 1;
    const covalent = (z) => !metal[z] && negativity[z] > 2.1;
    for (let a = 0; a < atoms.length; a++) {
      for (let b = a + 1; b < atoms.length; b++) {
        const [first, second] = [atoms[a], atoms[b]];
        const apart = Math.abs(negativity[first[0]] - negativity[second[0]]);
        if (salt && apart < 0.4 && !(covalent(first[0]) && covalent(second[0]))) continue;
        const reach = 1.15 * (radius[first[0]] + radius[second[0]]);
        const away = (first[1] - second[1]) ** 2 + (first[2] - second[2]) ** 2 + (first[3] - second[3]) ** 2;
        if (away < reach * reach && away > 0.01) {
          bonds[a].push(b);
          bonds[b].push(a);
        }
      }
    }
    return bonds;
  }

  _frame(vectors) {
    const color = isDark() ? "#c8d2dc" : "#5d6875";
    const corner = (at) => {
      const [x, y, z] = cartesian(at, vectors);
      return { x, y, z };
    };
    for (let axis = 0; axis < 3; axis++) {
      for (const [u, v] of [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ]) {
        const start = corner([u, v].toSpliced(axis, 0, 0));
        const end = corner([u, v].toSpliced(axis, 0, 1));
        this.viewer.addCylinder({ start, end, radius: 0.03, color, fromCap: 1, toCap: 1 });
      }
    }
  }

  setSpin(on) {
    this.spinning = on;
    if (this.viewer) {
      this.viewer.spin(on ? "y" : false, 0.6);
      this.viewer.render();
    }
  }
  setRepeat(repeat) {
    this.repeat = repeat;
    if (this.shown >= 0 && this.wanted) this.show(...this.wanted);
  }
  refresh() {
    if (this.viewer && this.shown >= 0) this.show(...this.wanted, true);
  }
}

// Cartesian coordinates in Å of fractional ones.
function cartesian([a, b, c], vectors) {
  return [0, 1, 2].map((k) => a * vectors[0][k] + b * vectors[1][k] + c * vectors[2][k]);
}
