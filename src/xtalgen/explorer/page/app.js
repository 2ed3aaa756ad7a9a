// The page: its state and reactions to changes. The other modules draw, read and write what they are given.

import { readAddress, writeAddress } from "./address.js";
import { cif } from "./cif.js";
import { clusterNames } from "./clusters.js";
import { colourings, paint } from "./colours.js";
import { connect, fillPage, fillScores, showState } from "./controls.js";
import { CrystalView } from "./crystal.js";
import { Crystals } from "./data.js";
import { $, make, setPressed } from "./dom.js";
import { csv } from "./export.js";
import { listen } from "./keys.js";
import { legend, setEntries } from "./legend.js";
import { ResultList, sorted } from "./list.js";
import { PointMap } from "./map.js";
import { card, describe } from "./panels.js";
import { Plots } from "./plots.js";
import { crystalFilter } from "./search.js";

const main = document.querySelector("main");

class App {
  constructor(crystals) {
    this.crystals = crystals;
    // x, y: columns of the axes, "" for the map; sets, categories: hidden ones; flags: those that must be true; hull:
    // upper limit of the energy; lasso: corners of a polygon; dim: whether the others stay visible; sort: of the list;
    // pinned: the crystal with which the chosen one is compared.
    this.state = {
      ...{ colour: "set", x: "", y: "", sets: new Set(), categories: new Set(), flags: new Set(), query: "" },
      ...{ hull: null, lasso: null, dim: true, chosen: -1, pinned: -1 },
      sort: { by: crystals.columns.has("e_above_hull") ? "e_above_hull" : "id", down: false },
    };
    this.colourings = colourings(crystals);
    this.drawn = new Uint8Array(crystals.n); // 0 hidden, 1 dimmed, 2 shown
    this.plots = new Plots($("plots"), crystals);
    this.view = new CrystalView($("scene"), crystals);
    this.otherView = new CrystalView($("other-scene"), crystals);
    this.list = new ResultList(this);
    fillPage(this);
    this.map = new PointMap($("map"), crystals, {
      hover: (i, x, y) => this.hover(i, x, y),
      choose: (i) => this.pick(i),
      lasso: (corners) => this.lasso(corners),
    });
    this.map.names = clusterNames(crystals, this.map.places);
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

  // Esc undoes one thing at a time.
  back() {
    const { state } = this;
    if (document.body.classList.contains("full")) this.fill(false);
    else if (!$("card").hidden) this.hover(-1);
    else if (this.map.lassoMode || this.map.path) this.setLasso(false);
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

  // Places the crystals on the map of similarity ("") or by two columns. The lasso belongs to the old places.
  arrange(x, y) {
    Object.assign(this.state, { x, y, lasso: null });
    this.map.arrange(x, y);
    this.refilter();
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    this.recolour();
    this._legends();
    fillScores(this.crystals.header);
    this.view.refresh();
    this.otherView.refresh();
    this._drawTab();
  }

  tab(name) {
    main.dataset.tab = name;
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
    }
    this._drawTab();
  }

  // Panels that are not seen are not drawn.
  _drawTab() {
    const { tab } = main.dataset;
    if (tab === "plots") this.plots.draw(this.map.visible);
    if (tab === "list") this.list.draw();
    if (tab === "crystal") this._showCells();
  }

  // Decides which crystals are shown, which are dimmed, and which are hidden.
  refilter() {
    const { crystals, drawn, map, state } = this;
    const inside = state.lasso ? map.inside(state.lasso) : null;
    const { present, found } = crystalFilter(crystals, state, this.colourings[state.colour], inside);
    for (let i = 0; i < crystals.n; i++) {
      const level = found(i) ? 2 : Number(state.dim);
      drawn[i] = map.placed[i] && present(i) ? level : 0;
      map.visible[i] = Number(drawn[i] === 2);
    }
    map.lasso = state.lasso;
    this.order = null;
    this.hover(-1);
    this.recolour();
    showState(this);
    this._legends();
    this._drawTab();
    this.writeAddress();
  }

  recolour() {
    paint(this.crystals, this.colourings[this.state.colour], this.drawn, this.map.colours, this.map.shapes);
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

  // Opens a crystal in the panel; -1 closes it. open: whether its tab comes to the front.
  choose(i, { centre = false, open = true } = {}) {
    this.state.chosen = this.map.chosen = i;
    if (i < 0) this.pin(-1);
    $("chosen").hidden = i < 0;
    document.querySelector("#crystal .empty").hidden = i >= 0;
    this.map.links = i < 0 ? [] : this._linked(i);
    this.map.draw();
    this.hover(-1);
    this.writeAddress();
    if (main.dataset.tab === "list") this.list.mark();
    if (i < 0) return;
    this._describe();
    if (centre) this.map.reveal(i);
    if (open) this.tab("crystal");
  }

  // Keeps a crystal beside the chosen one for comparison; -1 ends it.
  pin(i) {
    this.state.pinned = this.map.pinned = i;
    setPressed("compare", i >= 0);
    this.map.draw();
    this.writeAddress();
    if (this.state.chosen >= 0) {
      this._describe();
      this._showCells();
    }
  }

  _describe() {
    const { chosen, pinned } = this.state;
    const compared = pinned === chosen ? -1 : pinned;
    $("compare-hint").hidden = pinned < 0 || compared >= 0;
    $("other-scene").parentElement.hidden = compared < 0;
    main.classList.toggle("comparing", compared >= 0);
    describe(this.crystals, chosen, compared, (other) => this.choose(other, { centre: true }));
  }

  // Draws the chosen cell, and the pinned one, if they are not what is seen.
  _showCells() {
    const { chosen, pinned } = this.state;
    if (chosen >= 0 && this.view.wanted?.[0] !== chosen) this.view.show(chosen, 1);
    if (pinned >= 0 && this.otherView.wanted?.[0] !== pinned) this.otherView.show(pinned, 1);
  }

  // Shows the cells between sampled (0) and relaxed (1).
  stage(share) {
    const { chosen, pinned } = this.state;
    this.view.show(chosen, share, "view");
    if (pinned >= 0) this.otherView.show(pinned, share, "view");
  }

  // Lets the cell fill the screen, or the window where a browser has no full screen.
  fill(on) {
    document.body.classList.toggle("full", on);
    setPressed("full", on);
    if (on) document.documentElement.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement) document.exitFullscreen();
  }

  // Crystals to which the map draws lines.
  _linked(i) {
    const { nearest, duplicate_of: duplicate } = this.crystals;
    return [nearest[i], duplicate[i]].filter((other) => other >= 0 && other !== i);
  }

  // The crystals shown, in the order of the list.
  results() {
    this.order ??= sorted(this.crystals, this.map.visible, this.state.sort);
    return this.order;
  }

  // Opens the next or previous crystal of the list.
  step(direction) {
    const order = this.results();
    if (!order.length) return;
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
      this.stage(Number($("stage").value));
      if (share < 1) requestAnimationFrame(frame);
    };
    frame();
  }

  setLasso(on) {
    this.map.lassoMode = on;
    this.map.path = null;
    this.map.draw();
    setPressed("lasso", on);
    $("points").classList.toggle("lasso", on);
  }

  lasso(corners) {
    this.setLasso(false);
    this.change({ lasso: corners });
  }

  cif() {
    return cif(this.crystals, this.state.chosen, Number($("stage").value));
  }

  csv() {
    return csv(this.crystals, this.map.visible);
  }

  writeAddress() {
    this.written = writeAddress(this.crystals, this.state);
    if (location.hash === this.written) return;
    history.replaceState(null, "", this.written || location.pathname + location.search);
  }

  readAddress() {
    const { chosen, pinned, missing, ...filters } = readAddress(location.hash, this.crystals, this.colourings);
    const { x, y } = this.state;
    Object.assign(this.state, filters, { lasso: null });
    if (filters.x !== x || filters.y !== y) this.map.arrange(filters.x, filters.y);
    $("notice").hidden = !missing;
    $("notice-text").textContent = missing;
    if (chosen >= 0 && chosen !== this.state.chosen) this.choose(chosen, { centre: true });
    if (chosen >= 0 && pinned !== this.state.pinned) this.pin(pinned);
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
