// One crystal in 3D. The viewer is 3Dmol.js out of chemiscope's script, unpacked when the first crystal is opened.

const EDGE = 0.02; // atoms this near to a face of the cell are shown on the opposite face too
const MOST_ATOMS = 1500;

class CrystalView {
  constructor(scene, crystals) {
    this.scene = scene;
    this.crystals = crystals;
    this.repeat = 1;
    this.spinning = false;
    new ResizeObserver(() => this.viewer && this.viewer.resize()).observe(scene);
  }

  // Returns a promise of the library; the script is 3 MB, so that it is read once and only when it is needed.
  static library() {
    CrystalView.loading ??= (async () => {
      const script = document.createElement("script");
      script.src = URL.createObjectURL(new Blob([await inflate(bytesOf(document.getElementById("viewer")))], { type: "text/javascript" }));
      await new Promise((resolve, reject) => { script.onload = resolve; script.onerror = reject; document.head.append(script); });
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
          this.viewer = library.createViewer(this.scene, { backgroundAlpha: 0, antialias: true, disableFog: true, lowerZoomLimit: 2 });
        }
      } catch (error) {
        console.warn(error);
        return this._say("The 3D view needs WebGL, which this browser does not offer. The CIF can be downloaded.");
      }
      if (this.wanted[0] !== i) return undefined;
    }
    this.scene.querySelector("p")?.remove();
    this._build(...this.wanted, keepView && this.shown === i);
    this.shown = i;
    return undefined;
  }

  _say(text) {
    if (this.viewer) { this.viewer.clear(); this.viewer.render(); }
    this.scene.querySelector("p")?.remove();
    const line = document.createElement("p");
    line.textContent = text;
    this.scene.append(line);
    this.shown = -1;
  }

  _build(i, stage, keepView) {
    const { viewer, crystals } = this, view = keepView ? viewer.getView() : null;
    const vectors = Crystals.vectors(crystals.cell(i, stage));
    const atoms = this._placed(crystals.atoms(i, stage), vectors);
    viewer.clear();
    viewer.setBackgroundColor(isDark() ? "#0e1319" : "#f6f7f9", 0);
    const model = viewer.addModel();
    const bonds = this._bonds(atoms), { colour, radius } = crystals.header.elements;
    model.addAtoms(atoms.map(([z, x, y, zed], k) => ({
      elem: crystals.symbol(z), x, y, z: zed, serial: k, index: k, bonds: bonds[k], bondOrder: bonds[k].map(() => 1),
    })));
    for (const z of new Set(atoms.map((atom) => atom[0]))) {
      viewer.setStyle({ elem: crystals.symbol(z) }, { sphere: { radius: 0.18 + 0.24 * radius[z], color: colour[z] }, stick: { radius: 0.09, color: colour[z] } });
    }
    this._frame(vectors);
    if (view) viewer.setView(view);
    else { viewer.zoomTo(); viewer.rotate(18, "x"); viewer.rotate(-24, "y"); viewer.zoom(1.35); }
    viewer.spin(this.spinning ? "y" : false, 0.6);
    viewer.render();
  }

  // Atoms of all cells shown, and those on faces, edges and corners once more on the other side; Cartesian, in Å.
  _placed(atoms, vectors) {
    const repeat = atoms.length * this.repeat ** 3 > MOST_ATOMS ? 1 : this.repeat, placed = [];
    for (const [z, ...at] of atoms) {
      const steps = at.map((value) => {
        const inner = value > 1 - EDGE ? value - 1 : value;
        return Array.from({ length: repeat + (inner < EDGE ? 1 : 0) }, (_, k) => inner + k);
      });
      for (const a of steps[0]) for (const b of steps[1]) for (const c of steps[2]) {
        placed.push([z, ...[0, 1, 2].map((k) => a * vectors[0][k] + b * vectors[1][k] + c * vectors[2][k])]);
      }
    }
    return placed;
  }

  // Bonded: nearer than 1.15 times the sum of covalent radii. In salts (electronegativities apart by more than 1) not
  // between ions of like charge: one must attract electrons more than the other, or both be non-metals.
  _bonds(atoms) {
    const { radius, metal, electronegativity: negativity } = this.crystals.header.elements, bonds = atoms.map(() => []);
    const present = [...new Set(atoms.map(([z]) => z))].map((z) => negativity[z]), salt = Math.max(...present) - Math.min(...present) > 1;
    const covalent = (z) => !metal[z] && negativity[z] > 2.1;
    for (let a = 0; a < atoms.length; a++) {
      for (let b = a + 1; b < atoms.length; b++) {
        const [first, second] = [atoms[a], atoms[b]];
        const apart = Math.abs(negativity[first[0]] - negativity[second[0]]);
        if (salt && apart < 0.4 && !(covalent(first[0]) && covalent(second[0]))) continue;
        const reach = 1.15 * (radius[first[0]] + radius[second[0]]);
        const away = (first[1] - second[1]) ** 2 + (first[2] - second[2]) ** 2 + (first[3] - second[3]) ** 2;
        if (away < reach * reach && away > 0.01) { bonds[a].push(b); bonds[b].push(a); }
      }
    }
    return bonds;
  }

  _frame(vectors) {
    const color = isDark() ? "#c8d2dc" : "#5d6875", corner = (a, b, c) => {
      const [x, y, z] = [0, 1, 2].map((k) => a * vectors[0][k] + b * vectors[1][k] + c * vectors[2][k]);
      return { x, y, z };
    };
    for (let axis = 0; axis < 3; axis++) {
      for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const from = [u, v], to = [u, v];
        from.splice(axis, 0, 0);
        to.splice(axis, 0, 1);
        this.viewer.addCylinder({ start: corner(...from), end: corner(...to), radius: 0.03, color, fromCap: 1, toCap: 1 });
      }
    }
  }

  setSpin(on) { this.spinning = on; if (this.viewer) { this.viewer.spin(on ? "y" : false, 0.6); this.viewer.render(); } }
  setRepeat(repeat) { this.repeat = repeat; if (this.shown >= 0 && this.wanted) this.show(...this.wanted); }
  refresh() { if (this.viewer && this.shown >= 0) this.show(...this.wanted, true); }
}
