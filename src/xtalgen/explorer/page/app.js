// The page: its state and reactions to changes. The other modules draw, read and write what they are given.

import { readAddress, writeAddress } from "./address.js";
import { colourings, paint } from "./colours.js";
import { connect, fillPage, showState } from "./controls.js";
import { CrystalView } from "./crystal.js";
import { Crystals } from "./data.js";
import { $, make, setPressed } from "./dom.js";
import { csv } from "./export.js";
import { listen } from "./keys.js";
import { legend, setEntries } from "./legend.js";
import { PointMap } from "./map.js";
import { card, describe } from "./panels.js";
import { Plots } from "./plots.js";
import { crystalFilter } from "./search.js";

const main = document.querySelector("main");

class App {
  constructor(crystals) {
    this.crystals = crystals;
    // sets, categories: hidden ones; flags: those that must be true; hull: upper limit of the energy; lasso: selection.
    this.state = {
      ...{ colour: "set", sets: new Set(), categories: new Set(), flags: new Set(), query: "" },
      ...{ hull: null, lasso: null, chosen: -1 },
    };
    this.colourings = colourings(crystals);
    this.nGenerated = crystals.set.reduce((sum, set) => sum + !crystals.header.sets[set].reference, 0);
    this.plots = new Plots($("plots"), crystals);
    this.view = new CrystalView($("scene"), crystals);
    fillPage(this);
    this.map = new PointMap($("map"), crystals, {
      hover: (i, x, y) => this.hover(i, x, y),
      choose: (i) => this.pick(i),
      lasso: (found) => this.lasso(found),
    });
    connect(this);
    listen(this);
    this.readAddress();
    this.refilter();
    window.addEventListener("hashchange", () => {
      if (location.hash === this.written) return;
      this.readAddress();
      this.refilter();
    });
  }

  // Esc undoes one selection at a time.
  back() {
    const { state } = this;
    if (this.map.lassoMode) this.setLasso(false);
    else if (state.lasso) this.change({ lasso: null });
    else if (state.chosen >= 0) this.choose(-1);
    else if (state.query || state.flags.size || state.hull !== null) {
      this.change({ query: "", flags: new Set(), hull: null });
    }
  }

  change(values) {
    Object.assign(this.state, values);
    this.refilter();
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    this.recolour();
    this._legends();
    this.view.refresh();
    this._drawPlots();
  }

  tab(name) {
    main.dataset.tab = name;
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
    }
    this._drawPlots();
  }

  _drawPlots() {
    if (main.dataset.tab === "plots") this.plots.draw(this.map.visible);
  }

  // Decides which crystals are shown.
  refilter() {
    const { crystals } = this;
    const { visible } = this.map;
    const passes = crystalFilter(crystals, this.state, this.colourings[this.state.colour]);
    let shown = 0;
    for (let i = 0; i < crystals.n; i++) {
      visible[i] = passes(i) ? 1 : 0;
      if (visible[i] && !crystals.setOf(i).reference) shown++;
    }
    this.recolour();
    showState(this, shown);
    this._legends();
    this._drawPlots();
    this.writeAddress();
  }

  recolour() {
    paint(this.crystals, this.colourings[this.state.colour], this.map.visible, this.map.colours);
    this.map.recolour();
  }

  _legends() {
    const { crystals, state } = this;
    const { visible } = this.map;
    const changed = () => this.refilter();
    $("sets").replaceChildren(...setEntries(crystals, visible, state.sets, changed));
    const colouring = this.colourings[state.colour];
    $("legend").replaceChildren(...legend(crystals, colouring, visible, state.categories, changed));
  }

  hover(i, x, y) {
    const box = $("card");
    box.hidden = i < 0;
    if (i < 0) return;
    if (this.carded !== i) {
      const more = this.map.stack(i).length - 1;
      const hint = more ? make("small", {}, `and ${more} more at this point: click again`) : "";
      box.replaceChildren(...card(this.crystals, i), hint);
      this.carded = i;
    }
    box.dataset.id = this.crystals.ids[i];
    const { width, height } = this.map;
    box.style.left = `${x + 290 > width ? Math.max(4, x - 278) : x + 16}px`;
    box.style.top = `${Math.max(4, Math.min(y + 14, height - box.offsetHeight - 8))}px`;
  }

  // Among several crystals at one point, each click opens the next.
  pick(i) {
    const stack = this.map.stack(i);
    const at = stack.indexOf(this.state.chosen);
    this.choose(at < 0 ? i : stack[(at + 1) % stack.length]);
  }

  // Opens a crystal in the panel; -1 closes it.
  choose(i, { centre = false } = {}) {
    this.state.chosen = this.map.chosen = i;
    $("chosen").hidden = i < 0;
    document.querySelector(".empty").hidden = i >= 0;
    this.map.links = i < 0 ? [] : this._linked(i);
    this.map.draw();
    this.writeAddress();
    if (i < 0) return;
    describe(this.crystals, i, (other) => this.choose(other, { centre: true }));
    this.tab("crystal");
    if (centre) this.map.reveal(i);
    this.view.show(i, 1);
  }

  // Crystals to which the map draws lines.
  _linked(i) {
    const { nearest, duplicate_of: duplicate } = this.crystals;
    return [nearest[i], duplicate[i]].filter((other) => other >= 0 && other !== i);
  }

  // Opens the next or previous visible generated crystal, in order of energy above hull.
  step(direction) {
    const { crystals } = this;
    const order = [];
    for (let i = 0; i < crystals.n; i++) if (this.map.visible[i] && !crystals.setOf(i).reference) order.push(i);
    if (!order.length) return;
    const energy = (i) => crystals.value("e_above_hull", i) ?? Infinity;
    order.sort((a, b) => (energy(a) === energy(b) ? a - b : energy(a) - energy(b)));
    const at = order.indexOf(this.state.chosen);
    const start = direction > 0 ? 0 : order.length - 1;
    const next = at < 0 ? start : (at + direction + order.length) % order.length;
    this.choose(order[next], { centre: true });
  }

  // Animates the atoms from sampled to relaxed positions, or back.
  flipStage() {
    const i = this.state.chosen;
    if (i < 0 || !this.crystals.moved[i]) return;
    const from = Number($("stage").value);
    const to = from > 0.5 ? 0 : 1;
    const begun = performance.now();
    const frame = () => {
      if (this.state.chosen !== i) return;
      const share = Math.min(1, (performance.now() - begun) / 450);
      $("stage").value = from + share * (to - from);
      this.view.show(i, Number($("stage").value), true);
      if (share < 1) requestAnimationFrame(frame);
    };
    frame();
  }

  setLasso(on) {
    this.map.lassoMode = on;
    setPressed("lasso", on);
    $("points").classList.toggle("lasso", on);
  }

  lasso(found) {
    const marks = new Uint8Array(this.crystals.n);
    for (const i of found) marks[i] = 1;
    this.setLasso(false);
    this.change({ lasso: marks });
  }

  cif() {
    return this.crystals.cif(this.state.chosen, Number($("stage").value));
  }

  csv() {
    return csv(this.crystals, this.map.visible, this.map.places);
  }

  writeAddress() {
    this.written = writeAddress(this.crystals, this.state);
    if (location.hash === this.written) return;
    history.replaceState(null, "", this.written || location.pathname + location.search);
  }

  readAddress() {
    const { chosen, ...filters } = readAddress(location.hash, this.crystals, this.colourings);
    Object.assign(this.state, filters);
    if (chosen >= 0 && chosen !== this.state.chosen) this.choose(chosen, { centre: true });
  }
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = prefersDark.matches ? "dark" : "light";
try {
  window.explorer = new App(await Crystals.read($("payload")));
  prefersDark.addEventListener("change", ({ matches }) => window.explorer.theme(matches ? "dark" : "light"));
} catch (error) {
  $("message").textContent =
    `This page cannot be shown: ${error.message} Open it in a current version of Chrome, Edge, Firefox or Safari.`;
  throw error;
}
