// The page: state, filters, keys, address. Everything else is told what to show.

const $ = (id) => document.getElementById(id);
const FLAGS = [["stable", "stable"], ["metastable", "metastable"], ["unique", "unique"], ["novel", "novel"], ["valid", "valid"], ["converged", "converged"], ["matched", "matched"]];
const KEYS = [
  ["N, P", "next and previous crystal shown, from the lowest energy"], ["R", "as sampled, relaxed"], ["2", "2×2×2 cells"], ["S", "spin"],
  ["C, D", "copy, download the CIF"], ["K", "copy the address of the crystal"], ["L", "lasso (or Shift and drag)"], ["/", "search"],
  ["+ − 0, arrows", "zoom, everything, move"], ["T", "light or dark"], ["Esc", "back: close, clear, forget"], ["?", "this help"],
];

class App {
  constructor(crystals) {
    this.crystals = crystals;
    this.state = { colour: "set", sets: new Set(), categories: new Set(), flags: new Set(), query: "", hull: null, lasso: null, chosen: -1 };
    this.byKey = new Map(crystals.ids.map((id, i) => [`${crystals.set_of(i).name}~${id}`, i]));
    this.colourings = colourings(crystals);
    this.nGenerated = crystals.set.reduce((sum, set) => sum + !crystals.header.sets[set].reference, 0);
    this.plots = new Plots($("plots"), crystals);
    this.view = new CrystalView($("scene"), crystals);
    this._chrome();
    this.map = new PointMap($("map"), crystals, {
      hover: (i, x, y) => this.hover(i, x, y), choose: (i) => this.pick(i), lasso: (found) => this.lasso(found),
    });
    this._controls();
    this._keys();
    this.readAddress();
    this.refilter();
    window.addEventListener("hashchange", () => { if (location.hash !== this.written) { this.readAddress(); this.refilter(); } });
  }

  _chrome() {
    const { header } = this.crystals;
    $("embedding").textContent = header.embedding;
    $("notes").replaceChildren(...header.notes.map((note) => make("p", {}, note)));
    $("sources").replaceChildren(...header.sources.map((line) => make("p", {}, line)));
    $("keys").replaceChildren(...KEYS.map(([key, what]) => make("tr", {}, [make("td", {}, make("kbd", {}, key)), make("td", {}, what)])));
    $("scores").replaceChildren(...scoreTable(header));
    $("colour").replaceChildren(...Object.entries(this.colourings).map(([key, { label }]) => make("option", { value: key }, label)));
    const flags = FLAGS.filter(([name]) => this.crystals[`is_${name}`] !== undefined);
    $("flags").replaceChildren(...flags.map(([name, label]) => {
      const button = make("button", { "data-flag": name, "aria-pressed": "false" }, label);
      button.addEventListener("click", () => { this._toggle(this.state.flags, name); this.refilter(); });
      return button;
    }));
    $("flags").parentElement.hidden = !flags.length && !this.crystals.e_above_hull;
    $("hull").parentElement.hidden = !this.crystals.e_above_hull;
  }

  _toggle(set, value) { if (!set.delete(value)) set.add(value); }

  _controls() {
    const { state, map } = this, on = (id, action, kind = "click") => $(id).addEventListener(kind, action);
    on("query", () => { state.query = $("query").value; this.refilter(); }, "input");
    on("colour", () => { state.colour = $("colour").value; state.categories.clear(); this.refilter(); }, "change");
    on("all-sets", () => { state.sets.clear(); this.refilter(); });
    on("no-flags", () => { state.flags.clear(); state.hull = null; this.refilter(); });
    on("hull", () => { const at = Number($("hull").value); state.hull = at === 100 ? null : at / 100 - 0.2; this.refilter(); }, "input");
    on("lasso", () => this.setLasso(!map.lassoMode));
    on("unlasso", () => { state.lasso = null; this.refilter(); });
    on("csv", () => this.save("crystals.csv", this.csv(), "text/csv"));
    on("zoom-in", () => map.zoom(1.7, undefined, undefined, false));
    on("zoom-out", () => map.zoom(1 / 1.7, undefined, undefined, false));
    on("fit", () => map.fit());
    on("theme", () => this.theme(isDark() ? "light" : "dark"));
    on("help", () => $("about").showModal());
    on("previous", () => this.step(-1));
    on("next", () => this.step(1));
    on("stage", () => this.view.show(state.chosen, Number($("stage").value), true), "input");
    on("supercell", () => { this._press("supercell"); this.view.setRepeat(this._pressed("supercell") ? 2 : 1); });
    on("spin", () => { this._press("spin"); this.view.setSpin(this._pressed("spin")); });
    on("copy", () => this.copy(this.cif(), "CIF copied"));
    on("download", () => this.save(`${this.crystals.formulas[state.chosen]}-${this.crystals.ids[state.chosen]}.cif`.replace(/[^A-Za-z0-9._-]/g, "_"), this.cif(), "chemical/x-cif"));
    on("link", () => this.copy(location.href, "Address copied"));
    for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => this.tab(tab.dataset.tab));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => this.theme(event.matches ? "dark" : "light"));
  }

  _press(id) { $(id).setAttribute("aria-pressed", String(!this._pressed(id))); }
  _pressed(id) { return $(id).getAttribute("aria-pressed") === "true"; }
  cif() { return this.crystals.cif(this.state.chosen, Number($("stage").value)); }

  _keys() {
    const { map } = this, click = (id) => () => { if (this.state.chosen >= 0) $(id).click(); };
    const keys = {
      n: () => this.step(1), p: () => this.step(-1), r: () => this.flipStage(), 2: click("supercell"), s: click("spin"), c: click("copy"), d: click("download"),
      k: click("link"), l: () => $("lasso").click(), "/": () => $("query").focus(), "?": () => $("about").showModal(), t: () => $("theme").click(),
      "+": () => $("zoom-in").click(), "=": () => $("zoom-in").click(), "-": () => $("zoom-out").click(), 0: () => map.fit(),
      ArrowLeft: () => map.pan(60, 0), ArrowRight: () => map.pan(-60, 0), ArrowUp: () => map.pan(0, 60), ArrowDown: () => map.pan(0, -60), Escape: () => this.back(),
    };
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches("input[type=search], select") || (event.target.matches("input") && event.key.startsWith("Arrow"));
      if (event.key === "Escape" && typing) return event.target.blur();
      if (typing || event.ctrlKey || event.metaKey || event.altKey || $("about").open) return undefined;
      const action = keys[event.key] || keys[event.key.toLowerCase()];
      if (action) { event.preventDefault(); action(); }
      return undefined;
    });
  }

  back() {
    const { state } = this;
    if (this.map.lassoMode) this.setLasso(false);
    else if (state.lasso) { state.lasso = null; this.refilter(); }
    else if (state.chosen >= 0) this.choose(-1);
    else if (state.query || state.flags.size) { state.query = ""; state.flags.clear(); this.refilter(); }
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    this.recolour();
    this._legends();
    this.view.refresh();
    this._drawPlots();
  }

  tab(name) {
    document.querySelector("main").dataset.tab = name;
    for (const tab of document.querySelectorAll("[role=tab]")) tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
    this._drawPlots();
  }

  _drawPlots() { if (document.querySelector("main").dataset.tab === "plots") this.plots.draw(this.map.visible); }

  // Decides which crystals are shown. Flags and energies are asked of generated crystals only.
  refilter() {
    const { crystals, state } = this, { visible } = this.map, colouring = this.colourings[state.colour];
    const search = parseSearch(state.query, crystals), flags = [...state.flags].map((name) => crystals[`is_${name}`]);
    let shown = 0;
    for (let i = 0; i < crystals.n; i++) {
      const reference = crystals.set_of(i).reference;
      let keep = !state.sets.has(crystals.set[i]) && (!state.lasso || state.lasso[i] === 1);
      if (keep && !reference) {
        keep = flags.every((flag) => flag[i] === 2);
        if (keep && state.hull !== null) { const hull = crystals.hull(i); keep = hull !== null && hull <= state.hull + 1e-9; }
      }
      keep = keep && !(colouring.categories && !colouring.sets && state.categories.has(colouring.of(i))) && (!search || search(i));
      visible[i] = keep ? 1 : 0;
      shown += keep && !reference ? 1 : 0;
    }
    this.recolour();
    this._reflect(shown);
    this._legends();
    this._drawPlots();
    this.writeAddress();
  }

  recolour() {
    paint(this.crystals, this.colourings[this.state.colour], this.map.visible, this.map.colours);
    this.map.recolour();
  }

  _reflect(shown) {
    const { state } = this, total = this.nGenerated, number = (value) => value.toLocaleString("en");
    $("count").textContent = `${number(shown)} of ${number(total)} crystals`;
    $("message").textContent = !this.crystals.n ? "There are no crystals in these sets." : this.map.visible.some((value) => value) ? "" : "No crystal fits. Esc clears the search and the filters.";
    if ($("query").value !== state.query) $("query").value = state.query;
    $("colour").value = state.colour;
    for (const button of $("flags").children) button.setAttribute("aria-pressed", String(state.flags.has(button.dataset.flag)));
    $("hull").value = state.hull === null ? 100 : Math.round((state.hull + 0.2) * 100);
    $("hull-label").textContent = state.hull === null ? "any" : fixed(state.hull, 2, "eV/atom");
    $("unlasso").hidden = !state.lasso;
  }

  _legends() {
    const { crystals, state } = this, colouring = this.colourings[state.colour];
    const counts = new Map(), inSet = new Array(crystals.header.sets.length).fill(0);
    for (let i = 0; i < crystals.n; i++) {
      if (!this.map.visible[i]) continue;
      inSet[crystals.set[i]]++;
      if (colouring.categories) { const of = colouring.of(i); counts.set(of, (counts.get(of) || 0) + 1); }
    }
    const entry = (colour, label, count, off, shape, action) => {
      const item = make("li", { class: off ? "off" : null, tabindex: 0, role: "switch", "aria-checked": String(!off), title: `${label}. Click: off or on. Double-click: only this one.` }, [
        swatch(colour, shape), make("span", {}, label), make("small", {}, count.toLocaleString("en")),
      ]);
      item.addEventListener("click", () => action(false));
      item.addEventListener("dblclick", () => action(true));
      item.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); action(false); } });
      return item;
    };
    const switcher = (hidden, key, all) => (only) => {
      if (only) { hidden.clear(); for (const other of all) if (other !== key) hidden.add(other); } else this._toggle(hidden, key);
      this.refilter();
    };
    const everySet = crystals.header.sets.map((_, k) => k);
    $("sets").replaceChildren(...crystals.header.sets.map((set, k) => entry(setColour(crystals, k), set.name, inSet[k], state.sets.has(k), set.reference ? 4 : Math.floor(set.colour / LIGHT.length) % 4, switcher(state.sets, k, everySet))));
    if (colouring.sets) return $("legend").replaceChildren();
    if (colouring.value) {
      const stops = VIRIDIS.slice();
      if (colouring.reversed) stops.reverse();
      const ends = colouring.ends.map((value) => fixed(value, colouring.digits ?? 1));
      return $("legend").replaceChildren(make("div", { class: "scale", style: `background: linear-gradient(90deg, ${stops.join()})` }), make("div", { class: "ends" }, [make("span", {}, `≤ ${ends[0]}`), make("span", {}, `≥ ${ends[1]}`)]));
    }
    const every = colouring.categories.map((_, k) => k);
    return $("legend").replaceChildren(make("ul", { class: "legend" }, colouring.categories.map(([label, place], k) => (counts.get(k) || state.categories.has(k)
      ? entry(place === null ? grey() : palette()[place % LIGHT.length], label, counts.get(k) || 0, state.categories.has(k), 0, switcher(state.categories, k, every)) : null))));
  }

  hover(i, x, y) {
    const box = $("card");
    box.hidden = i < 0;
    if (i < 0) return;
    if (this.carded !== i) {
      const more = this.map.stack(i).length - 1;
      box.replaceChildren(...card(this.crystals, i), more ? make("small", {}, `and ${more} more in this place: click again`) : "");
      this.carded = i;
    }
    box.dataset.id = this.crystals.ids[i];
    const { width, height } = this.map;
    box.style.left = `${x + 290 > width ? Math.max(4, x - 278) : x + 16}px`;
    box.style.top = `${Math.max(4, Math.min(y + 14, height - box.offsetHeight - 8))}px`;
  }

  // A second click goes on to the next of several points in one place.
  pick(i) {
    const stack = this.map.stack(i), at = stack.indexOf(this.state.chosen);
    this.choose(at < 0 ? i : stack[(at + 1) % stack.length]);
  }

  choose(i, { centre = false } = {}) {
    const { crystals, state } = this;
    state.chosen = this.map.chosen = i;
    $("chosen").hidden = i < 0;
    document.querySelector(".empty").hidden = i >= 0;
    this.map.links = i < 0 ? [] : ["nearest", "duplicate_of"].map((name) => (crystals[name] ? crystals[name][i] : -1)).filter((other) => other >= 0 && other !== i);
    this.map.draw();
    if (i < 0) return this.writeAddress();
    $("formula").replaceChildren(...formulaNodes(crystals.formulas[i]));
    const rows = [["id", crystals.ids[i]], ["set", crystals.set_of(i).name], ...facts(crystals, i, (other) => this.choose(other, { centre: true }))];
    $("facts").replaceChildren(...rows.map(([name, value, kind]) => make("tr", {}, [make("th", { scope: "row" }, name), make("td", { class: kind || null }, value)])));
    $("elements").replaceChildren(...crystals.parts[i].map(([z]) => make("span", {}, [make("i", { style: `background:${crystals.header.elements.colour[z]}` }), crystals.symbol(z)])));
    $("stages").hidden = !crystals.moved[i];
    $("stage").value = 1;
    for (const id of ["copy", "download", "supercell", "spin"]) $(id).disabled = !crystals.n_atoms[i];
    this.tab("crystal");
    if (centre) this.reveal(i);
    this.writeAddress();
    return this.view.show(i, 1);
  }

  // Moves the map so that a point is on it.
  reveal(i) {
    const { map } = this, [x, y] = map.toScreen(i);
    if (x < 30 || y < 30 || x > map.width - 30 || y > map.height - 30) map.goTo(map.places[2 * i], map.places[2 * i + 1], map.scale);
  }

  // Goes through what is shown: generated crystals from the lowest energy above the hull, then by place in the list.
  step(direction) {
    const { crystals } = this, order = [];
    for (let i = 0; i < crystals.n; i++) if (this.map.visible[i] && !crystals.set_of(i).reference) order.push(i);
    if (!order.length) return;
    const energy = (i) => crystals.hull(i) ?? Infinity;
    order.sort((a, b) => (energy(a) === energy(b) ? a - b : energy(a) - energy(b)));
    const at = order.indexOf(this.state.chosen);
    this.choose(order[(at < 0 ? (direction > 0 ? 0 : order.length - 1) : at + direction + order.length) % order.length], { centre: true });
  }

  flipStage() {
    if (this.state.chosen < 0 || !this.crystals.moved[this.state.chosen]) return;
    const from = Number($("stage").value), to = from > 0.5 ? 0 : 1, begun = performance.now(), i = this.state.chosen;
    const frame = () => {
      const share = Math.min(1, (performance.now() - begun) / 450);
      if (this.state.chosen !== i) return;
      $("stage").value = from + share * (to - from);
      this.view.show(i, Number($("stage").value), true);
      if (share < 1) requestAnimationFrame(frame);
    };
    frame();
  }

  setLasso(on) {
    this.map.lassoMode = on;
    $("lasso").setAttribute("aria-pressed", String(on));
    $("points").classList.toggle("lasso", on);
  }

  lasso(found) {
    this.setLasso(false);
    this.state.lasso = new Uint8Array(this.crystals.n);
    for (const i of found) this.state.lasso[i] = 1;
    this.refilter();
  }

  csv() {
    const { crystals } = this, rows = ["set,id,formula,space_group,e_above_hull,density,valid,unique,novel,stable,x,y"];
    // A cell that a spreadsheet would take for a formula is quoted with an apostrophe first.
    const quote = (text) => (/[",\r\n]|^[=+\-@\t]/.test(text) ? `"${(/^[=+\-@\t]/.test(text) ? "'" : "") + text.replace(/"/g, '""')}"` : text);
    for (let i = 0; i < crystals.n; i++) {
      if (!this.map.visible[i]) continue;
      const hull = crystals.hull(i), flags = ["valid", "unique", "novel", "stable"].map((name) => crystals.flag(name, i) ?? "");
      rows.push([quote(crystals.set_of(i).name), quote(crystals.ids[i]), crystals.formulas[i], crystals.spg_num[i] || "", hull === null ? "" : hull.toFixed(4),
        crystals.n_atoms[i] ? crystals.density[i].toFixed(4) : "", ...flags, this.map.places[2 * i].toFixed(5), this.map.places[2 * i + 1].toFixed(5)].join());
    }
    return `${rows.join("\n")}\n`;
  }

  save(name, text, type) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async copy(text, done) {
    try { await navigator.clipboard.writeText(text); } catch {
      const area = make("textarea", {}, text); // pages from disk may have no clipboard
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("message").textContent = done;
    setTimeout(() => { $("message").textContent = ""; }, 1200);
  }

  writeAddress() {
    const { crystals, state } = this, parts = new URLSearchParams();
    if (state.chosen >= 0) parts.set("crystal", `${crystals.set_of(state.chosen).name}~${crystals.ids[state.chosen]}`);
    if (state.colour !== "set") parts.set("colour", state.colour);
    if (state.query) parts.set("search", state.query);
    if (state.flags.size) parts.set("only", [...state.flags].join(" "));
    if (state.hull !== null) parts.set("hull", state.hull.toFixed(2));
    if (state.sets.size) parts.set("without", [...state.sets].map((k) => crystals.header.sets[k].name).join(" "));
    this.written = parts.toString() ? `#${parts}` : "";
    if (location.hash !== this.written) history.replaceState(null, "", this.written || location.pathname + location.search);
  }

  // The address is text from anywhere: unknown values are passed over. A bare #id chooses the first crystal of that id.
  readAddress() {
    const { crystals, state } = this, text = location.hash.slice(1), parts = new URLSearchParams(text);
    state.colour = Object.hasOwn(this.colourings, parts.get("colour") ?? "") ? parts.get("colour") : "set";
    state.query = parts.get("search") || "";
    state.flags = new Set((parts.get("only") || "").split(" ").filter((name) => FLAGS.some(([flag]) => flag === name) && crystals[`is_${name}`]));
    state.hull = parts.get("hull") !== null && Number.isFinite(Number(parts.get("hull"))) ? Number(parts.get("hull")) : null;
    const without = (parts.get("without") || "").split(" ");
    state.sets = new Set(crystals.header.sets.map((_, k) => k).filter((k) => without.includes(crystals.header.sets[k].name)));
    let plain = text;
    try { plain = decodeURIComponent(text); } catch { /* not encoded */ }
    const found = this.byKey.get(parts.get("crystal") ?? "") ?? crystals.ids.indexOf(plain);
    if (found >= 0 && found !== state.chosen) this.choose(found, { centre: true });
  }
}

function swatch(colour, shape) {
  const paths = ["M12 6A6 6 0 1 1 0 6A6 6 0 1 1 12 6Z", "M1 1H11V11H1Z", "M6 0L12 6L6 12L0 6Z", "M6 0L12 11H0Z", "M11 6A5 5 0 1 1 1 6A5 5 0 1 1 11 6Z"];
  const look = shape === 4 ? { fill: "none", stroke: colour, "stroke-width": 2 } : { fill: colour };
  return make("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" }, make("path", { d: paths[shape], ...look }, [], true), true);
}

document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
try {
  window.explorer = new App(await Crystals.read($("payload")));
} catch (error) {
  $("message").textContent = `This page cannot be shown: ${error.message} A current Chrome, Edge, Firefox or Safari shows it.`;
  throw error;
}
